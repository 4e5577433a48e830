"""Calls one function: ``python -m mmvideoiq.jobs.worker JOB.json PIPE``, which ``jobs/process.py`` starts.

PIPE is the descriptor of a pipe whose other end the parent holds: this process ends when it is closed.
"""

from __future__ import annotations

import sys

from mmvideoiq.jobs.signals import end_with

if __name__ == "__main__":
    end_with(int(sys.argv[2]))

from mmvideoiq import compat

compat.apply()

import importlib.util
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from mmengine.utils import get_object_from_string

from mmvideoiq.fileio import read_json, write_json
from mmvideoiq.jobs.errors import Begun, disk_full, one_line_errors


class Progress:
    """Appends lines ``{"text": str, "done": share or None, "log": bool}`` to a file which the parent process follows.

    Where there is no terminal, only entries with ``log`` may become a line.
    """

    def __init__(self, path: str, begun: Begun) -> None:
        self.path, self._begun = path, begun

    def begin(self) -> None:
        """The checks are over: from now on errors keep their traceback."""
        self._begun.happened = True

    def __call__(self, text: str, done: float | None = None, *, log: bool = True) -> None:
        with open(self.path, "a") as file:
            file.write(json.dumps({"text": text, "done": done, "log": log}) + "\n")


def find_function(name: str) -> Callable[..., Any]:
    """The function with this dotted name.

    Raises:
        ValueError: there is none.
    """
    module = name.rpartition(".")[0]
    try:
        if importlib.util.find_spec(module) is None:
            raise ModuleNotFoundError(f"no module named {module}")
        return get_object_from_string(name)
    except Exception as error:
        raise ValueError(f"function '{name}': cannot be found: {error}") from error


def main() -> None:
    job = read_json(Path(sys.argv[1]))
    try:
        with one_line_errors() as begun:
            progress = Progress(job["progress"], begun)
            progress("starting")
            if not job["checks"]:
                progress.begin()
            reports = dict(progress=progress) if job["reports"] else {}
            result = find_function(job["function"])(**job["kwargs"], **reports)
            write_json(Path(job["result"]), result if isinstance(result, dict | list) else {})
    except (OSError, SystemExit) as error:
        cause = error.__context__ if isinstance(error, SystemExit) else error
        if cause is None or not disk_full(cause):
            raise
        os._exit(os.EX_IOERR)  # the log may be on the full disk, so the parent reports it


if __name__ == "__main__":
    main()
