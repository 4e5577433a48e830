from pathlib import Path

import numpy as np
import pytest

from mmvideoiq.data.dataset import CheckedVideoDataset
from mmvideoiq.data.folder import make_lists
from mmvideoiq.data.synthetic import write_lossless


def fill(folder: Path, **counts: int) -> Path:
    for name, count in counts.items():
        (folder / name).mkdir(parents=True)
        for i in range(count):
            (folder / name / f"{i:02d}.mp4").write_bytes(b"")
    return folder


def rows(folder: Path, split: str) -> list[tuple[str, int]]:
    pairs = (line.rsplit(" ", 1) for line in (folder / f"{split}.txt").read_text().splitlines())
    return [(path, int(label)) for path, label in pairs]


def test_split_is_stratified_disjoint_and_seeded(tmp_path: Path):
    fill(tmp_path, run=20, jump=10, swim=3)
    make_lists(tmp_path, val=0.2, test=0.1, seed=1)
    splits = {s: rows(tmp_path, s) for s in ("train", "val", "test")}
    assert (tmp_path / "classes.txt").read_text().split() == ["jump", "run", "swim"]
    counts = {s: [[label for _, label in r].count(k) for k in range(3)] for s, r in splits.items()}
    assert counts == dict(train=[7, 14, 1], val=[2, 4, 1], test=[1, 2, 1])
    everything = [path for r in splits.values() for path, _ in r]
    assert len(set(everything)) == len(everything) == 33
    assert all((tmp_path / path).is_file() for path in everything)
    assert all(path.split("/")[0] == ["jump", "run", "swim"][k] for r in splits.values() for path, k in r)

    make_lists(tmp_path, val=0.2, test=0.1, seed=1)  # the same again is no conflict
    with pytest.raises(FileExistsError, match="--overwrite"):
        make_lists(tmp_path, val=0.2, test=0.1, seed=2)
    make_lists(tmp_path, val=0.2, test=0.1, seed=2, overwrite=True)
    assert rows(tmp_path, "train") != splits["train"]


@pytest.mark.parametrize("val", [0.01, 0.5, 0.99])
def test_every_class_trains(tmp_path: Path, val):
    fill(tmp_path, a=1, b=2, c=9)
    lists = make_lists(tmp_path, val=val)
    assert {label for _, label in rows(tmp_path, "train")} == {0, 1, 2}
    assert {label for _, label in rows(tmp_path, "val")} == {1, 2}
    assert any("class a has one video" in w for w in lists.warnings)
    assert not (tmp_path / "test.txt").exists()


def test_endings_hidden_and_other_files(tmp_path: Path):
    fill(tmp_path, a=2, b=2, empty=0)
    (tmp_path / "a/x.AVI").touch()
    (tmp_path / "a/notes.txt").touch()
    (tmp_path / "a/.part.mp4").touch()
    (tmp_path / ".hidden").mkdir()
    lists = make_lists(tmp_path)
    names = [path for split in lists.splits.values() for path, _ in split]
    assert "a/x.AVI" in names and len(names) == 5
    assert lists.warnings == ["class folder empty holds no videos and is left out"]


def test_names_with_spaces_reach_the_dataset(tmp_path: Path):
    clip = np.zeros((2, 32, 32, 3), np.uint8)
    for name in ("riding a bike", "sitting"):
        (tmp_path / name).mkdir()
        for i in range(2):
            write_lossless(tmp_path / name / f"my clip {i}.mkv", clip, rate=2)
    make_lists(tmp_path, val=0.5)
    dataset = CheckedVideoDataset(
        ann_file="val.txt", data_root=str(tmp_path), pipeline=[], num_classes=2, test_mode=True
    )
    assert [(dataset[i]["label"], Path(dataset[i]["filename"]).parent.name) for i in range(2)] == [
        (0, "riding a bike"),
        (1, "sitting"),
    ]


def test_check_leaves_unreadable_videos_out(tmp_path: Path):
    fill(tmp_path, a=2, b=1)
    for name in ("a", "b"):
        for i in range(3):
            write_lossless(tmp_path / name / f"good{i}.mkv", np.zeros((2, 32, 32, 3), np.uint8), rate=2)
    lists = make_lists(tmp_path, check=True)
    assert sorted(lists.unreadable) == ["a/00.mp4", "a/01.mp4", "b/00.mp4"]
    assert sum(map(len, lists.splits.values())) == 6


def test_bad_folders(tmp_path: Path):
    with pytest.raises(NotADirectoryError, match="nowhere"):
        make_lists(tmp_path / "nowhere")
    with pytest.raises(ValueError, match="no videos in"):
        make_lists(tmp_path)
    (tmp_path / "a.mp4").touch()
    with pytest.raises(ValueError, match=r"1 videos are in .* itself"):
        make_lists(tmp_path)
    fill(tmp_path, a=2)
    with pytest.raises(ValueError, match="1 class folders with videos, needs 2"):
        make_lists(tmp_path)
    fill(tmp_path, b=2)
    (tmp_path / "b/two\nlines.mp4").touch()
    with pytest.raises(ValueError, match=r"two.*nlines.*rename"):
        make_lists(tmp_path)
    assert not list(tmp_path.glob("*.txt"))


def test_nothing_to_validate_on(tmp_path: Path):
    with pytest.raises(ValueError, match="validate"):
        make_lists(fill(tmp_path, a=1, b=1))


@pytest.mark.parametrize("shares", [dict(val=0.0), dict(val=1.0), dict(val=0.5, test=0.5), dict(test=-0.1)])
def test_shares_out_of_range(tmp_path: Path, shares):
    with pytest.raises(ValueError, match=r"val must be in \(0, 1\)"):
        make_lists(fill(tmp_path, a=2, b=2), **shares)


def test_command(tmp_path: Path, load_tool, monkeypatch, capsys):
    fill(tmp_path, a=3, b=1)
    monkeypatch.setattr("sys.argv", ["make_lists", str(tmp_path)])
    load_tool("data/make_lists.py").main()
    out = capsys.readouterr().out
    assert f"DATA_ROOT={tmp_path}" in out and "class b has one video" in out
