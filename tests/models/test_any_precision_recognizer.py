import copy

import pytest
import torch
from mmaction.registry import MODELS

from tests.models.toys import (
    CLASSES,
    any_precision,
    any_precision_recognizer,
    build,
    clips,
    float_recognizer,
    lived_in,
    samples,
    slim,
    total,
)


def cross_entropy(logits, target):
    """By the definition: -sum_k target_k log softmax(logits)_k, mean over clips."""
    probs = logits.exp() / logits.exp().sum(1, keepdim=True)
    return -(target * probs.log()).sum(1).mean()


def softmax(logits):
    return logits.exp() / logits.exp().sum(1, keepdim=True)


def scores_by_hand(model, x):
    """bits -> logits (N, K): every precision alone, pooled and averaged by hand."""
    scores = {}
    for bits in model.backbone.precisions:
        maps = model.backbone.forward_at(x.flatten(0, 1), bits)
        features = maps.mean(dim=(2, 3)).unflatten(0, x.shape[:2]).mean(1)
        scores[bits] = features @ model.cls_head.fc_cls.weight.T + model.cls_head.fc_cls.bias
    return scores


@pytest.fixture
def teacher(tmp_path):
    model = lived_in(build(float_recognizer(), seed=2), seed=2)
    torch.save(dict(state_dict=model.state_dict()), tmp_path / "teacher.pth")
    return dict(float_recognizer(), checkpoint=str(tmp_path / "teacher.pth"))


@pytest.mark.parametrize("kind", ["none", "recursive", "teacher"])
def test_losses_equal_those_by_hand(kind, teacher):
    options = dict(none=dict(distill=None), recursive=dict(), teacher=dict(teacher=teacher))[kind]
    model = lived_in(build(any_precision_recognizer(**options))).train()
    twin = copy.deepcopy(model)
    x, labels = clips(5), torch.eye(CLASSES)[torch.arange(5) % CLASSES]
    losses = model(x, samples(5), mode="loss")
    scores = scores_by_hand(twin, x)

    expected = {f"loss_cls_{bits}": cross_entropy(score, labels) for bits, score in scores.items()}
    if kind == "recursive":
        expected["loss_kd_4"] = cross_entropy(scores[4], softmax(scores[32].detach()))
        expected["loss_kd_2"] = cross_entropy(scores[2], softmax(scores[4].detach()))
    if kind == "teacher":
        with torch.no_grad():
            target = softmax(twin.teacher(x, stage="head"))
        expected |= {f"loss_kd_{bits}": cross_entropy(score, target) for bits, score in scores.items()}
    assert {name for name in losses if "loss" in name} == set(expected)
    for name, value in expected.items():
        torch.testing.assert_close(losses[name], value, rtol=1e-4, atol=1e-5)

    total(losses).backward()
    total(expected).backward()
    wanted = {name: parameter.grad for name, parameter in twin.named_parameters()}
    for name, parameter in model.named_parameters():
        if name.startswith("teacher."):
            assert parameter.grad is None and not parameter.requires_grad
            continue
        atol = 1e-4 * float(wanted[name].abs().max()) + 1e-6
        torch.testing.assert_close(parameter.grad, wanted[name], rtol=1e-3, atol=atol, msg=name)


def test_accuracies_are_logged_per_precision_and_are_no_loss():
    losses = build(any_precision_recognizer())(clips(3), samples(3), mode="loss")
    assert {name for name in losses if "loss" not in name} == {
        f"top{k}_acc_{bits}" for k in (1, 5) for bits in (32, 4, 2)
    }


def test_teacher_stands_still_in_training(teacher):
    model = build(any_precision_recognizer(teacher=teacher)).train()
    assert not any(module.training for module in model.teacher.modules())
    assert not any(parameter.requires_grad for parameter in model.teacher.parameters())
    before = {name: value.clone() for name, value in model.teacher.state_dict().items()}
    total(model(clips(3), samples(3), mode="loss")).backward()
    assert all(torch.equal(value, before[name]) for name, value in model.teacher.state_dict().items())


