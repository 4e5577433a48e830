"""What is said of a video that cannot be read."""

from __future__ import annotations

import os
import re


class VideoError(ValueError):
    """A video, camera or stream cannot be read; one line with its name and the reason."""

    def __init__(self, source: str | os.PathLike[str] | int, reason: str) -> None:
        self.source, self.reason = source, reason
        super().__init__(f"{shown(source)}: {reason}")


def shown(source: str | os.PathLike[str] | int) -> str:
    """The name of a source in messages, without the password of an address."""
    if isinstance(source, int):
        return f"camera {source}"
    return re.sub(r"^(\w+://[^/@:]*):[^/@]*@", r"\1:***@", os.fspath(source))
