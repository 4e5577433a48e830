"""Trains a stage: MMAction2's runner on the stage's config, in a process of its own."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from mmengine.config import Config
from mmengine.hooks import Hook
from mmengine.runner import IterBasedTrainLoop, Runner

from mmvideoiq.evaluation.summary_line import summary_line
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
            self._show(runner, runner.epoch + 1, log=isinstance(runner.train_loop, IterBasedTrainLoop))

    def after_train_epoch(self, runner: Runner) -> None:
        self._show(runner, runner.epoch + 1, log=not _is_validated(runner))

    def after_val_epoch(self, runner: Runner, metrics: dict[str, float] | None = None) -> None:
        self.metrics = {
            key: value for key, value in (metrics or {}).items() if isinstance(value, int | float)
        }
        self._show(runner, runner.epoch, log=True)

    def _show(self, runner: Runner, epoch: int, *, log: bool) -> None:
        self.shown = time.monotonic()
        scalars = runner.message_hub.log_scalars
        loss = scalars["train/loss"].mean(20) if "train/loss" in scalars else None
        temperature = scalars["train/temperature"].current() if "train/temperature" in scalars else None
        place = f"epoch {min(max(epoch, 1), runner.max_epochs)}/{runner.max_epochs}"
        figures = summary_line(self.metrics, loss=loss, temperature=temperature)
        done = runner.iter / max(runner.max_iters, 1)
        self.progress(f"{place}: {figures}" if figures else place, done, log=log)


def _is_validated(runner: Runner) -> bool:
    """Whether a validation follows this epoch of training."""
    loop, epoch = runner.train_loop, runner.epoch + 1
    if runner.val_loop is None or epoch < loop.val_begin:
        return False
    return epoch % loop.val_interval == 0 or epoch == loop.max_epochs


def train(config: str, progress: Progress) -> dict[str, float]:
    """Train one stage from its written config; returns the metrics of its last validation."""
    runner = Runner.from_cfg(Config.fromfile(config))
    add_checks(runner)
    hook = StageHook(progress=progress)
    runner.register_hook(hook)
    runner.train()
    return hook.metrics
