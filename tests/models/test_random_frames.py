import pytest
import torch
from mmaction.registry import MODELS
from mmaction.structures import ActionDataSample

from mmvideoiq.models.random_frames import RandomFramesPreprocessor

OPTIONS = dict(mean=[10.0] * 3, std=[2.0] * 3, format_shape="NCHW")


def batch(videos: int = 64, frames: int = 5) -> dict:
    """Frame t of video n has the level 20 n + t, modulo 256."""
    levels = (20 * torch.arange(videos)[:, None] + torch.arange(frames)) % 256
    clips = levels.to(torch.uint8)[:, :, None, None, None].expand(-1, -1, 3, 2, 2)
    return dict(inputs=list(clips), data_samples=[ActionDataSample() for _ in range(videos)])


def test_training_keeps_an_ordered_random_subset_of_each_clip():
    plain = MODELS.build(dict(type="ActionDataPreprocessor", **OPTIONS))
    random = MODELS.build(dict(type="RandomFramesPreprocessor", min_frames=2, **OPTIONS))
    whole = plain(batch(), training=True)["inputs"]
    counts, chosen = [], set()
    for _ in range(60):
        data = random(batch(), training=True)
        assert len(data["data_samples"]) == 64
        counts.append(data["inputs"].shape[1])
        places = (data["inputs"][:, :, None] == whole[:, None]).flatten(3).all(3)  # (N, kept, T)
        assert (places.sum(2) == 1).all()  # each is a frame of its own clip
        assert (places.float().argmax(2).diff(dim=1) > 0).all()  # once, in order
        if counts[-1] == 2:
            chosen |= set(map(tuple, places.float().argmax(2).tolist()))
    assert set(counts) == {2, 3, 4, 5}
    assert len(chosen) == 10  # every pair of 5


def test_testing_keeps_all():
    plain = MODELS.build(dict(type="ActionDataPreprocessor", **OPTIONS))
    random = RandomFramesPreprocessor(**OPTIONS)
    assert torch.equal(random(batch())["inputs"], plain(batch())["inputs"])


def test_mistakes():
    with pytest.raises(ValueError, match="min_frames=0"):
        RandomFramesPreprocessor(min_frames=0, **OPTIONS)
    with pytest.raises(ValueError, match="NCTHW"):
        RandomFramesPreprocessor(mean=[0] * 3, std=[1] * 3, format_shape="NCTHW")
    with pytest.raises(ValueError, match="min_frames=6 is more than the 5 frames"):
        RandomFramesPreprocessor(min_frames=6, **OPTIONS)(batch(), training=True)
