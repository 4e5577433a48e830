"""From graph to ``ov.Model``, such that OpenVINO's CPU plugin runs its quantized layers in int8.

The plugin fuses a convolution of fake-quantized values and int8 weights, with all that follows up to the next fake
quantization, into one int8 convolution. What it looks for is met as follows:

=========== =======================================================================================================
activations 256 levels from 0, or 16 of 4 bits; of others a clamp before them keeps codes on the grid. A grid that
            starts elsewhere is moved to 0; what it lacks then is added after the convolution
frames      of bytes that are the first layer's codes: not normalized at all
biases      part of the quantization that follows, as ranges of its own for each channel
border      of frames whose zero lies between two codes: the bias differs where the window meets padding, so these rows
            and columns are computed apart, and joined to the others as codes
weights     int8, times a scale per channel, which holds the gain as well
correction   of weights (``packing.signed_weights``), times the sum over the window: added in float
order       of channels, on CPUs without VNNI: see :mod:`.channel_order`
shortcuts   added inside the convolution, if the plugin's "snippets" are off; the sums of corrections need them on
max pools   after the quantization that follows: it is the same, and works on bytes
resizing    of frames before they are normalized, which is the same and works on fewer numbers: rows and columns that
            are read are gathered in bytes, since the plugin's interpolation has all pixels in float, in two layouts
=========== =======================================================================================================
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import reduce
from typing import TYPE_CHECKING, Any

import numpy as np

from mmvideoiq.deploy.bundle.geometry import ConvGeometry, Region, pooling_ends
from mmvideoiq.deploy.bundle.graph import Node
from mmvideoiq.deploy.bundle.packing import SignedWeights
from mmvideoiq.deploy.engines.channel_permutation import Probe, channel_orders, reordered, saturates_in_pairs
from mmvideoiq.deploy.engines.cpu import may_saturate
from mmvideoiq.deploy.engines.lowering import (
    bytes_are_codes,
    clipped_at_zero,
    consumers,
    float_weight,
    integer_weight,
    linear_taps,
    model_outputs,
    producers,
    reorder_gates,
    split_weights,
    weight_values,
)

if TYPE_CHECKING:
    from mmvideoiq.deploy.bundle.bundle import Bundle, Layer

TOP = 255  # the highest of 256 levels
FUSED_TOPS = (15, TOP)  # of quantizations that the plugin makes part of a convolution


@dataclass(frozen=True)
class _Value:
    """A value of the model, in place of ``node + offset + bias``.

    Attributes:
        bias: of each channel, float64 (C, 1, 1), still to be added, best by the quantization that reads the value.
        high: of codes, ``node`` being ``step * code`` with codes 0 to ``high``; 0 of floats.
        pool: a max pool that is still to be done, after the quantization that reads the value.
        pixels: of codes that are the bytes of frames: the same as (N, H, W, C).
        regions: rows of values that make up this one, for what reads them one by one.
    """

    node: Any
    offset: float = 0.0
    bias: np.ndarray | None = None
    high: int = 0
    pool: Node | None = None
    pixels: Any = None
    regions: tuple[tuple[_Value, ...], ...] = ()


class OpenVinoModel:
    """The model in the making; one method per operation of :mod:`.graph`, of the same name."""

    def __init__(
        self, bundle: Bundle | Probe, part: str, bits: int, vnni: bool, *, ordered: bool = False
    ) -> None:
        import openvino
        from openvino import opset1, opset13

        self.op, self.pools = opset13, opset1
        self.bundle, self.part, self.bits, self.vnni = bundle, part, bits, vnni
        self.graph = bundle.graphs[part]
        self.corrections = self.relies_on_pairs = False
        self.ordered = ordered
        self.orders = channel_orders(self.graph, bits, self.saturating) if ordered else {}
        self.sums: dict[Any, Any] = {}
        parameters = [
            opset13.parameter(list(shape), np.uint8 if len(shape) == 4 else np.float32, name=name)
            for name, shape in self.graph.inputs.items()
        ]
        self.values = dict(zip(self.graph.inputs, map(_Value, parameters), strict=True))
        for node in self.graph:
            results = getattr(self, node.op)(node, *(self.values[name] for name in node.inputs))
            results = results if isinstance(results, tuple) else (results,)
            self.values.update(zip(node.outputs, results, strict=True))
        outputs = [opset13.result(self.output(name)) for name in model_outputs(self.graph)]
        self.model = openvino.Model(outputs, parameters, f"{part}, {bits} bits")

    def constant(self, numbers: Any) -> Any:
        return self.op.constant(np.asarray(numbers, np.float32))

    def per_channel(self, x: Any, numbers: Any) -> Any:
        """Numbers (C,) that broadcast over ``x`` (N, C) or (N, C, h, w)."""
        return self.constant(np.reshape(numbers, (1, -1, *[1] * len(sizes(x)[1:]))))

    def floats(self, x: _Value) -> Any:
        """The value itself. What reads codes is kept from computing, and rounding, in bytes: nothing passes an abs."""
        y = self.op.abs(x.node) if x.high else x.node
        if x.bias is not None:
            return self.op.add(y, self.constant(x.bias[None] + x.offset))
        return self.op.add(y, self.constant(x.offset)) if x.offset else y

    def output(self, name: str) -> Any:
        """The value of that name, its channels in the graph's order."""
        y = self.floats(self.values[name])
        if name not in self.orders:
            return y
        return self.op.gather(y, self.op.constant(np.argsort(self.orders[name])), self.op.constant(1))

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

    # --- operations without weights -----------------------------------------------------------------------------

    def normalize(self, node: Node, x: _Value) -> _Value:
        mean, std = (np.array(node.attrs[key], np.float64) for key in ("mean", "std"))
        y = x.node
        if self.resized_at_once(node):
            y = self.resized_pixels(y, consumers(self.graph, node)[0].attrs["size"])
        y = self.op.convert(y, np.float32)
        if not bytes_are_codes(self.graph, node, self.bits):
            y = self.op.multiply(self.op.subtract(y, self.constant(mean)), self.constant(1 / std))
        return _Value(self.channels_first(y), pixels=y)

    def channels_first(self, pixels: Any) -> Any:
        return self.op.transpose(pixels, self.op.constant([0, 3, 1, 2]))

    def resized_at_once(self, node: Node) -> bool:
        """Whether all that is done with the normalized frames of ``node`` is one resizing."""
        return node.name not in self.graph.outputs and [
            reader.op for reader in consumers(self.graph, node)
        ] == ["resize"]

    def resize(self, node: Node, x: _Value) -> _Value:
        done = any(
            given.op == "normalize" and self.resized_at_once(given) for given in producers(self.graph, node)
        )
        if done:
            return x
        size, axes = (self.op.constant(list(numbers)) for numbers in (node.attrs["size"], (2, 3)))
        return _Value(self.op.interpolate(self.floats(x), size, "linear_onnx", "sizes", axes=axes))

    def resized_pixels(self, x: Any, size: tuple[int, int]) -> Any:
        """Frames (N, H, W, C) of bytes at ``size``, as floats unless that is their own."""
        height, width, channels = sizes(x)
        y = self.op.reshape(x, self.op.constant([0, 0, -1]), True)
        steps = zip((1, 2), (height, width), size, (1, channels), strict=True)
        for axis, before, after, wide in steps:
            if before == after:
                continue
            low, high, share = linear_taps(before, after)
            a, b = (
                self.op.gather(y, self.op.constant(of_columns(taps, wide)), self.op.constant(axis))
                for taps in (low, high)
            )
            a, b = (self.op.convert(numbers, np.float32) for numbers in (a, b))
            weight = np.repeat(share, wide).reshape((1, -1, 1) if axis == 1 else (1, 1, -1))
            y = self.op.add(a, self.op.multiply(self.op.subtract(b, a), self.constant(weight)))
        return self.op.reshape(y, self.op.constant([0, *size, channels]), True)

    def quantize(self, node: Node, x: _Value) -> _Value:
        grid = node.grid(self.bits)
        if grid is None:
            return x
        if x.regions:
            y = self.joined(
                [[self.quantize(node, replace(part, pool=None)) for part in row] for row in x.regions]
            )
            return y if x.pool is None else self.pooled(x.pool, y)
        pixels = x.pixels if x.pool is None else None
        y = x.node if pixels is None else pixels
        if any(bytes_are_codes(self.graph, given, self.bits) for given in producers(self.graph, node)):
            offset, high, levels = grid.origin, TOP, TOP
            ranges = [0, TOP, 0, TOP * grid.step]
        else:
            shift = -grid.low + grid.low % 2  # even, so that halves go to the same side
            step, offset, high = grid.step, grid.origin - shift * grid.step, grid.high + shift
            if (shift, high) in [(0, top) for top in FUSED_TOPS]:
                levels = high
                start: Any = offset - x.offset - (0 if x.bias is None else x.bias[None])
            else:
                levels, start = TOP, offset - (x.offset if x.bias is None else 0)
                y = y if x.bias is None else self.floats(x)
                y = self.op.clamp(y, start + (grid.low + shift) * step, start + high * step)
            ranges = [start, start + levels * step, 0, levels * step]
        y = self.op.fake_quantize(y, *map(self.constant, ranges), levels + 1)
        if pixels is not None:
            return _Value(self.channels_first(y), offset, high=high, pixels=y)
        y = _Value(y, offset, high=high)
        return y if x.pool is None else self.pooled(x.pool, y)

    def relu(self, node: Node, x: _Value) -> _Value:
        return x if clipped_at_zero(self.graph, node, self.bits) else _Value(self.op.relu(self.floats(x)))

    def clamp(self, node: Node, x: _Value) -> _Value:
        if x.regions:
            return self.joined([[self.clamp(node, part) for part in row] for row in x.regions])
        return _Value(self.op.clamp(self.floats(x), node.attrs["low"], node.attrs["high"]))

    def add(self, node: Node, x: _Value, y: _Value) -> _Value:
        biases = [value.bias for value in (x, y) if value.bias is not None]
        bias = np.sum(biases, axis=0) if biases else None
        return _Value(self.op.add(x.node, y.node), x.offset + y.offset, bias)

    def max_pool(self, node: Node, x: _Value) -> _Value:
        readers = consumers(self.graph, node)
        if len(readers) == 1 and readers[0].op == "quantize" and readers[0].grid(self.bits):
            if node.name not in self.graph.outputs:
                return replace(x, pool=node)
        return self.pooled(node, x)

    def pooled(self, node: Node, x: _Value) -> _Value:
        return moved(x, self.pools.max_pool(x.node, *self.pooling(node, x)))

    def avg_pool(self, node: Node, x: _Value) -> _Value:
        strides, starts, ends, kernel = self.pooling(node, x)
        return _Value(self.pools.avg_pool(self.floats(x), strides, starts, ends, kernel, True))

    def pooling(self, node: Node, x: _Value) -> tuple[list[int], ...]:
        """Strides, paddings before and after, kernel; a geometry that would start beyond the input is left out."""
        kernel, stride, padding = (list(node.attrs[key]) for key in ("kernel", "stride", "padding"))
        return stride, padding, pooling_ends(node, sizes(x.node)[1:])[1], kernel

    def mean_pool(self, node: Node, x: _Value) -> _Value:
        return _Value(self.op.reduce_mean(self.floats(x), self.op.constant([2, 3]), keep_dims=False))

    def flatten(self, node: Node, x: _Value) -> _Value:
        y = x if x.bias is None else _Value(self.floats(x))
        return moved(y, self.op.reshape(y.node, self.op.constant([0, -1]), True))

    def shift(self, node: Node, x: _Value) -> _Value:
        frames, fold = node.attrs["frames"], node.attrs["fold"]
        y = self.floats(x) if x.offset or x.bias is not None else x.node
        shape = sizes(y)
        clips = self.op.reshape(y, self.op.constant([-1, frames, *shape]), False)

        def cut(start: tuple[int, int], end: tuple[int, int]) -> Any:
            return self.op.slice(clips, *(self.op.constant(list(v)) for v in (start, end, (1, 1), (1, 2))))

        def pad(y: Any, before: int, after: int) -> Any:
            ends = ([0, n, *[0] * len(shape)] for n in (before, after))
            return self.op.pad(y, *map(self.op.constant, ends), "constant", self.constant(0.0))

        coming = pad(cut((1, 0), (frames, fold)), 0, 1)
        past = pad(cut((0, fold), (frames - 1, 2 * fold)), 1, 0)
        rest = cut((0, 2 * fold), (frames, shape[0]))
        y = self.op.concat([coming, past, rest], 2)
        y = self.op.reshape(y, self.op.constant([-1, *shape]), False)
        return _Value(y, high=0 if x.offset else x.high)

    def lstm(self, node: Node, x: _Value, h: _Value, c: _Value) -> tuple[_Value, ...]:
        op, hidden = self.op, node.attrs["hidden"]
        weights = reorder_gates(self.bundle.lstm(self.part, node), (1, 0, 2, 3))  # f, i, g, o
        zero, one = (op.constant(np.array([axis])) for axis in (0, 1))
        y, *state = op.lstm_sequence(
            op.unsqueeze(self.floats(x), zero),
            *(op.unsqueeze(self.floats(value), one) for value in (h, c)),
            op.gather(op.shape_of(x.node), zero, zero),
            *map(self.constant, weights),
            hidden_size=hidden,
            direction="forward",
        ).outputs()
        return tuple(_Value(op.reshape(v, op.constant([-1, hidden]), False)) for v in (y, *state))

    # --- layers -------------------------------------------------------------------------------------------------

    def affine(self, node: Node, x: _Value) -> _Value:
        layer = self.layer(node)
        y = self.op.multiply(self.floats(x), self.per_channel(x.node, layer.gain))
        return _Value(self.op.add(y, self.per_channel(x.node, layer.bias)))

    def linear(self, node: Node, x: _Value) -> _Value:
        points = moved(x, self.op.reshape(x.node, self.op.constant([0, 0, 1, 1]), True))
        return self.flatten(node, self.convolved(node, points, ConvGeometry()))

    def conv(self, node: Node, x: _Value) -> _Value:
        return self.convolved(node, x, ConvGeometry.of(node))

    def convolved(self, node: Node, x: _Value, geometry: ConvGeometry) -> _Value:
        layer = self.layer(node)
        bias = layer.bias[:, None, None].astype(np.float64)
        if layer.codes is None or not x.high:
            weight = self.weight_constant(float_weight(layer), geometry)
            return _Value(self.convolution(self.floats(x), weight, geometry), bias=bias)
        weights = self.integers(layer)
        if x.offset:
            bias = bias + x.offset * geometry.window_sums(weight_values(*weights), sizes(x.node)[1:])
        terms = self.terms(weights, x.high, geometry)
        sums = [self.convolution(x.node, self.dequantized(term, geometry), geometry) for term in terms]
        correction = terms[-1].correction
        if correction.any():
            self.corrections = True
            total = self.window_sum(x.node, geometry, len(correction))
            sums.append(self.op.multiply(total, self.constant(correction[None, :, None, None])))
        y = reduce(self.op.add, sums)
        if bias.shape[1:] == (1, 1):
            return _Value(y, bias=bias)
        regions = geometry.regions(sizes(x.node)[1:])
        if x.pixels is None or len(sums) > 1 or not regions:
            return _Value(self.op.add(y, self.constant(bias[None])))
        weight = self.dequantized(terms[0], geometry)
        return self.joined(
            [[self.region(x.pixels, part, weight, bias, geometry) for part in row] for row in regions]
        )

    def region(
        self, pixels: Any, part: Region, weight: Any, bias: np.ndarray, geometry: ConvGeometry
    ) -> _Value:
        """A part of the convolution of frames (N, H, W, C); ``bias``: (O, h, w) of the whole."""
        starts, ends = map(list, zip(*part.seen, strict=True))
        cut = self.op.slice(pixels, *map(self.op.constant, (starts, ends, [1, 1], [1, 2])))
        stride, dilation = list(geometry.stride), list(geometry.dilation)
        y = self.op.convolution(self.channels_first(cut), weight, stride, part.before, part.behind, dilation)
        own = bias[:, part.rows, part.columns]
        return (
            _Value(y, bias=own[:, :1, :1])
            if part.inside
            else _Value(self.op.add(y, self.constant(own[None])))
        )

    def joined(self, regions: list[list[_Value]]) -> _Value:
        """Values next to one another, row by row; of codes, which have the same steps, the codes."""
        first = regions[0][0]
        rows = [
            self.op.concat([part.node if first.high else self.floats(part) for part in row], 3)
            for row in regions
        ]
        y = self.op.concat(rows, 2)
        return replace(first, node=y) if first.high else _Value(y, regions=tuple(map(tuple, regions)))

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

    def convolution(self, x: Any, weight: Any, geometry: ConvGeometry) -> Any:
        """``weight``: as ``weight_constant`` gives it."""
        op = self.op.convolution if geometry.groups == 1 else self.op.group_convolution
        stride, padding, dilation = map(list, (geometry.stride, geometry.padding, geometry.dilation))
        return op(x, weight, stride, padding, padding, dilation)

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


def moved(x: _Value, node: Any) -> _Value:
    """``x`` with its numbers in other places."""
    return replace(x, node=node, pixels=None, regions=())


def of_columns(taps: np.ndarray, wide: int) -> np.ndarray:
    """Indices of all numbers of the columns ``taps``, each ``wide`` numbers."""
    return (taps[:, None] * wide + np.arange(wide)).ravel()


def sizes(x: Any) -> list[int]:
    """Of a node's value but for N: (C, h, w) or (D,)."""
    return [size.get_length() for size in list(x.get_output_partial_shape(0))[1:]]
