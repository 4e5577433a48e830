"""Modes: precisions and frame sizes of one network. Sizes alone, precisions alone and both are one config's corners."""

import copy
from itertools import pairwise

import pytest
import torch
from mmaction.registry import MODELS
from torch.nn import functional as F

from mmvideoiq.quant import SwitchableBatchNorm
from tests.models.toys import (
    SIZE,
    TOLERANCE,
    any_precision,
    any_precision_recognizer,
    build,
    clips,
    float_recognizer,
    lived_in,
    samples,
    total,
    trained,
    videoiq,
)
from tests.reference import dense_videoiq as oracle

SMALL = SIZE // 2
BOTH = (
    dict(bits=32),
    dict(bits=32, size=SMALL),
    dict(bits=4),
    dict(bits=4, size=SMALL),
    dict(bits=2, size=8),
)
SIZES = (dict(bits=32, size=SIZE), dict(bits=32, size=16), dict(bits=32, size=8))
PRECISIONS = (dict(bits=32), dict(bits=4), dict(bits=2))
CORNERS = pytest.mark.parametrize("modes", [BOTH, SIZES, PRECISIONS], ids=["both", "sizes", "precisions"])
NAMES = (32, f"32@{SMALL}", 4, f"4@{SMALL}", "2@8")


def backbone(modes, **options):
    return any_precision(precisions=modes, **options)


def with_modes(modes, **options):
    """A recognizer that may choose each of ``modes``, or skip."""
    actions = dict(actions=[*modes, dict(skip=1)], frame_size=SIZE)
    return dict(backbone=backbone(modes), actions=actions, **options)


@CORNERS
@pytest.mark.parametrize("options", [{}, dict(quantize_stem=True, input_range=(-4, 4))], ids=["", "stem"])
def test_a_mode_is_a_network_of_its_own_on_resized_frames(modes, options):
    """Its batch norms and its precision in a network without sizes, which reads frames that were resized by hand."""
    model = lived_in(build(backbone(modes, **options))).eval()
    x = clips(3)[0]
    together = model.forward_all(x)
    assert list(together) == list(model.modes)
    for mode in model.modes:
        bits, _, size = str(mode).partition("@")
        shifted = dict(options)
        if options and size:  # levels lie 1/64 of a step lower
            step = 8 / (2 ** int(bits) - 1)
            shifted["input_range"] = (-4 - step / 64, 4 - step / 64)
        alone = build(backbone(model.precisions, **shifted)).eval()
        state = {}
        for name, value in model.state_dict().items():
            start, _, rest = name.partition(".norms.")
            key, _, leaf = rest.partition(".")
            if not rest:
                state[name] = value
            elif (
                f"{start}.{leaf}" in alone.state_dict()
            ):  # before the first quantized layer: one of each size
                state |= {f"{start}.{leaf}": value} if key.partition("@")[2] == size else {}
            elif key == str(mode):
                state |= {f"{start}.norms.{b}.{leaf}": value for b in model.precisions}
        alone.load_state_dict(state)
        small = F.interpolate(x, (int(size or SIZE),) * 2, mode="bilinear", align_corners=False)
        torch.testing.assert_close(together[mode], alone.forward_at(small, int(bits)))
        torch.testing.assert_close(model.forward_at(x, mode), together[mode])


def test_levels_of_a_resized_frame_avoid_ties():
    """Halved frames of whole pixels are quarters, half of which lay between two levels of 8 bits."""
    model = build(backbone((8, f"8@{SMALL}", 4), quantize_stem=True, input_range=(0.0, 255.0)))
    assert model.input_levels() == (0, 255)
    with model.switch.at(f"8@{SMALL}"):
        assert model.input_levels() == (-1 / 64, 255 - 1 / 64)
    with model.switch.at(4):
        assert model.input_levels() == (0, 255)


def test_other_frames_keep_their_aspect():
    model = build(backbone((32, "32@12")))
    x = torch.randn(2, 3, 24, 37)
    with model.switch.at("32@12"):
        small = model.resize(x)
    assert small.shape == (2, 3, 12, 19)
    torch.testing.assert_close(small, F.interpolate(x, (12, 19), mode="bilinear", align_corners=False))
    with model.switch.at("32@12"):
        assert model.resize(small) is small


