"""From graph to ``ov.Model``, such that OpenVINO's CPU plugin runs its quantized layers in int8.

The plugin fuses a convolution of fake-quantized values and int8 weights, with all that follows up to the next fake
quantization, into one int8 convolution. What it looks for is met as follows:

=========== =======================================================================================================
activations 256 levels from 0, or 16 of 4 bits; of others a clamp before them keeps codes on the grid. A grid that
            starts elsewhere is moved to 0; what it lacks then is added after the convolution
frames      of bytes that are the first layer's codes: not normalized at all
biases      part of the quantization that follows, as ranges of its own for each channel; of values that are added up,
            part of the convolution
border      of frames whose zero lies between two codes: the bias differs where the window meets padding, so these rows
            and columns are computed apart, and joined to the others as codes
weights     int8, times a scale per channel, which holds the gain as well
correction   of weights (``packing.signed_weights``), times the sum over the window: added in float
order       of channels, on CPUs without VNNI: see :mod:`.channel_permutation`
shortcuts   added inside the convolution, if the plugin's "snippets" are off; the sums of corrections need them on
max pools   after the quantization that follows: it is the same, and works on bytes
resizing    of frames before they are normalized, which is the same and works on fewer numbers: rows and columns that
            are read are gathered in bytes, since the plugin's interpolation has all pixels in float, in two layouts
=========== =======================================================================================================
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from mmvideoiq.deploy.bundle.geometry import pooling_ends
from mmvideoiq.deploy.bundle.graph import Node
from mmvideoiq.deploy.engines.channel_permutation import Probe
from mmvideoiq.deploy.engines.lowering import (
    bytes_are_codes,
    clipped_at_zero,
    consumers,
    linear_taps,
    model_outputs,
    producers,
    reorder_gates,
)
from mmvideoiq.deploy.engines.openvino_layers import OpenVinoLayers, Value, moved, sizes

if TYPE_CHECKING:
    from mmvideoiq.deploy.bundle.bundle import Bundle

TOP = 255  # the highest of 256 levels
FUSED_TOPS = (15, TOP)  # of quantizations that the plugin makes part of a convolution


class OpenVinoModel(OpenVinoLayers):
    """The model in the making: one method per operation of :mod:`.graph`, of the same name, here or in the layers."""

    def __init__(
        self, bundle: Bundle | Probe, part: str, bits: int, vnni: bool, *, ordered: bool = False
    ) -> None:
        import openvino
        from openvino import opset1

        super().__init__(bundle, part, bits, vnni, ordered=ordered)
        self.pools = opset1
        parameters = [
            self.op.parameter(list(shape), np.uint8 if len(shape) == 4 else np.float32, name=name)
            for name, shape in self.graph.inputs.items()
        ]
        self.values = dict(zip(self.graph.inputs, map(Value, parameters), strict=True))
        for node in self.graph:
            results = getattr(self, node.op)(node, *(self.values[name] for name in node.inputs))
            results = results if isinstance(results, tuple) else (results,)
            self.values.update(zip(node.outputs, results, strict=True))
        outputs = [self.op.result(self.output(name)) for name in model_outputs(self.graph)]
        self.model = openvino.Model(outputs, parameters, f"{part}, {bits} bits")

    def output(self, name: str) -> Any:
        """The value of that name, its channels in the graph's order."""
        y = self.floats(self.values[name])
        if name not in self.orders:
            return y
        return self.op.gather(y, self.op.constant(np.argsort(self.orders[name])), self.op.constant(1))

    def normalize(self, node: Node, x: Value) -> Value:
        mean, std = (np.array(node.attrs[key], np.float64) for key in ("mean", "std"))
        *size, channels = sizes(x.node)
        if self.resized_at_once(node):
            size = consumers(self.graph, node)[0].attrs["size"]
        y = self.op.convert(self.rows(x.node, size), np.float32)
        if not bytes_are_codes(self.graph, node, self.bits):
            mean, factor = (self.constant(np.tile(numbers, size[1])) for numbers in (mean, 1 / std))
            y = self.op.multiply(self.op.subtract(y, mean), factor)
        return Value(self.channels_first(y, channels), pixels=y)

    def resized_at_once(self, node: Node) -> bool:
        """Whether all that is done with the normalized frames of ``node`` is one resizing."""
        return node.name not in self.graph.outputs and [
            reader.op for reader in consumers(self.graph, node)
        ] == ["resize"]

    def resize(self, node: Node, x: Value) -> Value:
        done = any(
            given.op == "normalize" and self.resized_at_once(given) for given in producers(self.graph, node)
        )
        if done:
            return x
        size, axes = (self.op.constant(list(numbers)) for numbers in (node.attrs["size"], (2, 3)))
        return Value(self.op.interpolate(self.floats(x), size, "linear_onnx", "sizes", axes=axes))

    def rows(self, frames: Any, size: Sequence[int]) -> Any:
        """Frames (N, H, W, C) of bytes as rows (N, h, w * C) at ``size``, (h, w): floats unless that is their own."""
        height, width, channels = sizes(frames)
        y = self.op.reshape(frames, self.op.constant([0, 0, -1]), True)
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
        return y

    def quantize(self, node: Node, x: Value) -> Value:
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
            return Value(self.channels_first(y, sizes(x.node)[0]), offset, high=high, pixels=y)
        y = Value(y, offset, high=high)
        return y if x.pool is None else self.pooled(x.pool, y)

    def relu(self, node: Node, x: Value) -> Value:
        return x if clipped_at_zero(self.graph, node, self.bits) else Value(self.op.relu(self.floats(x)))

    def clamp(self, node: Node, x: Value) -> Value:
        if x.regions:
            return self.joined([[self.clamp(node, part) for part in row] for row in x.regions])
        return Value(self.op.clamp(self.floats(x), node.attrs["low"], node.attrs["high"]))

    def add(self, node: Node, x: Value, y: Value) -> Value:
        terms = [
            value.node if value.bias is None else self.op.add(value.node, self.constant(value.bias[None]))
            for value in (x, y)
        ]
        return Value(self.op.add(*terms), x.offset + y.offset)

    def max_pool(self, node: Node, x: Value) -> Value:
        readers = consumers(self.graph, node)
        if len(readers) == 1 and readers[0].op == "quantize" and readers[0].grid(self.bits):
            if node.name not in self.graph.outputs:
                return replace(x, pool=node)
        return self.pooled(node, x)

    def pooled(self, node: Node, x: Value) -> Value:
        return moved(x, self.pools.max_pool(x.node, *self.pooling(node, x)))

    def avg_pool(self, node: Node, x: Value) -> Value:
        strides, starts, ends, kernel = self.pooling(node, x)
        return Value(self.pools.avg_pool(self.floats(x), strides, starts, ends, kernel, True))

    def pooling(self, node: Node, x: Value) -> tuple[list[int], ...]:
        """Strides, paddings before and after, kernel; a geometry that would start beyond the input is left out."""
        kernel, stride, padding = (list(node.attrs[key]) for key in ("kernel", "stride", "padding"))
        return stride, padding, pooling_ends(node, sizes(x.node)[1:])[1], kernel

    def mean_pool(self, node: Node, x: Value) -> Value:
        return Value(self.op.reduce_mean(self.floats(x), self.op.constant([2, 3]), keep_dims=False))

    def shift(self, node: Node, x: Value) -> Value:
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
        return Value(y, high=0 if x.offset else x.high)

    def lstm(self, node: Node, x: Value, h: Value, c: Value) -> tuple[Value, ...]:
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
        return tuple(Value(op.reshape(v, op.constant([-1, hidden]), False)) for v in (y, *state))


def of_columns(taps: np.ndarray, wide: int) -> np.ndarray:
    """Indices of all numbers of the columns ``taps``, each ``wide`` numbers."""
    return (taps[:, None] * wide + np.arange(wide)).ravel()
