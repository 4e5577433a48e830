"""A bundle computes what the trained model computes: codes, scales, folded norms, policies."""

import copy

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file
from torch import nn

import mmvideoiq.data.dataset
import mmvideoiq.models  # noqa: F401  registers what the configs name
from tests.deploy.exported_models import (
    MOBILENET,
    RESNET,
    SIMULATED,
    check_codes,
    check_simulation,
    decibels,
    exported,
    frames_for,
    normalized,
    recognizer,
    trained,
)
from tests.models.toys import policy
from tests.reference.run_graph import run_graph

pytestmark = pytest.mark.usefixtures("mmaction_scope")


@pytest.mark.parametrize(
    "name",
    [pytest.param(name, marks=pytest.mark.slow) if "resnet_tsm" in name else name for name in SIMULATED],
)
def test_a_bundle_computes_what_the_simulation_computes(name, tmp_path):
    cfg, size = copy.deepcopy(SIMULATED[name])
    model = trained(cfg, size)
    if name == "slim-lsq":
        for module in model.modules():
            if hasattr(module, "ratio"):
                nn.init.uniform_(module.ratio, -1.2, -0.5)
    if name == "oddments":  # as BatchNorm2d(affine=False)
        for norm in model.backbone.net.norm2.norms.values():
            norm.affine, norm.weight, norm.bias = False, None, None
    bundle = exported(model, tmp_path / "bundle", size)
    assert check_codes(model, bundle) > 0
    check_simulation(model, bundle, frames_for(size))


@pytest.mark.slow
@pytest.mark.parametrize("weight", ["dorefa", "nested", "lsq"])
@pytest.mark.parametrize("precisions", [(32, 4, 2), (8, 4, 2)])
def test_resnet50(precisions, weight, tmp_path):
    backbone = dict(RESNET, depth=50)
    cfg = recognizer(backbone, features=2048, precisions=precisions, weight=dict(type=weight))
    model = trained(cfg, 64)
    bundle = exported(model, tmp_path / "bundle", 64)
    assert check_codes(model, bundle) == 52
    check_simulation(model, bundle, frames_for(64))


@pytest.mark.parametrize("weight", ["nested", "lsq"])
@pytest.mark.parametrize("precisions", [(32, 4, 2), (8, 4, 2)])
def test_one_scale_for_a_layer(precisions, weight, tmp_path):
    cfg = recognizer(precisions=precisions, weight=dict(type=weight, per_channel=False))
    model = trained(cfg, 24)
    bundle = exported(model, tmp_path / "bundle", 24)
    assert check_codes(model, bundle) > 0
    check_simulation(model, bundle, frames_for(24))


def test_a_float_model_has_no_codes(tmp_path):
    model = trained(recognizer(precisions=(32,)), 24)
    bundle = exported(model, tmp_path / "bundle", 24)
    assert not any(node.attrs.get("quantized") for node in bundle.graphs["recognition"])
    check_simulation(model, bundle, frames_for(24))


def test_actions_may_leave_precisions_out(tmp_path):
    """The parent is then the highest precision in use, and smaller."""
    cfg = recognizer(precisions=(32, 8, 4, 2), weight=dict(type="dorefa"))
    cfg["actions"] = [dict(bits=4), dict(bits=2), dict(skip=1), dict(skip=2)]
    model = trained(cfg, 24)
    bundle = exported(model, tmp_path / "bundle", 24)
    assert bundle.manifest["precisions"] == [4, 2] and bundle.manifest["parent_bits"] == 4
    check_codes(model, bundle)
    check_simulation(model, bundle, frames_for(24))


@pytest.mark.parametrize("backbone", ["slim", "mobilenet_v2", "quantized"])
def test_the_policy_computes_what_the_simulation_computes(backbone, tmp_path):
    cfg = recognizer()
    if backbone == "quantized":
        cfg["policy"]["quantize_32"] = ["conv1.conv"]
    elif backbone == "mobilenet_v2":
        cfg["policy"] = policy(input_size=40)
        cfg["policy"] |= dict(backbone=MOBILENET, head=dict(cfg["policy"]["head"], in_channels=1280))
    model = trained(cfg, 48)
    bundle = exported(model, tmp_path / "bundle", 48)
    graph, frames = bundle.graphs["policy"], frames_for(48, num=6)
    with torch.no_grad():
        expected = model.policy(normalized(model, frames).unsqueeze(0)).log_probs[0]  # (T, A)
    state = {name: torch.zeros(1, 12) for name in ("h", "c")}
    logits, h, c = graph.outputs
    whole = run_graph(bundle, "policy", 32, {"frames": frames, **state})
    assert decibels(expected, whole[logits].log_softmax(-1)) > 60
    assert torch.equal(expected.argmax(-1), whole[logits].argmax(-1))

    rows = []
    for frame in frames:  # a stream: the state goes from one call to the next
        values = run_graph(bundle, "policy", 32, {"frames": frame.unsqueeze(0), **state})
        rows.append(values[logits])
        state = {"h": values[h], "c": values[c]}
    torch.testing.assert_close(torch.cat(rows), whole[logits])


def test_policy_weights_take_16_bits(tmp_path):
    bundle = exported(trained(recognizer(), 24), tmp_path / "bundle", 24)
    layers = [node for node in bundle.graphs["policy"] if node.op in ("conv", "linear")]
    assert layers
    tensors = load_file(tmp_path / "bundle/policy.safetensors")
    for node in layers:
        assert tensors[f"{node.attrs['layer']}.int16"].dtype == np.int16
