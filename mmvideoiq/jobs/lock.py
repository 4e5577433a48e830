"""A folder belongs to one process at a time."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import FileLock, Timeout

from mmvideoiq.fileio import DamagedFile, read_json, unless_unused, write_json


@contextmanager
def locked(work_dir: Path, error: type[ValueError], *, option: str = "--work-dir") -> Iterator[None]:
    """Keep other processes from ``work_dir``. The lock of a process that died is free.

    A folder that this makes, and into which the block puts nothing, is removed.

    Args:
        option: of the command, that names the folder.

    Raises:
        ``error``: another process has it; names that process.
    """
    with unless_unused(work_dir):
        work_dir.mkdir(parents=True, exist_ok=True)
        with _held(work_dir, error, option):
            yield


@contextmanager
def _held(work_dir: Path, error: type[ValueError], option: str) -> Iterator[None]:
    holder, file = work_dir / ".running.json", work_dir / ".lock"
    try:
        lock = FileLock(file, timeout=0)
        lock.acquire()
    except Timeout:
        try:
            known = read_json(holder, keys=("pid", "host")) or {}
        except DamagedFile:
            known = {}
        who = f"process {known['pid']} on {known['host']}" if known else "another process"
        raise error(f"{work_dir} is in use by {who}: end it, or choose another {option}") from None
    try:
        write_json(holder, {"pid": os.getpid(), "host": socket.gethostname()})
        yield
    finally:
        holder.unlink(missing_ok=True)
        with suppress(OSError):  # the folder is gone
            if os.listdir(work_dir) == [file.name]:
                file.unlink()
        lock.release()
