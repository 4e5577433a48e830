"""Packed codes come back exactly; shifts, thresholds and signed integers equal the training-time arithmetic."""

import doctest

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from mmvideoiq.deploy.bundle import packing
from mmvideoiq.deploy.bundle.packing import (
    codes_by_thresholds,
    pack,
    packed_bytes,
    signed_weights,
    truncate,
    unpack,
)
from mmvideoiq.quant import Dorefa, Nested
from mmvideoiq.quant import functional as F

many = settings(max_examples=100, deadline=None, derandomize=True, database=None)
BITS = st.integers(1, 8)
SEEDS = st.integers(0, 2**31)


@st.composite
def codes_and_bits(draw, most: int = 70) -> tuple[np.ndarray, int]:
    bits = draw(BITS)
    codes = arrays.arrays(np.uint8, st.integers(0, most), elements=st.integers(0, 2**bits - 1))
    return draw(codes), bits


def random_codes(seed: int, bits: int, shape=(5, 4, 3, 3)) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 2**bits, shape).astype(np.uint8)


def random_weight(seed: int, shape=(6, 4, 3, 3)) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def per_channel(values: np.ndarray, ndim: int = 4) -> np.ndarray:
    return values.astype(np.float64).reshape(-1, *[1] * (ndim - 1))


def test_examples_of_docstrings():
    assert doctest.testmod(packing, extraglobs={"np": np}).failed == 0


# --- packing ----------------------------------------------------------------------------------------------


@many
@given(codes_and_bits())
def test_packed_codes_come_back(pair):
    codes, bits = pair
    packed = pack(codes, bits)
    assert packed.dtype == np.uint8 and packed.shape == (packed_bytes(codes.size, bits),)
    back = unpack(packed, codes.size, bits)
    assert back.dtype == np.uint8
    np.testing.assert_array_equal(back, codes)


@many
@given(codes_and_bits(most=20))
def test_packed_bits_are_the_codes_written_in_a_row(pair):
    codes, bits = pair
    row = "".join(f"{code:0{bits}b}" for code in codes)
    row += "0" * (-len(row) % 8)
    assert pack(codes, bits).tolist() == [int(row[i : i + 8], 2) for i in range(0, len(row), 8)]


@pytest.mark.parametrize("bits", range(1, 9))
def test_every_length_around_a_byte(bits):
    for count in [*range(34), 255, 256, 257, 4099]:
        codes = random_codes(count, bits, (count,))
        assert packed_bytes(count, bits) == (count * bits + 7) // 8
        np.testing.assert_array_equal(unpack(pack(codes, bits), count, bits), codes)


def test_arrays_are_read_in_row_major_order():
    codes = random_codes(0, 3, (3, 5, 7))
    for view in (codes, codes.transpose(2, 0, 1), codes[::2, :, ::-1], np.asfortranarray(codes)):
        np.testing.assert_array_equal(unpack(pack(view, 3), view.size, 3), np.ravel(view))


@pytest.mark.parametrize("bits", [3, 8])
def test_nothing_shares_memory_with_the_argument(bits):
    codes = random_codes(0, bits, (16,))
    packed = pack(codes, bits)
    assert not np.shares_memory(packed, codes) and not np.shares_memory(unpack(packed, 16, bits), packed)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (
            lambda: pack(np.array([4], np.uint8), 2),
            ValueError,
            "code 4 does not fit 2 bits; allowed are 0..3",
        ),
        (lambda: pack(np.array([1]), 2), TypeError, "codes must be uint8, got int64"),
        (lambda: pack(np.zeros(1, np.uint8), 9), ValueError, "bits=9: codes have 1 to 8 bits"),
        (lambda: pack(np.zeros(1, np.uint8), 0), ValueError, "bits=0"),
        (lambda: packed_bytes(3, -1), ValueError, "bits=-1"),
        (lambda: unpack(np.zeros(3, np.uint8), 9, 1), ValueError, r"9 codes of 1 bits are 2 bytes, got .*3"),
        (lambda: unpack(np.zeros((1, 2), np.uint8), 9, 1), ValueError, "are 2 bytes"),
        (lambda: unpack(np.zeros(2, np.int8), 9, 1), TypeError, "must be uint8, got int8"),
    ],
)
def test_errors_of_packing(call, error, message):
    with pytest.raises(error, match=message):
        call()


# --- lower precisions -------------------------------------------------------------------------------------


@many
@given(BITS, BITS, SEEDS)
def test_truncation_is_a_shift_and_that_of_training(first, second, seed):
    to_bits, from_bits = sorted((first, second))
    codes = random_codes(seed, from_bits)
    cut = truncate(codes, from_bits, to_bits)
    assert cut.dtype == np.uint8
    assert cut.ravel().tolist() == [code >> (from_bits - to_bits) for code in codes.ravel().tolist()]
    trained = F.truncate_codes(torch.from_numpy(codes).float(), from_bits, to_bits)
    np.testing.assert_array_equal(cut, trained.numpy())


