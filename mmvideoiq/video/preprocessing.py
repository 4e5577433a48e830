"""How a video becomes the frames that a model sees: written by export, read by the runtime and the benchmarks."""

from __future__ import annotations

from typing import NamedTuple

from mmvideoiq.video.av_reader import SAMPLING

READERS = ("av", "decord")


class Preprocessing(NamedTuple):
    """From a video to frames.

    Attributes:
        frames: T, at the middles of T equal parts of the video.
        short_side: pixels to which the short side is resized (bilinear); None leaves the frames.
        crop: side of the square cut from the middle; None takes all.
        size: (H, W) that the model sees; None where it is not known yet.
        sampling: 'exact', 'nearby' or 'keyframe', of whole videos (:meth:`mmvideoiq.video.av_reader.AvReader.read`);
            streams are always exact.
        tolerance_s: how far away a key frame may be, in seconds, with 'keyframe'.
        reader: 'av' (PyAV) or 'decord', which gives the same pixels where it reads a file right and knows no other
            sampling than 'exact'.
    """

    frames: int
    short_side: int | None = None
    crop: int | None = None
    size: tuple[int, int] | None = None
    sampling: str = "exact"
    tolerance_s: float = 1.0
    reader: str = "av"

    def checked(self) -> Preprocessing:
        """Itself; ValueError where videos cannot be read like this."""
        if self.sampling not in SAMPLING:
            raise ValueError(f"sampling={self.sampling!r} must be one of {', '.join(SAMPLING)}")
        if not self.tolerance_s >= 0:
            raise ValueError(f"tolerance_s={self.tolerance_s} must not be negative")
        if self.reader not in READERS:
            raise ValueError(f"reader={self.reader!r} must be one of {', '.join(READERS)}")
        if self.reader == "decord" and self.sampling != "exact":
            raise ValueError(
                f"decord reads with sampling 'exact' alone, not {self.sampling!r}: choose it (--sampling exact)"
            )
        return self
