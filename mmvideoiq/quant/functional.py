"""The arithmetic of quantization: codes, their truncation, their values, straight-through gradients.

A *code* is an integer grid value in ``[0, 2**bits)``, held in a float tensor. ``parent_bits`` is the
precision whose codes are cut to obtain the lower ones. Half-precision tensors are quantized in float32,
whose codes are exact up to 24 bits. Source of the DoReFa and PACT rules: arXiv:2108.10394.
"""

from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable


class _StraightThrough(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, soft: Tensor, hard: Tensor) -> Tensor:
        return hard.view_as(hard)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None]:
        return grads[0], None


def straight_through(soft: Tensor, hard: Tensor) -> Tensor:
    """Return exactly ``hard``; the gradient goes unchanged to ``soft``. Both have one shape."""
    return _StraightThrough.apply(soft, hard)


def truncate_codes(codes: Tensor, from_bits: int, to_bits: int) -> Tensor:
    """Keep the ``to_bits`` most significant bits of unsigned codes: ``codes >> (from_bits - to_bits)``.

    Args:
        codes: integer-valued, any shape, in [0, 2**from_bits).
        to_bits: 1 <= to_bits <= from_bits.

    Returns: same shape, in [0, 2**to_bits). No gradient.

    Raises:
        ValueError: to_bits is not in 1..from_bits.

    >>> truncate_codes(torch.tensor([0., 7., 15.]), 4, 2)
    tensor([0., 1., 3.])
    """
    if not 1 <= to_bits <= from_bits:
        raise ValueError(f"cannot keep {to_bits} bits of {from_bits}-bit codes; allowed are 1..{from_bits}")
    return (codes.detach() * 2.0 ** (to_bits - from_bits)).floor_()


def top_code(bits: int, dtype: torch.dtype) -> float:
    """The largest code that ``dtype`` can hold: ``2**bits - 1``, or the float just below ``2**bits``.

    >>> top_code(4, torch.float32), top_code(32, torch.float32)
    (15.0, 4294967040.0)
    """
    return 2.0**bits - max(1.0, 2.0**bits * torch.finfo(dtype).eps / 2)


def _is_half(x: Tensor) -> bool:
    return torch.finfo(x.dtype).bits < 32


def at_least_float32(x: Tensor) -> Tensor:
    """``x``, in float32 if it is of a half-precision type.

    >>> at_least_float32(torch.zeros(1).half()).dtype, at_least_float32(torch.zeros(1).double()).dtype
    (torch.float32, torch.float64)
    """
    return x.float() if _is_half(x) else x


# --- weights, DoReFa: u = tanh(w) / (2 max|tanh(w)|) + 1/2, uniform steps of u, cut by flooring -----------


class _DorefaNormalize(torch.autograd.Function):
    """``n = t / m`` with t = tanh(w), m = max|t|. Its time is spent on passes over memory, so there are few."""

    @staticmethod
    def forward(ctx: Any, weight: Tensor) -> Tensor:
        squashed = torch.tanh(weight)
        low, high = torch.aminmax(squashed)
        top = torch.maximum(high, -low)
        top = top + (top == 0)
        normalized = squashed.div_(top)
        ctx.save_for_backward(normalized, top)
        return normalized

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> Tensor:
        grad = grads[0]
        normalized, top = ctx.saved_tensors
        # dt = (g - [|n| = 1] n sum(g n) / count) / m ; dw = dt (1 - t**2)
        buffer = normalized * grad
        total = buffer.sum()
        extreme = normalized.abs().eq_(1)
        share = total / extreme.sum().clamp_min_(1)
        grad_squashed = extreme.mul_(normalized).mul_(-share).add_(grad)
        slope = torch.mul(normalized, normalized, out=buffer).mul_(-top * top).add_(1)
        return grad_squashed.mul_(slope).div_(top)


