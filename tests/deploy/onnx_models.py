"""Small graphs with numbers of their own, run by ONNX Runtime and by the oracle."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest
import torch

from mmvideoiq.deploy.bundle.bundle import Layer
from mmvideoiq.deploy.bundle.graph import Graph, Node
from mmvideoiq.deploy.engines.onnx_model import build_model
from mmvideoiq.deploy.engines.onnxruntime_engine import OnnxRuntimeEngine
from tests.deploy.engine_cases import node, ratio
from tests.reference.run_graph import run_graph

onnx = pytest.importorskip("onnx")


ort = pytest.importorskip("onnxruntime")


@dataclass
class FakeBundle:
    """What engines read of a bundle, without its files."""

    graphs: Mapping[str, Graph]
    layers: dict[str, Layer] = field(default_factory=dict)
    cell: tuple[np.ndarray, ...] = ()

    def layer(self, part: str, node: Node, bits: int) -> Layer:
        return self.layers[node.attrs["layer"]]

    def lstm(self, part: str, node: Node) -> tuple[np.ndarray, ...]:
        return self.cell


def frames_of(n: int, height: int = 11, width: int = 9) -> np.ndarray:
    return np.random.default_rng(n).integers(0, 256, (n, height, width, 3), dtype=np.uint8)


def chain(*ops: tuple[str, dict[str, Any]], height: int = 11, width: int = 9) -> Graph:
    """One operation after the other, from normalized frames on; each is named after its place and kind."""
    nodes = [node("normalize", "x", "frames", mean=(128.0, 120.0, 110.0), std=(50.0, 60.0, 70.0))]
    for i, (op, attrs) in enumerate(ops):
        nodes.append(node(op, f"{i}.{op}", nodes[-1].name, **attrs))
    return Graph(inputs={"frames": (-1, height, width, 3)}, nodes=tuple(nodes), outputs=(nodes[-1].name,))


def conv(
    layer: str,
    shape: tuple[int, ...],
    *,
    stride: tuple[int, int] = (1, 1),
    padding: tuple[int, int] = (0, 0),
    dilation: tuple[int, int] = (1, 1),
    groups: int = 1,
    quantized: bool = True,
) -> tuple[str, dict[str, Any]]:
    sizes = dict(shape=shape, stride=stride, padding=padding, dilation=dilation)
    return "conv", dict(layer=layer, **sizes, groups=groups, quantized=quantized)


def agreement(
    bundle: Any, bits: int, inputs: dict[str, np.ndarray], *, part: str = "a", vnni: bool | None = None
) -> float:
    """Signal to noise in dB of the worst output."""
    got = OnnxRuntimeEngine(threads=1, vnni=vnni).load(bundle, part, bits)(inputs)
    want = run_graph(bundle, part, bits, {name: torch.from_numpy(array) for name, array in inputs.items()})
    assert list(got) == list(bundle.graphs[part].outputs)
    return min(ratio(array, want[name]) for name, array in got.items())


def operators(bundle: Any, bits: int, *, part: str = "a", vnni: bool = True) -> list[str]:
    model = onnx.load_from_string(build_model(bundle, part, bits, vnni=vnni))
    return [step.op_type for step in model.graph.node]
