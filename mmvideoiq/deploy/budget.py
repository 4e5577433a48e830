"""Budgets: one trained policy, any budget. A multiple of the costs is taken from its log-probabilities.

    log p'(a) = log p(a) - multiplier * cost(a), normalized

A multiplier above 0 saves, one below 0 spends; 0 is the policy as trained. :func:`calibrate` measures on a validation
set what each multiplier costs and how accurate it is; :func:`multiplier_for` reads that curve the other way round.

Axes: V videos, T frames, A actions, P processed actions (those that are not skips), K classes.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np

FAR = 2.0**20  # a multiplier beyond which no decision changes
EDGE_STEPS = 6  # halvings in the search for the multiplier at which nothing more changes
ROUNDING = 1e-3  # of budgets: a range is shown with four digits, and what is shown is allowed


class BudgetError(ValueError):
    """A budget that is none, or that the model cannot reach; one line that names what it can."""


class Budget(NamedTuple):
    """``unit``: 'cost', the mean cost per frame; 'ms', milliseconds per clip."""

    value: float
    unit: str

    def __str__(self) -> str:
        return f"{self.value:g} ms per clip" if self.unit == "ms" else f"{self.value:g}"


def parse_budget(budget: float | str) -> Budget:
    """0.4 or '0.4' is a mean cost, '30ms' a time per clip.

    Raises:
        BudgetError: neither of them, or negative.
    """
    match = re.fullmatch(r"\s*(\d+\.?\d*|\.\d+)([eE][-+]?\d+)?\s*(ms)?\s*", str(budget))
    if match is None or isinstance(budget, bool):
        raise BudgetError(f"budget {budget!r} is neither a mean cost such as 0.4 nor a time such as '30ms'")
    return Budget(float(match[1] + (match[2] or "")), match[3] or "cost")


# --- decisions ------------------------------------------------------------------------------------------------------


def log_softmax(logits: np.ndarray) -> np.ndarray:
    """Over the last axis; keeps the type of floats."""
    shifted = logits - logits.max(-1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(-1, keepdims=True))


def apply_multiplier(log_probs: np.ndarray, costs: np.ndarray, multiplier: float) -> np.ndarray:
    """``log_softmax(log_probs - multiplier * costs)``; at 0 the log-probabilities themselves. (..., A)"""
    if multiplier == 0:
        return log_probs
    return log_softmax(log_probs.astype(np.float64) - multiplier * np.asarray(costs, np.float64))


def process_chance(log_probs: np.ndarray, skips: np.ndarray) -> np.ndarray:
    """Logarithm of the probability that a frame is processed. (..., A) -> (...)"""
    chosen = log_probs[..., ~skips]
    highest = chosen.max(-1)
    return highest + np.log(np.exp(chosen - highest[..., None]).sum(-1))


def best_processed(log_probs: np.ndarray, skips: np.ndarray) -> np.ndarray:
    """The likeliest action that is not a skip. (..., A) -> (...)"""
    return np.where(skips, -np.inf, log_probs).argmax(-1)


def decide(
    log_probs: np.ndarray,
    costs: np.ndarray,
    skips: np.ndarray,
    multiplier: float = 0.0,
    *,
    all_skip: str = "likeliest",
) -> np.ndarray:
    """Actions for whole clips: the likeliest one of each frame, with the cost multiplier applied.

    Twin: ``VideoIQRecognizer.recognize``. A skip counts for its own frame alone: the policy's holding of longer
    skips has happened when ``log_probs`` are given.

    Args:
        log_probs: (..., T, A).
        costs: (A,).
        skips: bool (A,), some of them False.
        all_skip: a clip of which every frame would be skipped gets its frame most likely to be processed
            ('likeliest'), or nothing ('zero').

    Returns: int64 (..., T).
    """
    weighed = apply_multiplier(log_probs, costs, multiplier)
    actions = weighed.argmax(-1)
    if all_skip == "zero" or not skips.any():
        return actions
    frame = process_chance(weighed, skips).argmax(-1)  # (...)
    forced = skips[actions].all(-1)[..., None] & (np.arange(actions.shape[-1]) == frame[..., None])
    return np.where(forced, best_processed(weighed, skips), actions)


def clip_accuracy(
    actions: np.ndarray, scores: np.ndarray, bias: np.ndarray, labels: np.ndarray, skips: np.ndarray
) -> float:
    """Top-1 of clips whose frames took ``actions``.

    The classifier is linear: a clip's logits are the mean of its processed frames' own, and so one set of scores
    serves every decision.

    Args:
        actions: (V, T).
        scores: (V, T, P, K), each frame's features under each processed action, times the classifier's weight.
        bias: (K,), of the classifier.
        labels: (V,).
    """
    place = np.cumsum(~skips) - 1  # of an action among the processed ones
    processed = ~skips[actions]  # (V, T)
    taken = np.take_along_axis(scores, place[actions][..., None, None].clip(0), axis=2)[:, :, 0]  # (V, T, K)
    total = (taken * processed[..., None]).sum(1)
    logits = total / processed.sum(1).clip(1)[:, None] + bias
    return float((logits.argmax(-1) == labels).mean())


# --- the curve ------------------------------------------------------------------------------------------------------


def calibrate(
    decide: Callable[[float], np.ndarray],
    costs: Sequence[float] | np.ndarray,
    *,
    accuracy: Callable[[np.ndarray], float] | None = None,
    points: int = 24,
) -> list[dict[str, Any]]:
    """Measure what multipliers cost, from the most expensive mean cost within reach to the cheapest.

    ::

        curve = calibrate(
            partial(decide, log_probs, costs, skips),
            costs,
            accuracy=lambda actions: clip_accuracy(actions, scores, bias, labels, skips),
        )

    Args:
        decide: multiplier -> actions of the validation set, integers (V, T). Where skips of several frames hold the
            policy's state, it has to run the policy.
        costs: (A,).
        accuracy: actions -> share of right answers.
        points: about as many rows, evenly spread over the cost where decisions allow.

    Returns: rows ``{"multiplier", "cost", "accuracy" (None without the function), "usage" (A,)}``: the multiplier
    rises, the cost falls. A multiplier of 0 is among them. Others are left out where, away from it, they do not go on
    spending more or less: a clip of which one frame has to be processed may cost more than one that skips by itself.
    """
    costs = np.asarray(costs, np.float64)
    rows: dict[float, dict[str, Any]] = {}

    def measure(multiplier: float) -> float:
        if multiplier not in rows:
            actions = decide(multiplier)
            usage = np.bincount(actions.ravel(), minlength=len(costs)) / actions.size
            right = None if accuracy is None else float(accuracy(actions))
            rows[multiplier] = dict(
                multiplier=float(multiplier), cost=float(usage @ costs), accuracy=right, usage=usage.tolist()
            )
        return rows[multiplier]["cost"]

    edges = [_edge(measure, sign) for sign in (-1.0, 1.0)]
    measure(0.0)
    inside = {m: row for m, row in rows.items() if edges[0] <= m <= edges[1]}
    rows.clear()
    rows.update(inside)
    span = np.ptp([row["cost"] for row in rows.values()])
    while len(rows) < 4 * points:
        near = sorted(rows)
        gaps = [
            (rows[low]["cost"] - rows[high]["cost"], low, high)
            for low, high in pairwise(near)
            if high - low > 1e-3 * (1 + abs(low))  # a jump: no multiplier gives a cost between
        ]
        gap, low, high = max(gaps, default=(0.0, 0.0, 0.0))
        if gap <= span / points:
            break
        measure((low + high) / 2)
    multipliers = sorted(rows)
    more_expensive = _onwards([rows[m] for m in reversed(multipliers) if m <= 0], sign=1.0)
    cheaper = _onwards([rows[m] for m in multipliers if m >= 0], sign=-1.0)
    return [*reversed(more_expensive), *cheaper[1:]]


def _edge(measure: Callable[[float], float], sign: float) -> float:
    """The multiplier nearest to 0, about, that has the cost of one far away."""
    limit = measure(sign * FAR)
    low, high = 0.0, 1.0
    while high < FAR and not np.isclose(measure(sign * high), limit):
        low, high = high, 2 * high
    if np.isclose(measure(0.0), limit):
        return 0.0
    for _ in range(EDGE_STEPS):
        middle = (low + high) / 2
        low, high = (low, middle) if np.isclose(measure(sign * middle), limit) else (middle, high)
    return sign * high


def _onwards(rows: Iterable[dict[str, Any]], *, sign: float) -> list[dict[str, Any]]:
    """The first row, and each that costs more (``sign`` 1) or less (-1) than those kept before it."""
    kept: list[dict[str, Any]] = []
    for row in rows:
        if not kept or (
            sign * (row["cost"] - kept[-1]["cost"]) > 0 and not np.isclose(row["cost"], kept[-1]["cost"])
        ):
            kept.append(row)
    return kept


# --- from a budget to a multiplier ----------------------------------------------------------------------------------


def multiplier_for(
    curve: Sequence[Mapping[str, Any]], budget: Budget, *, clip_ms: np.ndarray | None = None
) -> float:
    """The multiplier that spends ``budget`` on average, interpolated between the curve's rows.

    Args:
        curve: of :func:`calibrate`.
        clip_ms: for a budget in milliseconds: what a clip takes if all its frames take one action, (A,). More than
            the first row takes is no limit.

    Raises:
        BudgetError: out of reach; names the range.
    """
    multipliers = np.array([row["multiplier"] for row in curve])
    if budget.unit == "ms":
        # a cheaper action may be slower here: then a larger multiplier that saves nothing is passed over
        spent = np.minimum.accumulate(np.array([row["usage"] for row in curve]) @ np.asarray(clip_ms))
    else:
        spent = np.array([row["cost"] for row in curve])
    _check_reach(budget, spent)
    falls = np.append(True, np.diff(spent) < 0)
    return float(np.interp(-budget.value, -spent[falls], multipliers[falls]))


def action_for(spent: np.ndarray, budget: Budget, *, costs: np.ndarray) -> int:
    """Position of the most expensive of several actions within ``budget``: the choice of a model without a policy.

    Args:
        spent: by each of them, in the budget's unit; milliseconds above all of them are no limit.
        costs: of each, which say what is expensive: a cheaper action may be slower here.

    Raises:
        BudgetError: out of reach; names the range.
    """
    _check_reach(budget, spent)
    return int(np.where(spent <= budget.value * (1 + ROUNDING), costs, -np.inf).argmax())


def _check_reach(budget: Budget, spent: np.ndarray) -> None:
    low, high = spent.min(), spent.max()
    too_much = budget.unit == "cost" and budget.value > high * (1 + ROUNDING)
    if budget.value < low * (1 - ROUNDING) or too_much:
        unit = " ms per clip" if budget.unit == "ms" else ""
        raise BudgetError(
            f"a budget of {budget} is out of reach: this model spends {low:.4g} to {high:.4g}{unit}"
        )
