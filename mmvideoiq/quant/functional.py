"""The arithmetic of quantization: codes, their truncation, the values they stand for, and straight-through gradients.

A *code* is an integer grid value in ``[0, 2**bits)``, held in a float tensor. ``parent_bits`` is the precision
whose codes are cut to obtain the lower ones. Source of the DoReFa and PACT rules: arXiv:2108.10394.
"""

from typing import Any

import torch
from torch import Tensor


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
    return torch.floor(codes * 2.0 ** (to_bits - from_bits))


# --- weights, DoReFa: u = tanh(w) / (2 max|tanh(w)|) + 1/2, uniform steps of u, cut by flooring ----------------------


def dorefa_normalize(weight: Tensor) -> Tensor:
    """``tanh(w) / max|tanh(w)|``, in [-1, 1]; differentiable, the maximum included. All-zero weights stay zero."""
    squashed = torch.tanh(weight)
    return squashed / squashed.abs().max().clamp_min(torch.finfo(weight.dtype).tiny)


def dorefa_codes(weight: Tensor, bits: int, parent_bits: int) -> Tensor:
    """``floor(round((2**B - 1) u) / 2**(B - b))`` with B = ``parent_bits``, b = ``bits``: codes in [0, 2**bits).

    With B above 24 a float32 code is exact to 24 bits; the topmost one is held inside the grid.
    """
    unit = dorefa_normalize(weight) / 2 + 0.5
    codes = truncate_codes(torch.round(unit * (2.0**parent_bits - 1)), parent_bits, bits)
    return codes.clamp_(max=2.0**bits - 1)


def dorefa_weight(weight: Tensor, bits: int, parent_bits: int) -> Tensor:
    """The paper's weight at ``bits``, cut from ``parent_bits``: ``2 v - 1`` with mean alignment.

    ``v = c_b 2**(B-b) / (2**B - 1)``, then ``v <- v * mean(c_B / (2**B - 1)) / mean(v)``.

    Returns: like ``weight``, at most ``2**bits`` different values. Gradient: that of ``tanh(w) / max|tanh(w)|``;
    rounding, truncation and alignment let it pass.
    """
    normalized = dorefa_normalize(weight)  # in [-1, 1]
    with torch.no_grad():
        steps = 2.0**parent_bits - 1
        parent = torch.round((normalized / 2 + 0.5) * steps)
        if bits == parent_bits:
            values = parent / steps
        else:
            codes = truncate_codes(parent, parent_bits, bits).clamp_(max=2.0**bits - 1)
            values = codes * (2.0 ** (parent_bits - bits) / steps)
            mean = values.mean()
            values = values * torch.where(mean > 0, (parent / steps).mean() / mean, torch.ones_like(mean))
        hard = 2 * values - 1
    return straight_through(normalized, hard)


# --- weights, centred nested grid: cells of [-scale, scale], each read as its middle -----------------------------------


def nested_codes(weight: Tensor, scale: Tensor, bits: int) -> Tensor:
    """``clip(floor((w / scale + 1) 2**(b-1)), 0, 2**b - 1)``: the cell of ``w`` among 2**bits in [-scale, scale].

    Codes of a lower precision are those of a higher one shifted right, exactly. No gradient.
    Deployed twin: the signed 8-bit integer ``2 code + 1 - 2**bits``.
    """
    return torch.floor((weight / scale + 1) * 2.0 ** (bits - 1)).clamp_(0, 2.0**bits - 1)


def nested_values(codes: Tensor, scale: Tensor | float, bits: int) -> Tensor:
    """``scale * (2 code + 1 - 2**bits) / 2**bits``: odd multiples of ``scale / 2**bits``, symmetric about zero.

    >>> nested_values(torch.arange(4.), 1.0, 2)
    tensor([-0.7500, -0.2500,  0.2500,  0.7500])
    """
    return scale * ((2 * codes + (1 - 2.0**bits)) * 2.0**-bits)


def nested_weight(weight: Tensor, scale: Tensor, bits: int) -> Tensor:
    """Weight on the centred nested grid. Gradient to ``weight``: 1 where ``|w| <= scale``, else 0;
    to ``scale`` (LSQ, arXiv:1902.08153, on this grid): ``value / scale - [|w| <= scale] w / scale``, times upstream.
    """
    ratio = (weight / scale).clamp(-1, 1)
    with torch.no_grad():
        hard = nested_values(nested_codes(weight, scale, bits), 1.0, bits)
    return scale * straight_through(ratio, hard)


def scale_gradient(x: Tensor, factor: float) -> Tensor:
    """Return ``x``; its gradient is multiplied by ``factor``."""
    return straight_through(x * factor, x.detach())


# --- activations, PACT ------------------------------------------------------------------------------------------------


def pact_steps(bits: int, signed: bool) -> float:
    """Steps from zero to the clip value: ``2**b - 1``, and ``2**(b-1) - 1`` (at least 1) on each side if signed."""
    return max(2.0 ** (bits - 1) - 1, 1.0) if signed else 2.0**bits - 1


class _Pact(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, clip: Tensor, steps: float, signed: bool) -> Tensor:
        clip = clip.to(x.dtype)
        ctx.save_for_backward(x, clip)
        ctx.signed = signed
        y = torch.minimum(x, clip)
        y = torch.maximum(y, -clip, out=y) if signed else y.clamp_(min=0)
        return y.mul_(steps / clip).round_().mul_(clip / steps)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, Tensor | None, None, None]:
        x, clip = ctx.saved_tensors
        grad = grads[0]
        low = -clip if ctx.signed else torch.zeros_like(clip)
        grad_clip = None
        buffer = torch.empty_like(grad)
        zero = grad.new_zeros(())
        if ctx.needs_input_grad[1]:
            total = torch.where(x >= clip, grad, zero, out=buffer).sum(dtype=torch.float32)
            if ctx.signed:
                total = total - torch.where(x <= low, grad, zero, out=buffer).sum(dtype=torch.float32)
            grad_clip = total.reshape(1).to(clip.dtype)
        if not ctx.needs_input_grad[0]:
            return None, grad_clip, None, None
        return torch.where((x > clip) | (x < low), zero, grad, out=buffer), grad_clip, None, None


def pact(x: Tensor, clip: Tensor, bits: int, signed: bool = False) -> Tensor:
    """Clip to [0, clip] (``signed``: [-clip, clip]) and round to the grid of ``bits``; zero is on the grid.

    Args:
        x: any shape.
        clip: one positive value, shape (1,).

    Returns: like ``x``. Gradient to ``x``: 1 inside the closed range, 0 outside; to ``clip``: the sum of upstream
    gradients where ``x >= clip`` (``signed``: minus that where ``x <= -clip``).

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
