"""A small hand-made bundle with random numbers: every kind of layer, in a fraction of a second."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from mmvideoiq.actions import ActionSpace
from mmvideoiq.deploy.bundle.bundle import write_bundle
from mmvideoiq.deploy.bundle.graph import Graph, Node
from mmvideoiq.deploy.bundle.packing import pack

MEAN, STD = (123.0, 117.0, 104.0), (58.0, 57.0, 57.5)
HIDDEN = 12


def make_toy_bundle(
    path: Path,
    *,
    parent_bits: int = 8,
    precisions: Sequence[int] = (8, 4, 2),
    grid: str = "nested",
    quantize_stem: bool = False,
    policy: bool = True,
    classes: int = 5,
    frames: int = 8,
    size: int = 32,
    seed: int = 0,
) -> Path:
    """Write the bundle and return ``path``; arguments as in :func:`toy_parts`."""
    parts = toy_parts(
        parent_bits=parent_bits,
        precisions=precisions,
        grid=grid,
        quantize_stem=quantize_stem,
        policy=policy,
        classes=classes,
        frames=frames,
        size=size,
        seed=seed,
    )
    write_bundle(path, **parts)
    return path


def toy_parts(
    *,
    parent_bits: int = 8,
    precisions: Sequence[int] = (8, 4, 2),
    grid: str = "nested",
    quantize_stem: bool = False,
    policy: bool = True,
    classes: int = 5,
    frames: int = 8,
    size: int = 32,
    seed: int = 0,
) -> dict[str, Any]:
    """Arguments for ``write_bundle``: manifest, graphs and tensors.

    Args:
        parent_bits: 8 and below, or 32 for float weights with thresholds.
        precisions: 1 is none of them, as one activation takes both signs.
        grid: ``nested``, symmetric with a scale per channel, or ``dorefa``, one scale and the offset -1.
        quantize_stem: the first layer has codes too, and its input a grid that does not start at 0.
        size: side of the square frames.
    """
    rng, features = np.random.default_rng(seed), 16
    graphs = {"recognition": _recognition_graph(precisions, size, quantize_stem)}
    tensors = {"recognition": _recognition_tensors(rng, graphs["recognition"], parent_bits, precisions, grid)}
    tensors["recognition"]["head.weight"] = _normal(rng, classes, features)
    tensors["recognition"]["head.bias"] = _normal(rng, classes)
    space = ActionSpace([*(dict(bits=b) for b in precisions), dict(skip=1)])
    if policy:
        graphs["policy"] = _policy_graph(size, len(space))
        tensors["policy"] = _policy_tensors(rng, graphs["policy"])
    figures = {name: 0.01 * cost for name, cost in zip(space.names, space.costs, strict=True)}
    if policy:
        figures["policy"] = 0.001
    manifest = dict(
        classes=[f"class {k}" for k in range(classes)],
        actions=[dict(skip=a.skip) if a.is_skip else dict(bits=a.bits) for a in space],
        cost=dict(rule="paper", values=list(space.costs)),
        all_skip="likeliest",
        precisions=list(precisions),
        parent_bits=parent_bits,
        preprocessing=dict(
            frames=frames, clip_len=1, short_side=size + 4, crop=size, mean=list(MEAN), std=list(STD)
        ),
        gflops=figures,
        bitops=figures,
        latency_ms=None,
        budget=None,
    )
    return dict(manifest=manifest, graphs=graphs, tensors=tensors)


# --- graphs -------------------------------------------------------------------------------------------------


class _Nodes(list[Node]):
    """Nodes in the making; every method returns the name of the new value."""

    def add(self, op: str, name: str, *inputs: str, **attrs: Any) -> str:
        self.append(Node(op=op, name=name, inputs=inputs, attrs=attrs))
        return name

    def conv(
        self,
        name: str,
        x: str,
        shape: Sequence[int],
        *,
        stride: int = 1,
        groups: int = 1,
        quantized: bool = True,
    ) -> str:
        return self.add(
            "conv",
            name,
            x,
            layer=f"net.{name}",
            shape=tuple(shape),
            stride=(stride, stride),
            padding=(shape[2] // 2, shape[3] // 2),
            dilation=(1, 1),
            groups=groups,
            quantized=quantized,
        )

    def quantize(
        self,
        name: str,
        x: str,
        precisions: Sequence[int],
        *,
        clip: float,
        signed: bool = False,
        low: float = 0.0,
    ) -> str:
        grids = {}
        for bits in precisions:
            high = 2 ** (bits - 1) - 1 if signed else 2**bits - 1
            if bits <= 8:
                grids[str(bits)] = ((clip - low) / high, -high if signed else 0, high, low)
        return self.add("quantize", name, x, grids=grids)


def _recognition_graph(precisions: Sequence[int], size: int, quantize_stem: bool) -> Graph:
    nodes = _Nodes()
    x = nodes.add("normalize", "normalize", "frames", mean=MEAN, std=STD)
    if quantize_stem:
        x = nodes.quantize("input", x, precisions, clip=2.6, low=-2.2)
    x = nodes.conv("stem", x, (8, 3, 3, 3), stride=2, quantized=quantize_stem)
    x = nodes.add("relu", "stem.relu", x)
    x = nodes.add("max_pool", "pool", x, kernel=(3, 3), stride=(2, 2), padding=(1, 1), ceil=False)
    # a block with a shortcut convolution
    x = nodes.quantize("block.input", x, precisions, clip=3.0)
    y = nodes.conv("block.conv1", x, (12, 8, 3, 3), stride=2)
    y = nodes.add("relu", "block.relu1", y)
    y = nodes.quantize("block.quantize2", y, precisions, clip=3.0)
    y = nodes.conv("block.conv2", y, (12, 12, 3, 3))
    x = nodes.conv("block.downsample", x, (12, 8, 1, 1), stride=2)
    x = nodes.add("add", "block.add", y, x)
    # a 1x1 convolution of values with both signs, then a grouped one
    x = nodes.quantize("signed.quantize", x, precisions, clip=4.0, signed=True)
    x = nodes.conv("signed", x, (16, 12, 1, 1))
    x = nodes.add("clamp", "signed.relu6", x, low=0.0, high=6.0)
    x = nodes.quantize("grouped.quantize", x, precisions, clip=4.0)
    x = nodes.conv("grouped", x, (16, 4, 3, 3), groups=4)
    x = nodes.add("affine", "norm", x, layer="net.norm", channels=16)
    x = nodes.add("relu", "norm.relu", x)
    x = nodes.add("mean_pool", "features", x)
    return Graph(inputs={"frames": (-1, size, size, 3)}, nodes=tuple(nodes), outputs=(x,))


def _policy_graph(size: int, actions: int) -> Graph:
    nodes = _Nodes()
    x = nodes.add("normalize", "normalize", "frames", mean=MEAN, std=STD)
    x = nodes.add("resize", "resize", x, size=(20, 20))
    x = nodes.conv("conv", x, (8, 3, 3, 3), stride=2, quantized=False)
    x = nodes.add("clamp", "conv.relu6", x, low=0.0, high=6.0)
    x = nodes.conv("depthwise", x, (8, 1, 3, 3), groups=8, quantized=False)
    x = nodes.add("clamp", "depthwise.relu6", x, low=0.0, high=6.0)
    x = nodes.add("mean_pool", "pool", x)
    x = nodes.add("lstm", "lstm", x, "h", "c", layer="lstm", hidden=HIDDEN)
    x = nodes.add("linear", "logits", x, layer="fc", shape=(actions, HIDDEN), quantized=False)
    inputs = {"frames": (-1, size, size, 3), "h": (1, HIDDEN), "c": (1, HIDDEN)}
    return Graph(inputs=inputs, nodes=tuple(nodes), outputs=(x, "lstm.h", "lstm.c"))


# --- tensors ------------------------------------------------------------------------------------------------


def _normal(rng: np.random.Generator, *shape: int) -> np.ndarray:
    return rng.standard_normal(shape, dtype=np.float32)


def _weight(rng: np.random.Generator, shape: Sequence[int]) -> np.ndarray:
    return _normal(rng, *shape) * np.float32(np.sqrt(2 / np.prod(shape[1:])))


def _recognition_tensors(
    rng: np.random.Generator, graph: Graph, parent_bits: int, precisions: Sequence[int], grid: str
) -> dict[str, np.ndarray]:
    tensors = {}
    integer = [bits for bits in precisions if bits <= 8]
    for node in graph:
        if "layer" not in node.attrs:
            continue
        layer, quantized = node.attrs["layer"], node.attrs.get("quantized", False)
        channels = node.attrs["channels"] if node.op == "affine" else node.attrs["shape"][0]
        if node.op == "conv":
            weight = _weight(rng, node.attrs["shape"])
            half = np.abs(weight).max(axis=(1, 2, 3))
            if not quantized or parent_bits == 32:
                tensors[f"{layer}.weight"] = weight
            if quantized and parent_bits == 32 and integer:
                tensors[f"{layer}.thresholds"] = _thresholds(integer[0])
                tensors[f"{layer}.divisor"] = half
            if quantized and parent_bits <= 8:
                codes = np.searchsorted(_thresholds(parent_bits), weight / half[:, None, None, None], "right")
                tensors[f"{layer}.codes"] = pack(codes.astype(np.uint8), parent_bits)
            for bits in integer if quantized else ():
                scale, offset = (half * 2.0 ** (1 - bits), half * (2.0**-bits - 1))
                if grid == "dorefa":
                    scale, offset = (
                        np.array([1.94 * weight.std() * 3 / (2**bits - 1)]),
                        np.array([-3 * weight.std()]),
                    )
                tensors[f"{layer}.scale.{bits}"] = scale.astype(np.float32)
                tensors[f"{layer}.offset.{bits}"] = offset.astype(np.float32)
        for suffix in [f".{bits}" for bits in precisions] if layer != "net.stem" or quantized else [""]:
            tensors[f"{layer}.gain{suffix}"] = rng.uniform(0.6, 1.4, channels).astype(np.float32)
            tensors[f"{layer}.bias{suffix}"] = 0.3 * _normal(rng, channels)
    return tensors


def _thresholds(bits: int) -> np.ndarray:
    """Where the cells of [-1, 1] begin, the first one aside."""
    return np.arange(1, 2**bits, dtype=np.float32) * np.float32(2.0 ** (1 - bits)) - 1


def _policy_tensors(rng: np.random.Generator, graph: Graph) -> dict[str, np.ndarray]:
    tensors = {}

    def add_int16(name: str, shape: Sequence[int]) -> None:
        weight = _weight(rng, shape)
        step = np.abs(weight).reshape(shape[0], -1).max(axis=1) / np.float32(2**15 - 1)
        whole = np.rint(weight / step.reshape(-1, *[1] * (weight.ndim - 1)))
        tensors[f"{name}.int16"], tensors[f"{name}.step"] = whole.astype(np.int16), step

    for node in graph:
        if node.op in ("conv", "linear"):
            layer, shape = node.attrs["layer"], node.attrs["shape"]
            add_int16(layer, shape)
            tensors[f"{layer}.gain"] = rng.uniform(0.6, 1.4, shape[0]).astype(np.float32)
            tensors[f"{layer}.bias"] = 0.3 * _normal(rng, shape[0])
        elif node.op == "lstm":
            add_int16("lstm.weight_ih", (4 * HIDDEN, 8))
            add_int16("lstm.weight_hh", (4 * HIDDEN, HIDDEN))
            tensors["lstm.bias"] = 0.3 * _normal(rng, 4 * HIDDEN)
    return tensors
