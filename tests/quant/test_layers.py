import copy
import io

import pytest
import torch
from torch import nn
from torch.nn import functional as nnF

from mmvideoiq.quant import (
    AnyPrecisionConv2d,
    AnyPrecisionConv3d,
    AnyPrecisionLinear,
    Pact,
    PrecisionSwitch,
    SwitchableBatchNorm,
    build_quantizer,
)

PRECISIONS = (32, 4, 2)


def conv_layer(kind: str = "nested", switch: PrecisionSwitch | None = None, **options) -> AnyPrecisionConv2d:
    conv = nn.Conv2d(4, 6, 3, **options)
    switch = switch or PrecisionSwitch(PRECISIONS)
    return AnyPrecisionConv2d.from_float(
        conv,
        switch=switch,
        weight_quantizer=build_quantizer(
            "weight", dict(type=kind), precisions=switch.precisions, weight=conv.weight.detach()
        ),
        act_quantizer=Pact(precisions=switch.precisions, init_clip=1.0),
    )


def count_calls(layer: AnyPrecisionConv2d) -> list[int]:
    """The precisions at which the weight quantizer has run so far."""
    calls: list[int] = []
    layer.weight_quantizer.register_forward_pre_hook(lambda _, args: calls.append(args[1]))
    return calls


def quantized(layer: AnyPrecisionConv2d, bits: int) -> torch.Tensor:
    with layer.switch.at(bits):
        return layer.quantized_weight()


def fresh(layer: AnyPrecisionConv2d, bits: int) -> torch.Tensor:
    with torch.no_grad():
        return layer.weight_quantizer(layer.weight, bits)


# --- computing -------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["dorefa", "nested", "lsq"])
@pytest.mark.parametrize(
    "options",
    [
        dict(padding=1),
        dict(bias=False, stride=2),
        dict(groups=2, dilation=2),
        dict(padding=1, padding_mode="reflect"),
        dict(padding="same"),
    ],
)
def test_convolution_of_quantized_input_and_weight(kind, options):
    layer, x = conv_layer(kind, **options), torch.randn(2, 4, 9, 9)
    plain = nn.Conv2d(4, 6, 3, **options)
    plain.bias = layer.bias
    for bits in PRECISIONS:
        plain.weight = nn.Parameter(layer.weight.detach() if bits == 32 else fresh(layer, bits))
        with layer.switch.at(bits):
            assert torch.equal(layer(x), plain(x if bits == 32 else layer.act_quantizer(x, bits)))


@pytest.mark.parametrize("kind", ["dorefa", "nested", "lsq"])
def test_precisions_read_together_share_work_and_nothing_else(kind, monkeypatch):
    layer = conv_layer(kind)
    sources = [layer.weight, *layer.weight_quantizer.parameters()]
    upstream = {bits: torch.randn_like(layer.weight) for bits in PRECISIONS}
    apart = {bits: quantized(layer, bits) for bits in PRECISIONS}
    expected = torch.autograd.grad(sum((apart[b] * upstream[b]).sum() for b in PRECISIONS), sources)
    prepared = []
    prepare = layer.weight_quantizer.prepare
    monkeypatch.setattr(layer.weight_quantizer, "prepare", lambda w: prepared.append(1) or prepare(w))
    for _ in range(2):  # a second step, of unchanged weights, has its own graph
        with layer.switch.together():
            with torch.no_grad():
                assert not quantized(layer, 4).requires_grad
            together = {bits: quantized(layer, bits) for bits in PRECISIONS}
        assert layer.switch.shared is None
        for bits in PRECISIONS:
            assert torch.equal(together[bits], apart[bits])
        found = torch.autograd.grad(sum((together[b] * upstream[b]).sum() for b in PRECISIONS), sources)
        torch.testing.assert_close(found, expected)
    assert len(prepared) == 4  # without and with gradient, in each step


def test_linear_of_quantized_input_and_weight():
    linear, switch = nn.Linear(5, 3), PrecisionSwitch(PRECISIONS)
    layer = AnyPrecisionLinear.from_float(
        linear,
        switch=switch,
        weight_quantizer=build_quantizer(
            "weight", dict(type="nested"), precisions=PRECISIONS, weight=linear.weight.detach()
        ),
        act_quantizer=None,
    )
    x = torch.randn(2, 7, 5)
    assert layer.weight is linear.weight and layer.bias is linear.bias
    assert torch.equal(layer(x), linear(x))
    with switch.at(2):
        assert torch.equal(layer(x), nnF.linear(x, layer.weight_quantizer(linear.weight, 2), linear.bias))


