"""Files that appear atomic_write or not at all."""

import os

import pytest

from mmvideoiq.fileio import atomic_write, write_text


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
