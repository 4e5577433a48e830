"""Actions drawn at random with a given usage: the baseline a policy has to beat at its own cost.

Axes: N videos, T frames, A actions.
"""

import torch
from torch import Tensor


def draw_actions(
    usage: Tensor, skips: Tensor, shape: tuple[int, int], generator: torch.Generator, *, never_empty: bool
) -> Tensor:
    """Actions whose expected share is ``usage``, frames being independent of one another.

    With ``never_empty`` every clip keeps at least one processed frame. Frames are then independent given that, and
    skips are drawn more often, with probability s for which ``(1 - s) / (1 - s**T)`` is the processed share; a
    processed share below 1/T cannot be reached and becomes 1/T.

    Args:
        usage: float64 (A,), sums to 1, some of it on actions that are not skips.
        skips: bool (A,), True for skips.
        shape: (N, T).

    Returns: indices (N, T).
    """
    clips, frames = shape

    def draw(weights: Tensor, count: int) -> Tensor:
        return torch.multinomial(weights, count, replacement=True, generator=generator)

    skipped = float(usage[skips].sum())
    if not never_empty or skipped == 0:
        return draw(usage, clips * frames).view(shape)
    skip = _skip_probability(1 - skipped, frames)
    first = draw(skip ** torch.arange(frames, dtype=torch.float64), clips).unsqueeze(
        1
    )  # first processed, (N, 1)
    time = torch.arange(frames)
    later = torch.rand(shape, generator=generator, dtype=torch.float64) >= skip
    processed = (time == first) | ((time > first) & later)  # (N, T)
    precision = draw(usage * ~skips, clips * frames).view(shape)
    return torch.where(processed, precision, draw(usage * skips, clips * frames).view(shape))


def _skip_probability(processed_share: float, frames: int) -> float:
    """s in [0, 1] with ``(1 - s) / (1 - s**frames) = processed_share``, by bisection."""
    low, high = 0.0, 1.0
    for _ in range(60):
        middle = (low + high) / 2
        share = 1 / sum(middle**t for t in range(frames))
        low, high = (middle, high) if share > processed_share else (low, middle)
    return high
