"""Ctrl-C and SIGTERM end a command, whatever signals its parent ignored."""

from __future__ import annotations

import signal
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
