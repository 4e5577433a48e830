"""The metrics of a validation in one line."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

USAGE, COST = "usage_", "mean_cost"
SHOWN = 2  # metrics beside those of cost and usage


def summary_line(
    metrics: Mapping[str, Any], *, loss: float | None = None, temperature: float | None = None
) -> str:
    """The first metrics, the mean cost, and the usage of each action.

    Args:
        metrics: by name, as MMEngine's evaluator gives them; what is no number is left out, and so are the metrics
            beside ``<prefix>/mean_cost``, which say the same in other units.
        loss: put first.
        temperature: of the policy, put last.

    >>> summary_line({"acc/top1": 0.8437, "cost/mean_cost": 0.2125, "cost/gflops": 1.8, "cost/usage_4": 0.85,
    ...               "cost/usage_skip": 0.15})
    'top1 0.844, cost 0.212, usage 4:0.85 skip:0.15'
    """
    numbers = {key: float(value) for key, value in metrics.items() if isinstance(value, int | float)}
    costs = {key.removesuffix(COST) for key in numbers if key.endswith(f"/{COST}")}
    parts = [] if loss is None else [f"loss {loss:.3f}"]
    others = [key for key in numbers if not any(key.startswith(prefix) for prefix in costs)]
    parts += [f"{_name(key)} {numbers[key]:.3g}" for key in others[:SHOWN]]
    parts += [f"cost {numbers[prefix + COST]:.3g}" for prefix in sorted(costs)]
    shares = {_name(key): share for key, share in numbers.items() if _name(key).startswith(USAGE)}
    if shares:
        usage = (f"{name.removeprefix(USAGE)}:{share:.2f}" for name, share in shares.items())
        parts.append(f"usage {' '.join(usage)}")
    parts += [] if temperature is None else [f"temperature {temperature:.3g}"]
    return ", ".join(parts)


def _name(key: str) -> str:
    return key.rpartition("/")[2]
