"""Small copies of videos, which decode many times faster; decoding can take most of the time of a training."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from fractions import Fraction
from pathlib import Path

import av
from av.video.reformatter import Interpolation
from rich.progress import track

from mmvideoiq.data.folder import EXTENSIONS
from mmvideoiq.jobs.environment import usable_cpus
from mmvideoiq.video.container import reason, video_of
from mmvideoiq.video.errors import VideoError

KEYFRAME_EVERY = 12


def shrink_folder(
    source: str | Path, out: str | Path, *, short_side: int = 160, crf: int = 18, progress: bool = False
) -> dict[str, str]:
    """Copy a folder with its videos scaled down; every path stays the same, so that its lists fit the copy.

    H.264 in an MP4 container whatever the file's ending (readers look at the content), no sound, a key frame
    every 12 frames. Videos that are not larger than asked, are displayed rotated or do not decode are
    copied as they are, and so are all other files. Files are written atomically; existing ones
    are not made again.

    Args:
        short_side: the copy's height or width, whichever is smaller; even, >= 16.
        crf: quality in 0..51, lower is better; 18 is visually lossless.

    Returns: {path: reason} of the videos that could not be scaled.

    Raises:
        NotADirectoryError: no such folder.
        ValueError: a number out of range, nothing in ``source``, or ``out`` lies in ``source``.
        FileExistsError: ``out`` holds something else, or copies of other settings.
    """
    source, out = Path(source).resolve(), Path(out).resolve()
    if not source.is_dir():
        raise NotADirectoryError(f"{source} is not a folder")
    if not any(path.is_file() for path in source.rglob("*")):
        raise ValueError(f"{source} holds no files; check the path")
    if short_side < 16 or short_side % 2:
        raise ValueError(f"short_side must be even and >= 16, got {short_side}")
    if not 0 <= crf <= 51:
        raise ValueError(f"crf must be in 0..51, got {crf}")
    if out == source or source in out.parents:
        raise ValueError(f"{out} is inside {source}; name a folder outside")
    _claim(out, dict(source=str(source), short_side=short_side, crf=crf))
    files = sorted(p for p in source.rglob("*") if p.is_file() and not (out / p.relative_to(source)).exists())

    def one(path: Path) -> str | None:
        target = out / path.relative_to(source)
        target.parent.mkdir(parents=True, exist_ok=True)
        part = target.with_name(f".{target.name}.part-{os.getpid()}")
        try:
            reason = _shrink(path, part, short_side=short_side, crf=crf)
            part.replace(target)
        finally:
            part.unlink(missing_ok=True)
        return reason

    with ThreadPoolExecutor(max_workers=usable_cpus()) as pool:
        reasons: Iterable[str | None] = pool.map(one, files)
        if progress and files:
            reasons = track(reasons, description="scaling videos", total=len(files))
        return {str(p.relative_to(source)): r for p, r in zip(files, reasons, strict=True) if r is not None}


def _claim(out: Path, settings: dict) -> None:
    record = out / "shrink.json"
    if record.is_file():
        found = json.loads(record.read_text())
        if found != settings:
            raise FileExistsError(
                f"{out} holds copies made with {found}, asked for {settings}; name a new folder"
            )
    elif out.exists() and any(out.iterdir()):
        raise FileExistsError(f"{out} exists and holds something else; name a new folder")
    else:
        out.mkdir(parents=True, exist_ok=True)
        record.write_text(json.dumps(settings))


def _shrink(source: Path, target: Path, *, short_side: int, crf: int) -> str | None:
    """Scale one video, or copy the file; the reason if it is a video and could not be scaled."""
    why = None
    if source.suffix.lower() in EXTENSIONS:
        try:
            if _scaled(source, target, short_side=short_side, crf=crf):
                return None
        except VideoError as error:
            why = error.reason
        except (av.FFmpegError, ValueError) as error:
            why = reason(error)
    shutil.copyfile(source, target)
    return why


def _scaled(source: Path, target: Path, *, short_side: int, crf: int) -> bool:
    with av.open(str(source)) as video:
        pictures = video_of(video, str(source))
        factor = short_side / min(pictures.height, pictures.width)
        if factor >= 1:
            return False
        height, width = (2 * round(side * factor / 2) for side in (pictures.height, pictures.width))
        with av.open(str(target), "w", format="mp4") as copy:
            rate = pictures.average_rate or Fraction(25)
            options = dict(crf=str(crf), preset="fast", g=str(KEYFRAME_EVERY), bf="0")
            stream = copy.add_stream("libx264", rate=rate, options=options)
            stream.height, stream.width, stream.pix_fmt = height, width, "yuv420p"
            stream.codec_context.thread_count = 1
            for i, frame in enumerate(video.decode(pictures)):
                if frame.rotation:
                    return False
                small = frame.reformat(width, height, format="yuv420p", interpolation=Interpolation.AREA)
                small.pts, small.time_base = i, 1 / rate
                copy.mux(stream.encode(small))
            copy.mux(stream.encode(None))
    return True
