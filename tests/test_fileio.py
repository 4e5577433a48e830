"""Files that are written atomically, and the newest complete checkpoint."""

import os

import pytest
import torch

from mmvideoiq.fileio import atomic_write, find_checkpoint, last_checkpoint, read_json, write_json, write_text


def test_a_file_appears_at_the_end_alone_and_in_a_new_folder(tmp_path):
    path = tmp_path / "new" / "table.json"
    with atomic_write(path) as part:
        part.write_text("{}")
        assert part.suffix == ".json" and part.parent == path.parent and not path.exists()
    assert [(p.name, p.read_text()) for p in path.parent.iterdir()] == [("table.json", "{}")]


def test_an_error_leaves_the_old_file_and_nothing_else(tmp_path):
    path = tmp_path / "table.json"
    write_text(path, "old")
    with pytest.raises(KeyboardInterrupt), atomic_write(path) as part:
        part.write_text("half of")
        raise KeyboardInterrupt
    assert [(p.name, p.read_text()) for p in tmp_path.iterdir()] == [("table.json", "old")]


def test_a_file_is_on_the_disk_before_it_has_its_name_and_the_name_afterwards(tmp_path, monkeypatch):
    steps = []
    real = os.replace

    def fsync(descriptor):
        steps.append(os.path.basename(os.readlink(f"/proc/self/fd/{descriptor}")))

    def replace(old, new):
        steps.append("rename")
        real(old, new)

    monkeypatch.setattr(os, "fsync", fsync)
    monkeypatch.setattr(os, "replace", replace)
    write_text(tmp_path / "table.json", "{}")
    assert steps == [f".table.{os.getpid()}.part.json", "rename", tmp_path.name]


def test_json_is_replaced_at_once_or_kept(tmp_path):
    path = tmp_path / "deep/state.json"
    write_json(path, {"a": 1})
    with pytest.raises(TypeError):
        write_json(path, {"a": object()})
    assert read_json(path) == {"a": 1}
    assert read_json(tmp_path / "gone.json") is None


def test_the_best_checkpoint_goes_before_the_last(tmp_path):
    with pytest.raises(FileNotFoundError, match="no checkpoint was saved"):
        find_checkpoint(tmp_path)
    torch.save({}, tmp_path / "epoch_3.pth")
    (tmp_path / "last_checkpoint").write_text(str(tmp_path / "epoch_3.pth"))
    assert find_checkpoint(tmp_path).name == "epoch_3.pth"
    (tmp_path / "best_acc_epoch_2.pth").touch()
    assert find_checkpoint(tmp_path).name == "best_acc_epoch_2.pth"


def test_an_unfinished_stage_falls_back_to_the_checkpoint_before_a_cut_one(tmp_path):
    assert last_checkpoint(tmp_path) is None
    for epoch in (9, 10):
        torch.save(dict(weight=torch.zeros(100)), tmp_path / f"epoch_{epoch}.pth")
        os.utime(tmp_path / f"epoch_{epoch}.pth", (epoch, epoch))
    for pointer in (str(tmp_path / "epoch_10.pth"), "", str(tmp_path / "gone.pth")):
        (tmp_path / "last_checkpoint").write_text(pointer)
        assert last_checkpoint(tmp_path).name == "epoch_10.pth"
    os.truncate(tmp_path / "epoch_10.pth", (tmp_path / "epoch_10.pth").stat().st_size - 10)
    (tmp_path / "last_checkpoint").write_text(str(tmp_path / "epoch_10.pth"))
    assert last_checkpoint(tmp_path).name == "epoch_9.pth"
    data = bytearray((tmp_path / "epoch_9.pth").read_bytes())
    data[len(data) // 2] ^= 255  # of the length it had, but other bytes
    (tmp_path / "epoch_9.pth").write_bytes(data)
    assert last_checkpoint(tmp_path) is None