def dorefa_normalize(weight: Tensor) -> Tensor:
    """``tanh(w) / max|tanh(w)|``, in [-1, 1]; the gradient includes the maximum. Zeros stay zero."""
    return _DorefaNormalize.apply(weight)


def _dorefa_steps(bits: int, overflow: bool) -> float:
    """``2**bits - 1``; with ``overflow`` rounded to float32, where it is ``2**bits`` above 24 bits."""
    return 2.0**bits if overflow and bits > 24 else 2.0**bits - 1


def _dorefa_parent(normalized: Tensor, parent_bits: int, overflow: bool = False) -> Tensor:
    """``round(steps u)`` of ``2 u - 1``; undoes float32 rounding ``2**B - 1`` up (B > 24) unless ``overflow``."""
    parent = (normalized / 2).add_(0.5).mul_(_dorefa_steps(parent_bits, overflow)).round_()
    return parent if overflow else parent.clamp_(max=top_code(parent_bits, parent.dtype))


def dorefa_codes(weight: Tensor, bits: int, parent_bits: int) -> Tensor:
    """``floor(round((2**B - 1) u) / 2**(B - b))`` with B = ``parent_bits``, b = ``bits``.

    Returns: codes in [0, 2**bits), those of ``parent_bits`` shifted right, exactly. No gradient.
    """
    with torch.no_grad():
        normalized = dorefa_normalize(at_least_float32(weight))
        return truncate_codes(_dorefa_parent(normalized, parent_bits), parent_bits, bits)


class DorefaParent(NamedTuple):
    """The part of a weight's values that all precisions share.

    normalized: ``2 u - 1``, with gradient. codes: those of the highest precision. mean: of their values, ().
    steps: from 0 to 1, at the highest precision.
    """

    normalized: Tensor
    codes: Tensor
    mean: Tensor
    steps: float


def dorefa_parent(weight: Tensor, parent_bits: int, *, overflow: bool = False) -> DorefaParent:
    """The part of :func:`dorefa_weight` that is the same at every precision; it takes most of the time."""
    normalized = dorefa_normalize(at_least_float32(weight))
    with torch.no_grad():
        steps = _dorefa_steps(parent_bits, overflow)
        codes = _dorefa_parent(normalized, parent_bits, overflow)
        return DorefaParent(normalized, codes, (codes / steps).mean(), steps)


def dorefa_read(parent: DorefaParent, bits: int, parent_bits: int) -> Tensor:
    """The part of :func:`dorefa_weight` that depends on ``bits``."""
    with torch.no_grad():
        if bits == parent_bits:
            values = parent.codes / parent.steps
        else:
            codes = truncate_codes(parent.codes, parent_bits, bits)
            values = codes.div_(parent.steps * 2.0 ** (bits - parent_bits))
            mean = values.mean()
            values.mul_(parent.mean).div_(mean + (mean == 0))
        hard = values.mul_(2).sub_(1)
    return straight_through(parent.normalized, hard)


def dorefa_weight(weight: Tensor, bits: int, parent_bits: int, *, overflow: bool = False) -> Tensor:
    """The paper's weight at ``bits``, cut from ``parent_bits``: ``2 v - 1`` with mean alignment.

    ``v = c_b 2**(B-b) / (2**B - 1)``, then ``v <- v * mean(c_B / (2**B - 1)) / mean(v)``.

    Args:
        overflow: as in the authors' release, compute the number of steps in float32 for any dtype of the weight: for
            B > 24 it is ``2**B``, which is also the code of the largest weight. At lower precisions that
            weight lies one step past the grid (one more value).

    Returns: like ``weight``, at most ``2**bits`` different values. Gradient: that of
    ``tanh(w) / max|tanh(w)|``; rounding, truncation and alignment do not change it.
    """
    parent = dorefa_parent(weight, parent_bits, overflow=overflow)
    return dorefa_read(parent, bits, parent_bits).to(weight.dtype)


# --- weights, nested grid: cells of [-scale, scale], each read as its middle; at one precision zero may be a level ----


