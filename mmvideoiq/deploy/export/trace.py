"""A torch network as nodes of a graph: what its layers compute. Their numbers are left to ``weights.py``."""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from mmaction.models.backbones.resnet_tsm import TemporalShift
from mmcv.cnn.bricks import wrappers
from torch import fx, nn
from torch.nn import functional as F

from mmvideoiq.deploy.bundle.graph import Graph, Grid, Node
from mmvideoiq.quant import AnyPrecisionConv2d, AnyPrecisionLinear, Pact, SwitchableBatchNorm
from mmvideoiq.quant.functional import CLIP_FLOOR, pact_steps

MAX_CODE_BITS = 8  # at these precisions and below, weights and activations are integers


class ExportError(ValueError):
    """A model or pipeline that a bundle cannot hold; one line that names the place and the operation."""


@dataclass
class Source:
    """Where the numbers of a graph's layer come from: a convolution or linear layer, and the norm folded into it."""

    layer: nn.Module | None = None
    norm: nn.Module | None = None


@dataclass(frozen=True)
class Value:
    """A node's output. ``flat``: (N, channels), else (N, channels, h, w)."""

    name: str
    channels: int
    flat: bool = False


class GraphWriter:
    """A graph in the making.

    Args:
        inputs: name -> shape of the graph's inputs.
        precisions: of the any-precision layers, high to low; () for a network that must have none.

    Attributes:
        sources: layer -> where its numbers come from.
    """

    def __init__(self, inputs: Mapping[str, tuple[int, ...]], precisions: Sequence[int] = ()) -> None:
        self.inputs = dict(inputs)
        self.precisions = tuple(precisions)
        self.nodes: list[Node] = []
        self.sources: dict[str, Source] = {}

    def add(self, op: str, name: str, *inputs: str, **attrs: Any) -> str:
        """Append a node; its name, made unique."""
        taken = {*self.inputs, *(output for node in self.nodes for output in node.outputs)}
        unique, count = name, 1
        while unique in taken:
            unique, count = f"{name}.{count}", count + 1
        self.nodes.append(Node(op=op, name=unique, inputs=inputs, attrs=attrs))
        return unique

    def finish(self, *outputs: str) -> Graph:
        return Graph(inputs=self.inputs, nodes=tuple(self.nodes), outputs=outputs)

    def add_layer(self, op: str, name: str, x: Value, layer: Any, flat: bool, **attrs: Any) -> Value:
        """Append a convolution or linear layer, its input quantizer before it."""
        if name in self.sources:
            raise ExportError(f"{name} ({type(layer).__name__}) runs more than once")
        quantized = isinstance(layer, (AnyPrecisionConv2d, AnyPrecisionLinear))
        if quantized and layer.act_quantizer is not None:
            x = self.quantize(f"{name}.act_quantizer", layer.act_quantizer, x)
        if quantized and not self.precisions:
            raise ExportError(f"{name} ({type(layer).__name__}) follows a precision where there is none")
        shape = tuple(layer.weight.shape)
        attrs["quantized"] = quantized and min(self.precisions) <= MAX_CODE_BITS
        self.sources[name] = Source(layer)
        return Value(self.add(op, name, x.name, layer=name, shape=shape, **attrs), shape[0], flat)

    def quantize(self, name: str, quantizer: nn.Module, x: Value) -> Value:
        """Append an activation quantizer."""
        if type(quantizer) is not Pact:
            raise ExportError(
                f"{name}: the activation quantizer {type(quantizer).__name__} has no integer twin"
            )
        low = [bits for bits in self.precisions if str(bits) in quantizer.clip]
        if any(bits > MAX_CODE_BITS for bits in low):
            raise ExportError(
                f"{name}: quantize_32=True rounds activations to {max(low)} bits; use 32 as float"
            )
        return Value(
            self.add("quantize", name, x.name, grids={str(bits): pact_grid(quantizer, bits) for bits in low}),
            x.channels,
            x.flat,
        )


def pact_grid(quantizer: Pact, bits: int) -> Grid:
    """The grid of :func:`mmvideoiq.quant.functional.pact`."""
    clip = quantizer.clip[str(bits)].detach().clamp_min(CLIP_FLOOR)
    steps = pact_steps(bits, quantizer.signed)
    return Grid(step=float(clip / steps), low=int(-steps) if quantizer.signed else 0, high=int(steps))


# --- one function per kind of module: (writer, name, module, value) -> value -------------------------------------


