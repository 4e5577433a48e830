"""Measures how long it takes from a file to the frames that a model sees, beside decord with one thread.

Ratios are of pairs measured in one round, so that other load on the machine affects both sides.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from fractions import Fraction
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from mmvideoiq.fileio import atomic_write
from mmvideoiq.latency.environment import describe_environment
from mmvideoiq.latency.interleave import interleave, paired, timed
from mmvideoiq.video.av_reader import SAMPLING, AvReader
from mmvideoiq.video.reader import sample_indices

RATE = 30  # frames per second


@dataclass(frozen=True)
class Film:
    """A video that the benchmark makes: frames, pixels, and frames from one key frame to the next at most."""

    frames: int
    width: int
    height: int
    key_every: int


FILMS = {
    "10 s of 340x256": Film(frames=300, width=340, height=256, key_every=250),
    "2 min of 1280x720": Film(frames=3600, width=1280, height=720, key_every=180),
}


@dataclass(frozen=True, kw_only=True)
class DecodeSettings:
    """``frames`` are taken from each video; ``tolerance`` is that of 'keyframe', in seconds."""

    frames: int = 16
    threads: int = 2
    tolerance: int = 3
    repeats: int = 7
    warmup: int = 1

    def __post_init__(self) -> None:
        for field in ("frames", "threads", "repeats"):
            if getattr(self, field) < 1:
                raise ValueError(f"{field}={getattr(self, field)} must be at least 1")


def measure_decoding(
    videos: Mapping[str, Path],
    settings: DecodeSettings,
    *,
    begin: Callable[[str, int], Callable[[], None]],
) -> dict[str, Any]:
    """Milliseconds of each way to read each video, by the clock and of processor time, and their ratios to decord's.

    Args:
        begin: called with a label and the number of runs; what it returns is called after each run.
    """
    contenders: dict[str, tuple[str, int]] = {"decord": ("decord", 1)}
    for threads in sorted({1, settings.threads}):
        contenders |= {f"{sampling} {threads}": (sampling, threads) for sampling in SAMPLING}
    rows = []
    for video, path in videos.items():
        runs = {name: partial(timed, partial(read, path, settings, *how)) for name, how in contenders.items()}
        advance = begin(video, len(runs) * (settings.warmup + settings.repeats))
        times = interleave(runs, warmup=settings.warmup, repeats=settings.repeats, advance=advance)
        for name, (sampling, threads) in contenders.items():
            clock, processor = (
                paired([spent[i] for spent in times[name]], [spent[i] for spent in times["decord"]])
                for i in (0, 1)
            )
            rows.append(
                dict(
                    video=video,
                    sampling=sampling,
                    threads=threads,
                    ms=1e3 * statistics.median(spent.clock for spent in times[name]),
                    ratio=clock["median"],
                    quartiles=clock["quartiles"],
                    processor_ratio=processor["median"],
                )
            )
    return dict(settings=asdict(settings), environment=describe_environment(), rows=rows)


def read(path: Path, settings: DecodeSettings, sampling: str, threads: int) -> Sequence[np.ndarray]:
    """The frames of a file, from its opening on; ``sampling`` 'decord' takes that library, frames being exact."""
    if sampling == "decord":
        import decord

        video = decord.VideoReader(str(path), num_threads=threads)
        return video.get_batch(sample_indices(len(video), settings.frames)).asnumpy()
    reader = AvReader(path, threads=threads)
    places = sample_indices(len(reader), settings.frames)
    return reader.read(places, sampling=sampling, tolerance_s=settings.tolerance)


def make_films(folder: Path, *, begin: Callable[[str, int], Callable[[], None]]) -> dict[str, Path]:
    """The :data:`FILMS` in ``folder``, H.264 in MP4; those that are there already are kept."""
    paths = {}
    for name, film in FILMS.items():
        paths[name] = folder / f"{name.replace(' ', '_')}.mp4"
        if not paths[name].exists():
            with atomic_write(paths[name]) as part:
                film_to(part, film, begin(f"making {name}", film.frames))
    return paths


def film_to(path: Path, film: Film, advance: Callable[[], None]) -> None:
    """A view that turns and zooms over a soft texture, a disc that moves across it, and a little noise.

    At 1280x720 key frames take 80 kB and others 5 on average, much as in camera recordings of that size.
    """
    import av
    import cv2

    rng = np.random.default_rng(0)
    height, width, cell = film.height, film.width, 24
    small = rng.integers(0, 256, ((height + 1024) // cell, (width + 1024) // cell, 3), dtype=np.uint8)
    ground = cv2.resize(small, None, fx=cell, fy=cell, interpolation=cv2.INTER_CUBIC)
    ground = cv2.GaussianBlur(ground, (0, 0), 4)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=RATE, options=dict(preset="medium", crf="23"))
        stream.width, stream.height, stream.pix_fmt, stream.gop_size = (
            width,
            height,
            "yuv420p",
            film.key_every,
        )
        for number in range(film.frames):
            t = number / RATE
            view = cv2.getRotationMatrix2D((width / 2, height / 2), 12 * np.sin(t), 1 + 0.4 * np.sin(0.8 * t))
            view[:, 2] -= 100 + 60 * np.sin(0.7 * t), 100 + 60 * np.cos(0.5 * t)
            image = cv2.warpAffine(ground, view, (width, height), borderMode=cv2.BORDER_REFLECT)
            centre = (int(width * (0.5 + 0.33 * np.sin(2 * t))), int(height * (0.5 + 0.25 * np.cos(1.3 * t))))
            cv2.circle(image, centre, height // 6, (200, 30, 30), -1)
            noise = rng.integers(-4, 5, (height, width, 1), dtype=np.int16)
            frame = av.VideoFrame.from_ndarray(
                np.clip(image + noise, 0, 255).astype(np.uint8), format="rgb24"
            )
            frame.pts, frame.time_base = number, Fraction(1, RATE)
            container.mux(stream.encode(frame))
            advance()
        container.mux(stream.encode(None))
