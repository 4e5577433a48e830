"""The schedule of the policy's Gumbel-softmax temperature."""

from __future__ import annotations

import math

from mmaction.registry import HOOKS
from mmengine.hooks import Hook
from mmengine.model import is_model_wrapper
from mmengine.runner import Runner


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
        AttributeError: the model has no policy; raised before training starts.
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
            raise AttributeError(
                f"GumbelTemperatureHook needs a model with a policy, got {type(_unwrapped(runner)).__name__}"
            )

    def before_train_epoch(self, runner: Runner) -> None:
        temperature = self.temperature(runner.epoch)
        _unwrapped(runner).policy.temperature = temperature
        runner.message_hub.update_scalar("train/temperature", temperature)


def _unwrapped(runner: Runner):
    return runner.model.module if is_model_wrapper(runner.model) else runner.model


@HOOKS.register_module()
class ClipCalibrationHook(Hook):
    """Before the first epoch, fit the backbone's activation clips to some training frames.

    Runs after ``load_from``, at the highest precision; a resumed training keeps its learned clips.

    Args:
        num_clips: training videos that are looked at, spread over the list, >= 1.
    """

    def __init__(self, *, num_clips: int = 8) -> None:
        if num_clips < 1:
            raise ValueError(f"ClipCalibrationHook num_clips must be >= 1, got {num_clips}")
        self.num_clips = num_clips

    def before_train(self, runner: Runner) -> None:
        """Fit the clips unless the training is resumed."""
        if runner.iter > 0:
            return
        model = runner.model.module if is_model_wrapper(runner.model) else runner.model
        if not hasattr(model.backbone, "calibrate_clips_"):
            raise AttributeError(
                f"ClipCalibrationHook needs an AnyPrecisionBackbone, the model has a {type(model.backbone).__name__}"
            )
        loader = runner.train_dataloader
        step = max(1, len(loader.dataset) // self.num_clips)
        samples = [loader.dataset[i] for i in range(0, len(loader.dataset), step)][: self.num_clips]
        inputs = model.data_preprocessor(loader.collate_fn(samples), training=False)["inputs"]
        fitted = model.backbone.calibrate_clips_(inputs.flatten(0, 1))
        runner.logger.info(f"fitted the activation clips of {fitted} quantizers to {len(samples)} videos")