def _conv(writer: GraphWriter, name: str, conv: nn.Conv2d, x: Value) -> Value:
    if conv.padding_mode != "zeros" or isinstance(conv.padding, str):
        raise ExportError(
            f"{name} (Conv2d) has padding={conv.padding!r}, padding_mode={conv.padding_mode!r}; "
            "only numbers and zeros can be exported"
        )
    sizes = {key: _pair(getattr(conv, key)) for key in ("stride", "padding", "dilation")}
    return writer.add_layer("conv", name, x, conv, False, **sizes, groups=conv.groups)


def _linear(writer: GraphWriter, name: str, linear: nn.Linear, x: Value) -> Value:
    if not x.flat:
        raise ExportError(f"{name} (Linear) reads a feature map; only (N, D) can be exported")
    return writer.add_layer("linear", name, x, linear, True)


def _norm(writer: GraphWriter, name: str, norm: nn.Module, x: Value) -> Value:
    """A norm that follows no convolution, or one that others read too."""
    if name in writer.sources:
        raise ExportError(f"{name} ({type(norm).__name__}) runs more than once")
    writer.sources[name] = Source(norm=norm)
    return Value(writer.add("affine", name, x.name, layer=name, channels=x.channels), x.channels, x.flat)


def _relu(writer: GraphWriter, name: str, _: nn.ReLU, x: Value) -> Value:
    return Value(writer.add("relu", name, x.name), x.channels, x.flat)


def _clamp(writer: GraphWriter, name: str, clamp: nn.Hardtanh, x: Value) -> Value:
    low, high = float(clamp.min_val), float(clamp.max_val)
    return Value(writer.add("clamp", name, x.name, low=low, high=high), x.channels, x.flat)


def _max_pool(writer: GraphWriter, name: str, pool: nn.MaxPool2d, x: Value) -> Value:
    if _pair(pool.dilation) != (1, 1) or pool.return_indices:
        raise ExportError(f"{name} (MaxPool2d) has a dilation or returns indices")
    return _pool(writer, "max_pool", name, pool, x)


def _avg_pool(writer: GraphWriter, name: str, pool: nn.AvgPool2d, x: Value) -> Value:
    if pool.divisor_override is not None or (pool.count_include_pad and _pair(pool.padding) != (0, 0)):
        raise ExportError(f"{name} (AvgPool2d) counts its padding or has a divisor of its own")
    return _pool(writer, "avg_pool", name, pool, x)


def _pool(writer: GraphWriter, op: str, name: str, pool: Any, x: Value) -> Value:
    sizes = dict(kernel=_pair(pool.kernel_size), stride=_pair(pool.stride), padding=_pair(pool.padding))
    return Value(writer.add(op, name, x.name, **sizes, ceil=pool.ceil_mode), x.channels)


def _mean_pool(writer: GraphWriter, name: str, pool: nn.AdaptiveAvgPool2d, x: Value) -> Value:
    if _pair(pool.output_size) != (1, 1):
        raise ExportError(
            f"{name} (AdaptiveAvgPool2d) has output_size={pool.output_size}; only 1 can be exported"
        )
    return mean_pool(writer, name, x)


def mean_pool(writer: GraphWriter, name: str, x: Value) -> Value:
    """Average over space; (N, D) passes."""
    return x if x.flat else Value(writer.add("mean_pool", name, x.name), x.channels, True)


def _flatten(writer: GraphWriter, name: str, flatten: nn.Flatten, x: Value) -> Value:
    if (flatten.start_dim, flatten.end_dim) != (1, -1) or not x.flat:
        raise ExportError(f"{name} (Flatten) would mix positions and channels; average the feature map first")
    return x


def _pass(writer: GraphWriter, name: str, module: nn.Module, x: Value) -> Value:
    return x


def _pair(size: Any) -> tuple[int, int]:
    return (size, size) if isinstance(size, int) else tuple(size)  # type: ignore[return-value]


NORMS = (nn.BatchNorm2d, nn.SyncBatchNorm, SwitchableBatchNorm)
HANDLERS: dict[type[nn.Module], Callable[[GraphWriter, str, Any, Value], Value]] = {
    **dict.fromkeys((nn.Conv2d, wrappers.Conv2d, AnyPrecisionConv2d), _conv),
    **dict.fromkeys((nn.Linear, wrappers.Linear, AnyPrecisionLinear), _linear),
    **dict.fromkeys(NORMS, _norm),
    **dict.fromkeys((nn.Dropout, nn.Dropout2d, nn.Identity), _pass),
    **dict.fromkeys((nn.MaxPool2d, wrappers.MaxPool2d), _max_pool),
    **dict.fromkeys((nn.ReLU6, nn.Hardtanh), _clamp),
    nn.ReLU: _relu,
    nn.AvgPool2d: _avg_pool,
    nn.AdaptiveAvgPool2d: _mean_pool,
    nn.Flatten: _flatten,
    Pact: GraphWriter.quantize,
}
ADD = (operator.add, torch.add)
RELU = (F.relu, torch.relu)


