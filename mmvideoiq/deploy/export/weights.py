"""The numbers of traced layers as the bundle stores them: parent codes once, scales and folded norms per precision."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from mmvideoiq.deploy.bundle.packing import codes_by_thresholds, pack, truncate
from mmvideoiq.deploy.export.trace import MAX_CODE_BITS, ExportError, Source
from mmvideoiq.quant import AnyPrecisionConv2d, AnyPrecisionLinear, Dorefa, Nested, SwitchableBatchNorm
from mmvideoiq.quant.precision import FLOAT_BITS, Mode

Tensors = Iterator[tuple[str, np.ndarray]]
TOLERANCE = 1e-6  # of the largest weight: what float32 rounding may add
INT16 = 2**15 - 1


def array(tensor: Tensor) -> np.ndarray:
    """A contiguous float32 array of its own."""
    return np.array(tensor.detach().numpy(), dtype=np.float32, order="C")


def recognition_tensors(
    sources: Mapping[str, Source], precisions: Sequence[int], modes: Sequence[Mode]
) -> dict[str, np.ndarray]:
    """Tensors of layers that follow a precision, and of those that stay float, with the norms of each mode.

    Raises:
        ExportError: a quantizer without an integer twin, a norm without statistics.
        RuntimeError: stored codes or scales do not give the simulation's weights.
    """

    def all_tensors() -> Tensors:
        for name, source in sources.items():
            layer = source.layer
            if isinstance(layer, (AnyPrecisionConv2d, AnyPrecisionLinear)):
                yield from _any_precision(name, layer, precisions)
            elif layer is not None:
                yield f"{name}.weight", array(layer.weight)  # type: ignore[arg-type]
            yield from _gain_and_bias(name, source, modes)

    return dict(all_tensors())


def policy_tensors(sources: Mapping[str, Source], precisions: Sequence[int] = ()) -> dict[str, np.ndarray]:
    """Tensors of layers at the one precision there may be, of float layers with weights in 16 bits, and of LSTMs."""

    def all_tensors() -> Tensors:
        for name, source in sources.items():
            if isinstance(source.layer, nn.LSTM):
                yield from _lstm(name, source.layer)
                continue
            if isinstance(source.layer, (AnyPrecisionConv2d, AnyPrecisionLinear)):
                yield from _any_precision(name, source.layer, precisions)
            elif source.layer is not None:
                yield from _int16(name, source.layer.weight)  # type: ignore[arg-type]
            norm = source.norm
            if isinstance(norm, SwitchableBatchNorm):
                norm = norm.of(precisions[0])
            yield from _gain_and_bias(name, Source(source.layer, norm), ())

    return dict(all_tensors())


def _any_precision(name: str, layer: Any, precisions: Sequence[int]) -> Tensors:
    weight, quantizer = layer.weight.detach(), layer.weight_quantizer
    parent = precisions[0]
    if parent == FLOAT_BITS and not quantizer.is_float(parent):
        raise ExportError(f"{name}: quantize_32=True rounds weights to 32 bits; train with 32 as float")
    if parent == FLOAT_BITS:
        yield f"{name}.weight", array(weight)
    integer = [bits for bits in precisions if bits <= MAX_CODE_BITS]
    if not integer:
        return
    top = integer[0]
    codes = {bits: _codes(quantizer, weight, bits) for bits in integer}
    if parent == FLOAT_BITS:
        divisor = (
            quantizer.scale(weight).flatten().expand(len(weight))
            if isinstance(quantizer, Nested)
            else weight.new_ones(len(weight))
        )
        thresholds = _thresholds(weight / divisor.view(-1, *[1] * (weight.dim() - 1)), codes[top], top)
        yield f"{name}.thresholds", thresholds
        yield f"{name}.divisor", array(divisor)
        stored = codes_by_thresholds(array(weight), array(divisor), thresholds)
    else:
        stored = codes[top]
        yield f"{name}.codes", pack(stored, top)
    for bits in integer:
        if not np.array_equal(truncate(stored, top, bits), codes[bits]):
            raise RuntimeError(f"{name}: the stored codes at {bits} bits differ from the simulation's")
        scale, offset = _scale_and_offset(name, quantizer, weight, codes[bits], bits)
        yield f"{name}.scale.{bits}", scale
        yield f"{name}.offset.{bits}", offset


def _codes(quantizer: Any, weight: Tensor, bits: int) -> np.ndarray:
    return quantizer.to_codes(weight, bits).to(torch.uint8).numpy()


def _thresholds(ratio: Tensor, codes: np.ndarray, bits: int) -> np.ndarray:
    """For each code from 1 on, the least ratio that has it or a higher one; the largest float where none has."""
    least = np.full(2**bits, np.finfo(np.float32).max, np.float32)
    np.minimum.at(least, codes.ravel(), array(ratio).ravel())
    return np.minimum.accumulate(least[::-1])[-2::-1].copy()


def _scale_and_offset(
    name: str, quantizer: Any, weight: Tensor, codes: np.ndarray, bits: int
) -> tuple[np.ndarray, np.ndarray]:
    """Of each channel, or of all: ``weight value = scale * code + offset``."""
    values = quantizer(weight, bits).detach().double().numpy()
    if isinstance(quantizer, Nested):
        half = quantizer.scale(weight).detach().double().flatten().numpy()
        scale = half * 2.0 ** (1 - bits)
        offset = scale / 2 * (bits != quantizer.zero_bits) - half
    elif isinstance(quantizer, Dorefa):  # the mean alignment is in the largest value
        largest = codes.argmax()
        scale = np.reshape((values.flat[largest] + 1) / max(codes.flat[largest], 1), 1)
        offset = np.full(1, -1.0)
    else:
        raise ExportError(f"{name}: the weight quantizer {type(quantizer).__name__} has no integer twin")
    per_channel = (-1, *[1] * (codes.ndim - 1))
    found = scale.reshape(per_channel) * codes + offset.reshape(per_channel)
    if np.abs(found - values).max() > TOLERANCE * np.abs(values).max():
        raise RuntimeError(f"{name}: scale and offset at {bits} bits do not give the simulation's weights")
    return scale.astype(np.float32), offset.astype(np.float32)


def _gain_and_bias(name: str, source: Source, modes: Sequence[Mode]) -> Tensors:
    norms: dict[str, Any]
    if isinstance(source.norm, SwitchableBatchNorm):
        norms = {f".{mode}": source.norm.of(mode) for mode in modes}
    else:
        norms = {"": source.norm}
    for suffix, norm in norms.items():
        gain, bias = _folded(name, source.layer, norm)
        yield f"{name}.gain{suffix}", gain
        yield f"{name}.bias{suffix}", bias


def _folded(name: str, layer: Any, norm: Any) -> tuple[np.ndarray, np.ndarray]:
    """``gain * x + bias`` is the layer's bias and the norm after it, each of which may be missing."""
    channels = len(layer.weight) if layer is not None else norm.num_features
    gain, bias = torch.ones(channels).double(), torch.zeros(channels).double()
    if layer is not None and layer.bias is not None:
        bias = layer.bias.detach().double()
    if norm is not None:
        if norm.running_mean is None:
            raise ExportError(
                f"{name}: the norm after it has no running statistics (track_running_stats=False)"
            )
        gain = (norm.running_var.double() + norm.eps).rsqrt()
        bias = (bias - norm.running_mean.double()) * gain
        if norm.affine:
            gain, bias = gain * norm.weight.double(), bias * norm.weight.double() + norm.bias.double()
    return array(gain), array(bias)


def _int16(name: str, weight: Tensor) -> Tensors:
    """``weight = step * int16``, the step of each output channel its largest magnitude over 32767."""
    values = weight.detach().double()
    if not values.isfinite().all():
        raise ExportError(f"{name} holds numbers that are not finite")
    step = values.abs().amax(dim=tuple(range(1, values.dim()))).clamp_min(1e-30) / INT16
    codes = (values / step.view(-1, *[1] * (values.dim() - 1))).round()
    yield f"{name}.int16", codes.numpy().astype(np.int16)
    yield f"{name}.step", array(step)


def _lstm(name: str, lstm: Any) -> Tensors:
    for side in ("ih", "hh"):
        yield from _int16(f"{name}.weight_{side}", getattr(lstm, f"weight_{side}_l0"))
    bias = torch.zeros(4 * lstm.hidden_size)
    if lstm.bias:
        bias = lstm.bias_ih_l0.detach().double() + lstm.bias_hh_l0.detach().double()
    yield f"{name}.bias", array(bias)
