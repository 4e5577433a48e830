"""Which frames of a clip have changed: the rival of a policy that learns nothing.

Twin: ``models/choosers.FrameDifference``, which does not round the small frames to whole grey levels.
"""

from __future__ import annotations

import numpy as np


def changed_frames(frames: np.ndarray, *, side: int | None, threshold: float) -> np.ndarray:
    """Which frames differ from the last one that did; the first does.

    Args:
        frames: uint8 (T, H, W, 3).
        side: to which frames are resized before (bilinear); None keeps them.
        threshold: mean absolute difference of grey levels, in 0..255, above which a frame has changed.

    Returns: bool (T,).
    """
    import cv2

    changed, last = np.ones(len(frames), bool), None
    for place, frame in enumerate(frames):
        small = frame if side is None else cv2.resize(frame, (side, side), interpolation=cv2.INTER_LINEAR)
        if last is not None:
            changed[place] = np.mean(cv2.mean(cv2.absdiff(small, last))[:3]) > threshold
        if changed[place]:
            last = small
    return changed