def nested_codes(weight: Tensor, scale: Tensor, bits: int, *, zero_bits: int | None = None) -> Tensor:
    """``clip(floor((w / scale + 1) 2**(b-1)), 0, 2**b - 1)``: the cell of ``w`` in [-scale, scale].

    Codes of a lower precision are those of a higher one shifted right, exactly. No gradient.
    Deployed twin: the signed 8-bit integer ``2 code + 1 - 2**bits``.

    Args:
        zero_bits: the highest precision, Z <= 16, if zero is to be one of its levels: its codes are then
            ``clip(round(w / scale 2**(Z-1)) + 2**(Z-1), 0, 2**Z - 1)``, half to even, and those of lower
            precisions are these shifted right; above Z nothing changes. Deployed twin at Z: ``code - 2**(Z-1)``.
    """
    with torch.no_grad():
        ratio = at_least_float32(weight) / at_least_float32(scale)
        if zero_bits is None or bits > zero_bits:
            return ratio.add_(1).mul_(2.0 ** (bits - 1)).floor_().clamp_(0, top_code(bits, ratio.dtype))
        half = 2.0 ** (zero_bits - 1)
        return truncate_codes(ratio.mul_(half).round_().clamp_(-half, half - 1).add_(half), zero_bits, bits)


def nested_values(codes: Tensor, scale: Tensor | float, bits: int, *, zero_bits: int | None = None) -> Tensor:
    """``scale * (2 code + 1 - 2**bits) / 2**bits``: odd multiples of ``scale / 2**bits``.

    Where ``bits`` is ``zero_bits``: ``scale * (2 code - 2**bits) / 2**bits``.

    >>> nested_values(torch.arange(4.), 1.0, 2)
    tensor([-0.7500, -0.2500,  0.2500,  0.7500])
    >>> nested_values(torch.arange(4.), 1.0, 2, zero_bits=2)
    tensor([-1.0000, -0.5000,  0.0000,  0.5000])
    """
    return scale * ((2 * codes + ((bits != zero_bits) - 2.0**bits)) * 2.0**-bits)


def nested_weight(weight: Tensor, scale: Tensor, bits: int, *, zero_bits: int | None = None) -> Tensor:
    """Weight on the nested grid.

    Gradient to ``weight``: 1 where ``|w| <= scale``, else 0; to ``scale`` (LSQ, arXiv:1902.08153, on this
    grid): ``value / scale - [|w| <= scale] w / scale``, times upstream.

    Args:
        zero_bits: as of :func:`nested_codes`.
    """
    if _is_half(weight):
        return nested_weight(weight.float(), scale.float(), bits, zero_bits=zero_bits).to(weight.dtype)
    ratio = (weight / scale).clamp(-1, 1)
    with torch.no_grad():
        codes = nested_codes(weight, scale, bits, zero_bits=zero_bits)
        hard = nested_values(codes, 1.0, bits, zero_bits=zero_bits)
    return scale * straight_through(ratio, hard)


def scale_gradient(x: Tensor, factor: float) -> Tensor:
    """Return ``x``; its gradient is multiplied by ``factor``."""
    return straight_through(x * factor, x.detach())


# --- activations, PACT ------------------------------------------------------------------------------------

CLIP_FLOOR = 1e-6  # replaces a learned clip of zero or less, which can recover


def pact_steps(bits: int, signed: bool) -> float:
    """Steps from zero to the clip value: ``2**b - 1``, and ``2**(b-1) - 1`` on each side if signed.

    Raises:
        ValueError: one bit, signed: zero and both signs are three levels.
    """
    if signed and bits < 2:
        raise ValueError(f"{bits} bit cannot hold an activation that takes both signs; use at least 2")
    return 2.0 ** (bits - 1) - 1 if signed else 2.0**bits - 1


