"""Quantization, slow and obvious: one number at a time, Python integers for codes, float64 for the rest.

The oracle of ``mmvideoiq.quant.functional``. It takes and returns plain Python numbers.
"""

import math


def shift(code: int, from_bits: int, to_bits: int) -> int:
    return code >> (from_bits - to_bits)


def dorefa_unit(weights: list[float]) -> list[float]:
    """Weights in [0, 1]."""
    top = max(abs(math.tanh(w)) for w in weights)
    return [math.tanh(w) / (2 * top) + 0.5 for w in weights]


def dorefa_codes(weights: list[float], bits: int, parent_bits: int) -> list[int]:
    parents = [round((2**parent_bits - 1) * u) for u in dorefa_unit(weights)]
    return [shift(parent, parent_bits, bits) for parent in parents]


def dorefa_weights(weights: list[float], bits: int, parent_bits: int) -> list[float]:
    parents = dorefa_codes(weights, parent_bits, parent_bits)
    steps = 2**parent_bits - 1
    values = [(parent >> (parent_bits - bits) << (parent_bits - bits)) / steps for parent in parents]
    align = sum(parent / steps for parent in parents) / sum(values)
    return [2 * align * v - 1 for v in values]


def dorefa_gradient(weights: list[float], upstream: list[float]) -> list[float]:
    """Of sum(upstream * tanh(w) / max|tanh(w)|); the maximum must be reached once."""
    squashed = [math.tanh(w) for w in weights]
    top = max(abs(t) for t in squashed)
    out = []
    for t, g in zip(squashed, upstream, strict=True):
        slope = g / top
        if abs(t) == top:
            slope -= (
                math.copysign(1, t) * sum(a * b for a, b in zip(upstream, squashed, strict=True)) / top**2
            )
        out.append(slope * (1 - t * t))
    return out


def nested_code(weight: float, scale: float, bits: int, zero_bits: int | None = None) -> int:
    if zero_bits is not None:
        half = 2 ** (zero_bits - 1)
        code = min(max(round(weight / scale * half) + half, 0), 2**zero_bits - 1)
        return shift(code, zero_bits, bits)
    return min(max(math.floor((weight / scale + 1) * 2 ** (bits - 1)), 0), 2**bits - 1)


def nested_value(weight: float, scale: float, bits: int, zero_bits: int | None = None) -> float:
    code = nested_code(weight, scale, bits, zero_bits)
    if bits == zero_bits:
        return scale * (code - 2 ** (bits - 1)) / 2 ** (bits - 1)
    return scale * (2 * code + 1 - 2**bits) / 2**bits


def nested_gradients(
    weights: list[float], upstream: list[float], scale: float, bits: int, zero_bits: int | None = None
) -> tuple[list[float], float]:
    """To the weights and to their one scale."""
    to_weights, to_scale = [], 0.0
    for w, g in zip(weights, upstream, strict=True):
        inside = abs(w) <= scale
        to_weights.append(g if inside else 0.0)
        to_scale += g * (nested_value(w, scale, bits, zero_bits) / scale - (w / scale if inside else 0.0))
    return to_weights, to_scale


def pact_value(x: float, clip: float, bits: int, signed: bool) -> float:
    steps = 2 ** (bits - 1) - 1 if signed else 2**bits - 1
    x = min(max(x, -clip if signed else 0.0), clip)
    return round(x * steps / clip) * clip / steps


def pact_gradients(
    xs: list[float], upstream: list[float], clip: float, signed: bool
) -> tuple[list[float], float]:
    """To the inputs and to the clip."""
    low = -clip if signed else 0.0
    to_x = [g if low <= x <= clip else 0.0 for x, g in zip(xs, upstream, strict=True)]
    to_clip = sum(g for x, g in zip(xs, upstream, strict=True) if x >= clip)
    if signed:
        to_clip -= sum(g for x, g in zip(xs, upstream, strict=True) if x <= low)
    return to_x, to_clip
