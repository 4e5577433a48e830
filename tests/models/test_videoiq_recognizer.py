import copy

import pytest
import torch
from mmaction.registry import MODELS
from mmaction.structures import ActionDataSample

from mmvideoiq.models.choosers import RandomActions
from tests.models.toys import (
    ACTIONS,
    CLASSES,
    any_precision,
    any_precision_recognizer,
    build,
    clips,
    float_recognizer,
    lived_in,
    policy,
    samples,
    slim,
    total,
    videoiq,
)
from tests.reference import dense_videoiq as oracle

# A sum in another order may fall on the other side of a rounding step, and a code is a large thing at 2 bits:
# logits of a clip alone and in a batch agree to this; on most machines they agree to 1e-6.
TOLERANCE = dict(rtol=1e-3, atol=2e-3)
LONG_SKIPS = (*ACTIONS[:3], dict(skip=1), dict(skip=2), dict(skip=4))


def trained(seed=1, **options):
    """A recognizer whose policy chooses each action for some frames."""
    model = lived_in(build(videoiq(**options)), seed).eval()
    with torch.no_grad():
        usual = model.policy(clips(16, 6, seed=9), sample=False).log_probs.mean(dim=(0, 1))
        model.policy.head.fc_policy.bias -= usual
    return model


def prefer(model, name):
    """Make the policy choose one action always."""
    with torch.no_grad():
        model.policy.head.fc_policy.weight.zero_()
        model.policy.head.fc_policy.bias.zero_()
        model.policy.head.fc_policy.bias[model.actions.index(name)] = 20
    return model


@pytest.fixture
def teacher(tmp_path):
    model = lived_in(build(float_recognizer(), seed=2), seed=2)
    torch.save(dict(state_dict=model.state_dict()), tmp_path / "teacher.pth")
    return dict(float_recognizer(), checkpoint=str(tmp_path / "teacher.pth"))


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


def test_skipped_frames_never_run_and_each_group_runs_once():
    model = trained()
    calls = []
    model.backbone.register_forward_pre_hook(
        lambda module, args: calls.append((module.switch.bits, len(args[0])))
    )
    with torch.no_grad():
        chosen = model.recognize(clips(8, 6)).actions
    counts = torch.bincount(chosen.flatten(), minlength=4)
    assert counts[3] > 0
    assert dict(calls) == {bits: int(n) for bits, n in zip((32, 4, 2), counts, strict=False) if n}
    assert len(calls) == len(dict(calls))


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


# --- losses ---


def test_loss_equals_the_one_by_hand(teacher):
    """Mix, average and add up by hand, under the same noise; then compare every gradient."""
    options = dict(teacher=teacher, distill=dict(type="DistillationLoss"), policy_cls_weight=0.3)
    model = lived_in(build(videoiq(policy=policy(num_classes=CLASSES, dropout_ratio=0.0), **options)))
    model.train()
    twin = copy.deepcopy(model)
    x, labels = clips(5), torch.arange(5) % CLASSES
    torch.manual_seed(5)
    losses = model(x, samples(5), mode="loss")

    torch.manual_seed(5)
    out = twin.policy(x, sample=True)
    chosen = out.decisions.argmax(-1)
    assert ((chosen != 3).sum(1) > 0).all()  # no clip is skipped completely here
    mixed = []
    for index, bits in enumerate((32, 4, 2)):
        with torch.no_grad():
            maps = twin.backbone.forward_at(x.flatten(0, 1), bits).mean((2, 3)).unflatten(0, (5, 4))
        mixed.append(out.decisions[..., index, None] * maps)
    count = out.decisions[..., :3].sum(dim=(1, 2))[:, None]
    logits = twin.cls_head.fc_cls(sum(mixed).sum(1) / count)
    with torch.no_grad():
        target = twin.teacher(x, stage="head").softmax(-1)
    cost = torch.tensor([1, 1 / 4, 1 / 16, 0])
    log_p = out.log_probs
    expected = dict(
        loss_cls=-logits.log_softmax(-1)[range(5), labels].mean(),
        loss_kd=-(target * logits.log_softmax(-1)).sum(-1).mean(),
        loss_policy_cls=-0.3 * out.class_logits.log_softmax(-1)[range(5), labels].mean(),
        loss_efficiency=0.16 * (out.decisions @ cost).mean(),
        loss_balance=0.5 * (out.decisions.mean((0, 1)) - 1 / 4).square().sum(),
        loss_entropy=-0.1 * (log_p.exp() * log_p).sum(-1).mean(),
    )
    assert {name for name in losses if "loss" in name} == set(expected)
    for name, value in expected.items():
        torch.testing.assert_close(losses[name], value, rtol=1e-4, atol=1e-5, msg=name)
    usage = torch.bincount(chosen.flatten(), minlength=4) / 20
    for name, share in zip(("32", "4", "2", "skip"), usage, strict=True):
        assert float(losses[f"usage_{name}"]) == pytest.approx(float(share))
    assert float(losses["mean_cost"]) == pytest.approx(float(usage @ cost))

    total(losses).backward()
    total(expected).backward()
    wanted = {name: parameter.grad for name, parameter in twin.named_parameters()}
    for name, parameter in model.named_parameters():
        if name.startswith(("backbone.", "teacher.")):
            assert parameter.grad is None and not parameter.requires_grad
        else:
            assert parameter.grad.abs().sum() > 0, name
            atol = 1e-3 * float(wanted[name].abs().max())
            torch.testing.assert_close(parameter.grad, wanted[name], rtol=1e-3, atol=atol, msg=name)


