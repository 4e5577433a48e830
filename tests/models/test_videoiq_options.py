"""Fixed and random actions, and options that are refused before training starts."""

import pytest
import torch
from mmaction.registry import MODELS

from mmvideoiq.models.choosers import RandomActions
from tests.models.toys import (
    any_precision,
    any_precision_recognizer,
    build,
    clips,
    float_recognizer,
    lived_in,
    policy,
    slim,
    trained,
    videoiq,
)

# --- fixed and random actions ---


@pytest.mark.parametrize("bits", [32, 4, 2])
def test_fixed_action_equals_the_any_precision_recognizer(bits):
    reference = lived_in(build(any_precision_recognizer())).eval()
    model = build(videoiq()).eval()
    model.load_state_dict(reference.state_dict(), strict=False)
    x = clips(3)
    with torch.no_grad():
        reference.set_fixed_action(bits=bits)
        model.set_fixed_action(bits=bits)
        ran = []
        model.policy.register_forward_pre_hook(lambda *_: ran.append(1))
        torch.testing.assert_close(model(x), reference(x), rtol=1e-4, atol=1e-5)
        assert not ran
        sample = model(x, mode="predict")[0]
        assert sample.policy_actions.tolist() == [model.actions.index(bits)] * 4
        model.set_fixed_action(None)
        model(x)
        assert ran


def test_random_actions_keep_the_usage_and_follow_the_seed():
    model = trained()
    usage = (0.1, 0.2, 0.2, 0.5)
    with torch.no_grad():
        runs = []
        for seed in (0, 0, 1):
            model.chooser = RandomActions(actions=model.actions, usage=usage, seed=seed)
            runs.append(model.recognize(clips(100, 4, size=16)).actions)
    assert torch.equal(runs[0], runs[1]) and not torch.equal(runs[0], runs[2])
    assert ((runs[0] != 3).sum(1) > 0).all()
    share = torch.bincount(torch.cat(runs[1:]).flatten(), minlength=4) / 800
    torch.testing.assert_close(share, torch.tensor(usage), atol=0.07, rtol=0)  # 4 standard deviations
    mean_cost = float(share @ torch.tensor(model.actions.costs))
    assert mean_cost == pytest.approx(0.1 + 0.2 / 4 + 0.2 / 16, abs=0.05)
    model.chooser = None
    with torch.no_grad():
        assert model.recognize(clips(1)).policy is not None


@pytest.mark.parametrize("usage", [(0.5, 0.5), (0, 0, 0, 1), (-1, 1, 1, 0)])
def test_bad_usage(usage):
    with pytest.raises(ValueError, match=r"usage=.* must hold 4 shares"):
        RandomActions(actions=trained().actions, usage=usage)


def test_fixed_precision_that_is_no_action():
    with pytest.raises(ValueError, match=r"no action 8 .*32, 4, 2, skip"):
        trained().set_fixed_action(bits=8)


# --- refusals: before training starts ---


@pytest.mark.parametrize(
    "options, message",
    [
        (dict(backbone=slim()), r"backbone.type='SlimResNet' is not any-precision"),
        (dict(actions=[]), "empty"),
        (dict(actions=[dict(skip=1)]), "only skips"),
        (
            dict(actions=[dict(bits=32), dict(bits=8), dict(bits=5)]),
            "actions ask for 8, 5, .* precisions are 32, 4, 2",
        ),
        (
            dict(actions=[dict(bits=32, separate=True), dict(bits=4)]),
            "separate=True needs a teacher",
        ),
        (dict(distill=dict(type="DistillationLoss")), "distill needs a teacher"),
        (dict(policy_cls_weight=0.1), r"policy_cls_weight=0.1 needs policy.head.num_classes"),
        (dict(frozen=("backbone", "head")), r"frozen=\('backbone', 'head'\) may hold only"),
        (dict(cache_features=True, frozen=()), r"cache_features=True needs .* frozen=\(\)"),
        (dict(all_skip="nothing"), r"all_skip='nothing' must be one of"),
        (dict(losses=dict(cls=dict(type="EfficiencyLoss"))), r"losses may not be named \['cls'\]"),
        (
            dict(backbone=any_precision(dict(type="MobileNetV2TSM", num_segments=4, pretrained2d=False))),
            "MobileNetV2TSM shifts features between neighbouring frames",
        ),
    ],
)
def test_refused_by_name(options, message):
    with pytest.raises(ValueError, match=message):
        MODELS.build(videoiq(**options))


def test_teacher_without_a_checkpoint():
    model = MODELS.build(videoiq(teacher=float_recognizer(), distill=dict(type="DistillationLoss")))
    with pytest.raises(ValueError, match=r"teacher.checkpoint is missing"):
        model.init_weights()


def test_policy_input_larger_than_the_frame():
    model = build(videoiq(policy=policy(input_size=48))).eval()
    message = "policy input_size=48 is larger than the frame"
    with pytest.raises(ValueError, match=message):
        model(clips(1))
    with pytest.raises(ValueError, match=message):
        model.check_frames(24, 60)
    model.check_frames(48, 60)
