"""Training: the loss and its gradients, and the cache of frozen features."""

import copy

import pytest
import torch
from mmaction.structures import ActionDataSample

from tests.models.toys import (
    CLASSES,
    build,
    clips,
    lived_in,
    policy,
    prefer,
    samples,
    total,
    trained,
    videoiq,
)


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
