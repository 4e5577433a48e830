"""What a session says of a clip, a video or a stream."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True, kw_only=True)
class Result:
    """What a clip, or a stream so far, is. Axes: T frames, A actions, K classes.

    Attributes:
        label, name, score: the likeliest class, its name, its probability.
        scores, logits: float32 (K,); the scores are the softmax of the logits.
        actions: int64 (T,), what was done with each frame; of a stream the last 1024 at most.
        probs: float32 (T, A), the policy's probabilities, with the cost multiplier applied; without a policy 1 and 0.
        cost: mean cost of all frames.
        frames: how many frames it is of.
        lost: frames of a video that were damaged, their neighbours having been taken.
        times: seconds for ``decode``, ``policy`` and ``recognition``; decoding overlaps the others, and the first
            frames in a mode also build its network.
        float_precision: 'f32' or 'bf16', of recognition at 32 bits.
    """

    label: int
    name: str
    score: float
    scores: np.ndarray
    logits: np.ndarray
    actions: np.ndarray
    probs: np.ndarray
    cost: float
    frames: int
    times: dict[str, float]
    lost: int = 0
    float_precision: str = "f32"