@pytest.mark.parametrize("to_bits", [0, 5, -1])
def test_truncation_to_more_bits_is_an_error(to_bits):
    with pytest.raises(ValueError, match=rf"cannot keep {to_bits} bits of 4-bit codes; allowed are 1..4"):
        truncate(np.zeros(3, np.uint8), 4, to_bits)


def test_truncation_refuses_codes_beyond_their_bits():
    with pytest.raises(ValueError, match="code 16 does not fit 4 bits"):
        truncate(np.array([16], np.uint8), 4, 2)


@pytest.mark.parametrize("bits", range(1, 9))
def test_thresholds_give_the_codes_of_training(bits):
    """Where a code begins, exactly there: the nested grid's cells begin at multiples of 2**(1 - bits)."""
    weight = random_weight(bits)
    scale = weight.abs().amax(dim=(1, 2, 3))
    thresholds = np.arange(1, 2**bits, dtype=np.float32) * np.float32(2.0 ** (1 - bits)) - 1
    found = codes_by_thresholds(weight.numpy(), scale.numpy(), thresholds)
    trained = F.nested_codes(weight, scale.view(-1, 1, 1, 1), bits)
    assert found.dtype == np.uint8 and found.max() == 2**bits - 1
    on_edges = codes_by_thresholds(thresholds[None], np.ones(1, np.float32), thresholds)
    assert on_edges.ravel().tolist() == list(range(1, 2**bits))
    differ = found != trained.numpy()  # training adds 1 to the ratio first, which rounds
    ratio = weight.numpy() / scale.numpy().reshape(-1, 1, 1, 1)
    assert np.all(np.abs(ratio[..., None] - thresholds)[differ].min(axis=-1, initial=0) < 1e-6)


def test_thresholds_may_be_infinite_and_equal():
    thresholds = np.array([-np.inf, 0.5, 0.5, np.inf], np.float32)
    codes = codes_by_thresholds(
        np.array([[-9.0, 0.5, 1.0]], np.float32), np.full(1, 2, np.float32), thresholds
    )
    assert codes.tolist() == [[1, 1, 3]]


@pytest.mark.parametrize(
    ("weight", "divisor", "thresholds", "error", "message"),
    [
        (
            np.ones((2, 3)),
            np.ones(2, np.float32),
            np.ones(1, np.float32),
            TypeError,
            "weight must be float32",
        ),
        (
            np.ones((2, 3), np.float32),
            np.ones(2),
            np.ones(1, np.float32),
            TypeError,
            "divisor must be float32",
        ),
        (
            np.ones((2, 3), np.float32),
            np.ones(2, np.float32),
            np.ones(1),
            TypeError,
            "thresholds must be float32",
        ),
        (
            *(np.ones(s, np.float32) for s in ((2, 3), 3, 1)),
            ValueError,
            r"divisor must be \(2,\).*got \(3,\)",
        ),
        (*(np.ones(s, np.float32) for s in ((2, 3), 2, 0)), ValueError, "1 to 255 rising numbers"),
        (*(np.ones(s, np.float32) for s in ((2, 3), 2, 256)), ValueError, "1 to 255 rising numbers"),
        (*(np.ones(s, np.float32) for s in ((2, 3), 2)), np.float32([1, 0]), ValueError, "rising"),
        (*(np.ones(s, np.float32) for s in ((2, 3), 2)), np.float32([0, np.nan]), ValueError, "rising"),
    ],
)
def test_errors_of_thresholds(weight, divisor, thresholds, error, message):
    with pytest.raises(error, match=message):
        codes_by_thresholds(weight, divisor, thresholds)


# --- signed integers --------------------------------------------------------------------------------------


@many
@given(BITS, SEEDS, st.sampled_from([1e-6, 0.03, 1.0, 300.0]), st.booleans())
def test_signed_weights_have_the_same_values(bits, seed, spread, one_scale):
    rng = np.random.default_rng(seed)
    codes = random_codes(seed, bits)
    count = 1 if one_scale else codes.shape[0]
    scale = (spread * rng.uniform(0.1, 2, count)).astype(np.float32)
    offset = (spread * rng.uniform(-2, 2, count) * 2**bits).astype(np.float32)
    signed = signed_weights(codes, scale, offset, bits)
    wanted = per_channel(scale) * codes + per_channel(offset)
    found = per_channel(signed.scale) * signed.codes + per_channel(signed.correction)
    assert signed.codes.dtype == np.int8 and signed.codes.shape == codes.shape
    assert signed.scale.dtype == signed.correction.dtype == np.float32
    assert signed.scale.shape == signed.correction.shape == codes.shape[:1]
    assert np.abs(found - wanted).max() <= 1e-6 * np.abs(wanted).max()


