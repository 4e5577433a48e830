"""One precision for all frames of a clip."""

import pytest
import torch
from mmaction.registry import MODELS

from tests.models.toys import any_precision, any_precision_recognizer, build, samples, total, videoiq

RESNET = dict(
    type="ResNet3d",
    depth=18,
    base_channels=4,
    pretrained=None,
    pretrained2d=False,
    zero_init_residual=False,
)


def recognizer(backbone: dict | None = None, **options) -> dict:
    return any_precision_recognizer(
        type="AnyPrecisionRecognizer3D",
        backbone=any_precision(backbone or RESNET),
        cls_head=dict(type="I3DHead", num_classes=3, in_channels=32, dropout_ratio=0.0, average_clips="prob"),
        **options,
    )


def inputs(count: int = 2) -> torch.Tensor:
    return torch.randn(count, 1, 3, 8, 32, 32)


def test_a_step_reaches_every_precision():
    model = build(recognizer()).train()
    losses = model.loss(inputs(), samples(2))
    assert {f"loss_cls_{bits}" for bits in (32, 4, 2)} | {"loss_kd_4", "loss_kd_2"} <= set(losses)
    total(losses).backward()
    layer = model.backbone.net.layer2[0].conv1.conv
    assert layer.weight.grad.abs().sum() > 0
    assert (
        all(clip.grad is not None for clip in layer.act_quantizer.clip.values())
        if layer.act_quantizer
        else True
    )
    norm = model.backbone.net.layer2[0].conv1.bn
    assert all(norm.norms[bits].weight.grad is not None for bits in ("32", "4", "2"))


def test_the_precision_of_a_clip_is_chosen_by_a_fixed_action():
    model = build(recognizer()).eval()
    x = inputs()
    with torch.no_grad():
        by_bits = {}
        for bits in (32, 4, 2):
            model.set_fixed_action(bits)
            by_bits[bits] = model(x, mode="tensor")
            expected = model.cls_head(model.backbone.forward_at(x.flatten(0, 1), bits))
            torch.testing.assert_close(by_bits[bits], expected)
    assert not torch.equal(by_bits[32], by_bits[4]) and not torch.equal(by_bits[4], by_bits[2])
    predicted = model.predict(x, samples(2))
    assert predicted[0].pred_score.shape == (3,)


def test_clips_and_norms_are_fitted_to_clips():
    model = build(recognizer())
    norm = model.backbone.net.layer2[0].conv1.bn
    model.backbone.calibrate_(inputs(4).flatten(0, 1))
    assert not torch.equal(norm.norms["2"].running_mean, norm.norms["32"].running_mean)


def test_each_recognizer_names_the_other():
    with pytest.raises(
        ValueError, match=r"ResNet3d reads clips, AnyPrecisionRecognizer passes frames: use .*3D"
    ):
        MODELS.build(any_precision_recognizer(backbone=any_precision(RESNET)))
    with pytest.raises(
        ValueError, match=r"SlimResNet reads frames, .*3D passes clips: use AnyPrecisionRecognizer"
    ):
        MODELS.build(any_precision_recognizer(type="AnyPrecisionRecognizer3D"))


def test_a_policy_per_frame_is_refused():
    with pytest.raises(ValueError, match=r"ResNet3d .*neighbouring frames"):
        MODELS.build(videoiq(backbone=any_precision(RESNET)))
