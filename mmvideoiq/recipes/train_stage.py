"""Trains a stage: MMAction2's runner on the stage's config, in a process of its own."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from mmengine.config import Config
from mmengine.hooks import Hook
from mmengine.runner import IterBasedTrainLoop, Runner

from mmvideoiq.hooks import add_checks

if TYPE_CHECKING:
    from mmvideoiq.jobs.worker import Progress


class StageHook(Hook):
    """Shows a stage's progress and keeps its last metrics."""

    priority = "LOWEST"

    def __init__(self, *, progress: Progress) -> None:
        self.progress = progress
        self.shown = 0.0
        self.metrics: dict[str, float] = {}

    def before_train(self, runner: Runner) -> None:
        self.progress.begin()

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


def train(config: str, progress: Progress) -> dict[str, float]:
    """Train one stage from its written config; returns the metrics of its last validation."""
    runner = Runner.from_cfg(Config.fromfile(config))
    add_checks(runner)
    hook = StageHook(progress=progress)
    runner.register_hook(hook)
    runner.train()
    return hook.metrics