@pytest.mark.parametrize("bits", range(1, 9))
def test_all_codes_become_different_integers_of_int8(bits):
    codes = np.arange(2**bits, dtype=np.uint8)[None]
    half = np.ones(1, np.float32)
    for offset in (half * (2.0**-bits - 1), half * 0.3):  # symmetric or not
        integers = signed_weights(codes, half * 2.0 ** (1 - bits), offset, bits).codes.ravel().astype(int)
        assert len(set(integers)) == 2**bits and np.all(np.diff(integers) > 0)
        assert integers.min() >= -128 and integers.max() <= 127


@pytest.mark.parametrize("exact_zero", [True, False])
@pytest.mark.parametrize("bits", range(1, 9))
def test_nested_weights_as_integers(bits, exact_zero):
    weight = random_weight(bits)
    quantizer = Nested(precisions=(8, bits) if bits < 8 else (8,), weight=weight, exact_zero=exact_zero)
    codes = quantizer.to_codes(weight, bits).numpy().astype(np.uint8)
    half = quantizer.scale(weight).double().flatten().numpy()
    scale, offset = (
        (half * 2.0 ** (1 - bits)).astype(np.float32),
        (half * ((bits != quantizer.zero_bits) * 2.0**-bits - 1)).astype(np.float32),
    )
    signed = signed_weights(codes, scale, offset, bits)
    if bits <= 7:
        np.testing.assert_array_equal(signed.codes, 2 * codes.astype(int) + 1 - 2**bits)
        assert not signed.correction.any()
    else:
        np.testing.assert_array_equal(signed.codes, codes.astype(int) - 128)
        np.testing.assert_allclose(signed.correction, 0 * scale if exact_zero else scale / 2, rtol=1e-4)
    values = per_channel(signed.scale) * signed.codes + per_channel(signed.correction)
    np.testing.assert_allclose(values, quantizer(weight, bits).detach().numpy(), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("bits", [8, 4, 2, 1])
def test_dorefa_weights_as_integers(bits):
    weight = random_weight(bits)
    quantizer = Dorefa(precisions=(8, bits) if bits < 8 else (8,), weight=weight)
    codes, values = quantizer.to_codes(weight, bits).numpy().astype(np.uint8), quantizer(weight, bits).numpy()
    scale = np.float32([(values.max() + 1) / codes.max()])
    signed = signed_weights(codes, scale, np.float32([-1]), bits)
    np.testing.assert_array_equal(signed.codes, codes.astype(int) - 2 ** (bits - 1))
    found = per_channel(signed.scale) * signed.codes + per_channel(signed.correction)
    np.testing.assert_allclose(found, values, atol=1e-6)


def test_the_uniform_two_bit_grid_needs_no_remainder():
    """DoReFa with a mean of exactly one half: -1, -1/3, 1/3, 1."""
    signed = signed_weights(np.arange(4, dtype=np.uint8)[None], np.float32([2 / 3]), np.float32([-1]), bits=2)
    assert signed.codes.tolist() == [[-3, -1, 1, 3]] and signed.correction.tolist() == [0.0]


@pytest.mark.parametrize("share", [1e-5, -1e-5, 1e-3])
def test_a_grid_that_is_almost_symmetric_keeps_its_remainder(share):
    codes = np.arange(16, dtype=np.uint8)[None]
    scale, offset = np.float32([0.125]), np.float32([-15 / 16 * (1 + share)])
    signed = signed_weights(codes, scale, offset, bits=4)
    values = per_channel(signed.scale, 2) * signed.codes + per_channel(signed.correction, 2)
    np.testing.assert_allclose(values, 0.125 * codes + np.float64(offset[0]), atol=1e-7)
    assert signed.correction[0] != 0


def test_a_channel_of_zeros_stays_zero():
    zeros = np.zeros(2, np.float32)
    signed = signed_weights(random_codes(0, 4, (2, 3, 1, 1)), zeros, zeros, bits=4)
    assert not signed.scale.any() and not signed.correction.any()


def test_errors_of_signed_weights():
    codes, one = np.zeros((2, 3), np.uint8), np.ones(1, np.float32)
    with pytest.raises(ValueError, match=r"scale must be \(2,\) or \(1,\), got \(3,\)"):
        signed_weights(codes, np.ones(3, np.float32), one, 4)
    with pytest.raises(ValueError, match=r"offset must be \(2,\) or \(1,\), got \(2, 1\)"):
        signed_weights(codes, one, np.ones((2, 1), np.float32), 4)
    with pytest.raises(TypeError, match="codes must be uint8"):
        signed_weights(codes.astype(np.int8), one, one, 4)
