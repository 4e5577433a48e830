"""Codes of weights: their bits packed, cut to lower precisions, and read as signed 8-bit integers.

A *code* is an integer in [0, 2**bits), bits 1 to 8, held as uint8. Training-time twin: ``quant/functional.py``.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

#: How far an offset may stand from that of a symmetric grid, as a share of the grid's half width: float32 rounding.
SYMMETRY = 4 * float(np.finfo(np.float32).eps)


def packed_bytes(count: int, bits: int) -> int:
    """Bytes that :func:`pack` gives for ``count`` codes: ``ceil(count * bits / 8)``."""
    _check_bits(bits)
    return -(-count * bits // 8)


def pack(codes: np.ndarray, bits: int) -> np.ndarray:
    """Write codes one after the other, most significant bit first; the last byte is filled up with zeros.

    ::

        3 bits   a a a b b b c c | c d d d 0 0 0 0      codes a b c d in two bytes

    Args:
        codes: uint8, any shape, read in row-major order, each in [0, 2**bits).

    Returns: uint8, (packed_bytes(count, bits),).

    Raises:
        TypeError: codes are not uint8.
        ValueError: a code needs more than ``bits`` bits, or ``bits`` is not in 1..8.

    >>> pack(np.array([1, 2, 3, 0, 3], np.uint8), bits=2)
    array([108, 192], dtype=uint8)
    """
    flat = _check_codes(codes, bits).reshape(-1)
    if bits == 8:
        return flat.copy()
    return np.packbits(np.unpackbits(flat[:, None], axis=1)[:, 8 - bits :])


def unpack(packed: np.ndarray, count: int, bits: int) -> np.ndarray:
    """The ``count`` codes that :func:`pack` wrote.

    Args:
        packed: uint8, (packed_bytes(count, bits),).

    Returns: uint8, (count,).

    Raises:
        TypeError: ``packed`` is not uint8.
        ValueError: ``packed`` has another length, or ``bits`` is not in 1..8.

    >>> unpack(np.array([108, 192], np.uint8), count=5, bits=2)
    array([1, 2, 3, 0, 3], dtype=uint8)
    """
    if packed.dtype != np.uint8:
        raise TypeError(f"packed codes must be uint8, got {packed.dtype}")
    if packed.shape != (packed_bytes(count, bits),):
        raise ValueError(
            f"{count} codes of {bits} bits are {packed_bytes(count, bits)} bytes, got shape {packed.shape}"
        )
    if bits == 8:
        return packed.copy()
    columns = np.unpackbits(packed, count=count * bits).reshape(count, bits)
    return np.packbits(columns, axis=1)[:, 0] >> (8 - bits) if count else np.zeros(0, np.uint8)


def truncate(codes: np.ndarray, from_bits: int, to_bits: int) -> np.ndarray:
    """Keep the ``to_bits`` most significant bits: ``codes >> (from_bits - to_bits)``, uint8, same shape.

    Raises:
        ValueError: not 1 <= to_bits <= from_bits <= 8, or a code needs more than ``from_bits`` bits.

    >>> truncate(np.array([0, 7, 15], np.uint8), 4, 2)
    array([0, 1, 3], dtype=uint8)
    """
    _check_codes(codes, from_bits)
    if not 1 <= to_bits <= from_bits:
        raise ValueError(f"cannot keep {to_bits} bits of {from_bits}-bit codes; allowed are 1..{from_bits}")
    return codes >> np.uint8(from_bits - to_bits)


def codes_by_thresholds(weight: np.ndarray, divisor: np.ndarray, thresholds: np.ndarray) -> np.ndarray:
    """Number of thresholds that are ``<= weight / divisor``; all in float32, so that no rounding can differ.

    Args:
        weight: float32, (O, ...).
        divisor: float32, (O,), positive.
        thresholds: float32, (2**bits - 1,), rising, not above 8 bits.

    Returns: uint8, shaped like ``weight``.

    Raises:
        TypeError: something is not float32.
        ValueError: shapes do not fit, or thresholds fall or hold a NaN.
    """
    for name, array in (("weight", weight), ("divisor", divisor), ("thresholds", thresholds)):
        if array.dtype != np.float32:
            raise TypeError(f"{name} must be float32, got {array.dtype}")
    if divisor.shape != weight.shape[:1]:
        raise ValueError(f"divisor must be {weight.shape[:1]}, one per output channel, got {divisor.shape}")
    if (
        thresholds.ndim != 1
        or not 1 <= thresholds.size <= 255
        or not np.all(thresholds[:-1] <= thresholds[1:])
    ):
        raise ValueError("thresholds must be 1 to 255 rising numbers")
    ratio = weight / _per_channel(divisor, weight.ndim)
    return np.searchsorted(thresholds, ratio, side="right").astype(np.uint8)


class SignedWeights(NamedTuple):
    """``weight = scale * codes + correction``: codes int8 (O, ...), scale and zero-point correction float32 (O,)."""

    codes: np.ndarray
    scale: np.ndarray
    correction: np.ndarray


def signed_weights(codes: np.ndarray, scale: np.ndarray, offset: np.ndarray, bits: int) -> SignedWeights:
    """Weights ``scale * code + offset`` as signed integers, for kernels that multiply by int8.

    A grid that is symmetric about zero becomes ``scale / 2 * (2 code + 1 - 2**bits)`` without a correction, up to
    7 bits. Any other grid becomes ``scale * (code - 2**(bits - 1)) + correction``; engines add ``correction`` times
    the sum of the input over the window. At 8 bits the correction of a symmetric grid is ``scale / 2`` exactly.

    Args:
        codes: uint8, (O, ...), each in [0, 2**bits).
        scale, offset: float32, (O,) or (1,).

    Raises:
        TypeError, ValueError: as :func:`pack`; or scale and offset have another shape.

    >>> signed_weights(np.arange(4, dtype=np.uint8)[None], np.float32([0.5]), np.float32([-0.75]), bits=2)
    SignedWeights(codes=array([[-3, -1,  1,  3]], dtype=int8), scale=array([0.25], dtype=float32), \
correction=array([0.], dtype=float32))
    """
    _check_codes(codes, bits)
    channels = codes.shape[:1]
    for name, array in (("scale", scale), ("offset", offset)):
        if array.shape not in (channels, (1,)):
            raise ValueError(f"{name} must be {channels} or (1,), got {array.shape}")
    scale, offset = (np.broadcast_to(a, channels).astype(np.float32) for a in (scale, offset))
    wide = codes.astype(np.int16)
    middle = scale.astype(np.float64) * (2**bits - 1) / 2
    symmetric = np.all(np.abs(offset + middle) <= SYMMETRY * np.abs(middle))
    if symmetric and bits <= 7:
        return SignedWeights(
            (2 * wide + 1 - 2**bits).astype(np.int8), scale / 2, np.zeros(channels, np.float32)
        )
    low = 2 ** (bits - 1)
    correction = scale / 2 if symmetric else (offset + low * scale.astype(np.float64)).astype(np.float32)
    return SignedWeights((wide - low).astype(np.int8), scale, correction)


def _per_channel(values: np.ndarray, ndim: int) -> np.ndarray:
    return values.reshape(-1, *[1] * (ndim - 1))


def _check_bits(bits: int) -> None:
    if not 1 <= bits <= 8:
        raise ValueError(f"bits={bits}: codes have 1 to 8 bits")


def _check_codes(codes: np.ndarray, bits: int) -> np.ndarray:
    _check_bits(bits)
    if codes.dtype != np.uint8:
        raise TypeError(f"codes must be uint8, got {codes.dtype}")
    if bits < 8 and codes.size and codes.max() >= 2**bits:
        raise ValueError(f"code {codes.max()} does not fit {bits} bits; allowed are 0..{2**bits - 1}")
    return codes
