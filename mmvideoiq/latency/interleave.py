"""Measuring several things in turn, so that other load on the machine affects all of them alike."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple, TypeVar

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


class Times(NamedTuple):
    """Seconds of one run: by the clock, and of all threads of this process."""

    clock: float
    processor: float


def timed(run: Callable[[], Any]) -> Times:
    """The seconds that ``run`` takes."""
    clock, processor = time.perf_counter(), time.process_time()
    run()
    return Times(time.perf_counter() - clock, time.process_time() - processor)


def paired(times: Sequence[float], base: Sequence[float]) -> dict[str, Any]:
    """Ratios of the pairs of each round: their median, quartiles, range, and all of them."""
    pairs = [a / b for a, b in zip(times, base, strict=True)]
    low, middle, high = statistics.quantiles(pairs, method="inclusive") if len(pairs) > 1 else pairs * 3
    return dict(median=middle, quartiles=[low, high], range=[min(pairs), max(pairs)], pairs=pairs)
