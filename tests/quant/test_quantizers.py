import pytest
import torch

from mmvideoiq.quant import Dorefa, Lsq, Nested, Pact, build_quantizer
from mmvideoiq.quant import functional as F

KINDS = [Dorefa, Nested, Lsq]
PRECISIONS = (8, 4, 2, 1)


@pytest.fixture
def weight() -> torch.Tensor:
    return torch.randn(6, 4, 3, 3) * torch.rand(6, 1, 1, 1)


@pytest.mark.parametrize("kind", KINDS)
def test_low_codes_are_high_codes_shifted(kind, weight):
    quantizer = kind(precisions=PRECISIONS, weight=weight)
    parent = quantizer.to_codes(weight, 8)
    assert not parent.requires_grad
    for bits in PRECISIONS:
        assert torch.equal(quantizer.to_codes(weight, bits), F.truncate_codes(parent, 8, bits))


@pytest.mark.parametrize("kind", [Nested, Lsq])
def test_nested_values_follow_from_codes_and_scale(kind, weight):
    quantizer = kind(precisions=PRECISIONS, weight=weight)
    for bits in PRECISIONS:
        codes, scale = quantizer.to_codes(weight, bits), quantizer.scale(weight)
        expected = F.nested_values(codes, scale, bits, zero_bits=quantizer.zero_bits)
        torch.testing.assert_close(quantizer(weight, bits), expected)


@pytest.mark.parametrize("kind", [Nested, Lsq])
@pytest.mark.parametrize(
    "precisions, options, exact",
    [
        ((32, 8, 4), {}, True),
        ((8, 2), {}, True),
        ((8, 2), dict(exact_zero=False), False),
        ((16, 8), {}, False),
        ((32, 4), {}, False),
        ((32,), {}, False),
    ],
)
def test_zero_is_a_level_of_8_bits_alone_and_only_where_they_are_the_highest(
    kind, precisions, options, exact, weight
):
    quantizer = kind(precisions=precisions, weight=weight, **options)
    weight[0, 0, 0, 0] = 0
    for bits in (bits for bits in precisions if bits <= 16):
        zero = quantizer(weight, bits)[0, 0, 0, 0] == 0
        assert zero == (exact and bits == 8), bits


def test_nested_scale_is_the_largest_weight_of_each_output_channel(weight):
    scale = Nested(precisions=(4,), weight=weight).scale(weight)
    assert scale.flatten().tolist() == [w.abs().max().item() for w in weight]
    weight.requires_grad_()
    Nested(precisions=(4,), weight=weight)(weight, 4).sum().backward()
    assert torch.equal(weight.grad, torch.ones_like(weight))


@pytest.mark.parametrize("kind", KINDS)
def test_error_falls_with_precision(kind):
    weight = torch.randn(64, 32, 3, 3)
    quantizer = kind(precisions=(8, 4, 2), weight=weight)
    target = F.dorefa_normalize(weight) if kind is Dorefa else weight
    errors = [(quantizer(weight, bits) - target).square().mean().item() for bits in (8, 4, 2)]
    assert errors[0] < errors[1] / 50 and errors[1] < errors[2] / 3


@pytest.mark.parametrize("kind", KINDS)
def test_which_precision_is_float(kind, weight):
    quantizer = kind(precisions=(32, 4), weight=weight)
    assert quantizer.is_float(32) and not quantizer.is_float(4)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_dorefa_may_quantize_at_32_bits(weight, dtype):
    weight = weight.to(dtype)
    quantizer = Dorefa(precisions=(32, 4), weight=weight, quantize_32=True)
    assert not quantizer.is_float(32)
    torch.testing.assert_close(quantizer(weight, 32), F.dorefa_normalize(weight), rtol=0, atol=1e-6)
    top = weight * weight.flatten()[weight.abs().argmax()].sign()  # the largest magnitude is positive
    assert quantizer.prepare(top).codes.max() == 2.0**32
    assert torch.equal(quantizer(top, 4), F.dorefa_weight(top, 4, 32, overflow=True))
    assert quantizer.to_codes(top, 4).max() == 15


def test_lsq_starts_as_nested_and_learns_its_scale(weight):
    lsq, nested = Lsq(precisions=(8, 2), weight=weight), Nested(precisions=(8, 2), weight=weight)
    assert torch.equal(lsq(weight, 2), nested(weight, 2))
    with torch.no_grad():
        lsq.ratio.fill_(-0.5)
    torch.testing.assert_close(lsq.scale(weight), nested.scale(weight) / 2)
    assert lsq(weight, 2).abs().max() < nested(weight, 2).abs().max()


@pytest.mark.parametrize("kind", [Nested, Lsq])
def test_one_scale_for_the_layer(kind, weight):
    quantizer = kind(precisions=(8, 4, 2), weight=weight, per_channel=False)
    assert quantizer.scale(weight).shape == (1, 1, 1, 1)
    assert quantizer.scale(weight).item() == weight.abs().max().item()
    for bits in (8, 4, 2):
        expected = F.nested_weight(weight, weight.abs().max(), bits, zero_bits=8)
        torch.testing.assert_close(quantizer(weight, bits), expected)


