"""A policy at 8 bits: what engines compute is what training-time testing computes, code by code."""

import numpy as np
import pytest
import torch

from mmvideoiq.deploy.engines.factory import ENGINES, open_engine
from mmvideoiq.deploy.engines.openvino_engine import OpenVinoEngine
from mmvideoiq.deploy.export import verify
from mmvideoiq.deploy.session import VideoSession
from tests.deploy.exported_models import (
    FRAMES,
    MOBILENET,
    UNIT,
    exported,
    frames_for,
    normalized,
    recognizer,
    trained,
)
from tests.models.toys import any_precision, policy, slim

SIDE = 48
NETWORKS = {"slim": (slim(4), 8, 16, {}), "layer": (slim(4), 8, 20, dict(per_channel=False))}
NETWORKS["mobilenet_v2"] = MOBILENET, 1280, 40, {}
SLOW = pytest.param("mobilenet_v2", marks=pytest.mark.slow)


@pytest.fixture(scope="module", params=["slim", "layer", SLOW])
def prepared(request, tmp_path_factory, mmaction_scope):
    """A model whose policy is quantized, and its bundle."""
    net, features, size, weight = NETWORKS[request.param]
    cfg = dict(recognizer(precisions=(8, 4)), data_preprocessor=UNIT)
    integer = any_precision(
        net,
        precisions=(8,),
        weight=dict(type="nested", **weight),
        quantize_stem=True,
        input_range=(0.0, 1.0),
    )
    cfg["policy"] = policy(input_size=size)
    cfg["policy"] |= dict(backbone=integer, head=dict(cfg["policy"]["head"], in_channels=features))
    model = trained(cfg, SIDE)
    x = normalized(model, frames_for(SIDE, num=24, seed=5))
    model.policy.calibrate_(x)
    with torch.no_grad():
        model.policy.head.fc_policy.bias -= model.policy(x[None]).log_probs.mean(dim=(0, 1))
    return model, exported(model, tmp_path_factory.mktemp("policy") / "bundle", SIDE)


def test_the_bundle_holds_codes(prepared):
    model, bundle = prepared
    assert bundle.policy_bits == 8
    quantized = [node for node in bundle.graphs["policy"] if node.attrs.get("quantized")]
    layers = {f"backbone.{name}" for name in model.policy.backbone.report.converted}
    assert {node.attrs["layer"] for node in quantized} == layers
    for node in quantized:
        layer = bundle.layer("policy", node, 8)
        source = model.policy.backbone.net.get_submodule(node.attrs["layer"].removeprefix("backbone."))
        assert torch.equal(
            torch.from_numpy(layer.codes), source.weight_quantizer.to_codes(source.weight, 8).byte()
        )
    cost = model._model_cost((3, SIDE, SIDE), with_policy=True)
    assert bundle.manifest["bitops"]["policy"] == cost.policy_bitops < 1024 * cost.policy_macs


@pytest.mark.parametrize("engine", ENGINES)
def test_engines_give_the_codes_and_decisions_of_the_simulation(prepared, engine):
    pytest.importorskip(engine)
    model, bundle = prepared
    frames = frames_for(SIDE, num=2 * FRAMES)
    found = verify.compare(model, bundle, open_engine(engine, threads=1), frames.numpy(), 8, "policy")
    assert found.problem is None and found.codes > 0
    session = VideoSession.open(bundle.path, engine=engine, threads=1)
    for clip in frames.split(FRAMES):
        with torch.no_grad():
            want = model.recognize(normalized(model, clip)[None])
        best = want.policy.log_probs[0].topk(2).values
        apart = (best[:, 0] - best[:, 1] > 1e-4).numpy()
        assert apart.any()
        got = session.run(clip.numpy()).actions
        np.testing.assert_array_equal(got[apart], want.actions[0].numpy()[apart])


def test_a_cpu_without_vnni_gives_the_same(prepared):
    pytest.importorskip("openvino")
    model, bundle = prepared
    frames = frames_for(SIDE).numpy()
    found = verify.compare(model, bundle, OpenVinoEngine(threads=1, vnni=False), frames, 8, "policy")
    assert found.problem is None
