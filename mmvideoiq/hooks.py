"""Hooks of training: temperature, seed, calibration and resuming, and checks of losses, weights and checkpoints."""

from __future__ import annotations

import functools
import math
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
from mmaction.registry import HOOKS
from mmengine.dist import get_rank
from mmengine.hooks import Hook
from mmengine.model import is_model_wrapper
from mmengine.runner import IterBasedTrainLoop, Runner, set_random_seed

from mmvideoiq.checkpoint import load_fitting
from mmvideoiq.jobs.errors import RunStopped


@HOOKS.register_module()
class GumbelTemperatureHook(Hook):
    """Before each epoch set ``model.policy.temperature = initial * decay**epoch``.

    Source: arXiv:2108.10394, training of the policy (5.0 and 0.956). The value depends only on the
    epoch, so a resumed training continues with the right one. It is logged as ``temperature``.

    Args:
        initial: temperature of epoch 0, > 0.
        decay: factor per epoch, in (0, 1].

    Raises:
        TypeError, ValueError: an argument is not a number or out of range.
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
    """Before each training epoch, seed all generators from the run's seed, the epoch and the rank.

    MMEngine does not restore random state on resuming: without this hook a resumed training draws different noise
    (Gumbel, dropout, augmentation) from an uninterrupted one. Workers of the loader are seeded too if they start in
    each epoch; with ``persistent_workers=True`` their augmentations still depend on when they started.
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


@HOOKS.register_module()
class ResumedValidationHook(Hook):
    """A resumed training begins with the validation of the epoch that it goes on from, if there is one.

    MMEngine saves the checkpoint of an epoch before its validation. Where an interruption left this validation out,
    the best checkpoint could be another than that of an uninterrupted training, and after the last epoch there would be
    no figures. A validation that was done gives the same once more.
    """

    priority = "LOWEST"  # CheckpointHook has to know where it saves

    def before_train(self, runner: Runner) -> None:
        loop = runner.train_loop
        step, last = (
            (loop.iter, loop.max_iters)
            if isinstance(loop, IterBasedTrainLoop)
            else (loop.epoch, loop.max_epochs)
        )
        if runner.val_loop is None or step < max(1, loop.val_begin):
            return
        if step % loop.val_interval == 0 or step == last:
            runner.val_loop.run()


def _unwrapped(runner: Runner):
    return runner.model.module if is_model_wrapper(runner.model) else runner.model


