"""How a video becomes the frames that a model sees: written by export, read by the runtime and the benchmarks."""

from __future__ import annotations

from typing import NamedTuple


class Preprocessing(NamedTuple):
    """From a video to frames.

    Attributes:
        frames: T, at the middles of T equal parts of the video.
        short_side: pixels to which the short side is resized (bilinear); None leaves the frames.
        crop: side of the square cut from the middle; None takes all.
        size: (H, W) that the model sees; None where it is not known yet.
    """

    frames: int
    short_side: int | None = None
    crop: int | None = None
    size: tuple[int, int] | None = None
