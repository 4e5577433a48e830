"""The recognizer of a quantized copy: what it passes on, what it counts."""

import numpy as np
import pytest
import torch
from mmaction.registry import MODELS

from mmvideoiq.cost import count_model

MEAN, STD = [120.0, 110.0, 100.0], [60.0, 50.0, 40.0]


def make(**options):
    import mmvideoiq.models  # noqa: F401

    head = dict(type="TSNHead", num_classes=3, in_channels=8, average_clips="prob")
    return MODELS.build(
        dict(
            type="StaticInt8Recognizer",
            backbone=dict(type="SlimResNet", base_channels=4, stage_blocks=(1, 1)),
            cls_head=head,
            data_preprocessor=dict(type="ActionDataPreprocessor", mean=MEAN, std=STD, format_shape="NCHW"),
        )
        | options
    ).eval()


def test_the_network_gets_the_pixels_of_the_chosen_frames():
    model = make(size=16, frames=2)
    pixels = torch.randint(0, 256, (2, 6, 3, 32, 40), dtype=torch.uint8)
    seen = []

    def network(frames):
        seen.append(frames)
        return np.array([0.2, 0.5, 0.3], np.float32)

    model.network = network
    inputs = model.data_preprocessor(dict(inputs=list(pixels), data_samples=None))["inputs"]
    samples = model.predict(inputs)
    for clip, frames in zip(pixels, seen, strict=True):
        assert frames.dtype == np.uint8
        np.testing.assert_array_equal(frames, clip[[1, 4]].permute(0, 2, 3, 1).numpy())
    torch.testing.assert_close(samples[0].pred_score, torch.tensor([0.2, 0.5, 0.3]))
    assert samples[1].policy_actions.tolist() == [1, 0, 1, 1, 0, 1] and int(samples[0].pred_label) == 1


def test_what_it_costs():
    model = make(size=16, frames=3)
    inputs = torch.zeros(1, 6, 3, 32, 32)
    processed = torch.tensor([[True, False, True, False, True, False]])
    found = model.costs(inputs, processed)
    layers = count_model(model.backbone, (3, 16, 16), ())
    billed = sum(layer.billed_macs for layer in layers)
    macs = sum(layer.macs for layer in layers)
    assert found["mean_cost"].tolist() == [0.5 * 0.25]
    np.testing.assert_allclose(found["gflops"], 3 * billed / 1e9)
    assert found["bitops"].tolist() == [3 * macs * 64 + model.cls_head.fc_cls.weight.numel() * 1024]


def test_refused():
    with pytest.raises(ValueError, match="frames=0 must be at least 1"):
        make(size=16, frames=0)
    with pytest.raises(ValueError, match="'LSTMHead' does not average over frames"):
        make(size=16, cls_head=dict(type="LSTMHead", num_classes=3, in_channels=8, hidden=4))
    with pytest.raises(RuntimeError, match="has no network"):
        make(size=16).predict(torch.zeros(1, 2, 3, 32, 32))
    model = make(size=16, frames=4)
    model.network = lambda frames: np.ones(3)
    with pytest.raises(ValueError, match="count=4 is more than the 2 frames"):
        model.predict(torch.zeros(1, 2, 3, 32, 32))
