"""Several views of a video."""

import pytest
import torch

from tests.models.toys import (
    ACTIONS,
    CLASSES,
    TOLERANCE,
    build,
    clips,
    prefer,
    samples,
    trained,
    videoiq,
)


def test_views_are_clips_of_their_own():
    """Crops and clips follow each other in the input: each is one clip for the policy, scores are averaged."""
    model = trained(num_frames=4)
    x = clips(2, 12)  # 3 views of 4 frames
    with torch.no_grad():
        results = model.predict(x, samples(2))
        alone = model.predict(x.reshape(6, 4, *x.shape[2:]), samples(6))
        assert model(x, mode="tensor").shape == (6, CLASSES)
    for video, result in enumerate(results):
        views = alone[3 * video : 3 * video + 3]
        expected = torch.stack([view.pred_score for view in views]).mean(0)
        torch.testing.assert_close(result.pred_score, expected, **TOLERANCE)
        assert result.pred_label == expected.argmax()
        assert torch.equal(result.policy_actions, torch.cat([view.policy_actions for view in views]))
        assert result.policy_probs.shape == (12, len(ACTIONS))
        assert result.cost["gflops"] == pytest.approx(sum(view.cost["gflops"] for view in views))
        costs = [view.cost["mean_cost"] for view in views]
        assert result.cost["mean_cost"] == pytest.approx(sum(costs) / 3)


def test_no_view_is_left_out_as_a_whole():
    model = prefer(trained(num_frames=4), "skip")
    with torch.no_grad():
        (result,) = model.predict(clips(1, 8), samples(1))
    skip = model.actions.index("skip")
    assert [(view != skip).sum().item() for view in result.policy_actions.unflatten(0, (2, 4))] == [1, 1]


def test_views_at_a_fixed_precision():
    model = trained(num_frames=4)
    model.set_fixed_action(bits=4)
    x = clips(2, 8)
    with torch.no_grad():
        results = model.predict(x, samples(2))
        logits = model.recognize(x.reshape(4, 4, *x.shape[2:])).logits
    scores = logits.softmax(-1).reshape(2, 2, -1).mean(1)
    for result, score in zip(results, scores, strict=True):
        torch.testing.assert_close(result.pred_score, score)
        assert result.policy_actions.tolist() == [1] * 8


def test_frames_that_are_no_views_are_refused():
    model = trained(num_frames=4)
    with pytest.raises(
        ValueError, match=r"inputs of 6 frames are not a multiple of num_frames=4: .*model.num_frames"
    ):
        model.predict(clips(1, 6), samples(1))
    with pytest.raises(ValueError, match="num_frames=0 must be at least 1"):
        build(videoiq(num_frames=0))