def test_training_clip_of_skips_alone_still_processes_a_frame():
    model = prefer(build(videoiq()), "skip").train()
    losses = model(clips(4), samples(4), mode="loss")
    assert float(losses["usage_skip"]) == 3 / 4
    total(losses).backward()
    assert all(torch.isfinite(p.grad).all() for p in model.policy.parameters())


def test_joint_training_reaches_the_backbone():
    model = build(videoiq(frozen=())).train()
    assert model.backbone.training
    total(model(clips(6), samples(6), mode="loss")).backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name


@pytest.mark.parametrize("num", [1, 2])
def test_several_labels_per_clip(num):
    head = dict(
        type="FrameAverageHead",
        num_classes=CLASSES,
        in_channels=16,
        multi_class=True,
        loss_cls=dict(type="BCELossWithLogits"),
    )
    options = dict(cls_head=head, policy=policy(num_classes=CLASSES), policy_cls_weight=0.1)
    labels = [ActionDataSample().set_gt_label(torch.tensor([1.0, 0.0, 1.0])) for _ in range(num)]
    losses = build(videoiq(**options)).train()(clips(num), labels, mode="loss")
    assert torch.isfinite(total(losses)) and float(losses["loss_policy_cls"]) > 0


@pytest.mark.parametrize("num, frames", [(1, 1), (1, 3), (3, 1)])
def test_one_clip_one_frame_trains(num, frames):
    model = build(videoiq(policy=policy(num_classes=CLASSES), policy_cls_weight=0.1)).train()
    total(model(clips(num, frames), samples(num), mode="loss")).backward()


def test_classifier_of_the_policy_that_no_loss_reaches_does_not_wait_for_a_gradient():
    model = build(videoiq(policy=policy(num_classes=CLASSES))).train()
    assert not any(p.requires_grad for p in model.policy.head.fc_cls.parameters())
    total(model(clips(3), samples(3), mode="loss")).backward()
    assert all(p.grad is not None for p in model.parameters() if p.requires_grad)


# --- feature cache ---


def test_cached_features_change_nothing_and_are_computed_once():
    model = trained(cache_features=True).train()
    plain = trained().train()
    ran = []
    model.backbone.net.register_forward_pre_hook(lambda module, args: ran.append(len(args[0])))
    x = clips(6)
    for rows in ([0, 1, 2], [3, 4, 5], [2, 5, 0]):
        losses = []
        for one in (model, plain):
            torch.manual_seed(3)
            losses.append(one(x[rows], samples(3), mode="loss"))
        for name in losses[0]:
            torch.testing.assert_close(losses[0][name], losses[1][name], rtol=1e-4, atol=1e-5)
    assert ran == [12] * 6  # two batches of three clips of four frames, at three precisions


def test_loading_other_weights_empties_the_cache():
    model = build(videoiq(cache_features=True)).train()
    model(clips(3), samples(3), mode="loss")
    assert len(model.feature_cache) == 3
    model.load_state_dict(model.state_dict())
    assert len(model.feature_cache) == 0


# --- refusals: before training starts ---


@pytest.mark.parametrize(
    "options, message",
    [
        (dict(backbone=slim()), r"backbone.type='SlimResNet' is not any-precision"),
        (dict(actions=[]), "empty"),
        (dict(actions=[dict(skip=1)]), "only skips"),
        (
            dict(actions=[dict(bits=32), dict(bits=8), dict(bits=5)]),
            r"actions ask for \[8, 5\] bits, .*\(32, 4, 2\)",
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


# --- several views of a video ---


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
