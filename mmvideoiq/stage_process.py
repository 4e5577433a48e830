"""What runs in a process of its own: ``python -m mmvideoiq.stage_process JOB.json``.

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

from mmvideoiq import compat

compat.apply()

from mmengine.config import Config
from mmengine.hooks import Hook
from mmengine.runner import Runner

from mmvideoiq.comparison import test_rows
from mmvideoiq.recipe import find_function, read_json, write_json


class Progress:
    """Appends lines ``{"done": share or None, "text": str}`` to a file which the parent process follows."""

    def __init__(self, path: str) -> None:
        self.path = path
        self.parent = os.getppid()

    def __call__(self, text: str, done: float | None = None) -> None:
        if os.getppid() != self.parent:  # the parent was killed: do not train on unseen
            sys.exit("the process that started this one is gone")
        with open(self.path, "a") as file:
            file.write(json.dumps({"text": text, "done": done}) + "\n")


class StageHook(Hook):
    """Shows a stage's progress and keeps its last metrics."""

    priority = "LOWEST"

    def __init__(self, *, progress: Progress) -> None:
        self.progress = progress
        self.shown = 0.0
        self.metrics: dict[str, float] = {}

    def after_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: Any = None, outputs: Any = None
    ) -> None:
        if time.monotonic() - self.shown > 1:
            self._show(runner)

    def after_train_epoch(self, runner: Runner) -> None:
        self._show(runner)

    def after_val_epoch(self, runner: Runner, metrics: dict[str, float] | None = None) -> None:
        self.metrics = {
            key: value for key, value in (metrics or {}).items() if isinstance(value, int | float)
        }
        self._show(runner)

    def _show(self, runner: Runner) -> None:
        self.shown = time.monotonic()
        parts = [f"epoch {min(runner.epoch + 1, runner.max_epochs)}/{runner.max_epochs}"]
        scalars = runner.message_hub.log_scalars
        if "train/loss" in scalars:
            parts.append(f"loss {scalars['train/loss'].mean(20):.3f}")
        parts += [f"{key.rpartition('/')[2]} {value:.3f}" for key, value in list(self.metrics.items())[:2]]
        self.progress("  ".join(parts), runner.iter / max(runner.max_iters, 1))


def train(config: str, progress: Progress) -> dict[str, float]:
    """Train one stage from its written config; returns the metrics of its last validation."""
    progress("starting", 0.0)
    runner = Runner.from_cfg(Config.fromfile(config))
    hook = StageHook(progress=progress)
    runner.register_hook(hook)
    runner.train()
    return hook.metrics


def main() -> None:
    job = read_json(Path(sys.argv[1]))
    progress = Progress(job["progress"])
    if job["task"] == "train":
        result: Any = train(job["config"], progress)
    elif job["task"] == "deliver":
        from mmvideoiq.delivery import deliver

        result = deliver(job, progress)
    elif job["task"] == "test_rows":
        result = test_rows(job, progress)
    elif job["task"] == "time_rows":
        from mmvideoiq.row_timing import time_rows

        result = time_rows(job, progress)
    else:
        progress("starting")
        result = find_function(job["function"])(**job["kwargs"])
    write_json(Path(job["result"]), result if isinstance(result, dict | list) else {})


if __name__ == "__main__":
    main()