@pytest.mark.parametrize("kind", ["dorefa", "nested", "lsq"])
def test_convolution_over_a_clip(kind):
    conv, switch = nn.Conv3d(4, 6, 3, stride=(1, 2, 2), padding=1, groups=2), PrecisionSwitch(PRECISIONS)
    layer = AnyPrecisionConv3d.from_float(
        conv,
        switch=switch,
        weight_quantizer=build_quantizer(
            "weight", dict(type=kind), precisions=PRECISIONS, weight=conv.weight.detach()
        ),
        act_quantizer=Pact(precisions=PRECISIONS),
    )
    x = torch.randn(2, 4, 3, 5, 5)
    assert layer.weight is conv.weight and layer.bias is conv.bias
    assert torch.equal(layer(x), conv(x))
    for bits in (4, 2):
        weight = layer.weight_quantizer(conv.weight, bits)
        assert len(weight[0].unique()) <= 2**bits
        expected = nnF.conv3d(layer.act_quantizer(x, bits), weight, conv.bias, (1, 2, 2), 1, 1, 2)
        with switch.at(bits):
            assert torch.equal(layer(x), expected)
    expected.sum().backward()
    assert conv.weight.grad.abs().sum() > 0


def test_gradients_reach_weight_clip_and_input():
    layer, x = conv_layer("lsq"), torch.randn(2, 4, 9, 9, requires_grad=True)
    with layer.switch.at(4):
        layer(x).square().sum().backward()
    for tensor in (x, layer.weight, layer.bias, layer.act_quantizer.clip["4"], layer.weight_quantizer.ratio):
        assert tensor.grad is not None and tensor.grad.abs().sum() > 0
    assert layer.act_quantizer.clip["2"].grad is None


@pytest.mark.parametrize("bits", [4, 32])
def test_no_frames_and_channels_last(bits):
    layer, x = conv_layer(padding=1), torch.randn(2, 4, 9, 9)
    with layer.switch.at(bits):
        assert layer(x[:0]).shape == (0, 6, 9, 9)
        layer(x[:0]).sum().backward()
        expected = layer(x)
        layer.to(memory_format=torch.channels_last)
        torch.testing.assert_close(layer(x.to(memory_format=torch.channels_last)), expected)


@pytest.mark.parametrize("bits", [4, 32])
def test_autocast_to_bfloat16(bits):
    layer, x = conv_layer(), torch.randn(2, 4, 9, 9)
    with layer.switch.at(bits), torch.autocast("cpu", dtype=torch.bfloat16):
        out = layer(x.bfloat16())
        out.float().square().sum().backward()
    assert out.dtype == torch.bfloat16 and layer.weight.grad.dtype == torch.float32
    with layer.switch.at(bits):
        torch.testing.assert_close(out.float(), layer(x.bfloat16().float()), rtol=0.05, atol=0.05)


def test_one_layer_used_twice_in_a_step():
    layer, x = conv_layer(padding=1, groups=2), torch.rand(2, 4, 5, 5)
    with layer.switch.at(4):
        (layer(x).sum() + layer(x).sum()).backward()
        twice = layer.weight.grad.clone()
        layer.zero_grad()
        layer(x).sum().backward()
    torch.testing.assert_close(twice, 2 * layer.weight.grad)


def test_the_precision_may_change_between_forward_and_backward():
    layer, x = conv_layer(), torch.rand(2, 4, 5, 5)
    with layer.switch.at(2):
        expected = torch.autograd.grad(layer(x).sum(), layer.weight)[0]
    with layer.switch.at(2):
        out = layer(x)
    with layer.switch.at(4):
        layer(x)
    assert torch.equal(torch.autograd.grad(out.sum(), layer.weight)[0], expected)


@pytest.mark.parametrize("kind", ["dorefa", "nested", "lsq"])
@pytest.mark.parametrize("bits", PRECISIONS)
def test_a_plain_convolution_with_the_weight_at_the_active_precision(kind, bits):
    layer = conv_layer(kind, stride=2, padding=1)
    layer.act_quantizer = None
    x = torch.randn(2, 4, 9, 9)
    with layer.switch.at(bits):
        plain = layer.to_float()
        assert type(plain) is nn.Conv2d and plain.bias is layer.bias
        torch.testing.assert_close(plain(x), layer(x))
    before = quantized(layer, bits).detach().clone()
    with torch.no_grad():
        plain.weight.zero_()
    assert torch.equal(quantized(layer, bits), before)


