"""A float network quantized after training: near the float one, in OpenVINO."""

import numpy as np
import pytest
import torch

from mmvideoiq.deploy.export.static_int8 import FramesToScores, open_static_int8, write_static_int8
from mmvideoiq.models import SlimResNet

MEAN, STD = (120.0, 110.0, 100.0), (60.0, 50.0, 40.0)


def network(size=None):
    torch.manual_seed(0)
    backbone = SlimResNet(base_channels=8, stage_blocks=(1, 1))
    return FramesToScores(backbone, torch.nn.Linear(16, 3), mean=MEAN, std=STD, size=size).eval()


def frames(count, seed=0):
    rng = np.random.default_rng(seed)
    return rng.integers(0, 256, (count, 32, 40, 3), dtype=np.uint8)


def test_the_average_of_normalized_frames_is_classified():
    model, clip = network(), torch.from_numpy(frames(4))
    with torch.no_grad():
        x = ((clip.float() - torch.tensor(MEAN)) / torch.tensor(STD)).permute(0, 3, 1, 2)
        expected = model.classifier(model.backbone(x).mean((2, 3)).mean(0)).softmax(0)
        torch.testing.assert_close(model(clip)[0], expected)
        assert torch.equal(network(size=32)(clip), model(clip))  # their own size
        assert not torch.allclose(network(size=16)(clip), model(clip))


@pytest.mark.slow
@pytest.mark.parametrize("size", [None, 16])
def test_the_quantized_copy_is_near_the_float_network(tmp_path, size):
    pytest.importorskip("nncf")
    model, path = network(size), tmp_path / "new" / "network.xml"
    write_static_int8(model, [frames(4, seed) for seed in range(6)], path)
    assert path.is_file() and path.with_suffix(".bin").is_file()
    assert "FakeQuantize" in path.read_text()
    run = open_static_int8(path, threads=1)
    for seed in range(3):
        clip = frames(4, seed=100 + seed)
        with torch.no_grad():
            expected = model(torch.from_numpy(clip))[0].numpy()
        found = run(clip)
        assert found.shape == (3,) and found.sum() == pytest.approx(1, abs=1e-4)
        np.testing.assert_allclose(found, expected, atol=0.02)
