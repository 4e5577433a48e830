"""Codes, values and gradients against the slow oracle, and properties over many shapes and precisions."""

import doctest
import importlib
import math
import pkgutil

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import mmvideoiq.quant
from mmvideoiq.quant import functional as F
from tests.reference import quant_oracle as oracle

many = settings(max_examples=60, deadline=None, derandomize=True, database=None)
BITS = st.integers(1, 8)
SHAPES = st.sampled_from([(1,), (7,), (3, 5), (2, 3, 3, 3), (4, 1, 1, 1), (16, 8, 3, 3)])
SPREADS = st.sampled_from([1e-4, 0.05, 1.0, 20.0])
SEEDS = st.integers(0, 2**31)


@st.composite
def weights(draw) -> torch.Tensor:
    rng = torch.Generator().manual_seed(draw(SEEDS))
    weight = torch.randn(draw(SHAPES), generator=rng) * draw(SPREADS)
    return draw(st.sampled_from([weight, weight.abs(), weight.round(), weight.double()]))


@st.composite
def bits_and_parent(draw) -> tuple[int, int]:
    bits = draw(BITS)
    return bits, draw(st.integers(bits, 32))


def channel_scale(weight: torch.Tensor) -> torch.Tensor:
    return weight.abs().amax(dim=tuple(range(1, weight.dim())), keepdim=True).clamp_min(1e-8)


@pytest.mark.parametrize("name", [module.name for module in pkgutil.iter_modules(mmvideoiq.quant.__path__)])
def test_examples_of_docstrings(name):
    module = importlib.import_module(f"mmvideoiq.quant.{name}")
    assert doctest.testmod(module, extraglobs={"torch": torch}).failed == 0


# --- codes -----------------------------------------------------------------------------------------


@many
@given(bits_and_parent(), SEEDS)
def test_truncation_is_an_integer_shift(pair, seed):
    bits, parent = pair
    codes = np.random.default_rng(seed).integers(0, 2**parent, 50)
    codes = codes & ~((1 << max(0, parent - 24)) - 1)  # what float32 holds exactly
    cut = F.truncate_codes(torch.from_numpy(codes).float(), parent, bits)
    assert cut.tolist() == [oracle.shift(int(code), parent, bits) for code in codes]


@pytest.mark.parametrize("to_bits", [0, 5, -1])
def test_truncation_to_more_bits_is_an_error(to_bits):
    with pytest.raises(ValueError, match=rf"cannot keep {to_bits} bits of 4-bit codes; allowed are 1..4"):
        F.truncate_codes(torch.zeros(3), 4, to_bits)


@many
@given(weights(), bits_and_parent())
def test_low_codes_are_high_codes_shifted(weight, pair):
    bits, parent = pair
    assert torch.equal(
        F.dorefa_codes(weight, bits, parent),
        F.truncate_codes(F.dorefa_codes(weight, parent, parent), parent, bits),
    )
    scale = channel_scale(weight)
    for zero_bits in (None, parent) if parent <= 16 else (None,):
        assert torch.equal(
            F.nested_codes(weight, scale, bits, zero_bits=zero_bits),
            F.truncate_codes(F.nested_codes(weight, scale, parent, zero_bits=zero_bits), parent, bits),
        )


@many
@given(weights(), bits_and_parent())
def test_codes_are_whole_and_inside_the_grid(weight, pair):
    bits, parent = pair
    for width, codes in (
        (bits, F.dorefa_codes(weight, bits, parent)),
        (parent, F.dorefa_codes(weight, parent, parent)),
        (bits, F.nested_codes(weight, channel_scale(weight), bits)),
        (parent, F.nested_codes(weight, channel_scale(weight) / 2, parent)),
        (min(bits, 8), F.nested_codes(weight, channel_scale(weight) / 2, min(bits, 8), zero_bits=8)),
    ):
        assert torch.equal(codes, codes.round())
        assert 0 <= codes.min() and codes.max() < 2.0**width