# --- weights kept while they are frozen ------------------------------------------------------------


def test_frozen_weights_are_quantized_once_per_precision():
    layer, x = conv_layer().eval().requires_grad_(False), torch.randn(1, 4, 5, 5)
    calls = count_calls(layer)
    for _ in range(3):
        for bits in PRECISIONS:
            with layer.switch.at(bits):
                layer(x)
    assert calls == [4, 2]


def test_weights_that_learn_are_kept_only_in_eval_mode_without_gradient():
    layer = conv_layer()
    for training, expected in ((True, 4), (False, 3)):
        layer.train(training)
        calls = count_calls(layer)
        for _ in range(2):
            assert quantized(layer, 4).requires_grad
        with torch.no_grad():
            for _ in range(2):
                assert not quantized(layer, 4).requires_grad
        assert len(calls) == expected


def sgd(layer, **options):
    return torch.optim.SGD(layer.parameters(), lr=0.5, **options)


def adam(layer, **options):
    return torch.optim.Adam(layer.parameters(), lr=0.5, **options)


@pytest.mark.parametrize(
    "make",
    [
        lambda layer: sgd(layer, foreach=False),
        lambda layer: sgd(layer, foreach=True),
        lambda layer: sgd(layer, fused=True),
        lambda layer: adam(layer, foreach=True),
        lambda layer: adam(layer, fused=True),
    ],
    ids=["sgd", "sgd-foreach", "sgd-fused", "adam-foreach", "adam-fused"],
)
@pytest.mark.parametrize("kind", ["dorefa", "lsq"])
@pytest.mark.parametrize("training", [True, False])
def test_an_optimizer_step_renews_kept_weights(make, kind, training):
    layer, x = conv_layer(kind).train(training), torch.rand(2, 4, 5, 5)
    optimizer = make(layer)
    with torch.no_grad():
        before = {bits: quantized(layer, bits) for bits in (4, 2)}
    for bits in (4, 2):
        with layer.switch.at(bits):
            layer(x).square().sum().backward()
    optimizer.step()
    with torch.no_grad():
        for bits in (4, 2):
            assert torch.equal(quantized(layer, bits), fresh(layer, bits))
            assert not torch.equal(quantized(layer, bits), before[bits])


def in_place(layer):
    layer.weight.mul_(-1)


def loaded(layer):
    layer.load_state_dict({k: -v if k == "weight" else v for k, v in layer.state_dict().items()})


def assigned(layer):
    state = {k: -v if k == "weight" else v for k, v in layer.state_dict().items()}
    layer.load_state_dict(state, assign=True)


def replaced(layer):
    layer.weight = nn.Parameter(-layer.weight, requires_grad=False)


def replaced_twice_in_the_same_memory(layer):
    for _ in range(2):
        value = -2 * layer.weight.detach()
        del layer.weight
        layer.register_parameter("weight", nn.Parameter(value, requires_grad=False))


def data_swapped(layer):
    layer.weight.data = -layer.weight.data


def rounded(layer):
    layer.bfloat16().float()


def copied_and_evaluated(layer):
    layer.weight.data.copy_(-layer.weight)  # changes no version: exponential moving averages do this
    layer.eval()


def copied_and_trained(layer):
    layer.weight.data.copy_(-layer.weight)
    layer.train()


CHANGES = [
    in_place,
    loaded,
    assigned,
    replaced,
    replaced_twice_in_the_same_memory,
    data_swapped,
    rounded,
    copied_and_evaluated,
    copied_and_trained,
]


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("kind", ["dorefa", "nested", "lsq"])
def test_a_changed_weight_is_never_served_stale(change, kind):
    layer = conv_layer(kind).eval().requires_grad_(False)
    with torch.no_grad():
        layer.weight.mul_(1.2345)
        for _ in range(2):
            before = {bits: quantized(layer, bits) for bits in (4, 2)}
            change(layer)
            for bits in (4, 2):
                assert torch.equal(quantized(layer, bits), fresh(layer, bits))
                assert change is rounded or not torch.equal(quantized(layer, bits), before[bits])


def test_a_changed_learned_scale_is_never_served_stale():
    layer = conv_layer("lsq").requires_grad_(False)
    before = quantized(layer, 2)
    with torch.no_grad():
        layer.weight_quantizer.ratio.mul_(0.5)
    assert not torch.equal(quantized(layer, 2), before)
    assert torch.equal(quantized(layer, 2), fresh(layer, 2))


