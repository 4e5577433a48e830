"""Testing: actions are chosen and grouped, predictions hold scores, actions and costs."""

import copy

import pytest
import torch

from mmvideoiq.models.choosers import RandomActions
from mmvideoiq.models.videoiq_recognizer import FRAMES_AT_ONCE
from tests.models.toys import (
    ACTIONS,
    CLASSES,
    LONG_SKIPS,
    TOLERANCE,
    clips,
    prefer,
    samples,
    total,
    trained,
)
from tests.reference import dense_videoiq as oracle

# --- testing: grouped equals dense ---


@pytest.mark.parametrize("actions", [ACTIONS, LONG_SKIPS, ACTIONS[:3], ACTIONS[1:]], ids=len)
@pytest.mark.parametrize("all_skip", ["likeliest", "zero"])
def test_grouped_equals_the_dense_oracle(actions, all_skip):
    model = trained(actions=list(actions), all_skip=all_skip)
    x = clips(8, 6)
    with torch.no_grad():
        prediction = model.recognize(x)
        for clip, logits, chosen in zip(x, prediction.logits, prediction.actions, strict=True):
            expected, expected_actions = oracle.recognize(model, clip)
            assert chosen.tolist() == expected_actions
            torch.testing.assert_close(logits, expected, **TOLERANCE)
    assert prediction.actions.unique().numel() >= 3


def test_a_clip_does_not_depend_on_its_neighbours():
    model = trained(actions=list(LONG_SKIPS))
    x = clips(8, 5)
    with torch.no_grad():
        together = model.recognize(x)
        backwards = model.recognize(x.flip(0))
        assert torch.equal(together.actions, backwards.actions.flip(0))
        torch.testing.assert_close(together.logits, backwards.logits.flip(0), **TOLERANCE)
        for n in range(8):
            alone = model.recognize(x[n : n + 1])
            assert torch.equal(alone.actions[0], together.actions[n])
            torch.testing.assert_close(alone.logits[0], together.logits[n], **TOLERANCE)


def test_skipped_frames_never_run_and_each_group_runs_in_as_few_parts_as_can_be():
    model = trained()
    calls = []
    model.backbone.register_forward_pre_hook(
        lambda module, args: calls.append((module.switch.bits, len(args[0])))
    )
    with torch.no_grad():
        chosen = model.recognize(clips(8, 6)).actions
    counts = torch.bincount(chosen.flatten(), minlength=4)
    assert counts[3] > 0
    wanted = []
    for bits, count in zip((32, 4, 2), counts.tolist(), strict=False):
        whole, rest = divmod(count, FRAMES_AT_ONCE)
        wanted += [(bits, FRAMES_AT_ONCE)] * whole + [(bits, rest)] * (rest > 0)
    assert calls == wanted and len(calls) < len(chosen.flatten()) / 4


def test_clip_that_would_be_skipped_gets_its_likeliest_frame():
    model = prefer(trained(), "skip")
    with torch.no_grad():  # how much an action is liked depends on the frame
        model.policy.head.fc_policy.weight[:3].normal_()
    x = clips(6, 5)
    with torch.no_grad():
        prediction = model.recognize(x)
    processed = prediction.actions != 3
    assert torch.equal(processed.sum(1), torch.ones(6, dtype=torch.long))
    for clip, chosen, log_probs in zip(x, prediction.actions, prediction.policy.log_probs, strict=True):
        assert chosen.tolist() == oracle.actions_of(model, clip)
        assert int((chosen != 3).nonzero()) == int(log_probs[:, :3].exp().sum(1).argmax())


def test_clip_of_skips_alone_is_the_classifiers_bias_if_asked_so():
    model = prefer(trained(all_skip="zero"), "skip")
    ran = []
    model.backbone.register_forward_pre_hook(lambda *_: ran.append(1))
    with torch.no_grad():
        prediction = model.recognize(clips(2))
    assert (prediction.actions == 3).all() and not ran
    torch.testing.assert_close(prediction.logits, model.cls_head.fc_cls.bias.expand(2, -1))


def test_separate_network_runs_its_action(teacher):
    actions = [dict(bits=32, separate=True), *ACTIONS[1:]]
    model = trained(actions=actions, teacher=teacher)
    assert model.actions.names == ("32fp", "4", "2", "skip")
    x = clips(6, 4)
    with torch.no_grad():
        prediction = model.recognize(x)
        assert (prediction.actions == 0).any()
        for n in range(6):
            expected, _ = oracle.recognize(model, x[n])
            torch.testing.assert_close(prediction.logits[n], expected, **TOLERANCE)
        model.set_fixed_action("32fp")
        pooled = model.teacher.backbone(x.flatten(0, 1)).mean((2, 3)).unflatten(0, (6, 4)).mean(1)
        torch.testing.assert_close(model(x), model.cls_head.fc_cls(pooled), **TOLERANCE)


# --- predict and tensor ---


@pytest.mark.parametrize("num, frames", [(1, 1), (1, 4), (3, 1)])
def test_predict_with_and_without_samples(num, frames):
    model = trained()
    x = clips(num, frames)
    with torch.no_grad():
        logits = model(x)
        assert logits.shape == (num, CLASSES)
        given = samples(num)
        assert model(x, given, mode="predict") is given
        for predicted in (given, model(x, mode="predict")):
            for sample, row in zip(predicted, logits, strict=True):
                torch.testing.assert_close(sample.pred_score, row.softmax(0))
                assert sample.pred_label.tolist() == [int(row.argmax())]
                assert sample.policy_actions.shape == (frames,)
                assert sample.policy_actions.dtype == torch.int64
                torch.testing.assert_close(sample.policy_probs.sum(1), torch.ones(frames))


def test_feature_extraction_of_the_host():
    model = trained()
    x = clips(2)
    with torch.no_grad():
        features, chosen = model.extract_feat(x), model.recognize(x).actions
    assert features.shape == (2, 4, 16)
    assert torch.equal(features.abs().sum(-1) == 0, chosen == 3)


def test_inference_mode_and_copies():
    model = trained()
    model.chooser = RandomActions(actions=model.actions, usage=(0.25,) * 4, seed=1)
    twin = copy.deepcopy(model)
    with torch.inference_mode():
        assert torch.equal(twin.recognize(clips(2)).actions, model.recognize(clips(2)).actions)
        twin.chooser = None
        twin(clips(2))
    total(twin.train()(clips(2), samples(2), mode="loss")).backward()
    assert all(parameter.grad is None for parameter in model.parameters())


def test_channels_last():
    model = trained()
    x = clips(2)
    with torch.no_grad():
        expected = model.recognize(x)
        got = model.to(memory_format=torch.channels_last).recognize(x)
    assert torch.equal(got.actions, expected.actions)
    torch.testing.assert_close(got.logits, expected.logits, **TOLERANCE)
