"""A ResNet-18 of the authors' release, converted by the tool, against numbers computed with the release itself."""

import json
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from mmaction.registry import MODELS
from mmengine.config import Config

from tests.reference.release_forward import run_release
from tests.reference.release_state import filled_state, parity_input, release_shapes

TOLERANCE = 1e-3  # of the largest value


def build_converted(load_tool, folder, state, *flags):
    """Write ``state`` as the release does, run the tool, build what it wrote."""
    torch.save(
        {"state_dict": {f"module.{k}": v for k, v in state.items()}, "epoch": 1}, folder / "release.pth"
    )
    dst = folder / "ours.pth"
    load_tool("convert_checkpoint.py").main([str(folder / "release.pth"), str(dst), *flags])
    model = MODELS.build(Config.fromfile(dst.with_suffix(".py")).model)
    model.load_state_dict(torch.load(dst, weights_only=True)["state_dict"], strict=True)
    return model.eval()


@torch.no_grad()
def outputs(model, clips):
    """Everything the fixture holds, from our model."""
    policy = model.policy(clips, sample=False)
    samples = model(clips, mode="predict")
    out = dict(
        logits=model(clips, mode="tensor"),
        decisions=torch.stack([sample.policy_actions for sample in samples]),
        log_probs=policy.log_probs,
    )
    if policy.class_logits is not None:
        out["policy_logits"] = policy.class_logits
    if model.teacher is not None:
        features, options = model.teacher.extract_feat(clips)
        out["teacher_logits"] = model.teacher.cls_head(features, **options)
    for bits in model.actions.precisions:
        model.set_fixed_action(bits=bits)
        out[f"logits_{bits}bit"] = model(clips, mode="tensor")
    model.set_fixed_action(None)
    return out


def assert_near(got, want, name):
    error = (got - want).abs().max() / want.abs().max()
    assert error < TOLERANCE, f"{name}: off by {error:.1e} of the largest value"


@pytest.fixture(scope="module")
def fixture(shared_dir):
    folder = shared_dir / "parity"
    setup = json.loads((folder / "r18_b32-4-2_s1.json").read_text())
    with np.load(folder / "r18_b32-4-2_s1.npz") as file:
        numbers = {name: torch.from_numpy(file[name]) for name in file.files}
    shapes = [(name, tuple(shape)) for name, shape in setup["state_dict"]]
    assert shapes == release_shapes()
    state = filled_state(shapes)
    bias = "policy_net.linear.bias"
    state[bias] = numbers.pop(f"override/{bias}")
    clips = parity_input(setup["input_seed"], setup["num_frames"], setup["input_size"])
    return SimpleNamespace(numbers=numbers, state=state, clips=clips)


@pytest.fixture(scope="module")
def converted(fixture, load_tool, tmp_path_factory):
    folder = tmp_path_factory.mktemp("parity")
    threads = torch.get_num_threads()
    torch.set_num_threads(
        2
    )  # the order of sums matters to these weights; the fixture's agrees with two threads
    model = build_converted(load_tool, folder, fixture.state, "--num-frames", "8", "--skip-list", "1")
    numbers = outputs(model, fixture.clips)
    torch.set_num_threads(threads)
    return numbers


def test_decisions_are_those_of_the_release(fixture, converted):
    assert converted["decisions"].tolist() == fixture.numbers["decisions"].tolist()


@pytest.mark.parametrize(
    "name",
    ["teacher_logits", "logits_2bit", "logits_32bit", "logits_4bit", "logits", "log_probs", "policy_logits"],
)
def test_numbers_are_those_of_the_release(fixture, converted, name):
    assert_near(converted[name], fixture.numbers[name], name)


R18 = dict(depth=18, precisions=(8, 4, 2), actions=6)
R50 = dict(depth=50, precisions=(4, 2), actions=3, teacher=False, policy_classifier=False)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("options", "skips"), [pytest.param(R18, (1, 2, 4), id="18"), pytest.param(R50, (2,), id="50")]
)
def test_other_settings_agree_with_the_slow_forward(load_tool, tmp_path, options, skips):
    """In float64, where no code flips by rounding, the converted model is what the paper's formulas say."""
    state = filled_state(release_shapes(**options))
    state["policy_net.linear.bias"].zero_()
    clips = parity_input(1, 5, 64).double()
    flags = ["--skip-list", ",".join(map(str, skips))]
    model = build_converted(load_tool, tmp_path, state, *flags).double()
    exact = {name: value.double() if value.is_floating_point() else value for name, value in state.items()}
    with torch.no_grad():  # every action on average equally likely, or one takes every frame
        bias = -model.policy(clips, sample=False).log_probs.double().mean((0, 1))
        model.policy.head.fc_policy.bias.copy_(bias)
    exact["policy_net.linear.bias"] = bias
    got = outputs(model, clips)
    want = run_release(exact, clips, options["precisions"], skips)
    assert len(want["decisions"].unique()) > 1
    assert got["decisions"].tolist() == want.pop("decisions").tolist()
    for name in want:
        assert_near(got[name], want[name], name)