@many
@given(weights(), bits_and_parent())
def test_at_most_two_to_the_bits_levels_and_monotone(weight, pair):
    bits, parent = pair
    flat = weight.flatten().sort().values
    for out in (
        F.dorefa_weight(flat, bits, parent),
        F.nested_weight(flat, flat.abs().max().clamp_min(1e-8), bits),
        F.nested_weight(flat, flat.abs().max().clamp_min(1e-8), min(bits, 8), zero_bits=8),
        F.pact(flat.float(), torch.tensor([0.7]), bits),
        F.uniform(flat, -0.5, 0.5, bits),
        *([F.pact(flat.float(), torch.tensor([0.7]), bits, signed=True)] if bits > 1 else []),
    ):
        assert out.unique().numel() <= 2**bits
        assert bool((out.diff() >= 0).all())


@many
@given(weights(), bits_and_parent(), st.floats(0.01, 50))
def test_grid_points_are_fixed_points(weight, pair, clip):
    bits, parent = pair
    scale = channel_scale(weight)
    for zero_bits in (None, parent) if parent <= 16 else (None,):
        once = F.nested_weight(weight, scale, bits, zero_bits=zero_bits)
        assert torch.equal(F.nested_weight(once, scale, bits, zero_bits=zero_bits), once)
    clip = torch.tensor([clip])
    for signed in (False, True) if bits > 1 else (False,):
        once = F.pact(weight.float(), clip, bits, signed)
        assert torch.equal(F.pact(once, clip, bits, signed), once)
    once = F.uniform(weight, -1.0, 1.0, bits)
    torch.testing.assert_close(F.uniform(once, -1.0, 1.0, bits), once, rtol=0, atol=1e-6)


@pytest.mark.parametrize("bits", range(1, 9))
def test_dorefa_reads_every_grid_point_as_its_own_code(bits):
    codes = torch.arange(2.0**bits)
    weight = torch.atanh(0.9 * (2 * codes / (2**bits - 1) - 1))
    assert torch.equal(F.dorefa_codes(weight, bits, bits), codes)


@pytest.mark.parametrize("bits", [2, 4, 8])
def test_the_largest_code_overflows_only_if_asked_to(bits):
    weight = torch.linspace(-1.5, 1.5, 5001)
    kept, past = (F.dorefa_weight(weight, bits, 32, overflow=flag) for flag in (False, True))
    assert kept.unique().numel() == 2**bits
    assert past.unique().numel() == 2**bits + 1  # 2**32 - 1 is 2**32 in float32
    torch.testing.assert_close(past.unique().diff().max(), past.unique().diff().min(), rtol=1e-3, atol=0)
    assert torch.equal(*(F.dorefa_weight(weight, bits, 8, overflow=flag) for flag in (False, True)))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("bits", [2, 4, 8])
def test_with_2_to_the_32_steps_the_largest_weight_stands_one_level_past_the_grid_in_any_dtype(bits, dtype):
    weight = torch.linspace(-1.5, 1.5, 5001, dtype=dtype)
    parent = F.dorefa_parent(weight, 32, overflow=True)
    assert parent.codes.max() == parent.codes[-1] == 2.0**32 == parent.steps
    values = (F.dorefa_read(parent, bits, 32) + 1) / 2
    assert (values == values.max()).sum() == 1
    step = values.unique().diff()  # of levels 0 .. 2**bits; the grid ends one before
    assert step[:-1].max() == pytest.approx(float(step[-1]), rel=1e-5)
    assert float(values[-1] / step[-1]) == pytest.approx(2**bits, rel=1e-5)
    kept = F.dorefa_parent(weight, 32)
    assert kept.codes.max() == F.top_code(32, dtype) < 2.0**32
    assert F.dorefa_codes(weight, bits, 32).max() == 2**bits - 1


