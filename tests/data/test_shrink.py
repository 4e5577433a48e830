from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np
import pytest

from mmvideoiq.data.shrink import shrink_folder
from mmvideoiq.video.av_reader import AvReader


def smooth_clip(frames: int, height: int, width: int) -> np.ndarray:
    y, x = np.mgrid[:height, :width]
    waves = [128 + 100 * np.sin(x / 30 + t / 5 + c) * np.cos(y / 40) for t in range(frames) for c in range(3)]
    return np.stack(waves).reshape(frames, 3, height, width).transpose(0, 2, 3, 1).astype(np.uint8)


def write(path: Path, clip: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w", format="mp4") as container:
        stream = container.add_stream("libx264", rate=Fraction(30000, 1001), options=dict(crf="10"))
        stream.height, stream.width = clip.shape[1:3]
        stream.pix_fmt = "yuv420p"
        for frame in clip:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(stream.encode(None))


def frames_of(path: Path) -> np.ndarray:
    reader = AvReader(path)
    return np.stack(reader.read(range(len(reader))))


@pytest.fixture
def source(tmp_path: Path) -> Path:
    write(tmp_path / "in/videos/a/large.mp4", smooth_clip(15, 180, 320))
    write(tmp_path / "in/videos/a/tall.avi", smooth_clip(5, 240, 144))
    write(tmp_path / "in/videos/b/small.mp4", smooth_clip(5, 32, 48))
    (tmp_path / "in/videos/b/bad.mp4").write_text("no video")
    (tmp_path / "in/train.txt").write_text("a/large.mp4 0\n")
    return tmp_path / "in"


def test_copies_are_small_like_the_originals_and_fit_the_lists(tmp_path: Path, source: Path):
    out = tmp_path / "out"
    bad = shrink_folder(source, out, short_side=96)
    assert list(bad) == ["videos/b/bad.mp4"]
    files = {p.relative_to(source) for p in source.rglob("*") if p.is_file()}
    assert {p.relative_to(out) for p in out.rglob("*") if p.is_file()} == files | {Path("shrink.json")}
    for name, shape in {"a/large.mp4": (15, 96, 170, 3), "a/tall.avi": (5, 160, 96, 3)}.items():
        copy, original = frames_of(out / "videos" / name), frames_of(source / "videos" / name)
        assert copy.shape == shape
        direct = np.stack([cv2.resize(f, shape[2:0:-1], interpolation=cv2.INTER_AREA) for f in original])
        error = np.mean((copy.astype(float) - direct) ** 2)
        assert 10 * np.log10(255**2 / error) > 32  # dB
    for name in ("videos/b/small.mp4", "videos/b/bad.mp4", "train.txt"):
        assert (out / name).read_bytes() == (source / name).read_bytes()


def test_goes_on_where_it_stopped(tmp_path: Path, source: Path, monkeypatch):
    out = tmp_path / "out"
    shrink_folder(source, out, short_side=96)
    before = {p: p.stat().st_mtime_ns for p in out.rglob("*") if p.is_file()}
    lost = out / "videos/a/large.mp4"
    lost.unlink()
    shrink_folder(source, out, short_side=96)
    assert lost.is_file()
    assert all(p.stat().st_mtime_ns == t for p, t in before.items() if p != lost)
    with pytest.raises(FileExistsError, match=r"'short_side': 96.*'short_side': 80"):
        shrink_folder(source, out, short_side=80)


def test_refusals(tmp_path: Path, source: Path):
    with pytest.raises(NotADirectoryError, match="nowhere"):
        shrink_folder(tmp_path / "nowhere", tmp_path / "out")
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match="empty holds no files"):
        shrink_folder(tmp_path / "empty", tmp_path / "out")
    with pytest.raises(ValueError, match="short_side must be even and >= 16, got 65"):
        shrink_folder(source, tmp_path / "out", short_side=65)
    with pytest.raises(ValueError, match=r"crf must be in 0..51, got 60"):
        shrink_folder(source, tmp_path / "out", crf=60)
    with pytest.raises(ValueError, match="is inside"):
        shrink_folder(source, source / "out")
    with pytest.raises(FileExistsError, match="something else"):
        shrink_folder(source / "videos", source)
