"""Losses of the policy and of distillation. Source: arXiv:2108.10394, section 3.3.

Axes: N videos, T frames, A actions, K classes.
"""

from collections.abc import Mapping

import torch
from mmaction.registry import MODELS
from mmengine.dist import all_reduce
from torch import Tensor, nn
from torch.nn import functional as F

from mmvideoiq.actions import ActionSpace


def _checked_weight(name: str, weight: float) -> float:
    if weight < 0:
        raise ValueError(f"{name} weight={weight} must not be negative")
    return float(weight)


class PolicyLoss(nn.Module):
    """A loss on the policy's choices: ``forward(decisions, log_probs) -> ()``, times ``weight``.

    Args:
        weight: factor, >= 0.
        actions: the action space, supplied by the recognizer.
    """

    def __init__(self, *, weight: float, actions: ActionSpace) -> None:
        super().__init__()
        self.weight = _checked_weight(type(self).__name__, weight)
        self.actions = actions


RESERVED = ("cls", "kd", "policy_cls")  # the recognizer logs losses of its own under these names


def build_policy_losses(losses: Mapping[str, dict], actions: ActionSpace) -> nn.ModuleDict:
    """Losses on the policy by name; ValueError for a name in :data:`RESERVED`."""
    taken = sorted(set(RESERVED) & set(losses))
    if taken:
        raise ValueError(
            f"losses may not be named {taken}: the recognizer logs its own losses under these names"
        )
    return nn.ModuleDict(
        {name: MODELS.build(cfg, default_args=dict(actions=actions)) for name, cfg in losses.items()}
    )


@MODELS.register_module()
class EfficiencyLoss(PolicyLoss):
    """``weight * mean over frames of the chosen action's cost``, in [0, weight]."""

    def __init__(self, *, actions: ActionSpace, weight: float = 0.16) -> None:
        super().__init__(weight=weight, actions=actions)
        self.register_buffer("costs", torch.tensor(actions.costs), persistent=False)

    def forward(self, decisions: Tensor, log_probs: Tensor) -> Tensor:
        return self.weight * (decisions * self.costs).sum(-1).mean()


@MODELS.register_module()
class CostTargetLoss(PolicyLoss):
    """``m * mean over frames of the chosen action's cost``, with a multiplier m that leads the mean cost to ``target``.

    A Lagrangian in place of a weight to tune: after each training step ``m = max(0, m + rate * (cost / target - 1))``,
    with the mean cost over the clips of all processes. m is part of the checkpoint, so a resumed training continues
    with it; it has no gradient.

    Args:
        target: wanted mean cost of a frame, in (0, 1]: the policy reaches it where its own choice would cost more.
        weight: m at the start, >= 0.
        rate: change of m per step, > 0.

    Attributes:
        multiplier: m, float32 ().
    """

    multiplier: Tensor

    def __init__(
        self, *, target: float, actions: ActionSpace, weight: float = 1.0, rate: float = 0.05
    ) -> None:
        super().__init__(weight=weight, actions=actions)
        if not 0 < target <= 1:
            raise ValueError(f"CostTargetLoss target={target} must be a mean cost in (0, 1]")
        if rate <= 0:
            raise ValueError(f"CostTargetLoss rate={rate} must be positive")
        self.target, self.rate = float(target), float(rate)
        self.register_buffer("costs", torch.tensor(actions.costs), persistent=False)
        self.register_buffer("multiplier", torch.tensor(self.weight))

    def forward(self, decisions: Tensor, log_probs: Tensor) -> Tensor:
        cost = (decisions * self.costs).sum(-1).mean()
        loss = (
            self.multiplier.clone() * cost
        )  # a copy: the multiplier changes before the gradient is computed
        if self.training:
            everywhere = cost.detach().clone()
            all_reduce(everywhere, op="mean")
            self.multiplier.add_(self.rate * (everywhere / self.target - 1)).clamp_(min=0)
        return loss


@MODELS.register_module()
class UsageBalanceLoss(PolicyLoss):
    """``weight * sum over all actions of (mean usage - 1/A)**2``: keeps actions from becoming unused.

    The mean is over the clips of all processes, so that the result does not depend on their number. The gradient is
    that of the local clips, which distributed training averages over processes.
    """

    def __init__(self, *, actions: ActionSpace, weight: float = 0.5) -> None:
        super().__init__(weight=weight, actions=actions)

    def forward(self, decisions: Tensor, log_probs: Tensor) -> Tensor:
        usage = decisions.mean(dim=(0, 1))  # (A,)
        everywhere = usage.detach().clone()
        all_reduce(everywhere, op="mean")
        usage = usage + (everywhere - usage.detach())
        return self.weight * (usage - 1 / len(self.actions)).square().sum()


@MODELS.register_module()
class PolicyEntropyLoss(PolicyLoss):
    """``weight * mean over frames of -sum_a p_a log p_a``: pushes the policy towards clear choices."""

    def __init__(self, *, actions: ActionSpace, weight: float = 0.1) -> None:
        super().__init__(weight=weight, actions=actions)

    def forward(self, decisions: Tensor, log_probs: Tensor) -> Tensor:
        return self.weight * -(log_probs.exp() * log_probs).sum(-1).mean()


@MODELS.register_module()
class DistillationLoss(nn.Module):
    """``weight * tau**2 * mean over clips of -sum_k softmax(teacher / tau)_k log_softmax(student / tau)_k``.

    No gradient goes to the teacher.

    Args:
        weight: factor, >= 0.
        temperature: tau, > 0; the paper's is 1.
    """

    def __init__(self, *, weight: float = 1.0, temperature: float = 1.0) -> None:
        super().__init__()
        self.weight = _checked_weight("DistillationLoss", weight)
        if temperature <= 0:
            raise ValueError(f"DistillationLoss temperature={temperature} must be positive")
        self.temperature = temperature

    def forward(self, student: Tensor, teacher: Tensor) -> Tensor:
        target = F.softmax(teacher.detach() / self.temperature, dim=-1)  # (N, K)
        return self.weight * self.temperature**2 * F.cross_entropy(student / self.temperature, target)
