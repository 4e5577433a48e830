import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from mmvideoiq.data import synthetic
from mmvideoiq.data.synthetic import (
    KINDS,
    NUM_CLASSES,
    SUFFICIENT_BITS,
    grating,
    load_kinds,
    make_clip,
    make_frame,
    make_synthetic,
    write_lossless,
)
from mmvideoiq.jobs.errors import one_line_errors
from mmvideoiq.video.av_reader import AvReader
from tests.conftest import ROOT

SQUARES = 3 * 8 * 8
"""Most pixels of a 64x64 frame that distractors cover."""


def quantize(frames: np.ndarray, bits: int) -> np.ndarray:
    steps = 2**bits - 1
    return np.round(frames / 255 * steps) / steps


def read_class(frames: np.ndarray) -> int:
    """Matched filter: the class whose grating, at its best phase, has most energy in the frames (T, S, S, 3).

    Squares would outweigh a faint grating: deviations are cut at three times the frame's median deviation.
    """
    grey = frames.mean(-1)
    grey = grey - np.median(grey, (1, 2), keepdims=True)
    bound = 3 * np.median(np.abs(grey), (1, 2), keepdims=True)
    grey = np.clip(grey, -bound, bound)
    size = grey.shape[1]
    waves = [
        grating(k, phase=0, size=size) + 1j * grating(k, phase=np.pi / 2, size=size)
        for k in range(NUM_CLASSES)
    ]
    return int(np.argmax([(np.abs((grey * wave).sum((1, 2))) ** 2).sum() for wave in waves]))


@pytest.mark.parametrize("bits", [2, 4, 8])
@pytest.mark.parametrize("kind", KINDS[1:])
def test_each_kind_is_readable_from_its_precision_on(kind, bits):
    rng = np.random.default_rng(0)
    labels = np.arange(48) % NUM_CLASSES
    read = [read_class(quantize(make_clip(rng, label=int(k), kind=kind)[0], bits)) for k in labels]
    accuracy = np.mean(read == labels)
    if bits >= SUFFICIENT_BITS[kind]:
        assert accuracy >= 0.97
    else:
        assert accuracy <= 0.3  # chance is 1/8


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("bits", [2, 4])
def test_what_is_lost_is_lost_in_every_pixel(kind, bits):
    rng = np.random.default_rng(1)
    for i in range(100):
        frame = quantize(make_frame(rng, label=i % NUM_CLASSES, kind=kind), bits)
        changed = (np.abs(frame - 1 / 3) > 1e-6).any(-1).sum()
        if kind != "blank" and bits >= SUFFICIENT_BITS[kind]:
            assert changed > 500
        else:
            assert changed <= SQUARES


def test_blank_frames_are_not_constant_and_differ():
    rng = np.random.default_rng(2)
    first, second = (quantize(make_frame(rng, label=0, kind="blank"), 2) for _ in range(2))
    assert len(np.unique(first)) > 1
    assert not np.array_equal(first, second)


def test_phase_hides_the_class_from_any_single_pixel():
    rng = np.random.default_rng(3)
    means = [
        np.mean([make_frame(rng, label=k, kind="bold") for _ in range(200)], axis=(0, 3)) for k in range(2)
    ]
    # spread of a mean of 200 sines of amplitude 0.3: 0.3 / sqrt(2 * 200) = 0.015
    assert np.abs(means[0] - means[1]).max() < 255 * 0.015 * 8


@pytest.mark.parametrize("size", [16, 40, 41])
def test_every_frame_is_read_bit_for_bit(tmp_path: Path, size):
    rng = np.random.default_rng(4)
    for kind in KINDS[1:]:
        clip, _ = make_clip(rng, label=3, kind=kind, size=size)
        path = tmp_path / f"{kind}.mkv"
        write_lossless(path, clip, rate=6)
        for sampling in ("exact", "nearby"):
            assert np.array_equal(AvReader(path).read(range(len(clip)), sampling=sampling), clip)
        assert np.array_equal(AvReader(path).read([3]), clip[3:4])
    noise = rng.integers(0, 256, (9, size, size + 9, 3), dtype=np.uint8)
    write_lossless(tmp_path / "noise.mkv", noise, rate=9)
    assert np.array_equal(AvReader(tmp_path / "noise.mkv").read(range(9)), noise)


