"""From graph to ONNX model, in memory, with integers wherever there are codes.

An activation with a grid is uint8, ``code - low``: what stands for 0 is ``-low``, the zero point of the operators
and what they pad with. A quantized layer multiplies it by 8-bit weights, sums in int32 and goes on in float, which
is exact up to float rounding whatever the gains and biases are. Two operators do this:

====================  ==============================================================================
MatMulIntegerToFloat  channels last; what lies under each tap of the kernel stands side by side
ConvInteger           convolutions in groups; channels first
====================  ==============================================================================

QLinearConv would be faster, but rounds the bias to multiples of ``input step * weight scale``, which moves codes at
2 and 4 bits, and has no float output for a sum or a correction. ConvInteger without groups is several times slower.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from mmvideoiq.deploy.bundle.geometry import ConvGeometry, pooling_ends
from mmvideoiq.deploy.bundle.graph import Grid, Node
from mmvideoiq.deploy.bundle.packing import SignedWeights
from mmvideoiq.deploy.engines.cpu import may_saturate
from mmvideoiq.deploy.engines.lowering import (
    clipped_at_zero,
    float_weight,
    integer_weight,
    reorder_gates,
    weight_values,
)

if TYPE_CHECKING:
    from mmvideoiq.deploy.bundle.bundle import Bundle, Layer

OPSET, IR_VERSION = 21, 10  # ONNX 1.16
CONTRIB = "com.microsoft"  # the domain of ONNX Runtime's own operators


def build_model(bundle: Bundle, part: str, bits: int, *, vnni: bool) -> bytes:
    """The ONNX model of ``bundle.graphs[part]`` at ``bits``, serialized; inputs and outputs are the graph's."""
    return _Model(bundle, part, bits, vnni).serialize()


@dataclass(frozen=True)
class _Value:
    """A value of the ONNX model: floats, or uint8 ``code - low`` where it has a grid.

    ``shape`` is (D,), or (C, h, w) also where channels are ``last``: (N, h, w, C).
    """

    name: str
    shape: tuple[int, ...]
    last: bool = False
    grid: Grid | None = None

    @property
    def zero(self) -> np.generic:
        """What stands for 0, the origin of the grid aside."""
        return np.float32(0) if self.grid is None else np.uint8(-self.grid.low)

    def per_channel(self, numbers: Any) -> np.ndarray:
        """One number per channel, shaped to meet the value."""
        shape = (-1,) if self.last or len(self.shape) == 1 else (-1, 1, 1)
        return np.asarray(numbers, np.float64).reshape(shape)


