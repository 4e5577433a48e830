"""What a budget means to a bundle on an engine: the policy's cost multiplier, or an action."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from mmvideoiq.deploy.budget import BudgetError, action_for, multiplier_for, parse_budget
from mmvideoiq.deploy.bundle.bundle import Bundle
from mmvideoiq.deploy.inference_model import Networks

MAX_COST = 1.0  # of an action: costs are relative to the dearest under their rule


def setting_for(
    budget: float | str | None,
    bundle: Bundle,
    networks: Networks,
    *,
    frames: int,
    measure_latency: Callable[[], dict[str, Any]],
) -> float:
    """The setting for a budget: the policy's cost multiplier, or the action of a bundle without a policy.

    Args:
        budget: a mean cost per frame, or a time per clip such as '30ms', of which more than the dearest action takes is
            no limit; None: as trained, or the highest precision.
        bundle: holds the curve and the times that were measured when it was made.
        networks: its, on the engine.
        frames: of a clip.
        measure_latency: asked for a time where the bundle was not measured here.

    Raises:
        BudgetError: no budget, out of reach, or one that needs a curve that the bundle does not hold.
    """
    if budget is None:
        return 0.0
    wanted = parse_budget(budget)
    if wanted.unit == "cost" and wanted.value > MAX_COST:
        raise BudgetError(
            f"a budget of {wanted} is out of reach: a mean cost of a frame is at most {MAX_COST:g}, such as 0.4; "
            f"for a time of a clip give {wanted}ms"
        )
    clip_ms = frames * _frame_ms(bundle, networks, measure_latency) if wanted.unit == "ms" else None
    if not networks.has_policy:
        processed = np.flatnonzero(~networks.skips)
        spent = bundle.costs if clip_ms is None else clip_ms
        return processed[action_for(spent[processed], wanted, costs=bundle.costs[processed])]
    curve = bundle.manifest["budget"]
    if curve is None:
        raise BudgetError(
            f"{bundle.path} holds no budget curve: export it with a validation list, or leave the budget out"
        )
    return multiplier_for(curve, wanted, clip_ms=clip_ms)


def _frame_ms(
    bundle: Bundle, networks: Networks, measure_latency: Callable[[], dict[str, Any]]
) -> np.ndarray:
    """Milliseconds of a frame under each action, the policy's included. (A,)"""
    table = bundle.manifest["latency_ms"]
    if table is None or any(table.get(key, "f32") != value for key, value in networks.place().items()):
        table = measure_latency()
    of_actions = np.array([table["actions"].get(name, 0.0) for name in networks.actions.names])
    return of_actions + table.get("policy", 0.0)
