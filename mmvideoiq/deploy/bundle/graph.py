"""A network as data: what ``export`` writes and engines build. Plain Python; no torch, no engine.

One graph serves every mode: a node says *what* is computed, engines ask for the numbers at the bits they build for,
and :meth:`Graph.resized` is what runs at another frame size. Axes: N frames, C H W, D features, A actions.

========== ============================================ ======================================================
op         attributes                                   value
========== ============================================ ======================================================
normalize  mean, std: one per channel                   uint8 (N, H, W, C) -> float (x - mean) / std, (N, C, H, W)
resize     size: (h, w)                                 bilinear, half-pixel centres, no antialiasing
quantize   grids: bits -> Grid                          see :class:`Grid`; bits without a grid pass unchanged
conv       layer, shape, stride, padding, dilation,     gain * conv(x, weight) + bias, gain and bias per channel
           groups, quantized
linear     layer, shape, quantized                      gain * (x @ weight.T) + bias
affine     layer, channels                              gain * x + bias per channel: a norm that follows no conv
relu                                                    max(x, 0)
clamp      low, high                                    min(max(x, low), high)
add                                                     x + y
max_pool   kernel, stride, padding, ceil
avg_pool   kernel, stride, padding, ceil                padding is not counted
mean_pool                                               (N, D, h, w) -> (N, D)
flatten                                                 (N, D, 1, 1) or (N, D) -> (N, D)
shift      frames, fold                                 temporal shift over clips of ``frames``: the first ``fold``
                                                        channels come from the next frame, the next ``fold`` from
                                                        the one before, zero beyond the clip
lstm       layer, hidden                                inputs x (N, D), h (1, hidden), c (1, hidden): N steps of
                                                        one sequence; outputs ``name`` (N, hidden), ``name.h`` and
                                                        ``name.c`` (1, hidden)
========== ============================================ ======================================================

``layer`` is the prefix of the node's tensors in the bundle; ``quantized`` says that the weight has codes. ``stride``,
``padding``, ``dilation``, ``kernel`` and ``size`` are pairs (h, w). Grids are for 8 bits and below.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

from mmvideoiq.actions import GRID_SHIFT
from mmvideoiq.deploy.bundle.operations import ATTRIBUTE_SCHEMAS

ATTRIBUTES = {op: tuple(schema["properties"]) for op, schema in ATTRIBUTE_SCHEMAS.items()}
INPUTS = {"add": 2, "lstm": 3}  # of the others: 1


class Grid(NamedTuple):
    """Levels of an activation: ``origin + step * code``, ``code = clip(round((x - origin) / step), low, high)``.

    Rounding is half to even. ``low`` is 0, or ``-high`` where the activation takes both signs.
    """

    step: float
    low: int
    high: int
    origin: float = 0.0


@dataclass(frozen=True, kw_only=True)
class Node:
    """One computation; ``name`` is also the name of its value."""

    op: str
    name: str
    inputs: tuple[str, ...]
    attrs: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.op not in ATTRIBUTES:
            raise ValueError(f"node {self.name!r}: unknown op {self.op!r}; known are {sorted(ATTRIBUTES)}")
        if set(self.attrs) != set(ATTRIBUTES[self.op]):
            raise ValueError(
                f"node {self.name!r} ({self.op}): attributes are {sorted(self.attrs)}, "
                f"expected {sorted(ATTRIBUTES[self.op])}"
            )
        if len(self.inputs) != INPUTS.get(self.op, 1):
            raise ValueError(
                f"node {self.name!r} ({self.op}): {len(self.inputs)} inputs, expected {INPUTS.get(self.op, 1)}"
            )

    @property
    def outputs(self) -> tuple[str, ...]:
        return (self.name, f"{self.name}.h", f"{self.name}.c") if self.op == "lstm" else (self.name,)

    def grid(self, bits: int) -> Grid | None:
        """The grid of a ``quantize`` node at ``bits``; None where values pass unchanged."""
        values = self.attrs["grids"].get(str(bits))
        return None if values is None else Grid(*values)


@dataclass(frozen=True, kw_only=True)
class Graph:
    """Nodes in an order in which they can run.

    ``inputs``: name -> shape, with ``-1`` for N; one is ``frames``, uint8 (-1, H, W, C).
    ``outputs``: names of values.
    """

    inputs: Mapping[str, tuple[int, ...]]
    nodes: tuple[Node, ...]
    outputs: tuple[str, ...]

    def __post_init__(self) -> None:
        known = set(self.inputs)
        for node in self.nodes:
            unknown = [name for name in node.inputs if name not in known]
            if unknown:
                raise ValueError(f"node {node.name!r} reads {unknown}, which nothing before it gives")
            repeated = known & set(node.outputs)
            if repeated:
                raise ValueError(f"the name {sorted(repeated)} is given twice")
            known.update(node.outputs)
        missing = [name for name in self.outputs if name not in known]
        if missing:
            raise ValueError(f"outputs {missing} are given by no node")

    def __iter__(self) -> Iterator[Node]:
        return iter(self.nodes)

    def resized(self, size: tuple[int, int]) -> Graph:
        """The same computation on normalized frames that are first resized to ``size`` (h, w).

        Where these are quantized at once, the levels lie lower by ``GRID_SHIFT``.
        """
        nodes: list[Node] = []
        names: dict[str, str] = {}
        for node in self.nodes:
            if node.op == "quantize" and node.inputs[0] in names:
                grids = {bits: Grid(*grid) for bits, grid in node.attrs["grids"].items()}
                lower = {bits: g._replace(origin=g.origin - GRID_SHIFT * g.step) for bits, g in grids.items()}
                node = replace(node, attrs={"grids": lower})
            nodes.append(replace(node, inputs=tuple(names.get(name, name) for name in node.inputs)))
            if node.op == "normalize":
                names[node.name] = node.name
                if size != self.inputs["frames"][1:3]:
                    names[node.name] = name = f"{node.name}@{size[0]}x{size[1]}"
                    nodes.append(Node(op="resize", name=name, inputs=(node.name,), attrs={"size": size}))
        outputs = tuple(names.get(name, name) for name in self.outputs)
        return Graph(inputs=self.inputs, nodes=tuple(nodes), outputs=outputs)

    def to_json(self) -> dict[str, Any]:
        """Plain lists and dicts; :meth:`from_json` gives the same graph back."""
        return {
            "inputs": {name: list(shape) for name, shape in self.inputs.items()},
            "nodes": [
                {"op": node.op, "name": node.name, "inputs": list(node.inputs), "attrs": _plain(node.attrs)}
                for node in self.nodes
            ],
            "outputs": list(self.outputs),
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Graph:
        """ValueError or KeyError where ``data`` is no graph."""
        return cls(
            inputs={name: tuple(shape) for name, shape in data["inputs"].items()},
            nodes=tuple(
                Node(op=n["op"], name=n["name"], inputs=tuple(n["inputs"]), attrs=_frozen(n["attrs"]))
                for n in data["nodes"]
            ),
            outputs=tuple(data["outputs"]),
        )


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    return [_plain(item) for item in value] if isinstance(value, (tuple, list)) else value


def _frozen(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _frozen(item) for key, item in value.items()}
    return tuple(_frozen(item) for item in value) if isinstance(value, (tuple, list)) else value
