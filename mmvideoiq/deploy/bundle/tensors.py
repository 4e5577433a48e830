"""Which tensors a bundle of version 1 holds for its graphs, and how many bytes they are.

Names are the layer's, with a suffix. O output channels, I inputs per group, n = O I kh kw weights, D features,
H hidden, K classes; for a precision b: ``<b>`` is its number; for a mode m: ``<m>`` is its name, ``8`` or ``8@112``.

======================================= ================== ===================================================
quantized layer, parent bits P <= 8
``codes``                               uint8 (n P / 8,)   packed, rounded up (``packing.pack``)
quantized layer, float parent (P = 32)
``weight``                              float32 (O, ...)
``thresholds``                          float32 (2^t - 1,) t: the highest precision below 32
``divisor``                             float32 (O,)       code at t bits: thresholds <= weight / divisor
both, for each b below 32
``scale.<b>``, ``offset.<b>``           float32 (O,), (1,) weight value = scale * code + offset
float layer
``weight``                              float32 (O, ...)   recognition
``int16``, ``step``                     int16, float32     policy: weight = step * int16; (O, ...) and (O,)
every layer and affine, for each mode m
``gain.<m>``, ``bias.<m>``              float32 (O,)       or ``gain``, ``bias``, for all modes
lstm
``weight_ih.int16``, ``weight_ih.step`` int16, float32     (4 H, D) and (4 H,)
``weight_hh.int16``, ``weight_hh.step`` int16, float32     (4 H, H) and (4 H,)
``bias``                                float32 (4 H,)
classifier (layer ``head``)
``weight``, ``bias``                    float32            (K, D) and (K,)
======================================= ================== ===================================================
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from math import prod
from typing import Any, NamedTuple

import numpy as np

from mmvideoiq.actions import FLOAT_BITS
from mmvideoiq.deploy.bundle.graph import Graph, Node
from mmvideoiq.deploy.bundle.packing import packed_bytes

PARTS = ("recognition", "policy")
WEIGHTED = ("conv", "linear")


class TensorSpec(NamedTuple):
    """Type (numpy's name) and shape of a stored tensor."""

    dtype: str
    shape: tuple[int, ...]

    @property
    def nbytes(self) -> int:
        return np.dtype(self.dtype).itemsize * prod(self.shape)


Named = Iterator[tuple[str, TensorSpec]]


def recognition_specs(
    graph: Graph,
    *,
    classes: int,
    precisions: Sequence[int],
    parent_bits: int,
    modes: Sequence[str],
    shared: Collection[str] = (),
    uniform: Collection[str] = (),
) -> dict[str, TensorSpec]:
    """The tensors of the recognition part, by name.

    Args:
        classes: K.
        precisions: high to low.
        parent_bits: of the stored weights; 32 means float.
        modes: names, of :func:`modes_of`.
        shared: layers with one gain and bias for all modes.
        uniform: layers whose scale and offset are one number.

    Raises:
        ValueError: the graph contradicts itself; names the node or the tensor.
    """
    widths = channels(graph)
    integer = [bits for bits in precisions if bits < FLOAT_BITS]

    def all_specs() -> Named:
        for node in _layers(graph):
            layer, out = node.attrs["layer"], widths[node.name]
            if node.op == "lstm":
                raise ValueError(f"node {node.name!r}: an lstm belongs to the policy")
            if node.op in WEIGHTED and node.attrs["quantized"]:
                yield from _parent(node, parent_bits, integer)
                for bits in integer:
                    for name in ("scale", "offset"):
                        yield f"{layer}.{name}.{bits}", _float(1 if layer in uniform else out)
            elif node.op in WEIGHTED:
                yield f"{layer}.weight", _float(*node.attrs["shape"])
            for suffix in [""] if layer in shared else [f".{mode}" for mode in modes]:
                yield f"{layer}.gain{suffix}", _float(out)
                yield f"{layer}.bias{suffix}", _float(out)
        yield "head.weight", _float(classes, widths[graph.outputs[0]])
        yield "head.bias", _float(classes)

    return _collected(all_specs())


def modes_of(manifest: Mapping[str, Any]) -> list[str]:
    """Names of the modes with numbers of their own: of the actions, and of precisions that no action has."""
    actions = [action for action in manifest["actions"] if "bits" in action]
    names = [
        f"{action['bits']}@{action['size']}" if "size" in action else str(action["bits"])
        for action in actions
    ]
    taken = {action["bits"] for action in actions}
    return names + [str(bits) for bits in manifest["precisions"] if bits not in taken]


def fixed_bits(graph: Graph) -> int:
    """The precision of a policy: that of all its grids; 32 without grids. ValueError: there are several."""
    found = {int(bits) for node in graph if node.op == "quantize" for bits in node.attrs["grids"]}
    if len(found) > 1:
        raise ValueError(f"grids are of {sorted(found)} bits, a policy has one precision")
    return found.pop() if found else FLOAT_BITS


def policy_specs(graph: Graph, uniform: Collection[str] = ()) -> dict[str, TensorSpec]:
    """The tensors of the policy, by name; ``uniform`` as in :func:`recognition_specs`.

    ValueError: the graph contradicts itself; names the node or the tensor.
    """
    widths, bits = channels(graph), fixed_bits(graph)

    def all_specs() -> Named:
        for node in _layers(graph):
            layer, out = node.attrs["layer"], widths[node.name]
            if node.op == "lstm":
                yield from _int16(f"{layer}.weight_ih", 4 * out, widths[node.inputs[0]])
                yield from _int16(f"{layer}.weight_hh", 4 * out, out)
                yield f"{layer}.bias", _float(4 * out)
                continue
            if node.op in WEIGHTED and node.attrs["quantized"]:
                if bits == FLOAT_BITS:
                    raise ValueError(f"node {node.name!r}: the policy has no codes; set quantized to false")
                yield from _parent(node, bits, (bits,))
                for name in ("scale", "offset"):
                    yield f"{layer}.{name}.{bits}", _float(1 if layer in uniform else out)
            elif node.op in WEIGHTED:
                yield from _int16(layer, *node.attrs["shape"])
            yield f"{layer}.gain", _float(out)
            yield f"{layer}.bias", _float(out)

    return _collected(all_specs())


def choices(
    graph: Graph, found: Mapping[str, TensorSpec], precisions: Sequence[int]
) -> dict[str, frozenset[str]]:
    """``shared`` and ``uniform`` of :func:`recognition_specs`, read from the tensors that a bundle holds."""
    layers = [node.attrs["layer"] for node in _layers(graph)]
    scales = {layer: found.get(f"{layer}.scale.{precisions[-1]}") for layer in layers}
    return {
        "shared": frozenset(layer for layer in layers if f"{layer}.gain" in found),
        "uniform": frozenset(layer for layer, scale in scales.items() if scale and scale.shape == (1,)),
    }


def channels(graph: Graph) -> dict[str, int]:
    """Channels (or features) of every value of a graph, by name.

    Raises:
        ValueError: an input or a number of groups that does not fit its node; names both numbers.
    """
    widths = {name: shape[-1] if name == "frames" else shape[1] for name, shape in graph.inputs.items()}
    for node in graph:
        given = [widths[name] for name in node.inputs]
        wanted = _wanted(node, given)
        if given != wanted:
            raise ValueError(f"node {node.name!r} ({node.op}): inputs of {given} channels, expected {wanted}")
        if node.op == "conv" and node.attrs["shape"][0] % node.attrs["groups"]:
            raise ValueError(
                f"node {node.name!r} (conv): {node.attrs['groups']} groups do not divide {node.attrs['shape'][0]}"
            )
        out = node.attrs["shape"][0] if node.op in WEIGHTED else node.attrs.get("hidden", given[0])
        widths.update(dict.fromkeys(node.outputs, out))
    return widths


def _wanted(node: Node, given: list[int]) -> list[int]:
    """Channels that the inputs of a node must have."""
    attrs = node.attrs
    if node.op in WEIGHTED:
        return [attrs["shape"][1] * attrs.get("groups", 1)]
    if node.op == "affine":
        return [attrs["channels"]]
    if node.op == "normalize":
        return [len(attrs["mean"])]
    if node.op == "lstm":
        return [given[0], attrs["hidden"], attrs["hidden"]]
    return given[:1] * len(given)


def _layers(graph: Graph) -> list[Node]:
    return [node for node in graph if "layer" in node.attrs]


def _float(*shape: int) -> TensorSpec:
    return TensorSpec("float32", shape)


def _parent(node: Node, parent_bits: int, integer: Sequence[int]) -> Named:
    layer, shape = node.attrs["layer"], node.attrs["shape"]
    if parent_bits < FLOAT_BITS:
        yield f"{layer}.codes", TensorSpec("uint8", (packed_bytes(prod(shape), parent_bits),))
        return
    yield f"{layer}.weight", _float(*shape)
    if integer:
        yield f"{layer}.thresholds", _float(2 ** integer[0] - 1)
        yield f"{layer}.divisor", _float(shape[0])


def _int16(name: str, *shape: int) -> Named:
    yield f"{name}.int16", TensorSpec("int16", shape)
    yield f"{name}.step", _float(shape[0])


def _collected(named: Named) -> dict[str, TensorSpec]:
    """Nodes may share a layer where they agree on its tensors."""
    specs: dict[str, TensorSpec] = {}
    for name, spec in named:
        if specs.setdefault(name, spec) != spec:
            raise ValueError(f"two layers claim the tensor {name!r}")
    return specs
