"""How near a policy comes to the right one, where the right one is known."""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import fmean
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mmvideoiq.actions import ActionSpace, action_of
from mmvideoiq.data.frame_kinds import kinds_of_trace
from mmvideoiq.data.synthetic import KINDS, SUFFICIENT_BITS, frame_size


def mean_quality(traces: Sequence[list[dict]], root: str, names: Sequence[str]) -> dict[str, Any]:
    """``policy_quality`` of each policy seed's trace, averaged; ``seeds`` holds them one by one."""
    space = ActionSpace([action_of(name) for name in names], frame_size=frame_size(root))
    seeds = [
        policy_quality(kinds_of_trace(trace, root), [clip["actions"] for clip in trace], space)
        for trace in traces
    ]
    figures = {key: fmean(seed[key] for seed in seeds) for key in seeds[0] if key != "usage"}
    usage = {
        kind: {name: fmean(seed["usage"][kind][name] for seed in seeds) for name in names}
        for kind in seeds[0]["usage"]
    }
    return figures | {"usage": usage, "seeds": [{key: seed[key] for key in figures} for seed in seeds]}


def policy_quality(kinds: Sequence[Sequence[str]], actions: Any, action_space: ActionSpace) -> dict[str, Any]:
    """How near the chosen actions come to the right policy.

    Args:
        kinds: kind of each frame, N clips of T.
        actions: (N, T) indices into ``action_space``.

    Returns:
        ``blank_skipped``: share of the blank frames that are skipped; ``evidence_processed``: share of the
        others that are not; ``evidence_cheapest``: of those processed, the share whose action costs no more
        than the cheapest sufficient precision (:data:`SUFFICIENT_BITS`) and suffices; ``usage``: {kind:
        {action: share}}. A share of no frames is nan.

    Raises:
        ValueError: ``kinds`` and ``actions`` differ in shape, or a kind is unknown.
    """
    names = np.asarray(kinds)
    chosen = action_space.indices(actions)
    if names.shape != chosen.shape:
        raise ValueError(f"kinds has shape {names.shape}, actions {chosen.shape}; they must be equal")
    unknown = sorted(set(names.reshape(-1).tolist()) - set(KINDS))
    if unknown:
        raise ValueError(f"unknown frame kind {', '.join(unknown)}; known are {', '.join(KINDS)}")
    skipped = np.asarray(action_space.skip_mask)[chosen]
    right = np.zeros(chosen.shape, dtype=bool)
    for kind, bits in SUFFICIENT_BITS.items():
        right |= (names == kind) & _cheapest_sufficient(action_space, bits)[chosen]
    evidence = names != "blank"
    return dict(
        blank_skipped=_share(skipped[~evidence]),
        evidence_processed=_share(~skipped[evidence]),
        evidence_cheapest=_share(right[evidence & ~skipped]),
        usage={
            kind: dict(
                zip(action_space.names, action_space.usage(chosen[names == kind]).tolist(), strict=True)
            )
            for kind in KINDS
            if (names == kind).any()
        },
    )


def _cheapest_sufficient(space: ActionSpace, bits: int) -> NDArray[np.bool_]:
    """(A,) bool: the actions of at least ``bits`` bits that no other of them undercuts."""
    enough = np.array([a.bits is not None and a.bits >= bits for a in space])
    costs = np.where(enough, space.costs, np.inf)
    return enough & (costs == costs.min())


def _share(flags: NDArray[np.bool_]) -> float:
    return float(flags.mean()) if flags.size else math.nan
