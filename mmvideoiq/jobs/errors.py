"""Mistakes of the user: every command ends on one with a single line on stderr. Needs the standard library alone."""

from __future__ import annotations

import errno
import os
import pickle
import select
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from mmvideoiq.jobs.explained import explained
from mmvideoiq.jobs.signals import exit_code

TRACEBACK = "MMVIDEOIQ_TRACEBACK"  # environment: keep the traceback
REPORTED = "LAUNCH_SAID"  # environment: the file that the first process of a launch to print an error creates
USER_ERRORS = (
    AssertionError,  # MMAction2 raises it for wrong settings
    AttributeError,  # so does MMEngine for those of another type
    EOFError,
    ImportError,
    LookupError,
    OSError,
    RuntimeError,
    SyntaxError,
    TypeError,
    ValueError,
    pickle.UnpicklingError,
)
LIBGL = ": on Debian apt install libgl1"
READER_LEFT = 141  # exit code, as of a process that SIGPIPE ends


class RunStopped(RuntimeError):
    """A run that has begun and cannot go on; the message is one line and says why and what to do."""


@dataclass
class Begun:
    """Whether the run itself has begun: from then on errors keep their traceback."""

    happened: bool = False


def traceback_wanted() -> bool:
    """Whether the environment asks commands to keep the traceback of a user's mistake."""
    return bool(os.environ.get(TRACEBACK))


def write_any_text() -> None:
    """Let stdout and stderr escape what their encoding lacks, such as names of files in an ASCII terminal."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")


@contextmanager
def one_line_errors(prog: str | None = None) -> Iterator[Begun]:
    """Until the run has begun, end on a user's mistake with one line on stderr and exit code 2.

    Yields the record of the beginning. From then on errors keep their traceback, except ``RunStopped`` and a full
    disk: one line and exit code 1. The environment variable MMVIDEOIQ_TRACEBACK keeps it everywhere. Ctrl-C ends with
    130, SIGTERM (after ``restore_signals``) with 143.

    Args:
        prog: name of the command; None takes that of the script.
    """
    begun = Begun()
    write_any_text()
    try:
        yield begun
    except USER_ERRORS as error:
        if unread(error):
            drop_output()
            raise SystemExit(READER_LEFT) from None
        stopped = isinstance(error, RunStopped) or disk_full(error)
        if (begun.happened and not stopped) or traceback_wanted():
            raise
        print_error(error, prog)
        raise SystemExit(1 if stopped else 2) from None
    except KeyboardInterrupt as stop:
        raise SystemExit(exit_code(stop)) from None


def print_error(error: BaseException, prog: str | None = None) -> None:
    """The one line, unless another process of this launch has printed one."""
    sys.stdout.flush()
    if first_to_print():
        line = f"{prog or Path(sys.argv[0]).name}: error: {one_line(error)}"
        print(explained(line), file=sys.stderr, flush=True)


def reader_left() -> bool:
    """Whether stdout is a pipe that nobody reads any more, as after ``| head``."""
    try:
        output = select.poll()
        output.register(sys.stdout.fileno(), 0)
    except (AttributeError, OSError, ValueError):  # it has no descriptor, or is closed
        return False
    return any(event & select.POLLERR for _, event in output.poll(0))


def unread(error: BaseException) -> bool:
    """Whether an error is that of writing to such a pipe: no mistake, and nothing to be told."""
    return isinstance(error, BrokenPipeError) and reader_left()


def drop_output() -> None:
    """Let what is still in the buffer of stdout go nowhere, so that the end of the process writes no error."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, sys.stdout.fileno())
    os.close(nowhere)


def one_line(error: BaseException) -> str:
    """The message of an error as one line; an ImportError includes its cause."""
    text = str(error.args[0]) if isinstance(error, KeyError) and error.args else str(error)
    if isinstance(error, ImportError):
        while error.__context__ is not None:
            error = error.__context__
        text = str(error) if str(error) in text else f"{text}: {error}"
        text += LIBGL * ("libGL.so" in text)
    if type(error) in (AssertionError, AttributeError, IndexError, KeyError, LookupError):
        text = f"{type(error).__name__}: {text}"
    return " ".join(text.split()) or type(error).__name__


def first_to_print() -> bool:
    """Whether no other process of this launch has printed an error; they meet the same ones. True without a launch."""
    if REPORTED not in os.environ:
        return True
    try:
        os.close(os.open(os.environ[REPORTED], os.O_CREAT | os.O_EXCL))
    except FileExistsError:
        return False
    return True


def disk_full(error: BaseException) -> bool:
    """Whether a file could not be written for want of space, by the disk, a quota or a limit of the process."""
    return isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def cannot_write(error: BaseException) -> bool:
    """Whether a file could not be written: :func:`disk_full`, a read-only disk, or no permission."""
    return disk_full(error) or (
        isinstance(error, OSError) and error.errno in (errno.EROFS, errno.EACCES, errno.EPERM)
    )
