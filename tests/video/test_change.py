"""Frames that have changed: against the chooser of the simulation."""

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from mmvideoiq.actions import ActionSpace
from mmvideoiq.models.choosers import FrameDifference
from mmvideoiq.video.change import changed_frames

SPACE = ActionSpace([dict(bits=8), dict(skip=1)])


def plain(*levels):
    return np.stack([np.full((12, 16, 3), level, np.uint8) for level in levels])


def test_a_slow_drift_counts_from_the_last_processed_frame():
    frames = plain(10, 12, 14, 16, 18, 30)
    assert changed_frames(frames, side=None, threshold=4).tolist() == [True, False, False, True, False, True]
    assert changed_frames(frames, side=8, threshold=255).tolist() == [True] + [False] * 5
    assert changed_frames(frames, side=8, threshold=0).all()
    assert changed_frames(plain(7, 7), side=8, threshold=0).tolist() == [True, False]


@pytest.mark.parametrize("side", [None, 8, 21])
def test_the_simulation_decides_alike(side):
    rng = np.random.default_rng(0)
    steps = rng.integers(-12, 13, (40, 30, 30, 3)).cumsum(0)
    frames = (128 + steps).clip(0, 255).astype(np.uint8)

    def resize(x):
        return x if side is None else F.interpolate(x, (side, side), mode="bilinear", align_corners=False)

    clips = (torch.from_numpy(frames).permute(0, 3, 1, 2)[None].float() - 127.5) / 127.5
    chooser = FrameDifference(actions=SPACE, name=8, threshold=0.0, resize=resize, std=127.5)
    differences = chooser.differences(clips)[0]
    # a threshold that no difference comes near: small frames of whole grey levels are off by half a level
    values = differences.flatten().sort().values
    values = values[(values > 5) & (values < 40)]
    gaps = values.diff()
    chooser.threshold = float(values[gaps.argmax()] + gaps.max() / 2)
    expected = chooser(clips)[0] == 0
    found = changed_frames(frames, side=side, threshold=chooser.threshold)
    assert found.tolist() == expected.tolist() and 1 < found.sum() < 40
