"""What a bundle says of itself to clients, and what a result is in JSON."""

from __future__ import annotations

from typing import Any

import numpy as np

from mmvideoiq.deploy.bundle.bundle import Bundle
from mmvideoiq.deploy.session import Result

TOP = 5  # classes in an answer


def name_of(bundle: Bundle) -> str:
    return bundle.path.resolve().name


def budgets(bundle: Bundle) -> list[dict[str, Any]]:
    """What a client can choose between, by rising cost: ``{"cost", "accuracy", "as_trained"}``.

    The rows of a policy's budget curve; of a bundle without a policy its actions. Empty where there is no choice.
    """
    if "policy" in bundle.graphs:
        rows = [
            dict(cost=row["cost"], accuracy=row["accuracy"], as_trained=row["multiplier"] == 0)
            for row in bundle.manifest["budget"] or ()
        ]
    else:
        costs = sorted({float(cost) for cost in bundle.costs[~np.array(bundle.actions.skip_mask)]})
        rows = [dict(cost=cost, accuracy=None, as_trained=cost == costs[-1]) for cost in costs]
    return sorted(rows, key=lambda row: row["cost"]) if len(rows) > 1 else []


class Work:
    """What recognition costs, in the paper's operations (the manifest's ``gflops``), the policy's included."""

    def __init__(self, bundle: Bundle) -> None:
        figures = bundle.manifest["gflops"]
        self._frame = np.array([figures.get(name, 0.0) for name in bundle.actions.names])
        self._policy = figures.get("policy", 0.0)

    def saved(self, actions: np.ndarray) -> float:
        """Share saved against the highest precision for every frame; below 0 where the policy costs more."""
        return float(1 - (self._frame[actions].mean() + self._policy) / self._frame.max())


def description(bundle: Bundle, *, engine: str) -> dict[str, Any]:
    """For ``GET /v1/model``."""
    height, width, _ = bundle.graphs["recognition"].inputs["frames"][1:]
    return dict(
        name=name_of(bundle),
        engine=engine,
        classes=list(bundle.manifest["classes"]),
        actions=[
            dict(name=action.name, bits=action.bits, size=action.size, skip=action.skip, cost=float(cost))
            for action, cost in zip(bundle.actions, bundle.costs, strict=True)
        ],
        frames=bundle.preprocessing.frames,
        height=height,
        width=width,
        budgets=budgets(bundle),
    )


def answer(result: Result, bundle: Bundle, work: Work) -> dict[str, Any]:
    """A result as JSON; the fields are those of ``infer --json``, and ``saved`` (:class:`Work`)."""
    classes = bundle.manifest["classes"]
    order = (-result.scores).argsort(kind="stable")[:TOP].tolist()
    return dict(
        label=result.label,
        name=result.name,
        score=result.score,
        top=[dict(label=k, name=classes[k], score=float(result.scores[k])) for k in order],
        cost=result.cost,
        saved=work.saved(result.actions),
        frames=result.frames,
        actions=[bundle.actions.names[action] for action in result.actions],
        ms={part: 1e3 * seconds for part, seconds in result.times.items()},
        lost=result.lost,
        float_precision=result.float_precision,
    )
