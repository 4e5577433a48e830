"""From graph to ONNX model, in memory, with integers wherever there are codes.

An activation with a grid is uint8, ``code - low``: what stands for 0 is ``-low``, the zero point of the operators
and what they pad with. A quantized layer multiplies it by 8-bit weights, sums in int32 and goes on in float, which
is exact up to float rounding whatever the gains and biases are. Two operators do this:

====================  ==============================================================================
MatMulIntegerToFloat  channels last; what lies under each tap of the kernel stands side by side
ConvInteger           convolutions in groups; channels first
====================  ==============================================================================

QLinearConv would be faster, but rounds the bias to multiples of ``input step * weight scale``, which moves codes at
2 and 4 bits, and has no float output for a sum or a remainder. ConvInteger without groups is several times slower.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from mmvideoiq.deploy.engines import may_saturate
from mmvideoiq.deploy.graph import Grid, Node
from mmvideoiq.deploy.packing import SignedWeights, signed_weights

if TYPE_CHECKING:
    from mmvideoiq.deploy.bundle import Bundle, Layer

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
        how: dict[str, Any] = dict(
            axes=(2, 3), mode="linear", coordinate_transformation_mode="half_pixel", antialias=0
        )
        return replace(
            x, name=self.emit("Resize", x.name, None, None, size, **how), shape=(x.shape[0], *size)
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
        readers = [reader for reader in self.graph if node.name in reader.inputs]
        grids = [reader.grid(self.bits) if reader.op == "quantize" else None for reader in readers]
        if node.name not in self.graph.outputs and all(g and g.low == 0 and g.origin >= 0 for g in grids):
            return x  # the quantizers cut at 0 themselves
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
        ends, sizes = [], []
        for size, k, s, p in zip(
            x.shape[1:], attrs["kernel"], attrs["stride"], attrs["padding"], strict=True
        ):
            beyond = size + 2 * p - k  # the first window
            count = 1 + (-(-beyond // s) if attrs["ceil"] else beyond // s)
            count -= (count - 1) * s >= size + p  # one that would start behind the input is left out
            sizes.append(count)
            ends.append(max((count - 1) * s + k - size - p, 0))
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
        weight_ih, weight_hh, bias = (
            np.concatenate([gates[i] for i in (0, 3, 1, 2)])[None]  # i, f, g, o -> i, o, f, g
            for gates in (np.split(array, 4) for array in self.bundle.lstm(self.part, node))
        )
        hidden, biases = node.attrs["hidden"], np.concatenate([bias, np.zeros_like(bias)], axis=1)
        steps = self.emit("Unsqueeze", self.floats(x).name, (1,))  # (N, 1, D): a batch of one sequence
        state = [self.emit("Unsqueeze", value.name, (0,)) for value in (h, c)]
        y, *state = self.emit(
            "LSTM", steps, weight_ih, weight_hh, biases, None, *state, hidden_size=hidden, outputs=3
        )
        names = [self.emit("Reshape", y, (-1, hidden)), *(self.emit("Squeeze", name, (0,)) for name in state)]
        return tuple(_Value(name, (hidden,)) for name in names)

    # --- layers ---------------------------------------------------------------------------------------------

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
        weights = integer_weight(layer, x.grid)
        bias = layer.bias + x.grid.origin / x.grid.step * weight_values(*weights).sum(axis=1)
        y = self.product(x.name, x.grid, weights, bias)
        if weights.remainder.any():
            y = self.emit("Gemm", self.channel_sum(x.name, x.grid, x.shape[0]), weights.remainder[None], y)
        return _Value(y, shape)

    def conv(self, node: Node, x: _Value) -> _Value:
        layer, groups = self.bundle.layer(self.part, node, self.bits), node.attrs["groups"]
        taps, grid = _Taps.of(node, x), x.grid
        shape = (layer.bias.size, *taps.sizes)
        if layer.codes is None or grid is None:
            x = self.floats(self.laid_out(x, last=False))
            y = self.emit("Conv", x.name, float_weight(layer), layer.bias, group=groups, **taps.attributes)
            return _Value(y, shape)
        weights, last = integer_weight(layer, grid), groups == 1
        convolve = self.dense if groups == 1 else self.grouped
        y = convolve(self.laid_out(x, last), grid, weights, layer.bias, taps)
        if grid.origin:
            part = grid.origin / grid.step * taps.seen(weight_values(*weights))
            y = self.emit("Add", y, part.transpose(1, 2, 0) if last else part)
        return _Value(y, shape, last)

    def dense(self, x: _Value, grid: Grid, weights: SignedWeights, bias: np.ndarray, taps: _Taps) -> str:
        """A convolution without groups as a matrix product; channels last."""
        rows = x.name
        if any(taps.padding):
            rows = self.emit("Pad", rows, (0, *taps.padding, 0) * 2, x.zero)
        if (taps.kernel, taps.stride) != ((1, 1), (1, 1)):
            cuts = [self.emit("Slice", rows, *ends, (1, 2), taps.stride) for ends in taps.cuts()]
            rows = self.emit("Concat", *cuts, axis=3) if len(cuts) > 1 else cuts[0]
        matrix = weights.codes.transpose(0, 2, 3, 1).reshape(bias.size, -1)
        rows = self.emit("Reshape", rows, (-1, matrix.shape[1]))
        y = self.product(rows, grid, weights._replace(codes=matrix), bias)
        if weights.remainder.any():
            total = self.channel_sum(x.name, grid, x.shape[0])
            total = self.emit("Reshape", total, (-1, 1, *x.shape[1:]))
            total = self.emit("Conv", total, np.ones((1, 1, *taps.kernel)), **taps.attributes)
            total = self.emit("Reshape", total, (-1, 1))
            y = self.emit("Gemm", total, weights.remainder[None], y)
        return self.emit("Reshape", y, (-1, *taps.sizes, bias.size))

    def grouped(self, x: _Value, grid: Grid, weights: SignedWeights, bias: np.ndarray, taps: _Taps) -> str:
        """A convolution in groups; channels first. Its weights are uint8, which is exact on all CPUs."""
        groups = x.shape[0] // weights.codes.shape[1]

        def total(codes: np.ndarray, zero: int) -> str:
            given = (x.name, codes, x.zero, np.uint8(zero))
            y = self.emit("ConvInteger", *given, group=groups, **taps.attributes)
            return self.emit("Cast", y, to=self.onnx.TensorProto.FLOAT)

        scale, remainder, bias = (a.reshape(-1, 1, 1) for a in (weights.scale, weights.remainder, bias))
        y = self.emit("Mul", total(as_uint8(weights.codes), 128), scale)
        if remainder.any():
            sums = total(np.ones((groups, *weights.codes.shape[1:]), np.uint8), 0)
            sums = self.emit("Gather", sums, np.arange(groups).repeat(len(bias) // groups), axis=1)
            y = self.emit("Add", y, self.emit("Mul", sums, remainder))
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
        return self.product(rows, grid, ones, ones.remainder)


@dataclass(frozen=True)
class _Taps:
    """Where a convolution looks; all pairs are (h, w)."""

    input: tuple[int, ...]
    kernel: tuple[int, ...]
    stride: tuple[int, ...]
    padding: tuple[int, ...]
    dilation: tuple[int, ...]

    @classmethod
    def of(cls, node: Node, x: _Value) -> _Taps:
        sizes = (tuple(node.attrs[key]) for key in ("stride", "padding", "dilation"))
        return cls(x.shape[1:], tuple(node.attrs["shape"][2:]), *sizes)

    @property
    def sizes(self) -> tuple[int, ...]:
        """Of the output."""
        axes = zip(self.input, self.kernel, self.stride, self.padding, self.dilation, strict=True)
        return tuple((size + 2 * p - d * (k - 1) - 1) // s + 1 for size, k, s, p, d in axes)

    @property
    def attributes(self) -> dict[str, Any]:
        """Of ONNX convolutions."""
        pads = (*self.padding, *self.padding)
        return dict(kernel_shape=self.kernel, strides=self.stride, pads=pads, dilations=self.dilation)

    def cuts(self) -> Iterator[tuple[tuple[int, ...], tuple[int, ...]]]:
        """Start and end in the padded input of what lies under each tap, row by row."""
        for tap in np.ndindex(*self.kernel):
            start = tuple(i * d for i, d in zip(tap, self.dilation, strict=True))
            yield (
                start,
                tuple(a + (n - 1) * s + 1 for a, n, s in zip(start, self.sizes, self.stride, strict=True)),
            )

    def seen(self, weight: np.ndarray) -> np.ndarray:
        """The convolution of ones: at each place the sum of the weights that meet no padding, (O, h, w)."""
        meets = []
        for axis in range(2):
            taps = np.arange(self.kernel[axis]) * self.dilation[axis] - self.padding[axis]
            place = np.arange(self.sizes[axis])[:, None] * self.stride[axis] + taps
            meets.append((place >= 0) & (place < self.input[axis]))
        return np.einsum("oikl,hk,wl->ohw", weight, *meets)


def float_weight(layer: Layer) -> np.ndarray:
    """The weight with the gain in it, float64."""
    weight = weight_values(*coded(layer)) if layer.weight is None else layer.weight
    return weight_values(weight, layer.gain, np.zeros_like(layer.gain))


def integer_weight(layer: Layer, grid: Grid) -> SignedWeights:
    """What multiplies codes of ``grid``: the weight's codes; its scale and remainder with step and gain, float64."""
    signed = signed_weights(*coded(layer), layer.bits)
    factor = grid.step * layer.gain.astype(np.float64)
    return signed._replace(scale=factor * signed.scale, remainder=factor * signed.remainder)


def coded(layer: Layer) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Codes, scale and offset of a layer that has them."""
    assert layer.codes is not None and layer.scale is not None and layer.offset is not None
    return layer.codes, layer.scale, layer.offset


def weight_values(codes: np.ndarray, scale: np.ndarray, offset: np.ndarray) -> np.ndarray:
    """``scale * codes + offset`` with one scale and offset per output channel, float64."""
    shape = (-1, *[1] * (codes.ndim - 1))
    return scale.astype(np.float64).reshape(shape) * codes + offset.reshape(shape)


def as_uint8(codes: np.ndarray) -> np.ndarray:
    """int8 codes with the zero point 128."""
    return (codes.astype(np.int16) + 128).astype(np.uint8)
