import pytest
import torch

from mmvideoiq.actions import ActionSpace
from mmvideoiq.models.choosers import (
    FrameDifference,
    GivenActions,
    UniformFrames,
    changed,
    draw_actions,
    oracle_actions,
    threshold_for,
)

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


SPACE = ActionSpace([dict(bits=8), dict(bits=8, size=16), dict(bits=4), dict(skip=1)], frame_size=32)


@pytest.mark.parametrize(
    ("count", "frames", "expected"),
    [(4, 16, [2, 6, 10, 14]), (2, 6, [1, 4]), (1, 5, [2]), (3, 3, [0, 1, 2]), (16, 16, list(range(16)))],
)
def test_uniform_frames_are_the_middles_of_equal_parts(count, frames, expected):
    chooser = UniformFrames(actions=SPACE, name="8@16", count=count)
    chosen = chooser(torch.zeros(2, frames, 3, 4, 4))
    assert chosen.shape == (2, frames) and torch.equal(chosen[0], chosen[1])
    assert (chosen[0] == 1).nonzero().flatten().tolist() == expected and (
        chosen[0] == 3
    ).sum() == frames - count


def test_uniform_frames_refuse():
    with pytest.raises(ValueError, match="count=0 must be"):
        UniformFrames(actions=SPACE, name=4, count=0)
    with pytest.raises(ValueError, match="skip is no mode; there are 8, 8@16, 4"):
        UniformFrames(actions=SPACE, name="skip", count=1)
    with pytest.raises(ValueError, match="no action 'skip'"):
        UniformFrames(actions=ActionSpace([dict(bits=4)]), name=4, count=1)
    with pytest.raises(ValueError, match="count=7 is more than the 6 frames"):
        UniformFrames(actions=SPACE, name=4, count=7)(torch.zeros(1, 6, 3, 4, 4))


def grey(levels):
    """Clips (N, T, 3, 4, 4) of plain frames, normalized as (x - 127.5) / 127.5."""
    return ((torch.tensor(levels, dtype=torch.float32) - 127.5) / 127.5)[..., None, None, None].expand(
        -1, -1, 3, 4, 4
    )


def gate(threshold):
    return FrameDifference(
        actions=SPACE, name=8, threshold=threshold, resize=lambda x: x, std=torch.full((3, 1, 1), 127.5)
    )


@pytest.mark.parametrize(
    ("threshold", "expected"),
    [
        (4.0, [[0, 3, 3, 0, 3, 0], [0, 3, 3, 3, 3, 3]]),  # a slow drift counts from the last processed frame
        (9.9, [[0, 3, 3, 3, 3, 0], [0, 3, 3, 3, 3, 3]]),
        (0.0, [[0, 0, 0, 0, 0, 0], [0, 3, 3, 3, 3, 3]]),
        (255.0, [[0, 3, 3, 3, 3, 3], [0, 3, 3, 3, 3, 3]]),
    ],
)
def test_frames_that_changed_since_the_last_processed_one(threshold, expected):
    clips = grey([[10, 12, 14, 16, 18, 30], [50] * 6])
    chooser = gate(threshold)
    torch.testing.assert_close(chooser.differences(clips)[0, 0], torch.tensor([0, 2, 4, 6, 8, 20.0]))
    assert chooser(clips).tolist() == expected


def test_the_difference_is_exact_at_the_threshold():
    differences = torch.tensor([[[0, 3.0, 5], [3, 0, 2], [5, 2, 0]]])
    assert changed(differences, 3.0).tolist() == [[True, False, True]]
    assert changed(differences, 2.0).tolist() == [[True, True, False]]


@pytest.mark.parametrize("share", [1 / 8, 0.2, 0.5, 0.8, 1.0])
def test_the_threshold_for_a_share(share):
    clips = torch.randint(0, 256, (50, 8, 6), generator=torch.Generator().manual_seed(0)).float()
    differences = torch.cdist(clips, clips, p=1) / 6
    processed = changed(differences, threshold_for(differences, share)).float().mean()
    assert share - 0.05 < processed <= share + 1e-6


def test_a_share_that_the_first_frames_exceed():
    with pytest.raises(ValueError, match="out of reach: 1/8 to 1"):
        threshold_for(torch.zeros(2, 8, 8), 0.1)


def test_given_actions_are_handed_out_in_order():
    rows = torch.tensor([[0, 3], [1, 3], [3, 2]])
    chooser = GivenActions(rows)
    assert torch.equal(chooser(torch.zeros(2, 2, 3, 4, 4)), rows[:2])
    assert torch.equal(chooser(torch.zeros(1, 2, 3, 4, 4)), rows[2:])
    with pytest.raises(ValueError, match=r"clips 3 to 4 of 2 frames: there are actions for \(3, 2\)"):
        chooser(torch.zeros(1, 2, 3, 4, 4))


def test_the_oracle_takes_the_cheapest_mode_that_is_right():
    # costs of SPACE: 8 -> 1, 8@16 -> 1/4, 4 -> 1/4 (fewer bits)
    right = torch.tensor(
        [
            [[1, 1, 1], [1, 1, 0], [1, 0, 0], [0, 0, 0], [1, 1, 1]],
            [[0, 0, 0], [0, 0, 0], [0, 0, 0], [0, 0, 0], [0, 0, 0]],
            [[1, 1, 1]] * 5,
        ]
    ).bool()
    evidence = torch.tensor([[1, 1, 1, 1, 0], [0, 0, 1, 1, 0], [0, 0, 0, 0, 0]]).bool()
    expected = [[2, 1, 0, 3, 3], [3, 3, 2, 3, 3], [2, 3, 3, 3, 3]]
    assert oracle_actions(right, evidence, SPACE).tolist() == expected


def test_the_oracle_prefers_fewer_bits_at_equal_cost():
    space = ActionSpace([dict(bits=32), dict(bits=8), dict(skip=1)])
    assert space.costs[:2] == (1, 1)
    right = torch.tensor([[[1, 1], [1, 0]]]).bool()
    assert oracle_actions(right, torch.ones(1, 2).bool(), space).tolist() == [[1, 0]]
