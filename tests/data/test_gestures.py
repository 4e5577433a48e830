"""What the composed gesture clips promise; no photo is needed but for the last test."""

import re
from collections import Counter
from itertools import groupby, pairwise
from pathlib import Path

import cv2
import numpy as np
import pytest
from mmengine import Config

from mmvideoiq.data import gestures
from mmvideoiq.data.gestures import (
    FRAMES,
    choose_photos,
    load_frames,
    make_gestures,
    place_signal,
    read_index,
)
from mmvideoiq.video.av_reader import AvReader
from tests.data.photos import write_photos

SIZES = dict(train=9, val=3, test=6)
LISTS = {**SIZES, "val_room_b": 3, "test_room_b": 6}


@pytest.fixture(scope="module")
def photos(tmp_path_factory) -> Path:
    return write_photos(tmp_path_factory.mktemp("gestures"))


@pytest.fixture(scope="module")
def clips(photos: Path, tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("made") / "set"
    make_gestures(photos, root, **SIZES, seed=3)
    return root


def check_promises(root: Path, folder: Path, sizes: dict[str, int]) -> None:
    """Counts, classes, splits, rooms and the places of the signal, from the files alone."""
    index = {photo.file: photo for photo in read_index(folder)}
    classes = (root / "classes.txt").read_text().splitlines()
    frames = load_frames(root)
    assert set(frames) == {
        str(p.relative_to(root / "videos")) for p in (root / "videos").rglob("*") if p.is_file()
    }
    for name, count in sizes.items():
        rows = [line.split() for line in (root / f"{name}.txt").read_text().splitlines()]
        assert len(rows) == count
        uses = Counter(label for _, label in rows).values()
        assert max(uses) - min(uses) <= 1 and (len(uses) == len(classes) or max(uses) == 1)
        for path, label in rows:
            clip = frames[path]
            assert len(clip) == FRAMES == len({f["photo"] for f in clip})
            for frame in clip:
                photo = index[frame["photo"]]
                assert (frame["class"], frame["room"]) == (photo.gesture, photo.room)
                assert photo.split == name.split("_")[0]
                assert frame["kind"] == ("idle" if photo.gesture == "no_class" else "signal")
            signal = [f for f in clip if f["kind"] == "signal"]
            assert {f["class"] for f in signal} == {classes[int(label)]}
            assert 2 <= len(signal) <= 6
            assert 1 <= [kind for kind, _ in groupby(f["kind"] for f in clip)].count("signal") <= 2
            assert len({f["room"] for f in signal}) == 1
            if name.endswith("room_b"):
                assert {f["room"] for f in clip} == {"B"}
    used = [{f["photo"] for path in frames if path.startswith(s) for f in frames[path]} for s in SIZES]
    assert all(not (a & b) for a, b in [*pairwise(used), (used[0], used[2])])


def largest_difference(root: Path, folder: Path, names: list[str]) -> float:
    """Mean difference of the frame that differs most from its photo, in grey levels."""
    worst = 0.0
    for name in names:
        pictures = AvReader(root / "videos" / name).read(range(FRAMES))
        for picture, frame in zip(pictures, load_frames(root)[name], strict=True):
            photo = cv2.imread(str(folder / "photos" / frame["photo"]))[..., ::-1]
            worst = max(worst, np.abs(picture.astype(int) - photo).mean())
    return worst


def test_promises(clips: Path, photos: Path):
    check_promises(clips, photos, LISTS)
    rooms = Counter(f["room"] for c in load_frames(clips).values() for f in c if f["kind"] == "signal")
    assert min(rooms["A"], rooms["B"]) > 0


def test_frames_are_the_photos_that_are_recorded(clips: Path, photos: Path):
    """Two photos differ by 17 levels in a channel, that is by 5.7 on average, or by more."""
    assert largest_difference(clips, photos, sorted(load_frames(clips))) < 2


def test_places_of_the_signal():
    rng = np.random.default_rng(0)
    held = np.array([place_signal(rng) for _ in range(2000)])
    assert held.shape == (2000, FRAMES)
    assert np.bincount(held.sum(1)).tolist()[:2] == [0, 0] and min(np.bincount(held.sum(1))[2:]) > 300
    runs = held[:, 0] + (held[:, 1:] & ~held[:, :-1]).sum(1)
    assert set(runs) == {1, 2} and 0.45 < (runs == 2).mean() < 0.55
    assert held.mean(0).min() > 0.1  # the first and the last place too


def test_rooms_are_as_often_as_their_photos(photos: Path):
    index = [p for p in read_index(photos) if p.split == "train"]
    more = [p._replace(file=f"{i}{p.file}") for i in range(2) for p in index if p.room == "A"]
    rng = np.random.default_rng(0)
    chosen = [choose_photos(rng, index + more, gesture="up") for _ in range(400)]
    rooms = Counter(next(p.room for p in clip if p.gesture == "up") for clip in chosen)
    assert 0.65 < rooms["A"] / 400 < 0.85  # 18 of 24 photos


def test_same_seed_same_files(clips: Path, photos: Path, tmp_path: Path):
    make_gestures(photos, tmp_path / "a", **SIZES, seed=3)
    make_gestures(photos, tmp_path / "b", **SIZES, seed=4)
    files = [p.relative_to(clips) for p in clips.rglob("*") if p.is_file()]
    assert len(files) == sum(LISTS.values()) + len(LISTS) + 3
    assert all((clips / f).read_bytes() == (tmp_path / "a" / f).read_bytes() for f in files)
    assert load_frames(tmp_path / "b") != load_frames(clips)


def test_photos_of_another_size_cover_the_frame(tmp_path: Path):
    folder = write_photos(tmp_path / "large", size=(500, 300))
    name = "train_up_A0.jpg"
    picture = np.zeros((300, 500, 3), np.uint8)
    picture[:, 50:450] = 255  # 400 of 500 columns stay at 4:3
    picture[:, 245:255] = (0, 0, 255)
    cv2.imwrite(str(folder / "photos" / name), picture)
    gestures.write_jpegs(tmp_path / "a.mkv", [gestures.read_jpeg(folder / "photos" / name)] * 2)
    frames = np.stack(AvReader(tmp_path / "a.mkv").read(range(2)))
    assert frames.shape == (2, 240, 320, 3)
    assert np.abs(frames[0, 120, [10, 310]].astype(int) - 255).max() < 10
    assert np.abs(frames[0, 120, 160].astype(int) - (255, 0, 0)).max() < 10


def test_a_set_is_kept_if_equal_and_never_overwritten(clips: Path, photos: Path, tmp_path: Path, monkeypatch):
    monkeypatch.setattr(gestures, "write_jpegs", lambda *_: pytest.fail("composed again"))
    make_gestures(photos, clips, **SIZES, seed=3)
    with pytest.raises(FileExistsError, match=r"'seed': 3.*'seed': 4"):
        make_gestures(photos, clips, **SIZES, seed=4)
    with pytest.raises(FileExistsError, match=r"'train': 9.*'train': 8"):
        make_gestures(photos, clips, **{**SIZES, "train": 8}, seed=3)
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(FileExistsError, match="not a set of gesture clips"):
        make_gestures(photos, tmp_path, **SIZES)


def test_interruption_leaves_nothing(photos: Path, tmp_path: Path, monkeypatch):
    done = []

    def interrupted(path, pictures):
        done.append(path)
        if len(done) == 3:
            raise KeyboardInterrupt

    monkeypatch.setattr(gestures, "write_jpegs", interrupted)
    with pytest.raises(KeyboardInterrupt):
        make_gestures(photos, tmp_path / "set", **SIZES)
    assert list(tmp_path.iterdir()) == []


def edit(folder: Path, old: str, new: str) -> None:
    index = folder / "index.csv"
    index.write_text(re.sub(old, new, index.read_text(), flags=re.MULTILINE))


MISTAKES = {
    "no index": (lambda f: (f / "index.csv").unlink(), FileNotFoundError, r"index.csv does not exist"),
    "empty": (lambda f: (f / "index.csv").write_text(""), ValueError, r"index.csv is not a table"),
    "binary": (
        lambda f: (f / "index.csv").write_bytes(b"\xff\xfe\xfa"),
        ValueError,
        r"index.csv is not a table",
    ),
    "columns": (lambda f: edit(f, "file,class", "path,class"), ValueError, r"columns are path,class"),
    "split": (lambda f: edit(f, "^(train_up_A0.*),train", r"\1,dev"), ValueError, r"line \d+: train_up_A0"),
    "twice": (lambda f: edit(f, "^(train_up_A0.*)", r"\1\n\1"), ValueError, r"line \d+: .*stands once"),
    "photo": (lambda f: (f / "photos/val_up_A0.jpg").unlink(), FileNotFoundError, r"1 of 150 .*val_up_A0"),
    "no picture": (
        lambda f: [p.write_text("text") for p in (f / "photos").glob("train_no_class*")],
        ValueError,
        r"train_no_class.* is not a picture",
    ),
    "few": (lambda f: edit(f, "^val_up_B0.*\n", ""), ValueError, r"val, room B: 5 photos of up, .* 6"),
    "no idle": (lambda f: edit(f, "^.*no_class.*\n", ""), ValueError, r"0 photos of no_class, .* 14"),
    "no test": (lambda f: edit(f, "^test.*\n", ""), ValueError, r"no photos of a signal in test"),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_a_mistake_is_named_and_nothing_written(name, tmp_path: Path):
    folder = write_photos(tmp_path / "photos")
    spoil, error, message = MISTAKES[name]
    spoil(folder)
    with pytest.raises(error, match=message) as caught:
        make_gestures(folder, tmp_path / "set", **SIZES)
    assert "\n" not in str(caught.value)
    assert [path.name for path in tmp_path.iterdir()] == ["photos"]


@pytest.mark.parametrize(("field", "value"), [("train", 0), ("seed", -1), ("test", "9")])
def test_parameters_out_of_range(photos: Path, tmp_path: Path, field, value):
    with pytest.raises((TypeError, ValueError), match=f"^{field} must .*{value}"):
        make_gestures(photos, tmp_path / "set", **{**SIZES, field: value})


def test_command(photos: Path, tmp_path: Path, load_tool, monkeypatch, capsys):
    tool = load_tool("data/gestures/compose.py")
    sizes = [f"--{name}={size}" for name, size in SIZES.items()]
    monkeypatch.setattr("sys.argv", ["compose", str(photos), str(tmp_path / "set"), *sizes, "--seed=3"])
    tool.main()
    assert f"{sum(LISTS.values())} clips" in capsys.readouterr().out


def test_real_photos(shared_dir: Path, tmp_path: Path, repo: Path):
    folder = shared_dir / "data/gestures"
    if not folder.is_dir():
        pytest.skip(f"no photos at {folder}")
    make_gestures(folder, tmp_path / "set", train=26, val=13, test=13)
    check_promises(tmp_path / "set", folder, dict(train=26, val=13, test=13, val_room_b=13, test_room_b=13))
    config = Config.fromfile(repo / "configs/_base_/datasets/gestures.py")
    assert (tmp_path / "set/classes.txt").read_text().splitlines() == config.classes
    frames = load_frames(tmp_path / "set")
    assert {f["room"] for c in frames.values() for f in c if f["kind"] == "idle"} == {"B"}
    # decoders differ in how they enlarge the colours
    assert largest_difference(tmp_path / "set", folder, ["test/00000.mkv", "train/00001.mkv"]) < 3
