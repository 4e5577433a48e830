"""What happens around epochs: the Gumbel-softmax temperature, the seed, and calibration before the first."""

from __future__ import annotations

import functools
import math
from typing import Any

from mmaction.registry import HOOKS
from mmengine.hooks import Hook
from mmengine.model import is_model_wrapper
from mmengine.runner import Runner, set_random_seed


@HOOKS.register_module()
class GumbelTemperatureHook(Hook):
    """Before each epoch set ``model.policy.temperature = initial * decay**epoch``.

    Source: arXiv:2108.10394, training of the policy (5.0 and 0.956). The value depends on the epoch
    alone, so a resumed training goes on with the right one. It is logged as ``temperature``.

    Args:
        initial: temperature of epoch 0, > 0.
        decay: factor per epoch, in (0, 1].

    Raises:
        TypeError, ValueError: an argument is no number or out of range.
        TypeError: the model has no policy; raised before training starts.
    """

    def __init__(self, *, initial: float = 5.0, decay: float = 0.956) -> None:
        for name, value in (("initial", initial), ("decay", decay)):
            if isinstance(value, bool) or not isinstance(value, (int, float)):
                raise TypeError(f"GumbelTemperatureHook {name} must be a number, got {value!r}")
        if not 0 < initial < math.inf:
            raise ValueError(f"GumbelTemperatureHook initial must be > 0, got {initial}")
        if not 0 < decay <= 1:
            raise ValueError(f"GumbelTemperatureHook decay must be in (0, 1], got {decay}")
        self.initial = float(initial)
        self.decay = float(decay)

    def temperature(self, epoch: int) -> float:
        return self.initial * self.decay**epoch

    def before_train(self, runner: Runner) -> None:
        if not hasattr(_unwrapped(runner), "policy"):
            raise TypeError(
                f"GumbelTemperatureHook needs a model with a policy, got {type(_unwrapped(runner)).__name__}"
            )

    def before_train_epoch(self, runner: Runner) -> None:
        temperature = self.temperature(runner.epoch)
        _unwrapped(runner).policy.temperature = temperature
        runner.message_hub.update_scalar("train/temperature", temperature)


@HOOKS.register_module()
class EpochSeedHook(Hook):
    """Before each training epoch seed everything from the run's seed, the epoch and the rank.

    The host restores no random state on resuming: without this hook a resumed training draws other noise (Gumbel,
    dropout, augmentation) than an uninterrupted one. Workers of the loader are seeded anew too where they are
    started each epoch; with ``persistent_workers=True`` their augmentations still depend on when they started.
    """

    priority = "VERY_HIGH"

    def _seed(self, runner: Runner) -> int:
        seed = (10007 * runner.seed + runner.epoch) % 2**31
        set_random_seed(seed, diff_rank_seed=True)
        return seed

    def before_train_epoch(self, runner: Runner) -> None:
        seed = self._seed(runner)
        init = runner.train_dataloader.worker_init_fn
        if isinstance(init, functools.partial) and "seed" in init.keywords:
            runner.train_dataloader.worker_init_fn = functools.partial(
                init.func, *init.args, **{**init.keywords, "seed": seed}
            )

    def before_train_iter(self, runner: Runner, batch_idx: int, data_batch: Any = None) -> None:
        if batch_idx == 0:  # the loader drew numbers in between, more of them where it started its workers
            self._seed(runner)


def _unwrapped(runner: Runner):
    return runner.model.module if is_model_wrapper(runner.model) else runner.model


@HOOKS.register_module()
class CalibrationHook(Hook):
    """Before the first epoch, fit an any-precision backbone's clips and batch norms to some training frames.

    Runs after ``load_from``. A resumed training keeps what it has learned.

    Args:
        num_videos: training videos that are looked at, spread over the list, >= 1.
        frames_per_video: frames of each, spread over the video, >= 1.
    """

    def __init__(self, *, num_videos: int = 32, frames_per_video: int = 2) -> None:
        for name, value in (("num_videos", num_videos), ("frames_per_video", frames_per_video)):
            if value < 1:
                raise ValueError(f"CalibrationHook {name} must be >= 1, got {value}")
        self.num_videos = num_videos
        self.frames_per_video = frames_per_video

    def before_train(self, runner: Runner) -> None:
        """Fit, unless the training is resumed."""
        if runner.iter > 0:
            return
        model = _unwrapped(runner)
        if not hasattr(model.backbone, "calibrate_"):
            raise TypeError(
                f"CalibrationHook needs an AnyPrecisionBackbone, the model has a {type(model.backbone).__name__}"
            )
        loader = runner.train_dataloader
        step = max(1, len(loader.dataset) // self.num_videos)
        samples = [loader.dataset[i] for i in range(0, len(loader.dataset), step)][: self.num_videos]
        clips = model.data_preprocessor(loader.collate_fn(samples), training=False)[
            "inputs"
        ]  # (N, T, C, H, W)
        model.backbone.calibrate_(clips[:, :: max(1, clips.shape[1] // self.frames_per_video)].flatten(0, 1))