def test_only_the_active_modes_statistics_move():
    model = build(backbone(BOTH)).train()
    norms = {n: m for n, m in model.named_modules() if isinstance(m, SwitchableBatchNorm)}
    stem = [n for n, m in norms.items() if list(m.norms) == ["32", f"32@{SMALL}", "2@8"]]
    assert stem == ["net.conv1.bn"]
    for mode, of_stem in [(4, "32"), (f"4@{SMALL}", f"32@{SMALL}")]:
        before = copy.deepcopy(norms)
        model.forward_at(clips(1)[0], mode)
        for name, norm in norms.items():
            for key, one in norm.norms.items():
                moved = not torch.equal(one.running_mean, before[name].norms[key].running_mean)
                assert moved == (key == (of_stem if name in stem else str(mode))), (name, key)


def test_gradients_of_all_modes_together_equal_their_sum():
    model = build(backbone(BOTH)).train()
    twin, x = copy.deepcopy(model), clips(2)[0]
    sum(f.square().mean() for f in model.forward_all(x).values()).backward()
    for mode in twin.modes:
        twin.forward_at(x, mode).square().mean().backward()
    for (name, a), (_, b) in zip(model.named_parameters(), twin.named_parameters(), strict=True):
        torch.testing.assert_close(a.grad, b.grad, rtol=1e-3, atol=1e-5, msg=name)


# --- checkpoints ---


def test_a_float_checkpoint_loads_into_every_mode():
    plain = lived_in(build(float_recognizer()))
    model = build(any_precision_recognizer(backbone=backbone(BOTH)), seed=3)
    model.load_state_dict(plain.state_dict(), strict=False)
    own = model.state_dict()
    for name, value in plain.state_dict().items():
        copies = [own[k] for k in own if k.replace("backbone.net.", "backbone.").startswith(name.rpartition(".")[0])
                  and k.endswith(f".{name.rpartition('.')[2]}")]  # fmt: skip
        assert copies and all(torch.equal(c, value) for c in copies), name
    plain, model = plain.eval(), model.eval()
    x = clips(2)
    with torch.no_grad():
        torch.testing.assert_close(model(x, stage="head"), plain(x, stage="head"))
        model.set_fixed_action(f"32@{SMALL}")
        small = F.interpolate(x.flatten(0, 1), (SMALL,) * 2, mode="bilinear", align_corners=False)
        torch.testing.assert_close(
            model(x, stage="head"), plain(small.unflatten(0, x.shape[:2]), stage="head")
        )


def test_names_without_sizes_stay():
    with_sizes, plain = (set(build(backbone(modes)).state_dict()) for modes in (BOTH, PRECISIONS))
    lost = {name for name in plain - with_sizes if ".norms.2." not in name}
    assert all(name.startswith("net.conv1.bn.") for name in lost)  # float, of each size one


def test_a_checkpoint_of_other_modes():
    state = build(backbone(PRECISIONS)).state_dict()
    with pytest.raises(
        ValueError, match=r"norms.\* for precisions \(32, 4, 2\), the model for \(32, 32@12, 4"
    ):
        build(backbone(BOTH)).load_state_dict(state)


# --- any-precision training ---


@CORNERS
def test_all_modes_train_in_a_step(modes):
    model = build(any_precision_recognizer(backbone=backbone(modes))).train()
    x, names = clips(3), model.backbone.modes
    losses = model(x, samples(3), mode="loss")
    assert [n for n in losses if n.startswith("loss_cls")] == [f"loss_cls_{mode}" for mode in names]
    scores = copy.deepcopy(model).scores(x)
    highest = scores[names[0]].detach().softmax(-1)
    for high, low in pairwise(names):
        target = highest if modes is not PRECISIONS else scores[high].detach().softmax(-1)
        expected = -(target * scores[low].log_softmax(-1)).sum(-1).mean()
        torch.testing.assert_close(losses[f"loss_kd_{low}"], expected)
    assert f"loss_kd_{names[0]}" not in losses
    total(losses).backward()
    assert all(p.grad is not None for p in model.parameters())


