"""An order of channels in which int8 kernels without VNNI add up 8-bit weights exactly.

Such a kernel (``vpmaddubsw``) multiplies two neighbouring input channels by their weights and adds the two products in
int16, which saturates where ``high * (q1 + q2)`` leaves it: with activations up to 255, where two weights of one sign
sum up to 129 and more. Only neighbours (0, 1), (2, 3), ... meet. So a layer whose channels can be put in pairs none of
which conflicts, in any output and at any tap of the kernel, needs one convolution; any other needs two with halved
weights.

The order costs nothing: the layer that gives the channels writes them in that order. But all values that are joined
channel by channel (sums, pools, quantizations, norms, depthwise convolutions) share one order, and with it the
conflicts of all layers that read one of them: those of a residual stage, for instance. A layer that leaves no
pairing is left out, and keeps its two convolutions.

Who has conflicts: weights on a grid with one scale per layer (DoReFa; nested and LSQ with ``per_channel=False``) fill
8 bits in few places, so that pairs are found for most layers. With a scale per output channel every channel has
weights near the end of the grid, and few layers find pairs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np

from mmvideoiq.deploy.bundle.graph import Graph, Node

if TYPE_CHECKING:
    from mmvideoiq.deploy.bundle.bundle import Layer

INT16 = np.iinfo(np.int16)
#: Channels left alone, for which changes of partners are tried: of more it would be long, and in vain.
MAX_UNPAIRED = 32
JOINING = {
    "quantize",
    "relu",
    "clamp",
    "max_pool",
    "avg_pool",
    "mean_pool",
    "flatten",
    "affine",
    "add",
    "shift",
}
KEEPING = {"max_pool", "flatten", "shift"}  # what codes stay codes through


def conflicts(codes: np.ndarray, high: int) -> np.ndarray:
    """Which two input channels must not meet: bool (I, I), symmetric, False on the diagonal.

    Args:
        codes: int8 (O, I, ...), weights.
        high: largest activation.

    >>> conflicts(np.int8([[64, 65, -65, -64]]), 255).astype(int)
    array([[0, 1, 0, 0],
           [1, 0, 0, 0],
           [0, 0, 0, 1],
           [0, 0, 1, 0]])
    """
    most, least = INT16.max // high, -(-INT16.min // high)
    rows = np.moveaxis(codes, 1, -1).reshape(-1, codes.shape[1]).astype(np.int16)  # (O * taps, I)
    found = np.zeros((rows.shape[1],) * 2, bool)
    for channel, weights in enumerate(rows.T):  # of two that conflict, one is beyond the half
        large, small = weights > most // 2, weights < least // 2
        found[channel] |= ((rows[large] > most - weights[large, None]) & (rows[large] > 0)).any(axis=0)
        found[channel] |= ((rows[small] < least - weights[small, None]) & (rows[small] < 0)).any(axis=0)
    found |= found.T
    np.fill_diagonal(found, False)
    return found


def saturates_in_pairs(codes: np.ndarray, high: int) -> bool:
    """Whether products of neighbours (0, 1), (2, 3), ... can leave int16 when added. ``codes``: int8 (O, I, ...)."""
    wide = codes.astype(np.int32)
    count = wide.shape[1] // 2 * 2
    first, second = wide[:, 0:count:2], wide[:, 1:count:2]
    most = high * (np.maximum(first, 0) + np.maximum(second, 0))
    least = high * (np.minimum(first, 0) + np.minimum(second, 0))
    return bool((most > INT16.max).any() or (least < INT16.min).any())


def pair_up(conflict: np.ndarray) -> np.ndarray | None:
    """An order (C,) in which no neighbours (0, 1), (2, 3), ... conflict; None where none is found.

    The one with least choice left chooses next, and takes the partner with least choice left (as Karp and Sipser do);
    two that stay alone change partners with a pair. Of an odd number the last one stays alone.

    >>> pair_up(np.array([[0, 1, 0, 0], [1, 0, 0, 0], [0, 0, 0, 1], [0, 0, 1, 0]], bool)).tolist()
    [0, 2, 1, 3]
    """
    count = len(conflict)
    free = np.ones((count + count % 2,) * 2, bool)  # one more, whom nobody minds, where the number is odd
    free[:count, :count] = ~conflict
    np.fill_diagonal(free, False)
    mate = np.full(len(free), -1)

    def join(a: int, b: int) -> None:
        mate[a], mate[b] = b, a

    left, choice = (
        np.ones(len(free), bool),
        free.sum(axis=1),
    )  # choice: how many of those left a channel may meet
    while left.any():
        a = int(np.argmin(np.where(left, choice, len(free))))
        partners = np.flatnonzero(free[a] & left)
        gone = [a]
        if partners.size:
            b = int(partners[np.argmin(choice[partners])])
            join(a, b)
            gone.append(b)
        left[gone] = False
        choice -= free[:, gone].sum(axis=1)
    while (alone := np.flatnonzero(mate < 0)).size:
        if alone.size > MAX_UNPAIRED:
            return None
        changes = (
            (int(a), int(b), int(c))
            for i, a in enumerate(alone)
            for b in alone[i + 1 :]
            for c in np.flatnonzero((mate >= 0) & free[a] & free[b][mate])[:1]
        )
        change = next(changes, None)
        if change is None:
            return None
        a, b, c = change
        d = int(mate[c])
        join(a, c)
        join(b, d)
    firsts = np.flatnonzero(np.arange(len(free)) < mate)
    pairs = np.stack([firsts, mate[firsts]], axis=1)
    order = pairs[np.argsort(pairs[:, 1] == count, kind="stable")].reshape(-1)
    return order[order < count]


def pair_up_sections(conflict: np.ndarray, bounds: Sequence[int]) -> np.ndarray | None:
    """:func:`pair_up` within each section; ``bounds`` are where they begin, and the number of channels."""
    parts = []
    for begin, end in pairwise(bounds):
        part = None if begin % 2 else pair_up(conflict[begin:end, begin:end])
        if part is None:
            return None
        parts.append(begin + part)
    return np.concatenate(parts)


@dataclass
class _Shared:
    """Values that share an order: layers that read one of them, and where sections begin that must not mix."""

    pinned: bool = False
    readers: list[Node] = field(default_factory=list)
    edges: set[int] = field(default_factory=set)

    def order(self, weights: Mapping[str, tuple[np.ndarray, int]]) -> np.ndarray | None:
        """For as many readers as possible; ``weights``: by layer, codes and the largest activation."""
        if self.pinned or not self.readers:
            return None
        found = [conflicts(*weights[node.name]) for node in self.readers]
        found.sort(key=np.count_nonzero)
        bounds = sorted({0, *self.edges, len(found[0])})
        while found and found[-1].any():
            order = pair_up_sections(np.logical_or.reduce(found), bounds)
            if order is not None:
                return order
            found.pop()  # the one with most conflicts keeps its two convolutions
        return None


def channel_orders(
    graph: Graph, bits: int, codes: Callable[[Node, int], np.ndarray | None]
) -> dict[str, np.ndarray]:
    """The order of the channels of each value that has one: place -> channel. Others stay as they are.

    Args:
        codes: of a layer and the largest activation it meets, the signed weights int8 (O, I, ...) where they may
            saturate, else None.
    """
    parent = {name: name for name in graph.inputs}
    for node in graph:
        parent.update((name, name) for name in node.outputs)

    def root(name: str) -> str:
        while parent[name] != name:
            parent[name] = parent[parent[name]]
            name = parent[name]
        return name

    for node in graph:
        if node.op in JOINING or is_depthwise(node):
            for name in node.inputs:
                parent[root(name)] = root(node.name)
    shared: dict[str, _Shared] = {}

    def of(name: str) -> _Shared:
        return shared.setdefault(root(name), _Shared())

    for name in graph.inputs:
        of(name).pinned = True
    tops = code_tops(graph, bits)
    weights: dict[str, tuple[np.ndarray, int]] = {}
    for node in graph:
        if node.op in ("conv", "linear") and node.attrs.get("groups", 1) == 1:
            top = tops.get(node.inputs[0], 0)
            found = codes(node, top) if top else None
            if found is not None:
                weights[node.name] = found, top
                of(node.inputs[0]).readers.append(node)
        elif node.op == "shift":
            of(node.name).edges |= {node.attrs["fold"], 2 * node.attrs["fold"]}
        elif node.op not in JOINING and not is_depthwise(node):
            for name in (*node.inputs, *node.outputs):
                of(name).pinned = True
    orders = {name: values.order(weights) for name, values in shared.items()}
    found_orders = {name: orders.get(root(name)) for name in parent}
    return {name: order for name, order in found_orders.items() if order is not None}


def is_depthwise(node: Node) -> bool:
    return node.op == "conv" and node.attrs["groups"] == node.attrs["shape"][0] > 1 == node.attrs["shape"][1]


def code_tops(graph: Graph, bits: int) -> dict[str, int]:
    """The largest code, counted from 0, of each value that is on a grid."""
    tops: dict[str, int] = {}
    for node in graph:
        grid = node.grid(bits) if node.op == "quantize" else None
        if grid is not None:
            tops[node.name] = grid.high - grid.low + grid.low % 2
        elif node.op in KEEPING and node.inputs[0] in tops:
            tops[node.name] = tops[node.inputs[0]]
    return tops


def reordered(layer: Layer, node: Node, orders: Mapping[str, np.ndarray]) -> Layer:
    """The layer of ``node`` for inputs and outputs in their orders."""
    given, wanted = orders.get(node.inputs[0]), orders.get(node.name)

    def turned(array: np.ndarray | None) -> np.ndarray | None:
        if array is None:
            return None
        if wanted is not None and len(array) == len(wanted):
            array = array[wanted]
        if given is not None and array.ndim > 1 and array.shape[1] == len(given):
            array = array[:, given]
        return array

    if given is None and wanted is None:
        return layer
    names = ("weight", "codes", "scale", "offset", "gain", "bias")
    arrays: dict[str, Any] = {name: turned(getattr(layer, name)) for name in names}
    return replace(layer, **arrays)


# --- whether a kernel does so ---------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Probe:
    """A bundle of one layer that is exact on kernels which add neighbours alone, and on no others that saturate.

    In each pair of neighbours one weight is the largest and one the least, by chance this way round or that: two of
    the largest meet as soon as anything else is paired. All inputs are white.
    """

    graph: Graph
    numbers: Layer
    inputs: Mapping[str, np.ndarray]
    expected: Mapping[str, np.ndarray]

    @property
    def graphs(self) -> Mapping[str, Graph]:
        return {"probe": self.graph}

    def layer(self, part: str, node: Node, bits: int) -> Layer:
        return self.numbers

    def lstm(self, part: str, node: Node) -> tuple[np.ndarray, ...]:
        raise NotImplementedError("a probe has no lstm")


def probes(frames: int, channels: int = 64, size: int = 14) -> Iterator[Probe]:
    """Of the usual kernels and strides, for so many frames."""
    from mmvideoiq.deploy.bundle.bundle import Layer

    rng, one = np.random.default_rng(0), np.ones(channels, np.float32)
    for kernel, stride in ((1, 1), (1, 2), (3, 1), (3, 2)):
        shape = (channels, channels // 2, 2, kernel, kernel)
        sign = rng.choice([-1, 1], (channels, channels // 2, 1, kernel, kernel))
        first = rng.integers(0, 2, sign.shape)
        large = np.arange(2)[:, None, None] == first
        weight = (sign * np.where(large, 127, 1)).reshape(shape[0], channels, kernel, kernel)
        sizes = dict(shape=weight.shape, stride=(stride,) * 2, padding=(0, 0), dilation=(1, 1), groups=1)
        nodes = (
            Node(op="normalize", name="x", inputs=("frames",), attrs=dict(mean=(0.0,) * channels, std=one)),
            Node(op="quantize", name="codes", inputs=("x",), attrs=dict(grids={"8": (1.0, 0, 255, 0.0)})),
            Node(op="conv", name="y", inputs=("codes",), attrs=dict(**sizes, layer="y", quantized=True)),
        )
        places = (size - kernel) // stride + 1
        total = 255 * weight.sum(axis=(1, 2, 3), dtype=np.int64)
        yield Probe(
            graph=Graph(inputs={"frames": (-1, size, size, channels)}, nodes=nodes, outputs=("y",)),
            numbers=Layer(
                bits=8,
                codes=(weight + 128).astype(np.uint8),
                scale=one,
                offset=-128 * one,
                gain=one,
                bias=0 * one,
            ),
            inputs={"frames": np.full((frames, size, size, channels), 255, np.uint8)},
            expected={
                "y": np.broadcast_to(total[:, None, None], (frames, channels, places, places)).astype(
                    np.float32
                )
            },
        )