def test_two_bits_of_dorefa_are_the_uniform_grid():
    out = F.dorefa_weight(torch.randn(10000), 2, 32)
    torch.testing.assert_close(out.unique(), torch.tensor([-1, -1 / 3, 1 / 3, 1]), rtol=0, atol=0.02)


@many
@given(weights(), BITS, BITS)
def test_values_equal_the_oracle(weight, a, b):
    bits, parent = sorted((a, b))
    weight = weight.double().flatten() + 1e-3
    numbers = weight.tolist()
    assert F.dorefa_codes(weight, bits, parent).tolist() == oracle.dorefa_codes(numbers, bits, parent)
    out = F.dorefa_weight(weight, bits, parent)
    try:
        expected = oracle.dorefa_weights(numbers, bits, parent)
    except ZeroDivisionError:  # every code is zero: there is no mean to align
        expected = [-1.0] * len(numbers)
    np.testing.assert_allclose(out.tolist(), expected, atol=1e-12)
    scale = weight.abs().max() * 0.8
    for zero_bits in (None, parent):
        assert F.nested_codes(weight, scale, bits, zero_bits=zero_bits).tolist() == [
            oracle.nested_code(w, scale.item(), bits, zero_bits) for w in numbers
        ]
        np.testing.assert_allclose(
            F.nested_weight(weight, scale, bits, zero_bits=zero_bits).tolist(),
            [oracle.nested_value(w, scale.item(), bits, zero_bits) for w in numbers],
            atol=1e-12,
        )
    clip = torch.tensor([0.7], dtype=torch.float64)
    for signed in (False, True) if bits > 1 else (False,):
        np.testing.assert_allclose(
            F.pact(weight, clip, bits, signed).tolist(),
            [oracle.pact_value(x, 0.7, bits, signed) for x in numbers],
            atol=1e-12,
        )


# --- gradients -------------------------------------------------------------------------------------


def test_straight_through_is_exact():
    soft = torch.randn(5, requires_grad=True)
    hard, upstream = torch.randn(5) * 1e6, torch.randn(5)
    out = F.straight_through(soft, hard)
    out.backward(upstream)
    assert torch.equal(out, hard)
    assert torch.equal(soft.grad, upstream)


@pytest.mark.parametrize("bits, parent", [(2, 32), (4, 4), (1, 8), (32, 32)])
def test_dorefa_gradient(bits, parent):
    weight = torch.randn(4, 3, 3, 3, dtype=torch.float64, requires_grad=True)
    upstream = torch.randn_like(weight)
    F.dorefa_weight(weight, bits, parent).backward(upstream)
    expected = oracle.dorefa_gradient(weight.flatten().tolist(), upstream.flatten().tolist())
    np.testing.assert_allclose(weight.grad.flatten().tolist(), expected, atol=1e-12)


def test_dorefa_gradient_when_the_maximum_is_reached_more_than_once():
    weight = torch.tensor([0.5, -1.0, 1.0, 0.2, 1.0], dtype=torch.float64, requires_grad=True)
    upstream = torch.randn_like(weight)
    squashed = torch.tanh(weight)
    (expected,) = torch.autograd.grad(squashed / squashed.abs().max(), weight, upstream)
    F.dorefa_weight(weight, 4, 32).backward(upstream)
    torch.testing.assert_close(weight.grad, expected)


@pytest.mark.parametrize("zero_bits", [None, 8])
@pytest.mark.parametrize("bits", [1, 2, 4, 8])
def test_nested_gradients_also_at_the_ends(bits, zero_bits):
    weight = torch.tensor([-3.0, -1.0, -0.4, 0.0, 0.3, 1.0, 1.0001], dtype=torch.float64, requires_grad=True)
    scale = torch.tensor(1.0, dtype=torch.float64, requires_grad=True)
    upstream = torch.randn_like(weight)
    F.nested_weight(weight, scale, bits, zero_bits=zero_bits).backward(upstream)
    to_weights, to_scale = oracle.nested_gradients(weight.tolist(), upstream.tolist(), 1.0, bits, zero_bits)
    np.testing.assert_allclose(weight.grad.tolist(), to_weights, atol=1e-12)
    np.testing.assert_allclose(scale.grad.item(), to_scale, atol=1e-12)


