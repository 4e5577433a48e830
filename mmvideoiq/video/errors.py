"""What is said of a video that cannot be read."""

from __future__ import annotations

import os
import re
from pathlib import Path


class VideoError(ValueError):
    """A video, camera or stream cannot be read; one line with its name and the reason."""

    def __init__(self, source: str | os.PathLike[str] | int, reason: str) -> None:
        self.source, self.reason = source, reason
        super().__init__(f"{shown(source)}: {reason}")


class NoDecoder(VideoError):
    """No process that decodes can be started: no fault of the video."""


def shown(source: str | os.PathLike[str] | int) -> str:
    """The name of a source in messages, without the password of an address."""
    if isinstance(source, int):
        return f"camera {source}"
    return re.sub(r"^(\w+://[^/@:]*):[^/?#]*@", r"\1:***@", os.fspath(source))


def check_file(path: str | os.PathLike[str]) -> None:
    """VideoError where there is no file, or nothing in it."""
    file = Path(path)
    try:
        there = file.exists()
    except OSError as error:  # a folder that may not be entered, a name that is too long
        raise VideoError(path, error.strerror) from None
    if not there:
        raise VideoError(path, "there is no such file")
    if not file.is_file():
        raise VideoError(
            path, "is a folder; name a video in it" if file.is_dir() else "is not a regular file"
        )
    if file.stat().st_size == 0:
        raise VideoError(path, "is empty")
