import pytest
import torch

from mmvideoiq.models.feature_cache import FeatureCache, digest


class Counting:
    """(N, T, C) -> (N, 2), remembering how many rows it was asked for."""

    def __init__(self):
        self.rows = 0

    def __call__(self, clips):
        self.rows += len(clips)
        return torch.stack([clips.sum((1, 2)), clips.square().sum((1, 2))], dim=1)


def test_same_results_computed_once_per_clip():
    cache, compute, clips = FeatureCache(), Counting(), torch.randn(6, 4, 3)
    for rows in ([0, 1, 2], [2, 3, 0], [5, 4, 5, 5], [0, 1, 2, 3, 4, 5]):
        torch.testing.assert_close(cache(clips[rows], compute), Counting()(clips[rows]))
    assert compute.rows == len(cache) == 6


def test_many_clips_are_told_apart():
    cache, compute, clips = FeatureCache(), Counting(), torch.randn(2000, 2, 3)
    torch.testing.assert_close(cache(clips, compute), Counting()(clips))
    assert len(cache) == compute.rows == 2000


def test_clips_that_differ_in_one_value_are_different():
    cache, compute, clip = FeatureCache(), Counting(), torch.zeros(1, 4, 3)
    cache(clip, compute)
    other = clip.clone()
    other[0, 3, 2] = 1e-30
    cache(other, compute)
    assert compute.rows == 2


def test_memory_is_bounded():
    size = 2 * 4  # two float32
    cache, compute, clips = FeatureCache(max_bytes=3 * size), Counting(), torch.randn(8, 4, 3)
    for _ in range(2):
        torch.testing.assert_close(cache(clips, compute), Counting()(clips))
    assert len(cache) == 3 and cache.held_bytes == 3 * size
    assert compute.rows == 8 + 5
    cache.clear()
    assert len(cache) == cache.held_bytes == 0


def test_kept_rows_are_not_views_of_a_batch_and_carry_no_gradient():
    cache = FeatureCache()
    weight = torch.ones((), requires_grad=True)
    kept = cache(torch.randn(64, 4, 3), lambda clips: clips.sum(2) * weight)
    assert not kept.requires_grad
    assert all(row.untyped_storage().nbytes() == 16 for row in cache._rows.values())


def test_changing_a_result_does_not_change_what_is_kept():
    cache, clips = FeatureCache(), torch.randn(3, 4, 3)
    first = cache(clips, Counting())
    expected = first.clone()
    first.zero_()
    assert torch.equal(cache(clips, Counting()), expected)


def test_a_file_gives_the_same_rows_back(tmp_path):
    cache, clips, path = FeatureCache(), torch.randn(6, 4, 3), tmp_path / "folder/features.safetensors"
    wanted = cache(clips, Counting())
    other_length = torch.randn(2, 5, 3)
    longer = cache(other_length, lambda clips: clips.flatten(1))
    cache.save(path, "a network")

    again, compute = FeatureCache(), Counting()
    assert again.load(path, "a network") == len(again) == 8
    assert torch.equal(again(clips, compute), wanted) and torch.equal(again(other_length, compute), longer)
    assert compute.rows == 0 and again.held_bytes == cache.held_bytes


def test_rows_of_something_else_are_not_taken(tmp_path):
    cache, path = FeatureCache(), tmp_path / "features.safetensors"
    cache(torch.randn(3, 4, 3), Counting())
    cache.save(path, "a network")
    assert FeatureCache().load(path, "another") == 0
    assert FeatureCache().load(tmp_path / "none.safetensors", "a network") == 0
    assert FeatureCache(max_bytes=2 * 8).load(path, "a network") == 2


def test_a_damaged_file_is_one_line(tmp_path):
    path = tmp_path / "features.safetensors"
    path.write_bytes(b"cut")
    with pytest.raises(ValueError, match=r"features\.safetensors is damaged, delete it"):
        FeatureCache().load(path, "a network")


def test_the_digest_changes_with_weights_and_settings():
    network = torch.nn.Linear(2, 2)
    before = digest(network, ["8"])
    assert before == digest(network, ["8"]) != digest(network, ["8", "4"])
    with torch.no_grad():
        network.bias[0] += 1e-6
    assert digest(network, ["8"]) != before
