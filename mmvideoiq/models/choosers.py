"""Choosers: alternatives to the policy when a recognizer is tested.

A chooser maps clips (N, T, C, H, W) to actions (N, T), indices into the action space.
Axes: N videos, T frames, A actions.
"""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from mmvideoiq.actions import ActionSpace

Chooser = Callable[[Tensor], Tensor]


class FixedAction:
    """Chooses the same action for every frame.

    Args:
        actions: the recognizer's action space.
        name: of the action, or its bits.

    Raises:
        ValueError: the action space does not contain this action.
    """

    def __init__(self, *, actions: ActionSpace, name: int | str) -> None:
        self.index = actions.index(name)

    def __call__(self, clips: Tensor) -> Tensor:
        return torch.full(clips.shape[:2], self.index, device=clips.device)


class RandomActions:
    """Draws random actions of a given usage: the baseline for a policy of the same cost.

    Args:
        actions: the recognizer's action space.
        usage: expected share of each action (A,); scaled to sum to 1.
        seed: of the draws.
        never_empty: every clip keeps at least one processed frame (:func:`draw_actions`), as with the policy.

    Raises:
        ValueError: not one share per action, a negative one, or no processed frames.
    """

    def __init__(
        self, *, actions: ActionSpace, usage: Sequence[float], seed: int = 0, never_empty: bool = True
    ) -> None:
        self.skips = torch.tensor(actions.skip_mask)
        shares = torch.as_tensor(usage, dtype=torch.float64)
        if shares.shape != self.skips.shape or (shares < 0).any() or shares[~self.skips].sum() <= 0:
            raise ValueError(
                f"usage={list(usage)} must hold {len(actions)} shares, one per action of {actions.names}, "
                "with some frames processed"
            )
        self.usage = shares / shares.sum()
        self.never_empty = never_empty
        self.generator = torch.Generator().manual_seed(seed)

    def __call__(self, clips: Tensor) -> Tensor:
        shape = (clips.shape[0], clips.shape[1])
        drawn = draw_actions(self.usage, self.skips, shape, self.generator, never_empty=self.never_empty)
        return drawn.to(clips.device)


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
    first = draw(skip ** torch.arange(frames, dtype=torch.float64), clips)[:, None]  # first processed, (N, 1)
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
