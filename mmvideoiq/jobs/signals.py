"""What ends a process: Ctrl-C and SIGTERM, whatever its parent ignored; and the death of its parent."""

from __future__ import annotations

import os
import signal
import threading
from types import FrameType
from typing import NoReturn


class Terminated(KeyboardInterrupt):
    """SIGTERM: cleanup runs as after Ctrl-C."""


def _terminate(number: int, frame: FrameType | None) -> NoReturn:
    raise Terminated


def restore_signals() -> None:
    """Make SIGINT raise KeyboardInterrupt and SIGTERM raise ``Terminated``, its subclass.

    ``nohup`` and background jobs of a shell start a command with SIGINT ignored; Python keeps that. Call it from
    the main thread, at the start of a command. ``exit_code`` gives what the command should end with.
    """
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGTERM, _terminate)


def exit_code(stop: KeyboardInterrupt) -> int:
    """130 after Ctrl-C, 143 after SIGTERM, as a shell reports them. A ``Terminated`` may be its cause."""
    cause: BaseException | None = stop
    while cause is not None and not isinstance(cause, Terminated):
        cause = cause.__cause__
    return 128 + (signal.SIGINT if cause is None else signal.SIGTERM)


def end_with(pipe: int) -> None:
    """End this process, with its process group, when the other end of ``pipe`` is closed.

    The parent holds that end, so its death is noticed however it came. Call it before slow imports. The process must
    lead its group (``start_new_session=True``).

    Args:
        pipe: descriptor of the reading end; nothing is ever written to it.
    """
    signal.signal(signal.SIGTERM, signal.SIG_DFL)  # it may be ignored by inheritance

    def watch() -> None:
        os.read(pipe, 1)
        os.killpg(os.getpid(), signal.SIGKILL)

    threading.Thread(target=watch, daemon=True, name="end with the parent").start()
