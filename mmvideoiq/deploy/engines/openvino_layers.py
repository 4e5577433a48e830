"""Layers with weights, such that OpenVINO's CPU plugin runs them in int8: what :mod:`.openvino_model` builds on."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import reduce
from typing import TYPE_CHECKING, Any

import numpy as np

from mmvideoiq.deploy.bundle.geometry import ConvGeometry, Region
from mmvideoiq.deploy.bundle.graph import Node
from mmvideoiq.deploy.bundle.packing import SignedWeights
from mmvideoiq.deploy.engines.channel_permutation import Probe, channel_orders, reordered, saturates_in_pairs
from mmvideoiq.deploy.engines.cpu import may_saturate
from mmvideoiq.deploy.engines.lowering import float_weight, integer_weight, split_weights, weight_values

if TYPE_CHECKING:
    from mmvideoiq.deploy.bundle.bundle import Bundle, Layer


@dataclass(frozen=True)
class Value:
    """A value of the model, in place of ``node + offset + bias``.

    Attributes:
        bias: of each channel, float64 (C, 1, 1), still to be added, best by the quantization that reads the value.
        high: of codes, ``node`` being ``step * code`` with codes 0 to ``high``; 0 of floats.
        pool: a max pool that is still to be done, after the quantization that reads the value.
        pixels: of frames, normalized or as codes: the same as rows (N, H, W * C), which fill the CPU's registers
            where the three channels of a pixel would not.
        regions: rows of values that make up this one, for what can be done with each by itself.
    """

    node: Any
    offset: float = 0.0
    bias: np.ndarray | None = None
    high: int = 0
    pool: Node | None = None
    pixels: Any = None
    regions: tuple[tuple[Value, ...], ...] = ()


class OpenVinoLayers:
    """Builds the layers of one part of a bundle; see :class:`.openvino_model.OpenVinoModel`.

    Attributes:
        corrections: whether a layer adds sums of corrections.
        relies_on_pairs: whether a layer is exact only where neighbouring channels alone are added up in int16.
    """

    def __init__(self, bundle: Bundle | Probe, part: str, bits: int, vnni: bool, *, ordered: bool) -> None:
        from openvino import opset13

        self.op = opset13
        self.bundle, self.part, self.bits, self.vnni = bundle, part, bits, vnni
        self.graph = bundle.graphs[part]
        self.corrections = self.relies_on_pairs = False
        self.ordered = ordered
        self.orders = channel_orders(self.graph, bits, self.saturating) if ordered else {}
        self.sums: dict[Any, Any] = {}

    def layer(self, node: Node) -> Layer:
        return reordered(self.bundle.layer(self.part, node, self.bits), node, self.orders)

    @staticmethod
    def integers(layer: Layer) -> SignedWeights:
        """Codes (O, I, kh, kw), also those of a linear layer."""
        weights = integer_weight(layer)
        return weights._replace(codes=weights.codes.reshape((*weights.codes.shape, 1, 1)[:4]))

    def saturating(self, node: Node, high: int) -> np.ndarray | None:
        """The weights' codes where some order of channels makes sums of two products leave int16."""
        layer = self.bundle.layer(self.part, node, self.bits)
        codes = None if layer.codes is None else self.integers(layer).codes
        return codes if codes is not None and may_saturate(codes, high) else None

    def constant(self, numbers: Any) -> Any:
        return self.op.constant(np.asarray(numbers, np.float32))

    def per_channel(self, x: Any, numbers: Any) -> Any:
        """Numbers (C,) that broadcast over ``x`` (N, C) or (N, C, h, w)."""
        return self.constant(np.reshape(numbers, (1, -1, *[1] * len(sizes(x)[1:]))))

    def floats(self, x: Value) -> Any:
        """The value itself. What reads codes is kept from computing, and rounding, in bytes: nothing passes an abs."""
        y = self.op.abs(x.node) if x.high else x.node
        if x.bias is not None:
            return self.op.add(y, self.constant(x.bias[None] + x.offset))
        return self.op.add(y, self.constant(x.offset)) if x.offset else y

    def affine(self, node: Node, x: Value) -> Value:
        layer = self.layer(node)
        y = self.op.multiply(self.floats(x), self.per_channel(x.node, layer.gain))
        return Value(self.op.add(y, self.per_channel(x.node, layer.bias)))

    def flatten(self, node: Node, x: Value) -> Value:
        y = x if x.bias is None else Value(self.floats(x))
        return moved(y, self.op.reshape(y.node, self.op.constant([0, -1]), True))

    def linear(self, node: Node, x: Value) -> Value:
        points = moved(x, self.op.reshape(x.node, self.op.constant([0, 0, 1, 1]), True))
        return self.flatten(node, self.convolved(node, points, ConvGeometry()))

    def conv(self, node: Node, x: Value) -> Value:
        return self.convolved(node, x, ConvGeometry.of(node))

    def convolved(self, node: Node, x: Value, geometry: ConvGeometry) -> Value:
        layer = self.layer(node)
        bias = layer.bias[:, None, None].astype(np.float64)
        if layer.codes is None or not x.high:
            weight = self.weight_constant(float_weight(layer), geometry)
            return Value(self.convolution(self.floats(x), weight, geometry), bias=bias)
        weights = self.integers(layer)
        if x.offset:
            bias = bias + x.offset * geometry.window_sums(weight_values(*weights), sizes(x.node)[1:])
        terms = self.terms(weights, x.high, geometry)
        correction = terms[-1].correction
        at_border = bias.shape[1:] != (1, 1)
        if at_border and x.pixels is not None and len(terms) == 1 and not correction.any():
            if regions := geometry.regions(sizes(x.node)[1:]):
                weight = self.dequantized(weights, geometry)
                return self.joined(
                    [[self.region(x, part, weight, bias, geometry) for part in row] for row in regions]
                )
        sums = [self.convolution(x.node, self.dequantized(term, geometry), geometry) for term in terms]
        if correction.any():
            self.corrections = True
            total = self.window_sum(x.node, geometry, len(correction))
            sums.append(self.op.multiply(total, self.constant(correction[None, :, None, None])))
        y = reduce(self.op.add, sums)
        return Value(self.op.add(y, self.constant(bias[None]))) if at_border else Value(y, bias=bias)

    def channels_first(self, pixels: Any, channels: int) -> Any:
        """Rows (N, H, W * C) as (N, C, H, W)."""
        y = self.op.reshape(pixels, self.op.constant([0, 0, -1, channels]), True)
        return self.op.transpose(y, self.op.constant([0, 3, 1, 2]))

    def region(self, x: Value, part: Region, weight: Any, bias: np.ndarray, geometry: ConvGeometry) -> Value:
        """A part of the convolution of frames; ``bias``: (O, h, w) of the whole."""
        channels, (rows, columns) = sizes(x.node)[0], part.seen
        starts, ends = ([row, column * channels] for row, column in zip(rows, columns, strict=True))
        cut = self.op.slice(x.pixels, *map(self.op.constant, (starts, ends, [1, 1], [1, 2])))
        seen = self.channels_first(cut, channels)
        y = self.convolution(seen, weight, geometry, (part.before, part.behind))
        own = bias[:, part.rows, part.columns]
        if part.inside:
            return Value(y, bias=own[:, :1, :1])
        return Value(self.op.add(y, self.constant(own[None])))

    def joined(self, regions: list[list[Value]]) -> Value:
        """Values next to one another, row by row; of codes, which have the same steps, the codes."""
        first = regions[0][0]
        rows = [
            self.op.concat([part.node if first.high else self.floats(part) for part in row], 3)
            for row in regions
        ]
        y = self.op.concat(rows, 2)
        return replace(first, node=y) if first.high else Value(y, regions=tuple(map(tuple, regions)))

    def terms(self, weights: SignedWeights, high: int, geometry: ConvGeometry) -> list[SignedWeights]:
        """The weights, or the two halves of which they are the sum."""
        halved = split_weights(weights)
        if not self.vnni and may_saturate(weights.codes, high):
            if not self.ordered or geometry.groups > 1 or saturates_in_pairs(weights.codes, high):
                return halved
            self.relies_on_pairs = True
        # with few inputs a second convolution costs less than a correction
        spares_correction = weights.correction.any() and not halved[-1].correction.any()
        return halved if geometry.groups > 1 and spares_correction else [weights]

    def convolution(
        self, x: Any, weight: Any, geometry: ConvGeometry, padding: tuple[list[int], list[int]] | None = None
    ) -> Any:
        """``weight``: as ``weight_constant`` gives it; ``padding`` before and behind in place of the geometry's.

        The kernels for AMX give wrong rows from the second on where the output has one column and columns of the
        input are skipped (OpenVINO 2026.4). Such an output gets a second column, which is cut off.
        """
        op = self.op.convolution if geometry.groups == 1 else self.op.group_convolution
        before, behind = padding or [list(geometry.padding)] * 2
        height, width = geometry.output_size(sizes(x)[1:], before, behind)
        one_column = width == 1 < height and geometry.stride[1] > 1
        if one_column:
            behind = [behind[0], behind[1] + geometry.stride[1]]
        y = op(x, weight, list(geometry.stride), before, behind, list(geometry.dilation))
        return self.op.slice(y, *map(self.op.constant, ([0], [1], [1], [3]))) if one_column else y

    def weight_constant(self, numbers: np.ndarray, geometry: ConvGeometry) -> Any:
        """Of (O, I, kh, kw), or (O, I) for one pixel: with groups (groups, O / groups, I, kh, kw)."""
        numbers = numbers if numbers.dtype == np.int8 else numbers.astype(np.float32)
        shape = (*numbers.shape, 1, 1)[:4]
        if geometry.groups > 1:
            shape = (geometry.groups, shape[0] // geometry.groups, *shape[1:])
        return self.op.constant(numbers.reshape(shape))

    def dequantized(self, weights: SignedWeights, geometry: ConvGeometry) -> Any:
        """Without the correction."""
        codes = self.op.convert(self.weight_constant(weights.codes, geometry), np.float32)
        return self.op.multiply(codes, self.weight_constant(weights.scale[:, None, None, None], geometry))

    def window_sum(self, x: Any, geometry: ConvGeometry, channels: int) -> Any:
        """The sum of ``x`` over what each of the ``channels`` outputs sees: (N, 1, h, w), or one for each."""
        groups = geometry.groups
        inputs, pixel = sizes(x)[0] // groups, ConvGeometry(groups=groups)
        key = (x.get_name(), groups)
        if inputs > 1 and key not in self.sums:
            ones = SignedWeights(
                np.ones((groups, inputs), np.int8), np.ones(groups, np.float32), np.zeros(groups)
            )
            self.sums[key] = self.convolution(x, self.dequantized(ones, pixel), pixel)
        y = self.sums.get(key, x)
        if geometry.kernel != (1, 1) or geometry.stride != (1, 1) or geometry.padding != (0, 0):
            y = self.convolution(
                y,
                self.weight_constant(np.ones((groups, 1, *geometry.kernel), np.float32), geometry),
                geometry,
            )
        if 1 < groups < channels:
            owner = np.arange(groups).repeat(channels // groups)
            y = self.op.gather(y, self.op.constant(owner), self.op.constant(1))
        return y


def moved(x: Value, node: Any) -> Value:
    """``x`` with its numbers in other places."""
    return replace(x, node=node, pixels=None, regions=())


def sizes(x: Any) -> list[int]:
    """Of a node's value but for N: (C, h, w) or (D,)."""
    return [size.get_length() for size in list(x.get_output_partial_shape(0))[1:]]
