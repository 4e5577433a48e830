"""A ResNet-18 of the authors' release, converted by the tool, against numbers computed with the release itself.

In float64: float32 lets codes that hang on a rounding tie differ from one machine to the next.
"""

import json

import numpy as np
import pytest
import torch
from mmaction.registry import MODELS
from mmengine.config import Config

from tests.reference.release_forward import run_release
from tests.reference.release_state import filled_state, parity_input, release_shapes

TOLERANCE = 1e-6  # of the largest value
FIXTURES = ("r18_b32-4-2_s1", "r18_b4-2_s124")


@pytest.fixture(params=[1, pytest.param(2, marks=pytest.mark.slow)])
def threads(request):
    before = torch.get_num_threads()
    torch.set_num_threads(request.param)
    yield
    torch.set_num_threads(before)


def build_converted(load_tool, folder, state, *flags, prefix="module."):
    """Write ``state`` as the release does, run the tool, build what it wrote; in float64."""
    torch.save(
        {"state_dict": {f"{prefix}{k}": v for k, v in state.items()}, "epoch": 1}, folder / "release.pth"
    )
    dst = folder / "ours.pth"
    load_tool("convert_checkpoint.py").main([str(folder / "release.pth"), str(dst), *flags])
    model = MODELS.build(Config.fromfile(dst.with_suffix(".py")).model)
    model.load_state_dict(torch.load(dst, weights_only=True)["state_dict"], strict=True)
    return model.double().eval()


@torch.no_grad()
def outputs(model, clips):
    """Everything a fixture holds, from our model."""
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


def assert_same(got, want):
    """Equal names and decisions, all else within ``TOLERANCE``."""
    assert sorted(got) == sorted(want)
    assert got["decisions"].tolist() == want["decisions"].tolist()
    errors = {name: float((got[name] - want[name]).abs().max() / want[name].abs().max()) for name in want}
    assert max(errors.values()) < TOLERANCE, errors


def read_fixture(folder, name):
    """Settings, state dict (float32), clips (float64) and the release's numbers."""
    setup = json.loads((folder / f"{name}.json").read_text())
    with np.load(folder / f"{name}.npz") as file:
        numbers = {key: torch.from_numpy(file[key]) for key in file.files}
    shapes = [(key, tuple(shape)) for key, shape in setup["state_dict"]]
    precisions, skips = setup["bit_widths"], setup["skip_list"]
    assert shapes == release_shapes(precisions=precisions, actions=len(precisions) + len(skips))
    state = filled_state(shapes)
    bias = "policy_net.linear.bias"
    state[bias] = numbers.pop(f"override/{bias}")
    clips = parity_input(setup["input_seed"], setup["num_frames"], setup["input_size"])
    return setup, state, clips.double(), numbers


def flags_of(setup):
    return ["--num-frames", str(setup["num_frames"]), "--skip-list", ",".join(map(str, setup["skip_list"]))]


@pytest.mark.usefixtures("threads")
@pytest.mark.parametrize("name", FIXTURES)
def test_numbers_are_those_of_the_release(name, shared_dir, load_tool, tmp_path):
    setup, state, clips, numbers = read_fixture(shared_dir / "parity", name)
    model = build_converted(load_tool, tmp_path, state, *flags_of(setup))
    assert_same(outputs(model, clips), numbers)


@pytest.mark.parametrize("name", FIXTURES)
def test_the_tool_takes_names_with_and_without_prefix(name, shared_dir, load_tool, tmp_path):
    setup, state, *_ = read_fixture(shared_dir / "parity", name)
    written = []
    for prefix in ("module.", ""):
        model = build_converted(load_tool, tmp_path, state, *flags_of(setup), prefix=prefix)
        written.append((model.state_dict(), (tmp_path / "ours.py").read_text()))
    (one, config), (other, same_config) = written
    assert config == same_config and list(one) == list(other)
    assert all(torch.equal(value, other[key]) for key, value in one.items())


def exact(state):
    return {name: value.double() if value.is_floating_point() else value for name, value in state.items()}


@pytest.mark.slow
@pytest.mark.parametrize("name", FIXTURES)
def test_the_slow_forward_gives_the_numbers_of_the_release(name, shared_dir):
    setup, state, clips, numbers = read_fixture(shared_dir / "parity", name)
    assert_same(run_release(exact(state), clips, setup["bit_widths"], setup["skip_list"]), numbers)


R18 = dict(depth=18, precisions=(8, 4, 2), actions=6)
R50 = dict(depth=50, precisions=(4, 2), actions=3, teacher=False, policy_classifier=False)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("options", "skips"), [pytest.param(R18, (1, 2, 4), id="18"), pytest.param(R50, (2,), id="50")]
)
def test_other_settings_agree_with_the_slow_forward(load_tool, tmp_path, options, skips):
    state = filled_state(release_shapes(**options))
    state["policy_net.linear.bias"].zero_()
    clips = parity_input(1, 5, 64).double()
    model = build_converted(load_tool, tmp_path, state, "--skip-list", ",".join(map(str, skips)))
    with torch.no_grad():  # every action on average equally likely, or one takes every frame
        bias = -model.policy(clips, sample=False).log_probs.mean((0, 1))
        model.policy.head.fc_policy.bias.copy_(bias)
    want = run_release(exact(state) | {"policy_net.linear.bias": bias}, clips, options["precisions"], skips)
    assert len(want["decisions"].unique()) > 1
    assert_same(outputs(model, clips), want)