def test_calibration_brings_smaller_frames_near():
    model = build(backbone(BOTH)).eval()
    x = F.interpolate(clips(64, 1, size=6)[:, 0], (SIZE,) * 2, mode="bicubic")
    with torch.no_grad():
        before = model.forward_all(x)
        model.calibrate_(x)
        after = model.forward_all(x)
    assert torch.equal(after[32], before[32])
    for mode in NAMES[1:]:
        error, least = (
            (maps[mode].mean((0, 2, 3)) - maps[32].mean((0, 2, 3))).norm() for maps in (before, after)
        )
        assert least < error, mode


# --- the policy ---


@CORNERS
def test_grouped_equals_the_dense_oracle(modes):
    model = trained(**with_modes(modes))
    x = clips(8, 6)
    with torch.no_grad():
        prediction = model.recognize(x)
        for clip, logits, chosen in zip(x, prediction.logits, prediction.actions, strict=True):
            expected, expected_actions = oracle.recognize(model, clip)
            assert chosen.tolist() == expected_actions
            torch.testing.assert_close(logits, expected, **TOLERANCE)
    assert prediction.actions.unique().numel() >= 3


def test_losses_and_costs_follow_the_size():
    model = build(videoiq(**with_modes(BOTH))).train()
    losses = model(clips(4), samples(4), mode="loss")
    assert f"usage_4@{SMALL}" in losses
    usage = torch.stack([losses[f"usage_{name}"] for name in model.actions.names])
    assert float(losses["mean_cost"]) == pytest.approx(float(usage @ torch.tensor(model.actions.costs)))
    total(losses).backward()

    fixed = {}
    for mode in (32, f"32@{SMALL}"):
        model.eval().set_fixed_action(mode)
        fixed[mode] = model(clips(1), mode="predict")[0].cost
    own, small = fixed.values()
    assert (own["mean_cost"], small["mean_cost"]) == (1.0, 1 / 4)
    for count in (
        "gflops",
        "bitops",
    ):  # the toy has no remainder at half the side; its classifier counts once
        assert small[count] == pytest.approx(own[count] / 4, rel=1e-3)
    assert small["peak_activation_bytes"] == own["peak_activation_bytes"] / 4


def test_fixed_mode_and_ensemble():
    x = clips(2)
    for kind, actions in (
        ("FixedPrecisionRecognizer", [1] * 4),
        ("PrecisionEnsemble", [[0, 1, 2, 3, 4]] * 4),
    ):
        cfg = any_precision_recognizer(backbone=backbone(BOTH), type=kind, frame_size=SIZE)
        model = lived_in(build(cfg)).eval()
        if kind == "FixedPrecisionRecognizer":
            model.set_fixed_action(f"32@{SMALL}")
        with torch.no_grad():
            sample = model(x, samples(2), mode="predict")[0]
        assert model.actions.names == tuple(map(str, NAMES))
        assert sample.policy_actions.tolist() == actions
        chosen = set(torch.tensor(actions).flatten().tolist())
        assert sample.cost["mean_cost"] == pytest.approx(sum(model.actions.costs[a] for a in chosen))


# --- refusals ---


@pytest.mark.parametrize(
    "cfg, message",
    [
        (backbone((8, "8@3")), r"size 3 is smaller than the stride of SlimResNet: use at least 4"),
        (
            backbone((8, "8@31"), backbone=dict(type="ResNet", depth=18, pretrained=None)),
            r"size 31 is smaller than the stride of ResNet: use at least 32",
        ),
        (
            videoiq(actions=[dict(bits=32), dict(bits=32, size=16)]),
            r"actions ask for 32@16, but the backbone's precisions are 32, 4, 2: use those",
        ),
    ],
)
def test_refused_when_built(cfg, message):
    with pytest.raises(ValueError, match=message):
        MODELS.build(cfg)


def test_frames_of_another_size_are_refused():
    model = build(any_precision_recognizer(backbone=backbone((32, "32@16"))))
    message = r"size 16 is larger than the frame \(12x20\): use at most 12"
    for refuse in (lambda: model.check_frames(12, 20), lambda: model.scores(clips(1, size=12)[..., :12, :])):
        with pytest.raises(ValueError, match=message.replace("20", r"\d+")):
            refuse()
    model = build(videoiq(**with_modes(BOTH))).eval()
    message = f"sizes are relative to frames of {SIZE}, the frame is 32x32: set frame_size=32"
    for refuse in (lambda: model.check_frames(32, 32), lambda: model(clips(1, size=32), mode="predict")):
        with pytest.raises(ValueError, match=message):
            refuse()