@pytest.fixture(scope="module")
def clips(tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("made") / "set"
    make_synthetic(root, train=48, val=24, test=25, seed=5)
    return root


def test_lists_are_balanced_and_kinds_recorded(clips: Path):
    kinds = load_kinds(clips)
    assert len(kinds) == 48 + 24 + 25
    for split, count in dict(train=48, val=24, test=25).items():
        rows = [line.split() for line in (clips / f"{split}.txt").read_text().splitlines()]
        assert len(rows) == count
        pairs = [(int(label), next(k for k in kinds[name] if k != "blank")) for name, label in rows]
        assert all((clips / "videos" / name).is_file() for name, _ in rows)
        assert len(set(pairs)) == 24  # each class with each kind
        assert max(map(pairs.count, pairs)) <= count // 24 + 1
    flat = [k for row in kinds.values() for k in row]
    assert 0.35 < flat.count("blank") / len(flat) < 0.6
    assert all(len(row) == 6 and len(set(row) - {"blank"}) == 1 for row in kinds.values())
    assert len((clips / "classes.txt").read_text().splitlines()) == NUM_CLASSES


def test_recorded_kinds_are_the_frames_kinds(clips: Path):
    name, kinds = next((n, k) for n, k in load_kinds(clips).items() if "bold" in k and "blank" in k)
    frames = np.stack(AvReader(clips / "videos" / name).read(range(6)))
    changed = (quantize(frames, 2) != 1 / 3).any(-1).sum((1, 2))
    assert [c > SQUARES for c in changed] == [k == "bold" for k in kinds]


def test_same_seed_same_files_other_seed_other_files(tmp_path: Path, clips: Path):
    make_synthetic(tmp_path / "a", train=48, val=24, test=25, seed=5)
    make_synthetic(tmp_path / "b", train=48, val=24, test=25, seed=6)
    for name in list(load_kinds(clips))[::7]:
        here = (clips / "videos" / name).read_bytes()
        assert here == (tmp_path / "a/videos" / name).read_bytes()
        assert here != (tmp_path / "b/videos" / name).read_bytes()
    assert (clips / "train.txt").read_text() == (tmp_path / "a/train.txt").read_text()


def test_existing_set_is_kept_if_equal_and_never_overwritten(tmp_path: Path, clips: Path, monkeypatch):
    sizes = dict(train=48, val=24, test=25)
    monkeypatch.setattr(synthetic, "write_lossless", lambda *a, **k: pytest.fail("generated again"))
    make_synthetic(clips, **sizes, seed=5)
    with pytest.raises(FileExistsError, match=r"'seed': 5.*'seed': 6"):
        make_synthetic(clips, **sizes, seed=6)
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(FileExistsError, match="not a set of synthetic clips"):
        make_synthetic(tmp_path, **sizes)
    assert (tmp_path / "notes.txt").read_text() == "mine"


def test_lost_clips_are_noticed(tmp_path: Path):
    make_synthetic(tmp_path / "set", train=2, val=1, test=1)
    (tmp_path / "set/videos/val/00000.mkv").unlink()
    with pytest.raises(FileExistsError, match="lost"):
        make_synthetic(tmp_path / "set", train=2, val=1, test=1)


def test_interruption_leaves_nothing(tmp_path: Path, monkeypatch):
    done = []

    def interrupted(path, clip, *, rate):
        done.append(path)
        if len(done) == 3:
            raise KeyboardInterrupt

    monkeypatch.setattr(synthetic, "write_lossless", interrupted)
    with pytest.raises(KeyboardInterrupt):
        make_synthetic(tmp_path / "set", train=5, val=1, test=1)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("field", "value", "error"),
    [
        ("train", 0, ValueError),
        ("size", 8, ValueError),
        ("frames", 0, ValueError),
        ("seed", 1.5, TypeError),
    ],
)
def test_parameters_out_of_range(tmp_path: Path, field, value, error):
    with pytest.raises(error, match=f"^{field} must .*{value}"):
        make_synthetic(tmp_path / "set", **{field: value})


def test_command(tmp_path: Path, load_tool, monkeypatch, capsys):
    tool = load_tool("data/make_synthetic.py")
    arguments = ["make_synthetic", str(tmp_path / "set"), *"--train 3 --val 2 --test 1 --frames 4".split()]
    monkeypatch.setattr("sys.argv", arguments)
    tool.main()
    assert "6 clips" in capsys.readouterr().out
    assert len(load_kinds(tmp_path / "set")["train/00000.mkv"]) == 4
    monkeypatch.setattr("sys.argv", [*arguments, "--seed", "-1"])
    with pytest.raises(SystemExit) as stopped, one_line_errors():
        tool.main()
    assert stopped.value.code == 2 and "seed must be >= 0, got -1" in capsys.readouterr().err


def test_the_tool_needs_no_torch(tmp_path):
    """So that who has the runtime alone gets clips for the shipped bundle."""
    code = (
        "import runpy, sys; sys.modules.update(dict.fromkeys(('torch', 'mmengine', 'mmaction', 'mmcv')));"
        "sys.argv = ['make_synthetic.py', 'clips', '--train', '8', '--val', '8', '--test', '8'];"
        f"runpy.run_path({str(ROOT / 'tools/data/make_synthetic.py')!r}, run_name='__main__')"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0 and done.stdout.endswith("24 clips are ready\n"), done.stderr
