import pytest
import torch

from mmvideoiq.models.choosers import draw_actions

SKIPS = torch.tensor([False, False, False, True, True])


def draw(usage, clips=4000, frames=6, seed=0, never_empty=True):
    generator = torch.Generator().manual_seed(seed)
    shares = torch.tensor(usage, dtype=torch.float64)
    return draw_actions(shares, SKIPS, (clips, frames), generator, never_empty=never_empty)


@pytest.mark.parametrize("never_empty", [False, True])
@pytest.mark.parametrize(
    "usage", [(0.2,) * 5, (0.02, 0.08, 0.2, 0.7, 0.0), (0.5, 0.3, 0.2, 0.0, 0.0), (0.1, 0.0, 0.1, 0.4, 0.4)]
)
def test_usage_holds(usage, never_empty):
    drawn = draw(usage, never_empty=never_empty)
    share = torch.bincount(drawn.flatten(), minlength=5) / drawn.numel()
    torch.testing.assert_close(share, torch.tensor(usage), atol=0.012, rtol=0)  # 4 standard deviations


def test_no_clip_is_skipped_as_a_whole():
    drawn = draw((0.05, 0.1, 0.1, 0.75, 0.0))
    assert (~SKIPS[drawn]).any(1).all()
    drawn = draw((0.05, 0.1, 0.1, 0.75, 0.0), never_empty=False)
    assert not (~SKIPS[drawn]).any(1).all()


def test_every_frame_is_as_likely_as_another():
    processed = (~SKIPS[draw((0.1, 0.1, 0.1, 0.7, 0.0), clips=20000)]).float().mean(0)
    torch.testing.assert_close(processed, torch.full((6,), 0.3), atol=0.013, rtol=0)  # 4 standard deviations


def test_usage_below_one_frame_per_clip_becomes_one_frame():
    drawn = draw((0.01, 0.0, 0.03, 0.96, 0.0))
    assert ((~SKIPS[drawn]).sum(1) == 1).all()
    assert float((drawn == 0).sum() / (drawn == 2).sum()) == pytest.approx(1 / 3, rel=0.15)


def test_seed_decides():
    usage = (0.2, 0.2, 0.2, 0.3, 0.1)
    assert torch.equal(draw(usage, seed=3), draw(usage, seed=3))
    assert not torch.equal(draw(usage, seed=3), draw(usage, seed=4))


def test_one_frame():
    assert (draw((0.1, 0.1, 0.1, 0.7, 0.0), frames=1) < 3).all()