class _Tracer(fx.Tracer):
    """Stops at the modules that have a node; a temporal shift becomes a call of MMAction2's own function."""

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return type(m) in HANDLERS

    def call_module(self, m: nn.Module, forward: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        if isinstance(m, TemporalShift):
            numbers = (args[0], m.num_segments, m.shift_div)
            return m.net(self.create_proxy("call_function", TemporalShift.shift, numbers, {}))
        return super().call_module(m, forward, args, kwargs)


def trace(net: nn.Module, writer: GraphWriter, x: Value, prefix: str = "") -> Value:
    """Append the nodes of ``net`` applied to ``x``; its output.

    Batch norms are folded into the convolution before them where that has no other reader.

    Args:
        net: in eval mode.
        prefix: stands before the names of its modules.

    Raises:
        ExportError: something that has no node; names the module and the operation.
    """
    try:
        traced = _Tracer().trace(net)
    except Exception as error:  # whatever the network's own code makes of a symbolic value
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise ExportError(f"{type(net).__name__} decides on its values while it runs: {reason}") from error
    values: dict[fx.Node, Value] = {}
    for node in traced.nodes:
        if node.op == "placeholder" and not values:
            values[node] = x
        elif node.op == "output":
            result = node.args[0]
            if isinstance(result, (tuple, list)) and len(result) == 1:
                result = result[0]
            if not isinstance(result, fx.Node):
                raise ExportError(f"{type(net).__name__} gives several feature maps; one can be exported")
            return values[result]
        elif node.op == "call_module":
            module = net.get_submodule(str(node.target))
            values[node] = _call(writer, prefix, module, node, values)
        elif node.users:
            values[node] = _function(writer, prefix, net, node, values)
    raise ExportError(f"{type(net).__name__} has no output")


def _call(
    writer: GraphWriter, prefix: str, module: nn.Module, node: fx.Node, values: Mapping[fx.Node, Value]
) -> Value:
    name, kind = f"{prefix}{node.target}", type(module).__name__
    if module._forward_hooks or module._forward_pre_hooks:
        raise ExportError(f"{name} ({kind}) has hooks of its own")
    read = node.args[0]
    if not isinstance(read, fx.Node) or read not in values:
        raise ExportError(f"{name} ({kind}) reads something that is no feature map")
    if (
        getattr(module, "inplace", False)
        and isinstance(module, (nn.ReLU, nn.Hardtanh))
        and len(read.users) > 1
    ):
        raise ExportError(f"{name} ({kind}, inplace) changes a value that others read")
    source = writer.sources.get(f"{prefix}{read.target}")  # of the layer that gives the input
    if type(module) in NORMS and len(read.users) == 1 and source and source.layer and not source.norm:
        source.norm = module
        return values[read]
    return HANDLERS[type(module)](writer, name, module, values[read])


def _function(
    writer: GraphWriter, prefix: str, net: nn.Module, node: fx.Node, values: Mapping[fx.Node, Value]
) -> Value:
    """A call that is no module's, in the module that makes it."""
    path, kind = next(reversed(node.meta.get("nn_module_stack", {"": ("", type(net))}).values()))
    place = f"{prefix}{path}".rstrip(".")
    name = f"{place}.{node.name}".lstrip(".")
    operands = [values[value] for value in node.args if isinstance(value, fx.Node) and value in values]
    if node.target in ADD and len(operands) == len(node.args) == 2 and not node.kwargs:
        left, right = operands
        return Value(writer.add("add", name, left.name, right.name), left.channels, left.flat)
    if node.target in RELU and len(operands) == 1 and not node.kwargs.get("inplace"):
        return Value(writer.add("relu", name, operands[0].name), operands[0].channels, operands[0].flat)
    if node.target is torch.flatten and node.args[1:] == (1,) and operands and operands[0].flat:
        return operands[0]
    if node.target is TemporalShift.shift and len(operands) == 1:
        _, frames, division = node.args
        channels = operands[0].channels
        fold = channels // division  # type: ignore[operator]
        if fold == 0:
            return operands[0]
        return Value(writer.add("shift", name, operands[0].name, frames=frames, fold=fold), channels)
    what = "parameter" if node.op == "get_attr" else "operation"
    target = node.target if isinstance(node.target, str) else getattr(node.target, "__name__", node.target)
    raise ExportError(f"{place or 'the network'} ({kind.__name__}): the {what} {target!r} cannot be exported")