@pytest.mark.parametrize(
    "bits, signed", [(1, False), (2, False), (4, False), (2, True), (8, True), (32, False)]
)
def test_pact_gradients_also_exactly_at_the_ends(bits, signed):
    clip = torch.tensor([0.75], dtype=torch.float64, requires_grad=True)
    x = torch.tensor([-9.0, -0.75, -0.1, -0.0, 0.0, 0.2, 0.75, 0.75 + 1e-12, 5.0], dtype=torch.float64)
    x = torch.cat([x, torch.randn(40, dtype=torch.float64)]).requires_grad_()
    upstream = torch.randn_like(x)
    F.pact(x, clip, bits, signed).backward(upstream)
    to_x, to_clip = oracle.pact_gradients(x.tolist(), upstream.tolist(), 0.75, signed)
    assert x.grad.tolist() == to_x
    np.testing.assert_allclose(clip.grad.tolist(), [to_clip], atol=1e-12)


def test_uniform_gradient_is_one_inside_the_closed_range():
    x = torch.tensor([-1.0, 0.0, 0.3, 1.0, 1.5], requires_grad=True)
    F.uniform(x, 0.0, 1.0, 2).sum().backward()
    assert x.grad.tolist() == [0, 1, 1, 1, 0]


def test_scale_gradient():
    x = torch.randn(3, requires_grad=True)
    out = F.scale_gradient(x, 0.25)
    out.sum().backward()
    assert torch.equal(out, x)
    assert x.grad.tolist() == [0.25] * 3


@pytest.mark.parametrize("signed", [False, True])
def test_pact_gradients_are_those_of_the_unfused_passes(signed, monkeypatch):
    ends = torch.tensor([0.0, 0.75, -0.75, 1e-45, -1e-45, torch.inf, -torch.inf])
    nearby = torch.cat([torch.nextafter(ends, torch.tensor(to)) for to in (torch.inf, -torch.inf)])
    values = torch.cat([ends, nearby, torch.randn(1003)])
    upstream = torch.randn_like(values)

    def gradients() -> list[torch.Tensor]:
        x, clip = values.clone().requires_grad_(), torch.tensor([0.75], requires_grad=True)
        F.pact(x, clip, 4, signed).backward(upstream)
        return [x.grad, clip.grad]

    fused = gradients()
    monkeypatch.setattr(F, "_is_plain", lambda grad, x: False)
    unfused = gradients()
    assert torch.equal(fused[0], unfused[0])
    torch.testing.assert_close(fused[1], unfused[1])


def test_pact_asks_for_no_gradient_that_is_not_needed():
    x, clip = torch.randn(4), torch.tensor([1.0], requires_grad=True)
    F.pact(x, clip, 4).sum().backward()
    frozen = torch.tensor([1.0])
    y = torch.randn(4, requires_grad=True)
    F.pact(y, frozen, 4).sum().backward()
    assert x.grad is None and frozen.grad is None and clip.grad is not None and y.grad is not None


# --- awkward input ---------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("bits", [2, 8, 32])
def test_half_precision_has_the_codes_of_float32(dtype, bits):
    x = (torch.randn(50) * 2).to(dtype).requires_grad_()
    clip = torch.tensor([0.1], requires_grad=True)
    out = F.pact(x, clip, bits, signed=True)
    assert out.dtype == dtype
    assert torch.equal(out, F.pact(x.detach().float(), clip, bits, signed=True).to(dtype))
    out.sum().backward()
    assert x.grad.dtype == dtype and clip.grad.dtype == torch.float32
    inside = (x.detach().float().abs() <= 0.1).to(dtype)
    assert torch.equal(x.grad, inside)
    weight = torch.randn(4, 3, 3, 3).to(dtype)
    assert torch.equal(F.dorefa_codes(weight, 2, 32), F.dorefa_codes(weight.float(), 2, 32))
    for out in (F.dorefa_weight(weight, bits, 32), F.nested_weight(weight, channel_scale(weight), bits)):
        assert out.dtype == dtype and bool(out.isfinite().all())


