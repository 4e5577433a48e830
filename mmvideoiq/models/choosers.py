"""Choosers: alternatives to the policy when a recognizer is tested.

A chooser maps clips (N, T, C, H, W) to actions (N, T), indices into the action space.
Axes: N videos, T frames, A actions, P processed actions (those that are not skips).
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


class UniformFrames:
    """Processes ``count`` frames of each clip in one mode: the middle ones of as many equal parts; skips the others.

    Args:
        actions: the recognizer's action space, with a skip of one frame.
        name: of the mode, or its bits.
        count: >= 1.

    Raises:
        ValueError: no such mode or no skip, or ``count`` is below 1 or, when called, above T.
    """

    def __init__(self, *, actions: ActionSpace, name: int | str, count: int) -> None:
        self.index, self.skip = mode_and_skip(actions, name)
        if type(count) is not int or count < 1:
            raise ValueError(f"count={count!r} must be an integer of at least 1")
        self.count = count

    def __call__(self, clips: Tensor) -> Tensor:
        videos, frames = clips.shape[:2]
        actions = torch.full((videos, frames), self.skip, device=clips.device)
        actions[:, middle_frames(self.count, frames)] = self.index
        return actions


def middle_frames(count: int, frames: int) -> list[int]:
    """The middle frames of ``count`` equal parts of a clip; ValueError where there are fewer.

    >>> middle_frames(4, 16)
    [2, 6, 10, 14]
    """
    if count > frames:
        raise ValueError(f"count={count} is more than the {frames} frames of a clip")
    return [(2 * part + 1) * frames // (2 * count) for part in range(count)]


class FrameDifference:
    """Processes a frame in one mode if it differs from the last processed frame, else skips it: nothing is learned.

    The difference of two frames is the mean absolute difference of their grey levels (0..255) at the policy's size.
    The first frame is processed. Deployed twin: ``video/change.py``.

    Args:
        actions: the recognizer's action space, with a skip of one frame.
        name: of the mode, or its bits.
        threshold: a frame is processed whose difference is larger; >= 0.
        resize: normalized frames (M, C, H, W) -> small ones.
        std: of the normalization: a scalar, or (C, 1, 1).

    Raises:
        ValueError: no such mode or no skip, or a negative threshold.
    """

    def __init__(
        self,
        *,
        actions: ActionSpace,
        name: int | str,
        threshold: float,
        resize: Callable[[Tensor], Tensor],
        std: Tensor | float = 1.0,
    ) -> None:
        self.index, self.skip = mode_and_skip(actions, name)
        if not threshold >= 0:
            raise ValueError(f"threshold={threshold} must be at least 0")
        self.threshold, self.resize, self.std = threshold, resize, std

    def __call__(self, clips: Tensor) -> Tensor:
        processed = changed(self.differences(clips), self.threshold)
        return torch.where(processed, self.index, self.skip)

    def differences(self, clips: Tensor) -> Tensor:
        """Between each two frames of each clip: (N, T, T)."""
        small = self.resize(clips.flatten(0, 1)).float() * self.std
        flat = small.flatten(1).unflatten(0, clips.shape[:2])  # (N, T, D)
        return torch.cdist(flat, flat, p=1) / flat.shape[-1]


def changed(differences: Tensor, threshold: float) -> Tensor:
    """Which frames differ by more than ``threshold`` from the last one that did; (N, T, T) -> bool (N, T)."""
    videos, frames = differences.shape[:2]
    rows, last = (
        torch.arange(videos, device=differences.device),
        torch.zeros_like(differences[:, 0, 0]).long(),
    )
    processed = [torch.ones_like(last, dtype=torch.bool)]
    for t in range(1, frames):
        processed.append(differences[rows, last, t] > threshold)
        last = torch.where(processed[-1], t, last)
    return torch.stack(processed, dim=1)


def threshold_for(differences: Tensor, share: float) -> float:
    """The threshold of :func:`changed` at which about ``share`` of the frames are processed, and no more.

    Args:
        differences: (N, T, T), of validation clips.
        share: in [1/T, 1].

    Raises:
        ValueError: the first frame of each clip alone is more.
    """
    frames = differences.shape[1]
    if not 1 / frames <= share <= 1:
        raise ValueError(f"a share of {share:g} of the frames is out of reach: 1/{frames} to 1")
    values = torch.cat([differences.new_zeros(1), differences.flatten().unique()])
    low, high = 0, len(values) - 1  # at the largest value the first frames alone are processed
    while low < high:
        middle = (low + high) // 2
        fits = float(changed(differences, float(values[middle])).float().mean()) <= share + 1e-6
        low, high = (low, middle) if fits else (middle + 1, high)
    return float(values[high])


class GivenActions:
    """Actions that were chosen before, handed out in the order of the tested clips.

    Args:
        rows: (V, T), indices into the action space.

    Raises:
        ValueError: when called: more clips or frames than there are actions for.
    """

    def __init__(self, rows: Tensor) -> None:
        self.rows, self.passed = rows, 0

    def __call__(self, clips: Tensor) -> Tensor:
        rows = self.rows[self.passed : self.passed + len(clips)]
        if rows.shape != clips.shape[:2]:
            raise ValueError(
                f"clips {self.passed} to {self.passed + len(clips)} of {clips.shape[1]} frames: "
                f"there are actions for {tuple(self.rows.shape)}"
            )
        self.passed += len(clips)
        return rows.to(clips.device)


def oracle_actions(right: Tensor, evidence: Tensor, actions: ActionSpace) -> Tensor:
    """For each frame the cheapest mode in which it is right by itself: the upper limit of what a policy can choose.

    Frames that are right in no mode, and those without evidence, are skipped. A clip of which nothing would be left
    keeps its first frame with evidence, else its first one, in the cheapest mode.

    Args:
        right: bool (V, T, P), whether the frame alone, in this mode, gets the clip's label.
        evidence: bool (V, T).
        actions: with a skip of one frame.

    Returns: indices (V, T).
    """
    skip = actions.index("skip")
    modes = [index for index, action in enumerate(actions) if not action.is_skip]
    columns = {index: column for column, index in enumerate(modes)}
    modes.sort(key=lambda index: (actions.costs[index], -index))  # of equal cost the one of fewer bits
    result = torch.full(right.shape[:2], skip)
    for index in reversed(modes):  # the cheapest has the last word
        result[right[..., columns[index]] & evidence] = index
    empty = (result == skip).all(1)  # (V,)
    first = evidence.int().argmax(1)
    result[empty, first[empty]] = modes[0]
    return result


def mode_and_skip(actions: ActionSpace, name: int | str) -> tuple[int, int]:
    """Positions of a mode and of the skip of one frame; ValueError where there is none."""
    index, skip = actions.index(name), actions.index("skip")
    if actions[index].is_skip:
        raise ValueError(f"{name} is no mode; there are {', '.join(map(str, actions.modes))}")
    return index, skip


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