@HOOKS.register_module()
class CalibrationHook(Hook):
    """Before the first epoch, fit an any-precision backbone's clips and batch norms to some training frames.

    Runs after ``load_from``. A resumed training is not calibrated again.

    Args:
        num_videos: number of training videos, spread over the list, >= 1.
        frames_per_video: number of frames of each, spread over the video, >= 1.
        part: of the model: 'backbone', or 'policy', which a float network was loaded into.
    """

    def __init__(self, *, num_videos: int = 32, frames_per_video: int = 2, part: str = "backbone") -> None:
        for name, value in (("num_videos", num_videos), ("frames_per_video", frames_per_video)):
            if value < 1:
                raise ValueError(f"CalibrationHook {name} must be >= 1, got {value}")
        self.num_videos = num_videos
        if part not in ("backbone", "policy"):
            raise ValueError(f"CalibrationHook part={part!r} must be 'backbone' or 'policy'")
        self.frames_per_video = frames_per_video
        self.part = part

    def before_train(self, runner: Runner) -> None:
        """Calibrate, unless the training is resumed."""
        if runner.iter > 0:
            return
        model = _unwrapped(runner)
        part = getattr(model, self.part, None)
        backbone = getattr(part, "backbone", part)
        if not hasattr(backbone, "calibrate_"):
            raise TypeError(
                f"CalibrationHook needs an AnyPrecisionBackbone, the model has a {type(backbone).__name__}"
            )
        loader = runner.train_dataloader
        step = max(1, len(loader.dataset) // self.num_videos)
        samples = [loader.dataset[i] for i in range(0, len(loader.dataset), step)][: self.num_videos]
        clips = model.data_preprocessor(loader.collate_fn(samples), training=False)[
            "inputs"
        ]  # (N, T, C, H, W)
        part.calibrate_(clips[:, :: max(1, clips.shape[1] // self.frames_per_video)].flatten(0, 1))


@HOOKS.register_module()
class FeatureCacheHook(Hook):
    """Keep the features that a ``VideoIQRecognizer`` caches in a file, for other policies over the same network.

    The file is read before the first epoch, if the same weights and actions made it, and written after the first.
    In distributed training each process has a file of its own.

    Args:
        path: of the safetensors file; its folder is made.

    Raises:
        ValueError: the model has no cache (``cache_features=True``), or the file is damaged.
    """

    def __init__(self, *, path: str) -> None:
        self.path = Path(path)
        self._read = 0

    @property
    def _own_path(self) -> Path:
        rank = get_rank()
        return self.path if rank == 0 else self.path.with_stem(f"{self.path.stem}.{rank}")

    def before_train(self, runner: Runner) -> None:
        model = _unwrapped(runner)
        if getattr(model, "feature_cache", None) is None:
            raise ValueError("FeatureCacheHook needs a VideoIQRecognizer with cache_features=True")
        self._read = model.feature_cache.load(self._own_path, model.feature_source())
        if self._read:
            runner.logger.info(f"features of {self._read} clips come from {self._own_path}")

    def after_train_epoch(self, runner: Runner) -> None:
        model = _unwrapped(runner)
        if len(model.feature_cache) > self._read:
            model.feature_cache.save(self._own_path, model.feature_source())
            self._read = len(model.feature_cache)


@HOOKS.register_module()
class FiniteLossHook(Hook):
    """Stop the training at the first loss that is NaN or infinite, and before non-finite weights are saved.

    It reads the values that MMEngine's ``RuntimeInfoHook`` has logged, so it does not wait for the device again.
    Weights are checked once per epoch and before each checkpoint, so that all saved checkpoints are finite and
    training can resume from the last one.

    Raises:
        RunStopped: names the epoch, iteration, learning rate and the loss or parameter concerned.
    """

    priority = "HIGH"  # after RuntimeInfoHook, before the hooks that log and save

    def after_train_iter(
        self,
        runner: Runner,
        batch_idx: int,
        data_batch: Any = None,
        outputs: dict[str, Any] | None = None,
    ) -> None:
        logged = runner.message_hub.log_scalars
        invalid = {}
        for name in outputs or {}:
            value = logged[f"train/{name}"].current() if f"train/{name}" in logged else float(outputs[name])
            if "loss" in name and not math.isfinite(value):
                invalid[name] = value
        if invalid:
            name = next(
                (name for name in invalid if name != "loss"), "loss"
            )  # "loss" is the sum of the others
            raise self._stopped(runner, f"{name} is {invalid[name]}", runner.iter + 1)

    def after_train_epoch(self, runner: Runner) -> None:
        self._check_weights(runner, _unwrapped(runner).named_parameters())

    def before_save_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        names = {name for name, _ in _unwrapped(runner).named_parameters()}
        state = checkpoint["state_dict"]
        self._check_weights(runner, ((name, value) for name, value in state.items() if name in names))

    def _check_weights(self, runner: Runner, weights: Iterable[tuple[str, torch.Tensor]]) -> None:
        weights = dict(weights)
        if not weights:
            return
        finite = torch.stack([value.detach().isfinite().all() for value in weights.values()]).tolist()
        name = next((name for name, fine in zip(weights, finite, strict=True) if not fine), None)
        if name is not None:
            raise self._stopped(runner, f"parameter {name} is no longer finite", runner.iter)

    @staticmethod
    def _stopped(runner: Runner, what: str, step: int) -> RunStopped:
        rates = ", ".join(
            sorted({f"{rate:g}" for rates in runner.optim_wrapper.get_lr().values() for rate in rates})
        )
        return RunStopped(
            f"{what} at epoch {min(runner.epoch + 1, runner.max_epochs)}, iteration {step}, learning rate {rates}: "
            "lower the learning rate, clip gradients (optim_wrapper.clip_grad) or look at the data, then train again"
        )


@HOOKS.register_module()
class CheckpointFitHook(Hook):
    """Reject a checkpoint that fits the model only in part; MMEngine warns and continues with random weights.

    Tests and resumed trainings need all tensors. A training may start from a network without its new parts: see
    ``load_fitting``. ``load_strict = False`` in the config disables this check and loads the tensors that fit.

    Raises:
        ValueError: one line with the tensors that are missing, unexpected or of another shape.
    """

    def after_load_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        if not runner.cfg.get("load_strict", True):
            return
        training = not isinstance(runner._train_loop, dict | None)
        try:
            load_fitting(
                _unwrapped(runner),
                checkpoint.get("state_dict", checkpoint),
                source=f"checkpoint {runner._load_from or 'in ' + runner.work_dir}",
                begin=training and not runner._resume,
            )
        except ValueError as error:
            raise ValueError(
                f"{error}; was it trained with another config? load_strict=False, in the config or by --cfg-options, "
                "loads what fits"
            ) from None


def add_checks(runner: Runner) -> None:
    """Register the checks that every run has, unless the config has registered them."""
    for kind in (FiniteLossHook, CheckpointFitHook):
        if not any(isinstance(hook, kind) for hook in runner.hooks):
            runner.register_hook(kind())