@pytest.mark.parametrize("bits", [32, 4, 2])
def test_fixed_action_runs_the_backbone_at_that_precision(bits):
    model = lived_in(build(any_precision_recognizer())).eval()
    x = clips(2)
    with torch.no_grad():
        expected = scores_by_hand(model, x)
        model.set_fixed_action(bits=bits)
        torch.testing.assert_close(model(x), expected[bits], rtol=1e-4, atol=1e-5)
        predicted = model(x, samples(2), mode="predict")
        assert model(x).shape == (2, CLASSES)
        for sample, row in zip(predicted, softmax(expected[bits]), strict=True):
            assert int(sample.pred_label) == int(row.argmax())
        model.set_fixed_action()
        torch.testing.assert_close(model(x), expected[32], rtol=1e-4, atol=1e-5)


def test_float_recognizer_and_ours_at_32_bits_are_equal():
    reference = lived_in(build(float_recognizer())).eval()
    model = build(any_precision_recognizer()).eval()
    model.load_state_dict(reference.state_dict(), strict=False)
    with torch.no_grad():
        assert torch.equal(model(clips(3)), reference(clips(3), stage="head"))


@pytest.mark.parametrize("num, frames", [(1, 1), (1, 4), (2, 1)])
def test_one_clip_one_frame(num, frames):
    model = build(any_precision_recognizer())
    assert torch.isfinite(total(model(clips(num, frames), samples(num), mode="loss")))
    assert model.eval()(clips(num, frames)).shape == (num, CLASSES)


@pytest.mark.parametrize("num", [1, 2, CLASSES])
def test_several_labels_per_clip(num):
    from mmaction.structures import ActionDataSample

    head = dict(
        type="TSNHead",
        num_classes=CLASSES,
        in_channels=16,
        multi_class=True,
        loss_cls=dict(type="BCELossWithLogits"),
    )
    labels = [ActionDataSample().set_gt_label(torch.tensor([1.0, 0.0, 1.0])) for _ in range(num)]
    losses = build(any_precision_recognizer(cls_head=head))(clips(num), labels, mode="loss")
    assert torch.isfinite(total(losses))


def test_temporal_shift_trains():
    backbone = any_precision(
        dict(type="MobileNetV2TSM", num_segments=4, pretrained2d=False, widen_factor=0.35)
    )
    head = dict(type="TSNHead", num_classes=CLASSES, in_channels=1280)
    model = build(any_precision_recognizer(backbone=backbone, cls_head=head))
    total(model(clips(2, 4, 32), samples(2), mode="loss")).backward()
    assert all(parameter.grad is not None for parameter in model.parameters())


def test_prediction_in_inference_mode_does_not_spoil_training():
    model = build(any_precision_recognizer())
    model.eval()
    with torch.inference_mode():
        model.set_fixed_action(bits=2)
        model(clips(1), samples(1), mode="predict")
    total(model(clips(2), samples(2), mode="loss")).backward()


# --- refusals ---


def test_precision_the_model_lacks():
    model = build(any_precision_recognizer())
    with pytest.raises(ValueError, match=r"precision 8 is not one of .*\(32, 4, 2\)"):
        model.set_fixed_action(bits=8)


def test_backbone_that_is_not_any_precision():
    with pytest.raises(ValueError, match=r"backbone.type='SlimResNet' is not any-precision: wrap it"):
        MODELS.build(any_precision_recognizer(backbone=slim()))


def test_teacher_without_a_checkpoint():
    model = MODELS.build(any_precision_recognizer(teacher=float_recognizer()))
    with pytest.raises(ValueError, match=r"teacher.checkpoint is missing"):
        model.init_weights()


def test_teachers_checkpoint_that_is_not_there(tmp_path):
    missing = str(tmp_path / "nowhere.pth")
    model = MODELS.build(any_precision_recognizer(teacher=dict(float_recognizer(), checkpoint=missing)))
    with pytest.raises(FileNotFoundError, match=r"nowhere.pth"):
        model.init_weights()


def test_teacher_without_distillation(teacher):
    with pytest.raises(ValueError, match="teacher is given but distill=None"):
        MODELS.build(any_precision_recognizer(teacher=teacher, distill=None))
