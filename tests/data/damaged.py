"""Damaged videos, made when a test runs: the same seed makes the same files."""

from __future__ import annotations

import struct
from collections.abc import Iterator
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


def mutations(folder: Path, count: int, *, seed: int = 0) -> Iterator[Path]:
    """``count`` damaged files: cut off, bytes changed, parts set to zero or taken out."""
    rng = np.random.default_rng(seed)
    sources = [encode(folder / f"source.{ending}") for ending in FORMATS]
    for i in range(count):
        source = sources[i % len(sources)]
        content = np.frombuffer(source.read_bytes(), np.uint8).copy()
        size = len(content)
        kind = ("cut", "bytes", "header", "zeros", "gap")[i // len(sources) % 5]
        if kind == "cut":
            content = content[: int(size * rng.choice([0.1, 0.5, 0.9, 0.98, 0.995]))]
        elif kind == "bytes":
            places = rng.integers(0, size, rng.integers(1, 40))
            content[places] = rng.integers(0, 256, len(places))
        elif kind == "header":
            at = max(0, bytes(content).find(b"moov")) if source.suffix in (".mp4", ".mov") else 0
            places = at + rng.integers(0, min(1024, size - at), rng.integers(1, 6))
            content[places] = rng.integers(0, 256, len(places))
        else:
            begin = int(rng.integers(0, size))
            end = begin + int(rng.integers(1, size // 8))
            if kind == "zeros":
                content[begin:end] = 0
            else:
                content = np.delete(content, slice(begin, end))
        path = folder / f"{i:03d}_{kind}{source.suffix}"
        path.write_bytes(content.tobytes())
        yield path
