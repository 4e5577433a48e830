"""The budget curve on the training side: what each setting costs, and how accurate it is, on a validation list.

The arithmetic is the runtime's (``deploy/budget.py``); here the trained model supplies its decisions and scores.
Axes: V videos, T frames, A actions, P processed actions, D features, K classes.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial
from typing import Any

import numpy as np
import torch
from mmengine.model import is_model_wrapper
from torch import Tensor

from mmvideoiq.deploy import budget as budgets

BATCH = 64  # clips of which a holding policy is asked at a time


@torch.no_grad()
def measure_curve(model: Any, batches: Iterable[Any]) -> list[dict[str, Any]]:
    """Run a :class:`~mmvideoiq.models.VideoIQRecognizer` over a validation list, every frame under every action.

    Kept are T x P x K scores a video, and D features a frame where skips of several frames hold the policy's state.

    Args:
        model: trained, in eval mode; its cost multiplier is not touched.
        batches: a data loader's, of MMAction2.

    Returns: the rows of :func:`mmvideoiq.deploy.budget.calibrate`. Their accuracy is None where a video has several
    labels, or none.

    Raises:
        ValueError: a model without a policy, or an empty list.
    """
    model = model.module if is_model_wrapper(model) else model
    if not hasattr(model, "policy"):
        raise ValueError(f"{type(model).__name__} has no policy, and so no budget")
    classifier, head = model.cls_head.fc_cls, model.policy.head
    seen, scores, labels = [], [], []
    for batch in batches:
        data = model.data_preprocessor(batch, False)
        clips = data["inputs"]  # (N, T, C, H, W)
        features = model.features_of_every_action(clips)  # (N, T, P, D)
        scores.append(torch.nn.functional.linear(features, classifier.weight).cpu().numpy())
        small = model.policy.features(clips)  # (N, T, D)
        seen.append(small.cpu() if head.holds else head(small, None, 1.0).log_probs.cpu())
        labels += [_label(sample) for sample in data["data_samples"]]
    if not labels:
        raise ValueError("the validation list is empty: the budget curve cannot be measured")
    costs, skips = np.array(model.actions.costs), np.array(model.actions.skip_mask)
    accuracy = None
    if None not in labels:
        accuracy = partial(
            budgets.clip_accuracy,
            scores=np.concatenate(scores),
            bias=classifier.bias.detach().cpu().numpy(),
            labels=np.array(labels),
            skips=skips,
        )
    given = torch.cat(seen)
    if head.holds:
        decide = partial(_decide_holding, model, given)
    else:
        decide = partial(budgets.decide, given.numpy(), costs, skips, all_skip=model.all_skip)
    return budgets.calibrate(decide, costs, accuracy=accuracy)


def _decide_holding(model: Any, features: Tensor, multiplier: float) -> np.ndarray:
    """Actions (V, T) of a policy whose skips hold its state, from its features (V, T, D)."""
    actions = [
        model.actions_of(
            model.policy.head(part.to(model.policy.head.costs.device), None, 1.0, multiplier)
        ).cpu()
        for part in features.split(BATCH)
    ]
    return torch.cat(actions).numpy()


def _label(sample: Any) -> int | None:
    label = sample.get("gt_label")
    return int(label) if label is not None and label.numel() == 1 else None


def set_budget(model: Any, budget: str, batches: Iterable[Any]) -> float:
    """Set the model's cost multiplier for a mean cost, measured on ``batches``; returns the multiplier.

    Raises:
        ValueError: no policy, an empty list, a budget that is not a mean cost or is out of reach.
    """
    wanted = budgets.parse_budget(budget)
    if wanted.unit != "cost":
        raise ValueError(f"budget {budget}: milliseconds are the runtime's; give a mean cost, e.g. 0.4")
    multiplier = budgets.multiplier_for(measure_curve(model, batches), wanted)
    (model.module if is_model_wrapper(model) else model).policy.cost_multiplier = multiplier
    return multiplier
