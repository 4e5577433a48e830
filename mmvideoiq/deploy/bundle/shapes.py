"""The shape of every value of a graph, found before anything is built: a graph that could not run is refused.

Axes: N frames, C H W, D features.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import prod

from mmvideoiq.deploy.bundle.geometry import ConvGeometry, pooling_ends
from mmvideoiq.deploy.bundle.graph import Graph, Node

MAX_SIDE = 2**16  # of an input with its padding, a window, a stride
MAX_VALUES = 2**26  # of one frame, at any place in the graph
MAX_CLIP = 2**12  # frames that a shift may couple
RANKS = {"resize": 4, "conv": 4, "max_pool": 4, "avg_pool": 4, "mean_pool": 4, "shift": 4, "linear": 2}

Shape = tuple[int, ...]


def graph_shapes(graph: Graph) -> dict[str, Shape]:
    """Shapes by the value's name: ``(-1, C, H, W)`` or ``(-1, D)``, -1 for N; LSTM states are ``(1, hidden)``.

    Raises:
        ValueError: an input or a node that no engine can run; names it.
    """
    shapes = _inputs(graph)
    for node in graph:
        try:
            given = [shapes[name] for name in node.inputs]
            if (node.op == "normalize") != ("frames" in node.inputs):
                raise ValueError("frames are read by normalize, and normalize reads nothing else")
            wanted = RANKS.get(node.op, len(given[0]))
            if len(given[0]) != wanted:
                raise ValueError(f"the input is {list(given[0])}, expected {wanted} dimensions")
            result = _result(node, given)
            if min(result[1:]) < 1 or prod(result[1:]) > MAX_VALUES:
                raise ValueError(f"the output would be {list(result)}, expected at most {MAX_VALUES} values")
        except ValueError as error:
            raise ValueError(f"node {node.name!r} ({node.op}): {error}") from None
        shapes[node.name] = result
        if node.op == "lstm":
            shapes.update(dict.fromkeys(node.outputs[1:], given[1]))
    clips = {node.attrs["frames"] for node in graph if node.op == "shift"}
    if len(clips) > 1:
        raise ValueError(f"shift nodes take clips of {sorted(clips)} frames, expected one length")
    for name in graph.outputs:
        if name in graph.inputs:
            raise ValueError(f"the output {name!r} is an input")
    return shapes


def _inputs(graph: Graph) -> dict[str, Shape]:
    hidden = {name: node.attrs["hidden"] for node in graph if node.op == "lstm" for name in node.inputs[1:]}
    for name, shape in graph.inputs.items():
        if name == "frames":
            fits = (
                len(shape) == 4 and shape[0] == -1 and min(shape[1:]) >= 1 and prod(shape[1:]) <= MAX_VALUES
            )
            wanted = f"[-1, height, width, channels], at most {MAX_VALUES} values per frame"
        elif name in hidden:
            fits, wanted = shape == (1, hidden[name]), f"[1, {hidden[name]}], the state of an lstm"
        else:
            raise ValueError(f"the input {name!r} is neither frames nor the state of an lstm")
        if not fits:
            raise ValueError(f"the input {name!r} is {list(shape)}, expected {wanted}")
    readers = [name for node in graph for name in node.inputs if name in graph.inputs and name != "frames"]
    if len(readers) != len(set(readers)) or set(readers) - set(hidden):
        raise ValueError(f"each state is read once, by an lstm; the graph reads {sorted(readers)}")
    foreign = sorted(set(hidden) - set(graph.inputs))
    if foreign:
        raise ValueError(f"the lstm states {foreign} are not inputs of the graph")
    return dict(graph.inputs)


def _result(node: Node, given: Sequence[Shape]) -> Shape:
    attrs, shape = node.attrs, given[0]
    if node.op == "normalize":
        return (shape[0], shape[3], *shape[1:3])
    if node.op == "resize":
        return (*shape[:2], *attrs["size"])
    if node.op == "conv":
        _check_window(attrs, attrs["shape"][2:], attrs["dilation"], shape)
        return (shape[0], attrs["shape"][0], *ConvGeometry.of(node).output_size(shape[2:]))
    if node.op in ("max_pool", "avg_pool"):
        _check_window(attrs, attrs["kernel"], (1, 1), shape)
        if any(2 * p > k for p, k in zip(attrs["padding"], attrs["kernel"], strict=True)):
            raise ValueError(
                f"padding {list(attrs['padding'])} is more than half the kernel {list(attrs['kernel'])}"
            )
        return (*shape[:2], *pooling_ends(node, shape[2:])[0])
    if node.op == "linear":
        return (shape[0], attrs["shape"][0])
    if node.op == "mean_pool":
        return shape[:2]
    if node.op == "flatten":
        if shape[2:] not in ((), (1, 1)):
            raise ValueError(f"the input is {list(shape)}, expected [-1, D] or [-1, D, 1, 1]")
        return shape[:2]
    if node.op == "add" and given[0] != given[1]:
        raise ValueError(f"the inputs are {list(given[0])} and {list(given[1])}, expected one shape")
    if node.op == "shift" and (2 * attrs["fold"] > shape[1] or attrs["frames"] > MAX_CLIP):
        raise ValueError(
            f"fold {attrs['fold']} of {shape[1]} channels over {attrs['frames']} frames, "
            f"expected at most half the channels and {MAX_CLIP} frames"
        )
    if node.op == "lstm":
        if len(shape) != 2 or shape[0] != -1:
            raise ValueError(f"the input is {list(shape)}, expected [-1, D]")
        return (-1, attrs["hidden"])
    return shape


def _check_window(
    attrs: Mapping[str, Sequence[int]], kernel: Sequence[int], dilation: Sequence[int], shape: Shape
) -> None:
    axes = zip(shape[2:], attrs["padding"], kernel, dilation, attrs["stride"], strict=True)
    if any(max(n + 2 * p, k, d, s) > MAX_SIDE for n, p, k, d, s in axes):
        raise ValueError(f"padding, kernel, dilation or stride is beyond {MAX_SIDE}")
