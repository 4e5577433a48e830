"""Does a video decode? Asked of decord, which decodes for training and testing as well."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from rich.progress import track


def why_unreadable(path: str | Path, *, every_frame: bool = False) -> str | None:
    """None if the video decodes, else the reason in one line.

    Args:
        every_frame: decode all frames; without it the first and the last one, which finds missing and cut
            files, files without video and files of another kind, but not damage in the middle.
    """
    import decord

    try:
        with open(path, "rb") as stream:
            reader = decord.VideoReader(stream, num_threads=1)
            count = len(reader)
            if count == 0:
                return "it has no frames"
            if every_frame:
                for i in range(count):
                    reader[i]
            else:
                reader.get_batch(sorted({0, count - 1}))
    except Exception as error:  # decord raises DECORDError, RuntimeError and more; each means the same here
        return one_line(error)
    return None


def find_unreadable(paths: Sequence[str | Path], *, progress: bool = False) -> dict[int, str]:
    """Positions of the videos that do not decode, with the reason; several at a time."""
    with ThreadPoolExecutor(max_workers=min(8, os.cpu_count() or 1)) as pool:
        reasons: Iterable[str | None] = pool.map(why_unreadable, paths)
        if progress:
            reasons = track(reasons, description="checking videos", total=len(paths), transient=True)
        return {i: reason for i, reason in enumerate(reasons) if reason is not None}


def one_line(error: Exception) -> str:
    """The end of an exception's first line that says something; decord puts a stack trace below it."""
    if isinstance(error, UnicodeDecodeError):  # decord quotes the file's bytes in its message
        return "no video that decord knows"
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return f"{type(error).__name__}: {lines[0][-160:]}" if lines else type(error).__name__
