"""What runs in a process of its own: ``python -m mmvideoiq.stage_process JOB.json PIPE``.

PIPE is the descriptor of a pipe whose other end the parent holds: this process ends when it is closed.

A job is ``{"task": "train", "config": path}``, ``{"task": "test_rows", ...}`` (see
``comparison.py``), ``{"task": "deliver", ...}`` (see ``delivery.py``), ``{"task": "time_rows", ...}`` (see
``row_timing.py``) or ``{"task": "call", "function": dotted name, "kwargs": {...}}``; beside them ``"progress"``, the
file to which progress lines are appended, and ``"result"``, the file the result is written to.
"""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path
from typing import Any

from mmvideoiq.signals import end_with

if __name__ == "__main__":
    end_with(int(sys.argv[2]))

from mmvideoiq import compat

compat.apply()

from mmengine.config import Config
from mmengine.hooks import Hook
from mmengine.runner import IterBasedTrainLoop, Runner

from mmvideoiq import cli
from mmvideoiq.comparison import test_rows
from mmvideoiq.errors import disk_full
from mmvideoiq.hooks import add_checks
from mmvideoiq.recipe import find_function, read_json, write_json


class Progress:
    """Appends lines ``{"text": str, "done": share or None, "log": bool}`` to a file which the parent process follows.

    Where there is no terminal, only entries with ``log`` may become a line.
    """

    def __init__(self, path: str) -> None:
        self.path = path

    def __call__(self, text: str, done: float | None = None, *, log: bool = True) -> None:
        with open(self.path, "a") as file:
            file.write(json.dumps({"text": text, "done": done, "log": log}) + "\n")


class StageHook(Hook):
    """Shows a stage's progress and keeps its last metrics."""

    priority = "LOWEST"

    def __init__(self, *, progress: Progress, begun: cli.Begun | None = None) -> None:
        self.progress = progress
        self.begun = begun
        self.shown = 0.0
        self.metrics: dict[str, float] = {}

    def before_train(self, runner: Runner) -> None:
        if self.begun is not None:
            self.begun.happened = True

    def after_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: Any = None, outputs: Any = None
    ) -> None:
        if time.monotonic() - self.shown > 1:
            self._show(runner, log=isinstance(runner.train_loop, IterBasedTrainLoop))

    def after_train_epoch(self, runner: Runner) -> None:
        self._show(runner)

    def after_val_epoch(self, runner: Runner, metrics: dict[str, float] | None = None) -> None:
        self.metrics = {
            key: value for key, value in (metrics or {}).items() if isinstance(value, int | float)
        }
        self._show(runner)

    def _show(self, runner: Runner, *, log: bool = True) -> None:
        self.shown = time.monotonic()
        parts = [f"epoch {min(runner.epoch + 1, runner.max_epochs)}/{runner.max_epochs}"]
        scalars = runner.message_hub.log_scalars
        if "train/loss" in scalars:
            parts.append(f"loss {scalars['train/loss'].mean(20):.3f}")
        parts += [f"{key.rpartition('/')[2]} {value:.3f}" for key, value in list(self.metrics.items())[:2]]
        done = runner.iter / max(runner.max_iters, 1)
        self.progress("  ".join(parts), done, log=log)


def train(config: str, progress: Progress, begun: cli.Begun | None = None) -> dict[str, float]:
    """Train one stage from its written config; returns the metrics of its last validation."""
    progress("starting", 0.0)
    runner = Runner.from_cfg(Config.fromfile(config))
    add_checks(runner)
    hook = StageHook(progress=progress, begun=begun)
    runner.register_hook(hook)
    runner.train()
    return hook.metrics


def run(job: dict[str, Any], begun: cli.Begun) -> Any:
    """Do the job; returns its result."""
    progress = Progress(job["progress"])
    if job["task"] == "train":
        return train(job["config"], progress, begun)
    if job["task"] == "deliver":
        from mmvideoiq.delivery import deliver

        return deliver(job, progress)
    if job["task"] == "test_rows":
        return test_rows(job, progress)
    if job["task"] == "time_rows":
        from mmvideoiq.row_timing import time_rows

        return time_rows(job, progress)
    progress("starting")
    return find_function(job["function"])(**job["kwargs"])


def main() -> None:
    job = read_json(Path(sys.argv[1]))
    try:
        with cli.one_line_errors() as begun:
            begun.happened = job["task"] != "train"  # elsewhere nothing says that it begins
            result = run(job, begun)
            write_json(Path(job["result"]), result if isinstance(result, dict | list) else {})
    except (OSError, SystemExit) as error:
        cause = error.__context__ if isinstance(error, SystemExit) else error
        if cause is None or not disk_full(cause):
            raise
        os._exit(os.EX_IOERR)  # the log may lie on the full disk, so the parent says it


if __name__ == "__main__":
    main()
