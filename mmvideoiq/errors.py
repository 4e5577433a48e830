"""Errors that end a run for a reason the user can act on: commands print their message alone."""

import errno


class RunStopped(RuntimeError):
    """A run that has begun and cannot go on; the message is one line and says why and what to do."""


def disk_full(error: BaseException) -> bool:
    """Whether a file could not be written for want of space, by the disk, a quota or a limit of the process."""
    return isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