@pytest.mark.parametrize("signed", [False, True])
def test_pact_in_any_memory_layout(signed):
    x, upstream = torch.randn(2, 3, 4, 5), torch.randn(2, 3, 4, 5)
    results = []
    for layout in ("plain", "channels_last", "strided", "mixed"):
        a, g = x.clone(), upstream.clone()
        if layout in ("channels_last", "mixed"):
            a = a.to(memory_format=torch.channels_last)
        if layout == "channels_last":
            g = g.to(memory_format=torch.channels_last)
        if layout == "strided":
            a = torch.stack([a, a], dim=-1)[..., 0]
            g = torch.stack([g, g], dim=-1)[..., 1]
        a.requires_grad_()
        clip = torch.tensor([1.0], requires_grad=True)
        out = F.pact(a, clip, 4, signed)
        assert out.is_contiguous(memory_format=torch.channels_last) == (layout in ("channels_last", "mixed"))
        out.backward(g)
        results.append((out, a.grad, clip.grad))
    for result in results[1:]:
        for actual, plain in zip(result, results[0], strict=True):
            torch.testing.assert_close(actual, plain)


def test_pact_takes_an_expanded_gradient():
    x = torch.randn(3, 4, requires_grad=True)
    F.pact(x, torch.tensor([0.5]), 4).sum().backward()
    assert torch.equal(x.grad, ((x >= 0) & (x <= 0.5)).float())


def test_pact_of_nothing():
    x, clip = torch.empty(0, 3, requires_grad=True), torch.tensor([1.0], requires_grad=True)
    F.pact(x, clip, 4).sum().backward()
    assert x.grad.shape == (0, 3) and clip.grad.tolist() == [0.0]


@pytest.mark.parametrize("clip", [0.0, -1.0])
@pytest.mark.parametrize("signed", [False, True])
def test_a_clip_that_fell_to_zero_stays_finite_and_may_recover(clip, signed):
    clip = torch.tensor([clip], requires_grad=True)
    out = F.pact(torch.tensor([-1.0, 0.0, 2.0]), clip, 4, signed)
    assert out.abs().max() <= F.CLIP_FLOOR
    (out * torch.tensor([1.0, 1.0, -1.0])).sum().backward()
    assert clip.grad.item() < 0  # descent lifts it


def test_infinite_values_are_clipped_and_nan_is_not_hidden():
    x = torch.tensor([math.inf, -math.inf, math.nan])
    out = F.pact(x, torch.tensor([1.0]), 4)
    assert out[:2].tolist() == [1.0, 0.0] and out[2].isnan()
    weight = torch.tensor([[1.0, math.nan]])
    assert F.dorefa_weight(weight, 4, 32).isnan().all()
    assert F.nested_weight(weight, channel_scale(weight), 4).isnan().any()


@pytest.mark.parametrize("bits, parent", [(1, 1), (1, 32), (2, 4), (4, 32)])
def test_weights_that_are_all_zero_stay_finite(bits, parent):
    weight = torch.zeros(2, 3, 3, 3, requires_grad=True)
    for out in (F.dorefa_weight(weight, bits, parent), F.nested_weight(weight, channel_scale(weight), bits)):
        (grad,) = torch.autograd.grad(out.sum(), weight)
        assert out.isfinite().all() and grad.isfinite().all() and grad.abs().max() <= 1.001


def test_one_bit_cannot_hold_both_signs():
    with pytest.raises(ValueError, match="1 bit cannot hold an activation that takes both signs"):
        F.pact(torch.randn(3), torch.ones(1), 1, signed=True)
