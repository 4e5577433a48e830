"""How near a policy comes to the right one, where the right one is known."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from statistics import fmean
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mmvideoiq.actions import ActionSpace
from mmvideoiq.data.frame_kinds import KINDS, WITHOUT_EVIDENCE
from mmvideoiq.data.synthetic import SUFFICIENT_BITS


def mean_quality(runs: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The mean of what :func:`policy_quality` returned for each run; ``seeds`` holds them one by one."""
    figures = {key: fmean(run[key] for run in runs) for key in runs[0] if key != "usage"}
    usage = {
        kind: {name: fmean(run["usage"][kind][name] for run in runs) for name in shares}
        for kind, shares in runs[0]["usage"].items()
    }
    return figures | {"usage": usage, "seeds": [{key: run[key] for key in figures} for run in runs]}


def policy_quality(
    actions: Any,
    action_space: ActionSpace,
    *,
    kinds: Sequence[Sequence[str]] | None = None,
    right: Any = None,
) -> dict[str, Any]:
    """How near the chosen actions come to the right policy.

    Args:
        actions: (N, T) indices into ``action_space``.
        kinds: kind of each frame, N clips of T; None where it is not known.
        right: (N, T, P) whether a frame alone gets its clip's label in each of the P actions that are no skips; None
            where it is not known.

    Returns:
        With ``kinds``: ``blank_skipped``, the share of the frames without evidence that are skipped;
        ``evidence_processed``, the share of the others that are not; ``evidence_cheapest``: of synthetic frames with
        evidence that are processed, the share whose action costs no more than the cheapest sufficient precision
        (:data:`SUFFICIENT_BITS`) and suffices. ``usage``: {kind: {action: share}}, empty without ``kinds``.

        With ``right``, of the processed frames (with evidence, where that is known): ``waste``, the share that is
        right in the action chosen and in a cheaper one too; ``regret``, the share that is wrong in the action chosen
        and right in a dearer one. A share of no frames is nan.

    Raises:
        ValueError: shapes that do not fit, or an unknown kind.
    """
    chosen = action_space.indices(actions)
    skipped = np.asarray(action_space.skip_mask)[chosen]
    evidence = np.ones(chosen.shape, dtype=bool)
    result: dict[str, Any] = dict(usage={})
    if kinds is not None:
        names = np.asarray(kinds)
        if names.shape != chosen.shape:
            raise ValueError(f"kinds has shape {names.shape}, actions {chosen.shape}; they must be equal")
        unknown = sorted(set(names.reshape(-1).tolist()) - set(KINDS))
        if unknown:
            raise ValueError(f"unknown frame kind {', '.join(unknown)}; known are {', '.join(KINDS)}")
        evidence = ~np.isin(names, WITHOUT_EVIDENCE)
        result |= _against_kinds(names, chosen, skipped, evidence, action_space)
    if right is not None:
        result |= _against_outcomes(np.asarray(right, dtype=bool), chosen, evidence & ~skipped, action_space)
    return result


def _against_kinds(
    names: NDArray[Any],
    chosen: NDArray[np.int64],
    skipped: NDArray[np.bool_],
    evidence: NDArray[np.bool_],
    space: ActionSpace,
) -> dict[str, Any]:
    cheapest = np.zeros(chosen.shape, dtype=bool)
    for kind, bits in SUFFICIENT_BITS.items():
        cheapest |= (names == kind) & _cheapest_sufficient(space, bits)[chosen]
    graded = np.isin(names, list(SUFFICIENT_BITS)) & ~skipped
    return dict(
        blank_skipped=_share(skipped[~evidence]),
        evidence_processed=_share(~skipped[evidence]),
        evidence_cheapest=_share(cheapest[graded]),
        usage={
            kind: dict(zip(space.names, space.usage(chosen[names == kind]).tolist(), strict=True))
            for kind in KINDS
            if (names == kind).any()
        },
    )


def _against_outcomes(
    right: NDArray[np.bool_],
    chosen: NDArray[np.int64],
    counted: NDArray[np.bool_],
    space: ActionSpace,
) -> dict[str, float]:
    modes = np.flatnonzero(~np.asarray(space.skip_mask))
    if right.shape != (*chosen.shape, len(modes)):
        raise ValueError(f"right has shape {right.shape}, expected {(*chosen.shape, len(modes))}")
    costs = np.asarray(space.costs)
    own = np.zeros(chosen.shape, dtype=bool)
    for column, mode in enumerate(modes):
        own |= (chosen == mode) & right[..., column]
    cheaper = (right & (costs[modes] < costs[chosen][..., None])).any(-1)
    dearer = (right & (costs[modes] > costs[chosen][..., None])).any(-1)
    return dict(waste=_share((own & cheaper)[counted]), regret=_share((~own & dearer)[counted]))


def _cheapest_sufficient(space: ActionSpace, bits: int) -> NDArray[np.bool_]:
    """(A,) bool: the actions of at least ``bits`` bits that no other of them undercuts."""
    enough = np.array([a.bits is not None and a.bits >= bits for a in space])
    costs = np.where(enough, space.costs, np.inf)
    return enough & (costs == costs.min())


def _share(flags: NDArray[np.bool_]) -> float:
    return float(flags.mean()) if flags.size else math.nan