@pytest.mark.parametrize("per_channel, dims, sharing", [(True, (1, 2, 3), 0), (False, (0, 1, 2, 3), ())])
def test_lsq_gradient_of_the_ratio_is_damped(weight, per_channel, dims, sharing):
    lsq = Lsq(precisions=(8, 2), weight=weight, per_channel=per_channel)
    with torch.no_grad():
        lsq.ratio.fill_(0.5)
    upstream = torch.randn_like(weight)
    lsq(weight, 2).backward(upstream)
    top = weight.abs().amax(dim=dims, keepdim=True)
    scale = top.clone().mul_(0.5).requires_grad_()
    F.nested_weight(weight, scale, 2, zero_bits=8).backward(upstream)
    expected = scale.grad * top / (weight[sharing].numel() * 2) ** 0.5
    torch.testing.assert_close(lsq.ratio.grad, expected)


@pytest.mark.parametrize("signed", [False, True])
def test_pact_has_one_clip_per_precision(signed):
    quantizer = Pact(precisions=(32, 4, 2), signed=signed, init_clip=1.5)
    assert {k: v.tolist() for k, v in quantizer.clip.items()} == {"4": [1.5], "2": [1.5]}
    x = torch.randn(100)
    assert quantizer(x, 32) is x
    quantizer(x, 4).sum().backward()
    assert quantizer.clip["4"].grad is not None and quantizer.clip["2"].grad is None
    with pytest.raises(ValueError, match=r"no clip for 8 bits; there are clips for \(4, 2\)"):
        quantizer(x, 8)
    assert f"clips for (4, 2), signed={signed}" in repr(quantizer)


def test_pact_may_clip_at_32_bits():
    quantizer = Pact(precisions=(32, 4), init_clip=1.0, quantize_32=True)
    out = quantizer(torch.tensor([-1.0, 0.123456, 5.0]), 32)
    torch.testing.assert_close(out, torch.tensor([0.0, 0.123456, 1.0]))


@pytest.mark.parametrize("clip", [0, -1, float("nan"), float("inf")])
def test_pact_wants_a_positive_clip(clip):
    with pytest.raises(ValueError, match=f"init_clip={clip} of the pact quantizer must be a positive number"):
        Pact(precisions=(4,), init_clip=clip)


def test_pact_refuses_one_bit_for_both_signs():
    with pytest.raises(
        ValueError, match=r"precisions=\(4, 1\): 1 bit cannot hold an activation that takes both"
    ):
        Pact(precisions=(4, 1), signed=True)


@pytest.mark.parametrize("strict", [False, True])
def test_pact_refuses_clips_of_other_precisions(strict):
    saved = Pact(precisions=(8, 4)).state_dict()
    with pytest.raises(ValueError, match=r"clip\.\* for precisions \(8, 4\), the model for \(4, 2\)"):
        Pact(precisions=(4, 2)).load_state_dict(saved, strict=strict)


@pytest.mark.parametrize(
    "field, cfg, message",
    [
        (
            "weight",
            dict(type="twn"),
            r"weight=dict\(type='twn'\): .*choose one of \['dorefa', 'lsq', 'nested'\]",
        ),
        ("weight", dict(), r"weight=dict\(type=None\): unknown quantizer"),
        ("activation", dict(type="relu"), r"activation=.*choose one of \['pact'\]"),
        (
            "activation",
            dict(type="pact", clip=2),
            r"activation=.*'clip': 2.*unexpected keyword argument 'clip'",
        ),
        (
            "weight",
            dict(type="nested", quantize_32=True),
            r"weight=.*unexpected keyword argument 'quantize_32'",
        ),
    ],
)
def test_bad_configs_are_named(field, cfg, message):
    given = dict(weight=torch.ones(1, 1)) if field == "weight" else {}
    with pytest.raises(ValueError, match=message):
        build_quantizer(field, cfg, precisions=(4, 2), **given)


def test_building_leaves_the_config_alone():
    cfg = dict(type="pact", init_clip=3.0)
    assert build_quantizer("activation", cfg, precisions=(4,)).clip["4"].item() == 3.0
    assert cfg == dict(type="pact", init_clip=3.0)


def test_a_checkpoint_of_the_grid_without_zero_is_refused(weight):
    def quantizer(**options):
        return torch.nn.ModuleDict({"weight_quantizer": Nested(precisions=(8, 4), weight=weight, **options)})

    old = quantizer().state_dict()
    quantizer().load_state_dict(old)
    old._metadata["weight_quantizer"]["version"] = 1
    with pytest.raises(ValueError, match="checkpoint's weight_quantizer was trained on a grid without zero"):
        quantizer().load_state_dict(old)
    quantizer(exact_zero=False).load_state_dict(old)
    quantizer().load_state_dict({})  # a float checkpoint's