def test_weights_kept_in_inference_mode_serve_training():
    layer, x = conv_layer().requires_grad_(False), torch.rand(1, 4, 5, 5, requires_grad=True)
    with torch.inference_mode():
        quantized(layer, 4)
    with layer.switch.at(4):
        layer(x).sum().backward()
    assert x.grad is not None
    with torch.inference_mode():
        born_there = conv_layer()
        assert torch.equal(quantized(born_there, 4), fresh(born_there, 4))


def test_copies_and_pickles_start_without_kept_weights():
    layer = conv_layer().eval().requires_grad_(False)
    expected = quantized(layer, 4)
    file = io.BytesIO()
    torch.save(layer, file)
    size = file.tell()
    torch.save(conv_layer().requires_grad_(False), plain := io.BytesIO())
    assert size == plain.tell()
    file.seek(0)
    for twin in (copy.deepcopy(layer), torch.load(file, weights_only=False)):
        calls = count_calls(twin)
        assert torch.equal(quantized(twin, 4), expected)
        assert calls == [4]
        assert twin.switch is not layer.switch
    assert quantized(layer, 4) is expected


# --- batch norms -----------------------------------------------------------------------------------


def lived_in(norm: nn.BatchNorm2d) -> nn.BatchNorm2d:
    with torch.no_grad():
        for tensor in (norm.weight, norm.bias, norm.running_mean, norm.running_var):
            tensor.copy_(torch.rand_like(tensor) + 0.5)
        norm.num_batches_tracked.fill_(7)
    return norm


def test_only_the_active_norm_moves():
    switch = PrecisionSwitch(PRECISIONS)
    norm, x = SwitchableBatchNorm(lived_in(nn.BatchNorm2d(3)), switch=switch), torch.randn(4, 3, 5, 5)
    before = copy.deepcopy(norm.state_dict())
    with switch.at(4):
        norm(x).sum().backward()
    for name, value in norm.state_dict().items():
        moved = name in ("norms.4.running_mean", "norms.4.running_var", "norms.4.num_batches_tracked")
        assert torch.equal(value, before[name]) != moved, name
    assert norm.norms["4"].weight.grad is not None and norm.norms["2"].weight.grad is None


def test_every_precision_starts_from_the_float_norm_and_equals_it():
    plain = lived_in(nn.BatchNorm2d(3))
    switch = PrecisionSwitch(PRECISIONS)
    built = SwitchableBatchNorm(copy.deepcopy(plain), switch=switch)
    filled = SwitchableBatchNorm(nn.BatchNorm2d(3), switch=switch)
    filled.load_state_dict(plain.state_dict())
    x = torch.randn(2, 3, 4, 4)
    for norm in (built.eval(), filled.eval()):
        for bits in PRECISIONS:
            with switch.at(bits):
                assert torch.equal(norm(x), plain.eval()(x))
        assert norm.norms["4"].num_batches_tracked.item() == 7
    assert built.norms["4"].weight is not built.norms["2"].weight


def test_own_state_loads_again_and_other_precisions_are_refused():
    norm = SwitchableBatchNorm(lived_in(nn.BatchNorm2d(3)), switch=PrecisionSwitch((32, 4)))
    twin = SwitchableBatchNorm(nn.BatchNorm2d(3), switch=PrecisionSwitch((32, 4)))
    twin.load_state_dict(norm.state_dict())
    assert torch.equal(twin.norms["4"].running_mean, norm.norms["4"].running_mean)
    other = nn.Sequential(SwitchableBatchNorm(nn.BatchNorm2d(3), switch=PrecisionSwitch((16, 4, 2))))
    with pytest.raises(
        ValueError, match=r"0\.norms\.\* for precisions \(32, 4\), the model for \(16, 4, 2\)"
    ):
        other.load_state_dict(nn.Sequential(norm).state_dict(), strict=False)


def test_a_norm_without_scale_or_statistics():
    for options in (dict(affine=False), dict(track_running_stats=False)):
        plain = nn.BatchNorm2d(3, **options)
        norm = SwitchableBatchNorm(nn.BatchNorm2d(3, **options), switch=PrecisionSwitch((32, 4)))
        norm.load_state_dict(plain.state_dict())
        x = torch.randn(4, 3, 2, 2)
        assert torch.equal(norm(x), plain(x))
