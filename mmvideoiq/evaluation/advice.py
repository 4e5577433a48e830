"""What a policy gains over tested alternatives, with an interval, and what to use: one sentence.

Axes: V clips.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

CONFIDENCE = 0.95
RESAMPLES = 9999
ENGINE = "engine"
"""``ms_of`` of rows that an engine ran."""
EQUAL = 0.05
"""Milliseconds or costs that differ by less than this share count as equal."""


def correct_clips(traces: Sequence[Sequence[Mapping[str, Any]]]) -> NDArray[np.float64] | None:
    """In how many of its runs a row was right, clip by clip: (V,) in [0, 1]; None where clips have several labels."""
    runs = [[(clip["pred_label"], clip["gt_label"]) for clip in trace] for trace in traces]
    if any(not isinstance(label, int) for run in runs for pair in run for label in pair):
        return None
    return np.mean([[float(found == wanted) for found, wanted in run] for run in runs], axis=0)


def paired_gain(ours: NDArray[np.float64], theirs: NDArray[np.float64]) -> dict[str, Any]:
    """Difference of two accuracies on the same clips, and its interval: a bootstrap over the clips (95 %, percentiles).

    The runs of a row (seeds, draws) are averaged before, so that the interval says what other clips would change, not
    what other seeds would.

    Args:
        ours, theirs: (V,), V >= 2, of :func:`correct_clips`.

    Returns: ``gain`` and ``interval`` (low, high), shares of clips.
    """
    from scipy.stats import bootstrap

    found = bootstrap(
        (ours - theirs,),
        np.mean,
        confidence_level=CONFIDENCE,
        n_resamples=RESAMPLES,
        batch=500,
        method="percentile",
        rng=np.random.default_rng(0),
    ).confidence_interval
    return dict(gain=float((ours - theirs).mean()), interval=[float(found.low), float(found.high)])


def gains(
    row: Mapping[str, Any],
    rows: Sequence[Mapping[str, Any]],
    correct: Mapping[str, NDArray[np.float64] | None],
    *,
    random: Sequence[str],
) -> dict[str, Any]:
    """What a policy's row gains over those that need no policy.

    Where the row was timed, rows that were not timed in an engine are no rivals of the advice: PyTorch is slower.

    Args:
        row, rows: the policy's, and all, as in ``summary.json``.
        correct: :func:`correct_clips` of each, by name.
        random: the name of the row of random actions with this policy's usage, or none.

    Returns: ``against``: {name: :func:`paired_gain`}, and ``advice``, as a dict; empty where clips have several labels
        or there is only one.
    """
    ours = correct[row["name"]]
    if ours is None or len(ours) < 2:
        return {}
    others = [other for other in rows if other["role"] in ("plain", "random")]
    found = {
        other["name"]: paired_gain(ours, theirs)
        for other in others
        if (theirs := correct[other["name"]]) is not None
    }
    timed = row.get("ms_of") == ENGINE
    figure = "ms_per_clip" if timed else "cost"

    def rival(other: Mapping[str, Any]) -> Rival:
        low, high = found[other["name"]]["interval"]
        return Rival(other["name"], other["top1"], other.get(figure, math.nan), (low, high))

    plain = [
        rival(other)
        for other in others
        if other["role"] == "plain" and other["name"] in found and (not timed or other.get("ms_of") == ENGINE)
    ]
    chance = next((rival(other) for other in others if other["name"] in random), None)
    unit = "ms" if timed else "cost"
    advice = advise(row["name"], row["top1"], row[figure], plain, random=chance, unit=unit)
    return dict(against=found, advice=advice._asdict())


class Rival(NamedTuple):
    """A tested alternative.

    Attributes:
        spent: milliseconds of a clip, or the mean cost.
        interval: of the policy's accuracy minus this one's, as shares.
    """

    name: str
    top1: float
    spent: float
    interval: tuple[float, float]


class Advice(NamedTuple):
    """``verdict`` names the rule of :func:`advise`; ``text`` is the sentence."""

    verdict: str
    text: str


def advise(
    name: str, top1: float, spent: float, rivals: Sequence[Rival], *, random: Rival | None, unit: str
) -> Advice:
    """What to use. The first rule that applies:

    1. 'unknown': there is nothing beside the policy that needs none.
    2. 'no gain': an alternative spends no more (:data:`EQUAL` aside), and the policy is not more accurate beyond
       doubt: its interval does not lie above 0. The most accurate of these is to be used.
    3. 'chance': random actions with the policy's usage are as accurate: their interval does not lie above 0.
    4. 'faster': the most accurate alternative is more accurate beyond doubt, and spends more: use the policy where
       that is too much.
    5. 'more accurate': the most accurate alternative spends no more and is less accurate beyond doubt.
    6. 'better': that alternative spends more and is less accurate beyond doubt.
    7. 'as accurate': that alternative spends more, and neither is more accurate beyond doubt.

    Args:
        name, top1, spent: of the policy.
        rivals: alternatives that need no policy.
        random: actions of the policy's usage drawn at random, None where that was not tested.
        unit: of ``spent``: "ms" or "cost".
    """
    if not rivals:
        return Advice("unknown", f"{name} was tested beside no fixed mode: what it gains is not known")

    def figures(accuracy: float, amount: float) -> str:
        text = f"{amount:.3g} ms" if unit == "ms" else f"cost {amount:.3g}"
        return f"{100 * accuracy:.1f} % at {text}"

    own = figures(top1, spent)
    cheap = [rival for rival in rivals if rival.spent <= spent * (1 + EQUAL) and rival.interval[0] <= 0]
    if cheap:
        best = max(cheap, key=lambda rival: (rival.top1, -rival.spent))
        return Advice(
            "no gain",
            f"use {best.name}: the policy gains nothing here "
            f"({best.name} {figures(best.top1, best.spent)}, {name} {own}, difference {_points(best.interval)})",
        )
    if random is not None and random.interval[0] <= 0:
        return Advice(
            "chance",
            f"{name} ({own}) chooses no better than chance: random actions of the same usage get "
            f"{100 * random.top1:.1f} % (difference {_points(random.interval)}); fewer frames would do as well",
        )
    best = max(rivals, key=lambda rival: (rival.top1, -rival.spent))
    share = spent / best.spent if best.spent else math.inf
    compared = (
        f"{name} {own}, {best.name} {figures(best.top1, best.spent)}, difference {_points(best.interval)}"
    )
    measure = "milliseconds" if unit == "ms" else "cost"
    if best.interval[1] < 0:
        too_much = "takes too long" if unit == "ms" else "costs too much"
        return Advice(
            "faster",
            f"use {name} where {best.name} {too_much}: it takes {share:.2g} times its {measure} "
            f"and is less accurate ({compared})",
        )
    if best.spent <= spent * (1 + EQUAL):
        return Advice(
            "more accurate",
            f"use {name} where accuracy counts: it is more accurate than {best.name} "
            f"and takes {share:.2g} times its {measure} ({compared})",
        )
    better = best.interval[0] > 0
    return Advice(
        "better" if better else "as accurate",
        f"use {name}: it is {'more accurate than' if better else 'as accurate as'} {best.name} "
        f"at {share:.2g} of its {measure} ({compared})",
    )


def _points(interval: Sequence[float]) -> str:
    return f"{100 * interval[0]:+.1f} to {100 * interval[1]:+.1f} points"
