"""Errors that end a run for a reason the user can act on: commands print their message alone."""

import errno
import os
import sys

TRACEBACK = "MMVIDEOIQ_TRACEBACK"


class RunStopped(RuntimeError):
    """A run that has begun and cannot go on; the message is one line and says why and what to do."""


def disk_full(error: BaseException) -> bool:
    """Whether a file could not be written for want of space, by the disk, a quota or a limit of the process."""
    return isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def traceback_wanted() -> bool:
    """Whether the environment asks commands to keep the traceback of a user's mistake; ask inside ``except``."""
    return bool(os.environ.get(TRACEBACK))


def write_any_text() -> None:
    """Let stdout and stderr escape what their encoding lacks, such as names of files in an ASCII terminal."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")
