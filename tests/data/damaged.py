"""Damaged videos, made when a test runs: the same seed makes the same files."""

from __future__ import annotations

import struct
from pathlib import Path

import av
import numpy as np

FORMATS = {  # ending: codec
    "avi": "mpeg4",
    "mp4": "libx264",
    "mkv": "libx264",
    "mov": "mpeg4",
    "flv": "flv",
    "mpg": "mpeg2video",
}


def encode(path: Path, *, frames: int = 30, size: tuple[int, int] = (96, 80), seed: int = 0) -> Path:
    """A video of ``size``, (W, H) in multiples of 8, with the codec that is usual for the path's ending."""
    rng = np.random.default_rng(seed)
    with av.open(str(path), "w") as container:
        stream = container.add_stream(FORMATS[path.suffix[1:]], rate=25)
        (stream.width, stream.height), stream.pix_fmt = size, "yuv420p"
        stream.codec_context.thread_count = 1
        for _ in range(frames):
            coarse = rng.integers(0, 256, (size[1] // 8, size[0] // 8, 3), dtype=np.uint8)
            picture = np.kron(coarse, np.ones((8, 8, 1), np.uint8))
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode(None))
    return path


def cut_avi(path: Path) -> Path:
    """An ``.avi`` without its last 2 %."""
    content = encode(path, frames=150, size=(320, 240)).read_bytes()
    path.write_bytes(content[: len(content) * 98 // 100])
    return path


def hole(path: Path, share: float) -> Path:
    """An ``.mp4`` that opens, but a part of its frames, in the middle, is set to zero."""
    content = bytearray(encode(path).read_bytes())
    size = content.index(b"moov") - 4  # which stands at the end
    begin = int(size * (1 - share) / 2)
    content[begin : size - begin] = bytes(size - 2 * begin)
    path.write_bytes(content)
    return path


def wrong_count_mp4(path: Path, count: int = 2**31) -> Path:
    """An ``.mp4`` whose ``stts`` box claims another number of frames than there are."""
    content = bytearray(encode(path).read_bytes())
    struct.pack_into(">I", content, content.index(b"stts") + 12, count)
    path.write_bytes(content)
    return path
