"""Videos of each kind, and a decoder."""

import struct
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from mmvideoiq.video.decoder_process import Decoder
from mmvideoiq.video.preprocessing import READERS, Preprocessing

WIDE, TALL = (60, 96), (96, 80)  # (H, W)


def write(
    path: Path,
    count: int = 12,
    size: tuple[int, int] = WIDE,
    *,
    codec: str = "mpeg4",
    seed: int = 0,
    times: list[int] | None = None,
    **options: str,
) -> Path:
    """Smooth frames that differ; ``times`` in 1/1000 s for a variable rate."""
    rng = np.random.default_rng(seed)
    height, width = size
    with av.open(str(path), "w", options=options) as file:
        stream = file.add_stream(codec, rate=Fraction(10))
        stream.height, stream.width, stream.pix_fmt = height, width, "yuv420p"
        if times is not None:
            stream.codec_context.time_base = Fraction(1, 1000)
        for i in range(count):
            coarse = rng.integers(0, 256, (height // 6, width // 8, 3), dtype=np.uint8)
            frame = av.VideoFrame.from_ndarray(np.kron(coarse, np.ones((6, 8, 1), np.uint8)), format="rgb24")
            if times is not None:
                frame.pts, frame.time_base = times[i], Fraction(1, 1000)
            file.mux(stream.encode(frame))
        file.mux(stream.encode())
    return path


def rotate(path: Path, out: Path) -> Path:
    """The same video with a display matrix that rotates it by 90 degrees."""
    data = bytearray(path.read_bytes())
    at = data.index(b"tkhd") + 44
    one = 1 << 16
    data[at : at + 36] = struct.pack(">9i", 0, one, 0, -one, 0, 0, 0, 0, 1 << 30)
    out.write_bytes(data)
    return out


def sound(path: Path) -> Path:
    with av.open(str(path), "w") as file:
        stream = file.add_stream("aac", rate=16000, layout="mono")
        for i in range(20):
            samples = np.random.default_rng(i).standard_normal((1, 1024), dtype=np.float32)
            frame = av.AudioFrame.from_ndarray(0.1 * samples, format="fltp", layout="mono")
            frame.sample_rate, frame.pts = 16000, 1024 * i
            file.mux(stream.encode(frame))
        file.mux(stream.encode())
    return path


def square(frames: int, short_side: int | None, crop: int) -> Preprocessing:
    return Preprocessing(frames, short_side, crop, (crop, crop))


SMALL = square(4, 40, 32)


@pytest.fixture(scope="session")
def folder(tmp_path_factory) -> Path:
    """A video of each kind, good, damaged or not a video at all."""
    folder = tmp_path_factory.mktemp("videos")
    write(folder / "good.mp4")
    write(folder / "tall.mkv", size=TALL, seed=1)
    write(folder / "h264.mp4", count=30, codec="libx264", seed=2)
    write(folder / "short.mp4", count=2)
    write(folder / "one.avi", count=1)
    write(folder / "uneven.mkv", times=[0, 10, 20, 500, 510, 2000, 2001, 2050, 4000, 4500, 4600, 9000])
    rotate(folder / "good.mp4", folder / "rotated.mp4")
    sound(folder / "sound.mp4")
    (folder / "empty.mp4").touch()
    (folder / "text.mp4").write_text("This is not a video.\n" * 50)
    data = (folder / "good.mp4").read_bytes()
    (folder / "headless.mp4").write_bytes(data[: len(data) // 2])  # the index is at the end
    complete = write(folder / "complete.mp4", count=60, movflags="faststart").read_bytes()
    (folder / "cut.mp4").write_bytes(complete[: len(complete) // 2])
    half, hole = len(complete) // 2, len(complete) // 6
    (folder / "holed.mp4").write_bytes(complete[:half] + bytes([255]) * hole + complete[half + hole :])
    film = write(folder / "film.mkv", count=60).read_bytes()
    (folder / "cut.mkv").write_bytes(film[: len(film) // 2])
    (folder / "folder.mp4").mkdir()
    return folder


@pytest.fixture(scope="module")
def decoders():
    """One of each reader."""
    decoders = {reader: Decoder(SMALL._replace(reader=reader)) for reader in READERS}
    yield decoders
    for decoder in decoders.values():
        decoder.close()


@pytest.fixture(scope="module")
def decoder(decoders):
    return decoders["av"]
