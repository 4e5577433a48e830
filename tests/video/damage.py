"""Damaged videos: the same seed makes the same files."""

import random
from collections.abc import Callable, Iterator
from pathlib import Path

from tests.video.odd import ODD, Odd, write

X264 = {"x264-params": "keyint=24:min-keyint=24:bframes=2:scenecut=0"}
VP9 = {"deadline": "realtime", "cpu-used": "8", "g": "24"}
KINDS = {
    "h264.mp4": Odd("libx264", ".mp4", options=X264),
    "h264-faststart.mp4": Odd("libx264", ".mp4", options=X264, muxer={"movflags": "faststart"}),
    "h264.mkv": Odd("libx264", ".mkv", options=X264),
    "h264.ts": Odd("libx264", ".ts", options=X264),
    "hevc.mp4": Odd("libx265", ".mp4", options={"x265-params": "log-level=none:keyint=24"}),
    "vp9.webm": Odd("libvpx-vp9", ".webm", options=VP9),
    "mpeg2.mpg": ODD["mpeg2.mpg"],
    "mpeg2.ts": ODD["mpeg2.ts"],
    "xvid-b-frames.avi": ODD["xvid-b-frames.avi"],
    "mjpeg.avi": ODD["mjpeg.avi"],
}


def flipped(data: bytes, rng: random.Random) -> bytes:
    changed = bytearray(data)
    for _ in range(rng.choice((1, 4, 64))):
        changed[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
    return bytes(changed)


def cut(data: bytes, rng: random.Random) -> bytes:
    return data[: rng.randrange(len(data) // 8, len(data))]


def zeroed(data: bytes, rng: random.Random) -> bytes:
    begin, size = rng.randrange(len(data)), rng.choice((16, 512, len(data) // 8))
    return (data[:begin] + bytes(size) + data[begin + size :])[: len(data)]


def removed(data: bytes, rng: random.Random) -> bytes:
    begin = rng.randrange(len(data))
    return data[:begin] + data[begin + rng.choice((1, 188, 5000)) :]


def spliced(data: bytes, rng: random.Random) -> bytes:
    """A part stands in another place, too."""
    size = rng.choice((64, 2000))
    begin, source = rng.randrange(len(data)), rng.randrange(len(data))
    return data[:begin] + data[source : source + size] + data[begin + size :]


MUTATIONS: tuple[Callable[[bytes, random.Random], bytes], ...] = (flipped, cut, zeroed, removed, spliced)


def mutations(folder: Path, count: int, *, seed: int = 0) -> Iterator[tuple[str, str, Path]]:
    """Kind, mutation and path of each file; every mutation of every kind in turn."""
    rng = random.Random(seed)
    given: dict[str, bytes] = {}
    for number in range(count):
        kind = list(KINDS)[number % len(KINDS)]
        mutation = MUTATIONS[number // len(KINDS) % len(MUTATIONS)]
        if kind not in given:
            write(folder / kind, KINDS[kind])
            given[kind] = (folder / kind).read_bytes()
        path = folder / f"{number:03d}-{mutation.__name__}-{kind}"
        path.write_bytes(mutation(given[kind], rng))
        yield kind, mutation.__name__, path
