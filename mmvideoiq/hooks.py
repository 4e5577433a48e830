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

    Source: arXiv:2108.10394, section 4 (5.0 and 0.956). The value depends on the epoch alone, so a resumed training
    goes on with the right one. It is logged as ``temperature``.

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
