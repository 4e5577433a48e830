"""Small graphs with numbers of their own, run by OpenVINO and by the oracle."""

import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from mmvideoiq.deploy.bundle.bundle import Layer
from mmvideoiq.deploy.bundle.graph import Graph, Grid, Node
from mmvideoiq.deploy.engines.openvino_engine import OpenVinoEngine, OpenVinoRunner
from tests.deploy.engine_cases import node, ratio
from tests.reference.run_graph import run_graph

ov = pytest.importorskip("openvino")
ROOT = Path(__file__).resolve().parents[2]


SIZE = (11, 9)


@dataclass
class Numbers:
    """What an engine reads of a bundle, without files."""

    graph: Graph
    layers: dict[str, Layer] = field(default_factory=dict)
    cell: tuple[np.ndarray, ...] = ()

    @property
    def graphs(self) -> Mapping[str, Graph]:
        return {"recognition": self.graph}

    def layer(self, part: str, node: Node, bits: int) -> Layer:
        return self.layers[node.attrs["layer"]]

    def lstm(self, part: str, node: Node) -> tuple[np.ndarray, ...]:
        return self.cell


def graph_of(
    *nodes: Node, outputs: tuple[str, ...] = (), size: tuple[int, int] = SIZE, **inputs: Any
) -> Graph:
    """``nodes`` after ``x``, the normalized frames; all of them are outputs where none are given."""
    first = node("normalize", "x", "frames", mean=(128.0, 120.0, 110.0), std=(50.0, 60.0, 70.0))
    outputs = outputs or tuple(name for n in nodes for name in n.outputs) or ("x",)
    return Graph(inputs={"frames": (-1, *size, 3), **inputs}, nodes=(first, *nodes), outputs=outputs)


def conv(name: str, x: str, shape: tuple[int, ...], *, quantized: bool = True, **window: Any) -> Node:
    defaults = dict(stride=(1, 1), padding=(0, 0), dilation=(1, 1), groups=1)
    return node("conv", name, x, layer=name, shape=shape, quantized=quantized, **{**defaults, **window})


def quantize(name: str, x: str, grid: Grid, bits: int) -> Node:
    return node("quantize", name, x, grids={str(bits): tuple(grid)})


def frames_of(n: int, size: tuple[int, int] = SIZE) -> np.ndarray:
    return np.random.default_rng(n).integers(0, 256, (n, *size, 3), dtype=np.uint8)


def load(bundle: Any, bits: int, *, part: str = "recognition", vnni: bool | None = None) -> OpenVinoRunner:
    return OpenVinoEngine(threads=1, vnni=vnni).load(bundle, part, bits)


def agreement(
    bundle: Any,
    bits: int,
    inputs: Mapping[str, np.ndarray],
    *,
    part: str = "recognition",
    vnni: bool | None = None,
) -> float:
    """Signal to noise in dB of the worst output; later nodes of the oracle read the engine's quantized values.

    A sum on the very edge of rounding may fall to either side: codes differ by one at most, and rarely.
    """
    graph = bundle.graphs[part]
    got = load(bundle, bits, part=part, vnni=vnni)(inputs)
    assert list(got) == list(graph.outputs)
    grids = {n.name: n.grid(bits) for n in graph if n.op == "quantize" and n.grid(bits) and n.name in got}
    known = {name: torch.from_numpy(got[name]) for name in grids}
    want = run_graph(bundle, part, bits, {name: torch.from_numpy(a) for name, a in inputs.items()}, known)
    for name, grid in grids.items():
        apart = np.abs(got[name] - want[name].numpy()) / grid.step
        assert apart.max() < 1.01 and (apart > 0.5).mean() < 1e-3
    return min(ratio(array, want[name]) for name, array in got.items() if name not in grids)


def executed(runner: OpenVinoRunner) -> list[tuple[str, str, str]]:
    """What runs, in order: type, kernel, and the nodes that were fused into it."""
    compiled = runner._requests[runner._batches[0]].get_compiled_model()
    steps = []
    for step in compiled.get_runtime_model().get_ordered_ops():
        info = {key: value.astype(str) for key, value in step.get_rt_info().items()}
        if info["layerType"] not in ("Const", "Input", "Output", "Reshape"):
            steps.append((info["layerType"], info["primitiveType"], info["originalLayersNames"]))
    return steps


NEEDS_AVX2 = pytest.mark.skipif(
    "avx2" not in Path("/proc/cpuinfo").read_text(), reason="kernels of an AVX2 CPU"
)


def on_avx2(code: str) -> list[float]:
    """The numbers that code prints in a process where oneDNN uses AVX2 alone, whatever else the CPU can do."""
    ours = "import sys, types; t = sys.modules['tests'] = types.ModuleType('tests'); t.__path__ = ['tests'];"
    environment = {**os.environ, "ONEDNN_MAX_CPU_ISA": "AVX2", "OMP_NUM_THREADS": "1"}
    run = subprocess.run(  # another package may bring a ``tests`` of its own, which would hide ours
        [sys.executable, "-c", ours + code], env=environment, cwd=ROOT, capture_output=True, text=True
    )
    assert run.returncode == 0, run.stderr
    return [float(word) for word in run.stdout.split()]
