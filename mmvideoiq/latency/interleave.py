"""Measuring several things in turn, so that other load on the machine affects all of them alike."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TypeVar

T = TypeVar("T")


def interleave(
    runs: Mapping[str, Callable[[], T]],
    *,
    warmup: int,
    repeats: int,
    advance: Callable[[], None] = lambda: None,
) -> dict[str, list[T]]:
    """What each run returns in each of ``repeats`` rounds; every other round goes through the runs backwards.

    Args:
        warmup: rounds before them that do not count.
        advance: called after each run.
    """
    results: dict[str, list[T]] = {name: [] for name in runs}
    for turn in range(warmup + repeats):
        for name in list(runs)[:: 1 if turn % 2 == 0 else -1]:
            result = runs[name]()
            if turn >= warmup:
                results[name].append(result)
            advance()
    return results
