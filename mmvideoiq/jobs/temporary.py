"""A temporary folder of a command; what a killed one has left of its own, the next one removes."""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

KEPT = "kept"  # a file in a folder that is left for its logs


@contextmanager
def temporary_folder(prefix: str, *, place: Path | None = None) -> Iterator[Path]:
    """A folder that goes with the block, of this user alone; it stays if the block puts a file :data:`KEPT` into it.

    A lock on it shows that its process lives: those without, of this user and with this prefix, are removed first.

    Args:
        place: where it lies; None is that of ``tempfile``.
    """
    place = Path(tempfile.gettempdir()) if place is None else place
    for left in place.glob(f"{prefix}*"):
        lock = lock_of(left)
        if lock is not None:
            if not (left / KEPT).exists():
                shutil.rmtree(left, ignore_errors=True)
            os.close(lock)
    lock = None
    while lock is None:  # another process may just have taken it for left over
        folder = Path(tempfile.mkdtemp(prefix=prefix, dir=place))
        lock = lock_of(folder)
    try:
        yield folder
    finally:
        if not (folder / KEPT).exists():
            shutil.rmtree(folder, ignore_errors=True)
        os.close(lock)


def lock_of(folder: Path) -> int | None:
    """A descriptor that holds the lock of a folder; None if a process has it, or another user made it."""
    try:
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    except OSError:
        return None
    try:
        if os.fstat(descriptor).st_uid == os.getuid():
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return descriptor
    except BlockingIOError:
        pass
    os.close(descriptor)
    return None
