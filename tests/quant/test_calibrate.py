import pytest
import torch
from torch import nn

from mmvideoiq.quant import Pact, PrecisionSwitch, calibrate_clips_, calibrate_norms_, to_any_precision_
from mmvideoiq.quant import functional as F
from mmvideoiq.quant.calibrate import CANDIDATES, fit_clip


@pytest.mark.parametrize(
    "bits, signed", [(8, False), (4, False), (2, False), (1, False), (4, True), (2, True)]
)
def test_fit_clip_is_the_best_candidate(bits, signed):
    values = torch.randn(2000)
    values = values if signed else values.relu()
    best = fit_clip(values, bits, signed)
    errors = {
        i: (F.pact(values, values.abs().max() * i / CANDIDATES, bits, signed) - values).square().sum().item()
        for i in range(1, CANDIDATES + 1)
    }
    chosen = round(best.item() / values.abs().max().item() * CANDIDATES)
    assert errors[chosen] == min(errors.values()) and best.shape == (1,)


def test_few_bits_clip_more():
    values = torch.randn(5000).relu()
    clips = [fit_clip(values, bits, False).item() for bits in (8, 4, 2)]
    assert clips[0] > clips[1] > clips[2] > 0


def test_constant_and_silent_layers_get_a_usable_clip():
    for value in (0.0, 3.0):
        clip = fit_clip(torch.full((100,), value), 4, False)
        out = F.pact(torch.full((3,), value), clip, 4)
        torch.testing.assert_close(out, torch.full((3,), value))
        assert clip > 0


def network() -> tuple[nn.Module, PrecisionSwitch]:
    model = nn.Sequential(
        nn.Conv2d(3, 4, 3),
        nn.BatchNorm2d(4),
        nn.ReLU(),
        nn.Conv2d(4, 4, 3),
        nn.BatchNorm2d(4),
        nn.Conv2d(4, 2, 1),
    )
    switch = PrecisionSwitch((32, 4, 2))
    to_any_precision_(
        model,
        switch=switch,
        sample=torch.randn(2, 3, 8, 8),
        weight=dict(type="nested"),
        activation=dict(type="pact"),
    )
    return model, switch


def test_every_clip_is_fitted_to_what_its_layer_sees():
    model, _ = network()
    x = torch.randn(4, 3, 10, 10) * 5
    before = {name: value.clone() for name, value in model.state_dict().items()}
    model.train()
    model[1].eval()  # a frozen norm stays frozen
    assert calibrate_clips_(model, x) == 2
    assert model.training and not model[1].training and model[4].training
    model.eval()
    with torch.no_grad():
        seen = model[:3](x)
    for bits in (4, 2):
        assert torch.equal(model[3].act_quantizer.clip[str(bits)], fit_clip(seen.flatten(), bits, False))
    assert model[5].act_quantizer.signed
    for name, value in model.state_dict().items():
        assert torch.equal(value, before[name]) != (".clip." in name), name
    assert all(clip.requires_grad for m in model.modules() if isinstance(m, Pact) for clip in m.clip.values())
    assert not any(module._forward_pre_hooks for module in model.modules())


@pytest.mark.parametrize("x", [torch.empty(0, 3, 8, 8), torch.full((1, 3, 8, 8), float("nan"))])
def test_nothing_and_nan_are_errors_and_change_nothing(x):
    model, _ = network()
    with pytest.raises(
        ValueError, match=r"cannot fit the clips of 3.act_quantizer: it saw \d+ sampled values"
    ):
        calibrate_clips_(model, x)
    assert model[3].act_quantizer.clip["4"].item() == 2.0


def test_norms_of_lower_precisions_follow_what_quantization_does_to_their_input():
    model, switch = network()
    x = torch.randn(16, 3, 12, 12)
    model.train()
    model(x)  # running statistics that are not the initial ones
    model.eval()
    calibrate_clips_(model, x)
    with torch.no_grad():
        seen = {}
        for bits in switch.precisions:
            with switch.at(bits):
                seen[bits] = model[:4](x)  # the input of the only switchable norm
    before = {name: value.clone() for name, value in model.state_dict().items()}
    assert calibrate_norms_(model, switch, x) == 2
    best = model[4].norms["32"]
    for bits in (4, 2):
        own = model[4].norms[str(bits)]
        shift = seen[bits].mean((0, 2, 3)) - seen[32].mean((0, 2, 3))
        growth = seen[bits].var((0, 2, 3), correction=0) / seen[32].var((0, 2, 3), correction=0)
        torch.testing.assert_close(own.running_mean, best.running_mean + shift)
        torch.testing.assert_close(own.running_var, best.running_var * growth, rtol=1e-3, atol=1e-5)
        assert not torch.equal(own.running_mean, before[f"4.norms.{bits}.running_mean"])
    moved = {name for name, value in model.state_dict().items() if not torch.equal(value, before[name])}
    assert moved == {f"4.norms.{b}.running_{what}" for b in (4, 2) for what in ("mean", "var")}
    assert not any(module._forward_pre_hooks for module in model.modules()) and switch.bits == 32


def test_norms_over_clips_are_corrected_too():
    layers = [nn.Conv3d(3, 4, 3), nn.ReLU(), nn.Conv3d(4, 4, 3, bias=False), nn.BatchNorm3d(4)]
    model, switch = nn.Sequential(*layers).eval(), PrecisionSwitch((32, 2))
    x = torch.randn(2, 3, 6, 8, 8)
    to_any_precision_(
        model, switch=switch, sample=x, weight=dict(type="nested"), activation=dict(type="pact")
    )
    with torch.no_grad():
        seen = {}
        for bits in switch.precisions:
            with switch.at(bits):
                seen[bits] = model[:3](x).mean((0, 2, 3, 4))
    assert calibrate_norms_(model, switch, x) == 1
    torch.testing.assert_close(model[3].norms["2"].running_mean, seen[2] - seen[32])