def _beyond(bound: Tensor, towards: float) -> float:
    """The float next to ``bound``, for strict comparisons."""
    return float(torch.nextafter(bound, torch.full_like(bound, towards)))


def _inside(grad: Tensor, x: Tensor, low: Tensor, high: Tensor, out: Tensor) -> Tensor:
    """``grad`` where ``low <= x <= high``, else 0; written to ``out``."""
    if not _is_plain(grad, x):
        return torch.clamp(x, low, high, out=out).eq_(x).mul_(grad)
    bounds = _beyond(low, -torch.inf), _beyond(high, torch.inf)
    return torch.ops.aten.hardtanh_backward.grad_input(grad, x, *bounds, grad_input=out)


def _from(grad: Tensor, x: Tensor, low: Tensor, out: Tensor) -> Tensor:
    """``grad`` where ``x >= low``, else 0; written to ``out``."""
    if not _is_plain(grad, x):
        return torch.ge(x, low, out=out).mul_(grad)
    return torch.ops.aten.threshold_backward.grad_input(grad, x, _beyond(low, -torch.inf), grad_input=out)


def _is_plain(grad: Tensor, x: Tensor) -> bool:
    """Whether one fused pass applies. It takes its bounds as numbers, and reading them would stall a GPU."""
    return x.device.type == "cpu" and x.dtype == grad.dtype == torch.float32


class _Pact(torch.autograd.Function):
    """In-place and fused passes: fresh memory and ``torch.where`` cost more than the arithmetic."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, clip: Tensor, steps: float, signed: bool) -> Tensor:
        clip = clip.to(torch.promote_types(x.dtype, torch.float32)).clamp_min(CLIP_FLOOR)
        ctx.save_for_backward(x, clip)
        ctx.signed = signed
        scale = steps / clip
        y = torch.mul(x, scale).clamp_(-steps if signed else 0.0, steps).round_().mul_(clip / steps)
        return y.to(x.dtype)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, Tensor | None, None, None]:
        x, clip = ctx.saved_tensors
        grad, grad_clip = grads[0], None
        buffer = torch.empty_like(x)
        if ctx.needs_input_grad[1]:
            grad_clip = _from(grad, x, clip, buffer).sum(dtype=clip.dtype).reshape(1)
            if ctx.signed:
                grad_clip -= torch.le(x, -clip, out=buffer).mul_(grad).sum(dtype=clip.dtype)
        if not ctx.needs_input_grad[0]:
            return None, grad_clip, None, None
        low = -clip if ctx.signed else torch.zeros_like(clip)
        return _inside(grad, x, low, clip, buffer), grad_clip, None, None


def pact(x: Tensor, clip: Tensor, bits: int, signed: bool = False) -> Tensor:
    """Clip to [0, clip] (``signed``: [-clip, clip]) and round to the grid of ``bits``; zero is on the grid.

    Args:
        x: any shape.
        clip: one positive value, shape (1,).

    Returns: like ``x``. Gradient to ``x``: 1 inside the closed range, 0 outside; to ``clip``: the sum of
    upstream gradients where ``x >= clip`` (``signed``: minus that where ``x <= -clip``).

    >>> pact(torch.tensor([-1., .3, .5, 3.]), torch.tensor([1.]), bits=2)
    tensor([0.0000, 0.3333, 0.6667, 1.0000])
    """
    return _Pact.apply(x, clip, pact_steps(bits, signed), signed)


def uniform(x: Tensor, low: float, high: float, bits: int) -> Tensor:
    """Round to the ``2**bits`` levels from ``low`` to ``high``, both included; gradient as in :func:`pact`.

    >>> uniform(torch.tensor([0., .2, .4, 2.]), 0.0, 1.0, bits=2)
    tensor([0.0000, 0.3333, 0.3333, 1.0000])
    """
    step = (high - low) / (2.0**bits - 1)
    clipped = x.clamp(low, high)
    return straight_through(clipped, ((clipped.detach() - low) / step).round_().mul_(step).add_(low))
