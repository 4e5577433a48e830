"""What an exported manifest says, and what export leaves as it is."""

import copy
import json

import numpy as np
import pytest
import torch

import mmvideoiq.data.dataset
import mmvideoiq.models  # noqa: F401  registers what the configs name
from mmvideoiq.deploy.bundle.bundle import Bundle
from mmvideoiq.deploy.export import ExportError, Preprocessing, export
from tests.deploy.exported_models import (
    FRAMES,
    IMAGENET,
    SIMULATED,
    check_simulation,
    exported,
    frames_for,
    normalized,
    recognizer,
    trained,
)
from tests.reference.run_graph import run_graph

pytestmark = pytest.mark.usefixtures("mmaction_scope")


def test_manifest(tmp_path):
    model = trained(recognizer(), 24)
    row = dict(multiplier=0.0, cost=0.3, accuracy=0.5, usage=[0.1, 0.2, 0.3, 0.4])
    latency = dict(
        engine="openvino", threads=1, cpu="a CPU", actions={"32": 3.0, "4": 2.0, "2": 1.0}, policy=0.5
    )
    out = tmp_path / "deep" / "bundle"
    export(
        model,
        str(out),
        classes=["a", "b", "c"],
        preprocessing=Preprocessing(frames=5, short_side=28, crop=24),
        budget=[row],
        latency_ms=latency,
    )
    bundle = Bundle.open(out)
    manifest = bundle.manifest
    assert manifest["classes"] == ["a", "b", "c"]
    assert bundle.actions == model.actions and bundle.costs.tolist() == list(model.actions.costs)
    preprocessing = dict(manifest["preprocessing"])
    np.testing.assert_allclose(preprocessing.pop("mean"), IMAGENET["mean"], rtol=1e-6)
    np.testing.assert_allclose(preprocessing.pop("std"), IMAGENET["std"], rtol=1e-6)
    assert preprocessing == dict(frames=5, clip_len=1, short_side=28, crop=24)
    assert manifest["budget"] == [row] and manifest["latency_ms"] == latency
    assert manifest["parent_bits"] == 32 and manifest["all_skip"] == "likeliest"

    cost = model._model_cost((3, 24, 24), with_policy=True)
    ours, policy_cost = manifest["gflops"], manifest["gflops"]["policy"]
    for action, share in zip(model.actions.names, (1, 1 / 4, 1 / 16, 0), strict=True):
        assert ours[action] + policy_cost == pytest.approx(cost.paper_gflops(share, 1))
    strict = manifest["bitops"]
    assert strict["4"] + strict["policy"] + 1024 * cost.classifier_macs == pytest.approx(cost.bitops([4]))
    weight, bias = bundle.head()
    assert torch.equal(torch.from_numpy(weight), model.cls_head.fc_cls.weight)
    assert torch.equal(torch.from_numpy(bias), model.cls_head.fc_cls.bias)


def test_actions_with_sizes(tmp_path):
    modes = [dict(bits=4), dict(bits=4, size=12)]
    cfg = recognizer(precisions=modes)
    cfg["actions"] = dict(actions=[*modes, dict(skip=1)], frame_size=24)
    model = trained(cfg, 24)
    bundle = exported(model, tmp_path / "bundle", 24)
    manifest = bundle.manifest
    assert manifest["actions"] == [*modes, dict(skip=1)] and manifest["precisions"] == [4]
    assert bundle.actions == model.actions and manifest["cost"]["values"] == [0.25, 0.0625, 0]
    cost = model._model_cost((3, 24, 24), with_policy=True)
    policy = manifest["gflops"]["policy"]
    assert manifest["gflops"]["4@12"] + policy == pytest.approx(cost.paper_gflops(1 / 4, 1, 12))
    assert manifest["bitops"]["4@12"] == pytest.approx(manifest["bitops"]["4"] / 4)
    with pytest.raises(ValueError, match="frames of 24, the frame is 28x28: set frame_size=28"):
        exported(model, tmp_path / "other", 28)


def test_a_latency_table_is_not_named_by_its_path(tmp_path):
    table = tmp_path / "table.json"
    table.write_text(json.dumps({"32": 4.0, "4": 2.0, "2": 1.0}))
    cfg = recognizer()
    cfg["actions"] = dict(actions=cfg["actions"], cost=str(table))
    bundle = exported(trained(cfg, 24), tmp_path / "bundle", 24)
    assert bundle.manifest["cost"] == dict(rule="table", values=[1.0, 0.5, 0.25, 0.0])


def test_a_model_without_a_policy(tmp_path):
    cfg, size = SIMULATED["mobilenet_v2_tsm"]
    model = trained(copy.deepcopy(cfg), size)
    bundle = exported(model, tmp_path / "bundle", size)
    assert set(bundle.graphs) == {"recognition"}
    assert bundle.actions.names == ("32", "4", "2")
    shifts = [node.attrs for node in bundle.graphs["recognition"] if node.op == "shift"]
    assert len(shifts) == 10 and shifts[0] == dict(frames=FRAMES, fold=1)
    frames = frames_for(size)
    features = run_graph(bundle, "recognition", 32, {"frames": frames})["features"]
    weight, bias = map(torch.from_numpy, bundle.head())
    with torch.no_grad():
        expected = model._forward(normalized(model, frames).unsqueeze(0))
    torch.testing.assert_close(features.mean(0) @ weight.T + bias, expected[0], rtol=1e-4, atol=1e-5)
    with pytest.raises(ExportError, match="within clips of 4 frames, and 6 frames are no multiple of that"):
        options = dict(classes=["a", "b", "c"], preprocessing=Preprocessing(frames=6, crop=size))
        export(model, tmp_path / "other", **options)


def test_frames_may_go_in_unnormalized(tmp_path):
    model = trained(dict(recognizer(), data_preprocessor=None), 24)
    bundle = exported(model, tmp_path / "bundle", 24)
    assert bundle.manifest["preprocessing"]["mean"] == [0.0] * 3
    assert bundle.manifest["preprocessing"]["std"] == [1.0] * 3
    check_simulation(model, bundle, frames_for(24))


def test_frames_that_were_random_in_training_all_go_in(tmp_path):
    config = recognizer()
    config["data_preprocessor"] = dict(config["data_preprocessor"], type="RandomFramesPreprocessor")
    model = trained(config, 24)
    bundle = exported(model, tmp_path / "bundle", 24)
    check_simulation(model, bundle, frames_for(24))


def test_the_model_is_left_as_it_is(tmp_path):
    model = trained(recognizer(), 24).train()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    modes = [module.training for module in model.modules()]
    exported(model, tmp_path / "bundle", 24)
    assert modes == [module.training for module in model.modules()]
    after = model.state_dict()
    assert before.keys() == after.keys()
    assert all(torch.equal(value, after[name]) for name, value in before.items())


def test_frames_that_are_not_cropped_have_a_size(tmp_path):
    model = trained(recognizer(), 24)
    options = dict(classes=["a", "b", "c"], preprocessing=Preprocessing(frames=FRAMES))
    export(model, tmp_path / "bundle", **options, frame_size=(20, 28))
    bundle = Bundle.open(tmp_path / "bundle")
    assert bundle.graphs["recognition"].inputs["frames"] == (-1, 20, 28, 3)
    with pytest.raises(ExportError, match="crop=None and frame_size=None: the pipeline crops, or give"):
        export(model, tmp_path / "other", **options)
    with pytest.raises(ExportError, match=r"crop=24 and frame_size=\(24, 24\)"):
        exported(model, tmp_path / "other", 24, frame_size=(24, 24))