class _Model:
    """The model in the making; each operation of :mod:`.graph` is a method of that name."""

    def __init__(self, bundle: Bundle, part: str, bits: int, vnni: bool) -> None:
        import onnx

        self.onnx, self.bundle, self.part, self.bits, self.vnni = onnx, bundle, part, bits, vnni
        self.graph = bundle.graphs[part]
        self.nodes: list[Any] = []
        self.constants: list[Any] = []
        self.memo: dict[tuple[str, str], _Value] = {}
        values = {
            name: _Value(name, (shape[-1], *shape[1:-1]), last=len(shape) == 4)
            for name, shape in self.graph.inputs.items()
        }
        for node in self.graph:
            given = getattr(self, node.op)(node, *(values[name] for name in node.inputs))
            values.update(zip(node.outputs, given if isinstance(given, tuple) else (given,), strict=True))
        for name in self.graph.outputs:
            value = self.floats(self.laid_out(values[name], last=False))
            self.nodes.append(onnx.helper.make_node("Identity", [value.name], [name]))

    def serialize(self) -> bytes:
        make, types = self.onnx.helper, self.onnx.TensorProto
        inputs = []
        for name, shape in self.graph.inputs.items():
            kind = types.UINT8 if len(shape) == 4 else types.FLOAT
            inputs.append(make.make_tensor_value_info(name, kind, ["N" if n == -1 else n for n in shape]))
        outputs = [make.make_tensor_value_info(name, types.FLOAT, None) for name in self.graph.outputs]
        graph = make.make_graph(self.nodes, self.part, inputs, outputs, self.constants)
        opsets = [make.make_opsetid("", OPSET), make.make_opsetid(CONTRIB, 1)]
        return make.make_model(graph, opset_imports=opsets, ir_version=IR_VERSION).SerializeToString()

    # --- values ---------------------------------------------------------------------------------------------

    def emit(self, op: str, *inputs: Any, outputs: int = 1, domain: str = "", **attributes: Any) -> Any:
        """Append an ONNX node; the name of its output, or their list.

        Args:
            inputs: names; numbers, arrays and tuples, which become constants, floats in float32; None: left out.
        """
        names = [x or "" if isinstance(x, str | None) else self.constant(x) for x in inputs]
        given = [f"{op}#{len(self.nodes)}.{i}" for i in range(outputs)]
        self.nodes.append(self.onnx.helper.make_node(op, names, given, domain=domain, **attributes))
        return given if outputs > 1 else given[0]

    def constant(self, numbers: Any) -> str:
        array = np.asarray(numbers)  # tuples: int64
        if array.dtype == np.float64:
            array = array.astype(np.float32)
        self.constants.append(self.onnx.numpy_helper.from_array(array, f"#{len(self.constants)}"))
        return self.constants[-1].name

    def floats(self, x: _Value) -> _Value:
        """``x`` without a grid."""
        if x.grid is None:
            return x
        if (x.name, "floats") not in self.memo:
            y = self.emit("DequantizeLinear", x.name, np.float32(x.grid.step), x.zero)
            if x.grid.origin:
                y = self.emit("Add", y, np.float32(x.grid.origin))
            self.memo[x.name, "floats"] = replace(x, name=y, grid=None)
        return self.memo[x.name, "floats"]

    def laid_out(self, x: _Value, last: bool) -> _Value:
        """``x`` with its channels last, or first."""
        if x.last == last or len(x.shape) == 1:
            return x
        if (x.name, "turned") not in self.memo:
            turned = self.emit("Transpose", x.name, perm=(0, 2, 3, 1) if last else (0, 3, 1, 2))
            self.memo[x.name, "turned"] = replace(x, name=turned, last=last)
        return self.memo[x.name, "turned"]

    # --- operations without weights ---------------------------------------------------------------------------

    def normalize(self, node: Node, x: _Value) -> _Value:
        x = self.laid_out(x, last=False)
        y = self.emit("Cast", x.name, to=self.onnx.TensorProto.FLOAT)
        y = self.emit("Sub", y, x.per_channel(node.attrs["mean"]))
        return replace(x, name=self.emit("Div", y, x.per_channel(node.attrs["std"])))

    def resize(self, node: Node, x: _Value) -> _Value:
        x, size = self.floats(self.laid_out(x, last=False)), tuple(node.attrs["size"])
        # the attribute "axes" would spare N, but ONNX Runtime loses the sizes where it moves a transposition past it
        sizes = self.emit("Concat", self.emit("Shape", x.name, start=0, end=2), size, axis=0)
        how: dict[str, Any] = dict(mode="linear", coordinate_transformation_mode="half_pixel", antialias=0)
        return replace(
            x, name=self.emit("Resize", x.name, None, None, sizes, **how), shape=(x.shape[0], *size)
        )

    def quantize(self, node: Node, x: _Value) -> _Value:
        grid = node.grid(self.bits)
        if grid is None:
            return x
        x = self.floats(x)
        y = self.emit("Sub", x.name, np.float32(grid.origin)) if grid.origin else x.name
        x = replace(x, grid=grid)
        y = self.emit("QuantizeLinear", y, np.float32(grid.step), x.zero)  # half to even, within 0 and 255
        if grid.high - grid.low < 255:
            y = self.emit("Clip", y, None, np.uint8(grid.high - grid.low))
        return replace(x, name=y)

    def relu(self, node: Node, x: _Value) -> _Value:
        if clipped_at_zero(self.graph, node, self.bits):
            return x
        x = self.floats(x)
        return replace(x, name=self.emit("Relu", x.name))

    def clamp(self, node: Node, x: _Value) -> _Value:
        x, low, high = self.floats(x), np.float64(node.attrs["low"]), np.float64(node.attrs["high"])
        return replace(x, name=self.emit("Clip", x.name, low, high))

    def add(self, node: Node, x: _Value, y: _Value) -> _Value:
        x, y = self.floats(x), self.floats(self.laid_out(y, x.last))
        return replace(x, name=self.emit("Add", x.name, y.name))

    def max_pool(self, node: Node, x: _Value) -> _Value:
        return self.pool("MaxPool", node, x)

    def avg_pool(self, node: Node, x: _Value) -> _Value:
        return self.pool("AveragePool", node, x)

    def pool(self, op: str, node: Node, x: _Value) -> _Value:
        x, attrs = self.floats(self.laid_out(x, last=False)), node.attrs
        sizes, ends = pooling_ends(node, x.shape[1:])
        pads = (*attrs["padding"], *ends)
        y = self.emit(op, x.name, kernel_shape=attrs["kernel"], strides=attrs["stride"], pads=pads)
        return replace(x, name=y, shape=(x.shape[0], *sizes))

    def mean_pool(self, node: Node, x: _Value) -> _Value:
        x = self.floats(x)
        return _Value(self.emit("ReduceMean", x.name, (1, 2) if x.last else (2, 3), keepdims=0), x.shape[:1])

    def flatten(self, node: Node, x: _Value) -> _Value:
        return _Value(self.emit("Flatten", x.name), x.shape[:1], grid=x.grid)

    def shift(self, node: Node, x: _Value) -> _Value:
        if x.grid and x.grid.origin:
            x = self.floats(x)  # no code stands for 0
        frames, fold = node.attrs["frames"], node.attrs["fold"]
        held = (*x.shape[1:], x.shape[0]) if x.last else x.shape
        axis = 1 + len(held) if x.last else 2  # of the channels in (clips, frames, *held)
        clips = self.emit("Reshape", x.name, (-1, frames, *held))
        later = self.emit("Slice", clips, (1, 0), (frames, fold), (1, axis))
        later = self.emit("Pad", later, (0, 1), x.zero, (1,))
        earlier = self.emit("Slice", clips, (0, fold), (frames - 1, 2 * fold), (1, axis))
        earlier = self.emit("Pad", earlier, (1, 0), x.zero, (1,))
        rest = self.emit("Slice", clips, (2 * fold,), (x.shape[0],), (axis,))
        y = self.emit("Concat", later, earlier, rest, axis=axis)
        return replace(x, name=self.emit("Reshape", y, (-1, *held)))

    def lstm(self, node: Node, x: _Value, h: _Value, c: _Value) -> tuple[_Value, ...]:
        weight_ih, weight_hh, bias = reorder_gates(
            self.bundle.lstm(self.part, node), (0, 3, 1, 2)
        )  # i, o, f, g
        hidden, biases = node.attrs["hidden"], np.concatenate([bias, np.zeros_like(bias)], axis=1)
        steps = self.emit("Unsqueeze", self.floats(x).name, (1,))  # (N, 1, D): a batch of one sequence
        state = [self.emit("Unsqueeze", value.name, (0,)) for value in (h, c)]
        y, *state = self.emit(
            "LSTM", steps, weight_ih, weight_hh, biases, None, *state, hidden_size=hidden, outputs=3
        )
        names = [self.emit("Reshape", y, (-1, hidden)), *(self.emit("Squeeze", name, (0,)) for name in state)]
        return tuple(_Value(name, (hidden,)) for name in names)

    # --- layers ---------------------------------------------------------------------------------------------

    @staticmethod
    def integers(layer: Layer, grid: Grid) -> SignedWeights:
        """What multiplies codes of ``grid``: :func:`integer_weight` times the grid's step."""
        weights = integer_weight(layer)
        return weights._replace(scale=grid.step * weights.scale, correction=grid.step * weights.correction)

    def affine(self, node: Node, x: _Value) -> _Value:
        x, layer = self.floats(x), self.bundle.layer(self.part, node, self.bits)
        y = self.emit("Mul", x.name, x.per_channel(layer.gain))
        return replace(x, name=self.emit("Add", y, x.per_channel(layer.bias)))

    def linear(self, node: Node, x: _Value) -> _Value:
        layer = self.bundle.layer(self.part, node, self.bits)
        shape = layer.bias.shape
        if layer.codes is None or x.grid is None:
            return _Value(
                self.emit("Gemm", self.floats(x).name, float_weight(layer), layer.bias, transB=1), shape
            )
        weights = self.integers(layer, x.grid)
        bias = layer.bias + x.grid.origin / x.grid.step * weight_values(*weights).sum(axis=1)
        y = self.product(x.name, x.grid, weights, bias)
        if weights.correction.any():
            y = self.emit("Gemm", self.channel_sum(x.name, x.grid, x.shape[0]), weights.correction[None], y)
        return _Value(y, shape)

    def conv(self, node: Node, x: _Value) -> _Value:
        layer, groups = self.bundle.layer(self.part, node, self.bits), node.attrs["groups"]
        geometry, grid = ConvGeometry.of(node), x.grid
        sizes = geometry.output_size(x.shape[1:])
        shape = (layer.bias.size, *sizes)
        if layer.codes is None or grid is None:
            x = self.floats(self.laid_out(x, last=False))
            y = self.emit(
                "Conv", x.name, float_weight(layer), layer.bias, group=groups, **attributes_of(geometry)
            )
            return _Value(y, shape)
        weights, last = self.integers(layer, grid), groups == 1
        convolve = self.dense if groups == 1 else self.grouped
        y = convolve(self.laid_out(x, last), grid, weights, layer.bias, geometry)
        if grid.origin:
            part = grid.origin / grid.step * geometry.window_sums(weight_values(*weights), x.shape[1:])
            y = self.emit("Add", y, part.transpose(1, 2, 0) if last else part)
        return _Value(y, shape, last)

    def dense(
        self, x: _Value, grid: Grid, weights: SignedWeights, bias: np.ndarray, geometry: ConvGeometry
    ) -> str:
        """A convolution without groups as a matrix product; channels last."""
        rows, sizes = x.name, geometry.output_size(x.shape[1:])
        if any(geometry.padding):
            rows = self.emit("Pad", rows, (0, *geometry.padding, 0) * 2, x.zero)
        if (geometry.kernel, geometry.stride) != ((1, 1), (1, 1)):
            cuts = [
                self.emit("Slice", rows, *ends, (1, 2), geometry.stride)
                for ends in tap_slices(geometry, sizes)
            ]
            rows = self.emit("Concat", *cuts, axis=3) if len(cuts) > 1 else cuts[0]
        matrix = weights.codes.transpose(0, 2, 3, 1).reshape(bias.size, -1)
        rows = self.emit("Reshape", rows, (-1, matrix.shape[1]))
        y = self.product(rows, grid, weights._replace(codes=matrix), bias)
        if weights.correction.any():
            total = self.channel_sum(x.name, grid, x.shape[0])
            total = self.emit("Reshape", total, (-1, 1, *x.shape[1:]))
            total = self.emit("Conv", total, np.ones((1, 1, *geometry.kernel)), **attributes_of(geometry))
            total = self.emit("Reshape", total, (-1, 1))
            y = self.emit("Gemm", total, weights.correction[None], y)
        return self.emit("Reshape", y, (-1, *sizes, bias.size))

    def grouped(
        self, x: _Value, grid: Grid, weights: SignedWeights, bias: np.ndarray, geometry: ConvGeometry
    ) -> str:
        """A convolution in groups; channels first. Its weights are uint8, which is exact on all CPUs."""
        groups = x.shape[0] // weights.codes.shape[1]

        def total(codes: np.ndarray, zero: int) -> str:
            given = (x.name, codes, x.zero, np.uint8(zero))
            y = self.emit("ConvInteger", *given, group=groups, **attributes_of(geometry))
            return self.emit("Cast", y, to=self.onnx.TensorProto.FLOAT)

        scale, correction, bias = (a.reshape(-1, 1, 1) for a in (weights.scale, weights.correction, bias))
        y = self.emit("Mul", total(as_uint8(weights.codes), 128), scale)
        if correction.any():
            sums = total(np.ones((groups, *weights.codes.shape[1:]), np.uint8), 0)
            sums = self.emit("Gather", sums, np.arange(groups).repeat(len(bias) // groups), axis=1)
            y = self.emit("Add", y, self.emit("Mul", sums, correction))
        return self.emit("Add", y, bias)

    def product(self, rows: str, grid: Grid, weights: SignedWeights, bias: np.ndarray) -> str:
        """``codes @ (scale * weight codes).T + bias``; the codes are ``rows`` (M, K) of ``grid``, weights (O, K)."""
        codes, zero = weights.codes, 0
        if not self.vnni and may_saturate(codes, grid.high - grid.low):
            codes, zero = as_uint8(codes), 128
        scales, zeros = (np.ones(()), weights.scale), (np.uint8(-grid.low), codes.dtype.type(zero))
        return self.emit("MatMulIntegerToFloat", rows, codes.T, *scales, *zeros, bias, domain=CONTRIB)

    def channel_sum(self, rows: str, grid: Grid, channels: int) -> str:
        """Sum over channels of the codes ``rows`` (M, channels) of ``grid``: (M, 1)."""
        ones = SignedWeights(np.ones((1, channels), np.int8), np.ones(1), np.zeros(1))
        return self.product(rows, grid, ones, ones.correction)


def attributes_of(geometry: ConvGeometry) -> dict[str, Any]:
    """Of ONNX convolutions."""
    return dict(
        kernel_shape=geometry.kernel,
        strides=geometry.stride,
        pads=geometry.padding * 2,
        dilations=geometry.dilation,
    )


def tap_slices(geometry: ConvGeometry, sizes: Sequence[int]) -> Iterator[tuple[tuple[int, ...], ...]]:
    """Start and end in the padded input of what lies under each tap, row by row, for an output of ``sizes``."""
    for tap in np.ndindex(*geometry.kernel):
        start = tuple(i * d for i, d in zip(tap, geometry.dilation, strict=True))
        ends = zip(start, sizes, geometry.stride, strict=True)
        yield start, tuple(first + (n - 1) * s + 1 for first, n, s in ends)


def as_uint8(codes: np.ndarray) -> np.ndarray:
    """int8 codes with the zero point 128."""
    return (codes.astype(np.int16) + 128).astype(np.uint8)
