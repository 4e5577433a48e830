"""The OpenVINO engine against the oracle: operations, layers, whole bundles; and that its integers are integers."""

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

from mmvideoiq.deploy.bundle.bundle import Bundle, Layer
from mmvideoiq.deploy.bundle.graph import Graph, Grid, Node
from mmvideoiq.deploy.bundle.packing import SignedWeights
from mmvideoiq.deploy.engines import openvino_engine
from mmvideoiq.deploy.engines.base import EngineError
from mmvideoiq.deploy.engines.cpu import has_bf16, has_vnni, may_saturate
from mmvideoiq.deploy.engines.lowering import split_weights, weight_values
from mmvideoiq.deploy.engines.openvino_engine import OpenVinoEngine, OpenVinoRunner
from tests.deploy.toy_bundle import HIDDEN, make_toy_bundle
from tests.reference.run_graph import run_graph

ov = pytest.importorskip("openvino")

NEEDS_VNNI = pytest.mark.skipif(not has_vnni(), reason="this CPU has no VNNI")
BOTH_CPUS = pytest.mark.parametrize(
    "vnni", [pytest.param(True, marks=NEEDS_VNNI), False], ids=["vnni", "no-vnni"]
)
EXACT = 110  # dB: nothing but float rounding
SIZE = (11, 9)
GRIDS = {
    "unsigned": {8: Grid(0.01, 0, 255), 4: Grid(0.15, 0, 15), 2: Grid(0.7, 0, 3)},
    "signed": {8: Grid(0.02, -127, 127), 4: Grid(0.3, -7, 7), 2: Grid(1.5, -1, 1)},
    "origin": {8: Grid(0.015, 0, 255, -1.7), 4: Grid(0.25, 0, 15, -1.7), 2: Grid(1.1, 0, 3, 0.3)},
}
ROOT = Path(__file__).resolve().parents[2]


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


# --- building graphs ------------------------------------------------------------------------------------------------


def node(op: str, name: str, *inputs: str, **attrs: Any) -> Node:
    return Node(op=op, name=name, inputs=inputs, attrs=attrs)


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


def normal(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng([seed, *shape]).standard_normal(shape, dtype=np.float32)


def float_layer(*shape: int) -> Layer:
    gain = np.linspace(-1, 1.5, shape[0], dtype=np.float32)
    return Layer(bits=32, weight=normal(*shape) / shape[1], gain=gain, bias=normal(shape[0], seed=1))


def coded_layer(bits: int, *shape: int, symmetric: bool = True) -> Layer:
    """Gains of both signs, a scale for each channel; without symmetry a correction is left at all bits."""
    codes = np.random.default_rng(bits).integers(0, 2**bits, shape, dtype=np.uint8)
    scale = np.linspace(0.5, 1.5, shape[0], dtype=np.float32) / np.float32(2**bits)
    offset = -scale * np.float32((2**bits - 1) / 2 if symmetric else 0.3 * 2**bits)
    gain = np.linspace(-1, 1.5, shape[0], dtype=np.float32)
    return Layer(bits=bits, codes=codes, scale=scale, offset=offset, gain=gain, bias=normal(shape[0], seed=2))


# --- comparing ------------------------------------------------------------------------------------------------------


def ratio(got: np.ndarray, want: torch.Tensor) -> float:
    """Signal to noise in dB; also that shape and type are right."""
    expected = want.double().numpy()
    assert got.shape == expected.shape and got.dtype == np.float32
    return 10 * np.log10(np.square(expected).mean() / max(np.square(got - expected).mean(), 1e-30))


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


# --- operations without weights -------------------------------------------------------------------------------------

POOL = dict(kernel=(3, 2), stride=(2, 2), padding=(1, 0))
TAIL = dict(kernel=(2, 3), stride=(3, 3), padding=(1, 1))  # with ceil, a window would start beyond the input


@pytest.mark.parametrize("n", [1, 3, 16])
def test_operations(n):
    whole = dict(kernel=SIZE, stride=(1, 1), padding=(0, 0), ceil=False)
    nodes = [
        node("resize", "smaller", "x", size=(5, 4)),
        node("resize", "larger", "x", size=(20, 23)),
        node("relu", "relu", "x"),
        node("clamp", "clamp", "x", low=-0.5, high=0.75),
        *(
            node(op, f"{op} {name} {ceil}", "x", **window, ceil=ceil)
            for op in ("max_pool", "avg_pool")
            for name, window in (("pool", POOL), ("tail", TAIL))
            for ceil in (False, True)
        ),
        node("mean_pool", "mean", "x"),
        node("avg_pool", "pixel", "x", **whole),
        node("flatten", "flat", "pixel"),
        node("flatten", "flat mean", "mean"),
        node("add", "sum", "clamp", "relu"),
        node("affine", "affine", "x", layer="norm", channels=3),
        node("affine", "affine of flat", "flat", layer="norm", channels=3),
    ]
    norm = Layer(bits=32, gain=np.float32([-1, 0.5, 2]), bias=normal(3))
    assert agreement(Numbers(graph_of(*nodes), {"norm": norm}), 32, {"frames": frames_of(n)}) > EXACT


@pytest.mark.parametrize("bits", [32, 4])
@pytest.mark.parametrize("frames", [1, 4])
def test_temporal_shift_of_floats_and_of_codes(frames, bits):
    """Several clips; what comes from beyond a clip is 0, also where no code stands for 0."""
    nodes = []
    for kind, grid in (("zero", Grid(0.2, -7, 7)), ("origin", Grid(0.2, 0, 15, -1.53))):
        nodes += [
            quantize(f"{kind}.quantize", "stem", grid, 4),
            node("shift", f"{kind}.shift", f"{kind}.quantize", frames=frames, fold=2),
            conv(f"{kind}.conv", f"{kind}.shift", (6, 8, 3, 3), padding=(1, 1)),
        ]
    layer = float_layer(6, 8, 3, 3) if bits == 32 else coded_layer(4, 6, 8, 3, 3)
    layers = {"stem": float_layer(8, 3, 3, 3), "zero.conv": layer, "origin.conv": layer}
    graph = graph_of(conv("stem", "x", (8, 3, 3, 3), quantized=False), *nodes)
    bundle = Numbers(graph, layers)
    assert agreement(bundle, bits, {"frames": frames_of(8)}) > EXACT
    if frames > 1:
        with pytest.raises(ValueError, match="2 frames are left over: this graph takes clips of 4"):
            load(bundle, bits)({"frames": frames_of(6)})


@pytest.mark.parametrize("n", [1, 6])
@pytest.mark.parametrize("outputs", [("cell", "cell.h", "cell.c"), ("cell",)], ids=["state", "no state"])
def test_lstm_takes_a_state_through_all_frames(n, outputs):
    hidden = 5
    cell = node("lstm", "cell", "mean", "h", "c", layer="cell", hidden=hidden)
    state = dict(h=(1, hidden), c=(1, hidden))
    graph = graph_of(node("mean_pool", "mean", "x"), cell, outputs=outputs, **state)
    weights = (normal(4 * hidden, 3), normal(4 * hidden, hidden), normal(4 * hidden))
    feed = {"frames": frames_of(n), "h": normal(1, hidden), "c": normal(1, hidden, seed=1) + 1}
    assert agreement(Numbers(graph, cell=weights), 32, feed) > EXACT


# --- codes ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "grid",
    [
        Grid(1.0, 0, 3),
        Grid(1.0, 0, 15),
        Grid(1.0, 0, 255),
        Grid(1.0, -1, 1),
        Grid(1.0, -7, 7),
        Grid(1.0, -127, 127),
        Grid(1.0, 0, 15, -2.5),
    ],
    ids=str,
)
def test_codes_round_half_to_even_and_end_where_the_grid_ends(grid):
    """Frames are codes already; the affine moves them to halves and beyond both ends, all exactly."""
    nodes = (
        node("normalize", "x", "frames", mean=(0.0,) * 3, std=(1.0,) * 3),
        node("affine", "halves", "x", layer="halves", channels=3),
        quantize("codes", "halves", grid, 4),
    )
    graph = Graph(inputs={"frames": (-1, 16, 16, 3)}, nodes=nodes, outputs=("codes",))
    halves = Layer(bits=4, gain=np.full(3, 2.5, np.float32), bias=np.full(3, -200, np.float32))
    frames = np.arange(256, dtype=np.uint8).repeat(3).reshape(1, 16, 16, 3)
    got = load(Numbers(graph, {"halves": halves}), 4)({"frames": frames})["codes"]
    given = np.arange(256).reshape(16, 16) * 2.5 - 200
    want = np.clip(np.rint(given - grid.origin), grid.low, grid.high) + grid.origin
    np.testing.assert_array_equal(got[0], np.stack([want] * 3))


@pytest.mark.parametrize(
    ("grid", "kept"),
    [(Grid(0.113, 0, 15), 0), (Grid(0.113, -7, 7), 1), (Grid(0.113, 0, 15, -1.0), 1)],
    ids=["unsigned", "signed", "origin below 0"],
)
def test_a_relu_is_left_out_where_the_grid_cuts_at_zero(grid, kept):
    pool = node("max_pool", "pool", "relu", **POOL, ceil=False)
    for after in ([quantize("codes", "relu", grid, 4)], [pool, quantize("codes", "pool", grid, 4)]):
        nodes = (node("relu", "relu", "x"), *after)
        watched = Numbers(graph_of(*nodes))
        assert agreement(watched, 4, {"frames": frames_of(2)}) > EXACT
        alone = load(Numbers(graph_of(*nodes, outputs=("codes",))), 4)
        assert sum("Relu" in fused for _, _, fused in executed(alone)) == kept
        both = load(watched, 4)({"frames": frames_of(2)})
        np.testing.assert_allclose(alone({"frames": frames_of(2)})["codes"], both["codes"], atol=1e-6)


@pytest.mark.parametrize("bits", [8, 4, 2])
@pytest.mark.parametrize("grid", ["unsigned", "signed", "origin"])
def test_operations_on_codes_compute_in_float(grid, bits):
    """The plugin would compute some of them in bytes, and round."""
    nodes = [
        node("clamp", "clamp", "codes", low=-0.3, high=0.4),
        node("relu", "relu", "codes"),
        node("max_pool", "max", "codes", **POOL, ceil=True),
        node("resize", "resize", "codes", size=(5, 4)),
        node("affine", "affine", "codes", layer="norm", channels=8),
        node("add", "sum", "codes", "codes"),
    ]
    nodes += [
        n
        for x in ("codes", "max", "sum")
        for n in (
            node("avg_pool", f"average of {x}", x, kernel=(2, 2), stride=(1, 1), padding=(0, 0), ceil=False),
            node("mean_pool", f"mean of {x}", x),
            node("clamp", f"clamp of {x}", x, low=-0.3, high=0.4),
        )
    ]
    stem = conv("stem", "x", (8, 3, 3, 3), quantized=False)
    graph = graph_of(stem, quantize("codes", "stem", GRIDS[grid][bits], bits), *nodes)
    norm = Layer(bits=bits, gain=normal(8), bias=normal(8, seed=1))
    bundle = Numbers(graph, {"stem": float_layer(8, 3, 3, 3), "norm": norm})
    assert agreement(bundle, bits, {"frames": frames_of(5)}) > EXACT


# --- layers ---------------------------------------------------------------------------------------------------------

WINDOWS = {
    "1x1": dict(shape=(6, 4, 1, 1)),
    "1x1 stride": dict(shape=(6, 4, 1, 1), stride=(2, 3)),
    "1x1 padding": dict(shape=(6, 4, 1, 1), padding=(1, 0)),
    "3x3": dict(shape=(6, 4, 3, 3)),
    "3x3 padding": dict(shape=(6, 4, 3, 3), padding=(1, 1)),
    "3x2 stride": dict(shape=(6, 4, 3, 2), stride=(2, 1), padding=(0, 1)),
    "3x3 dilation": dict(shape=(6, 4, 3, 3), padding=(2, 3), dilation=(2, 3), stride=(1, 2)),
    "groups": dict(shape=(6, 2, 3, 3), padding=(1, 1), groups=2),
    "depthwise": dict(shape=(4, 1, 3, 3), padding=(1, 0), stride=(2, 1), dilation=(1, 2), groups=4),
}


@pytest.mark.parametrize(
    ("bits", "symmetric", "vnni"),
    [
        pytest.param(8, True, True, marks=NEEDS_VNNI),
        (8, True, False),
        pytest.param(8, False, True, marks=NEEDS_VNNI),
        (8, False, False),
        (4, True, False),
        (4, False, True),
        (2, True, True),
    ],
)
@pytest.mark.parametrize("grid", GRIDS)
def test_integer_layers(grid, bits, symmetric, vnni):
    """Convolutions of all kinds and a linear layer, each product in int8."""
    convs = [conv(name, "codes", **window) for name, window in WINDOWS.items()]
    linear = node("linear", "linear", "flat codes", layer="linear", shape=(5, 4), quantized=True)
    graph = graph_of(
        conv("stem", "x", (4, 3, 1, 1), quantized=False),
        quantize("codes", "stem", GRIDS[grid][bits], bits),
        *convs,
        node("mean_pool", "mean", "stem"),
        quantize("flat codes", "mean", GRIDS[grid][bits], bits),
        linear,
    )
    layers = {n.name: coded_layer(bits, *n.attrs["shape"], symmetric=symmetric) for n in (*convs, linear)}
    bundle = Numbers(graph, {"stem": float_layer(4, 3, 1, 1), **layers})
    assert agreement(bundle, bits, {"frames": frames_of(3)}, vnni=vnni) > EXACT
    kernels = [kernel for kind, kernel, _ in executed(load(bundle, bits, vnni=vnni)) if kind == "Convolution"]
    assert sum(kernel.endswith("I8") for kernel in kernels) >= len(layers)


def test_float_layers():
    convs = [conv(name, "stem", **window) for name, window in WINDOWS.items()]
    linear = node("linear", "linear", "mean", layer="linear", shape=(5, 4), quantized=False)
    stem = conv("stem", "x", (4, 3, 1, 1), quantized=False)
    graph = graph_of(stem, *convs, node("mean_pool", "mean", "stem"), linear)
    layers = {n.name: float_layer(*n.attrs["shape"]) for n in (stem, *convs, linear)}
    assert agreement(Numbers(graph, layers), 32, {"frames": frames_of(3)}) > EXACT


def test_codes_of_weights_meet_inputs_without_a_grid_in_float():
    bundle = Numbers(graph_of(conv("conv", "x", (6, 3, 3, 3))), {"conv": coded_layer(4, 6, 3, 3, 3)})
    assert agreement(bundle, 4, {"frames": frames_of(3)}) > EXACT
    assert "f32" in executed(load(bundle, 4))[-1][1]


@pytest.mark.parametrize("signed", [False, True], ids=["unsigned", "signed"])
@pytest.mark.parametrize("bits", [8, 4])
def test_a_residual_block(bits, signed):
    """The shortcut is the quantized input; a pool, an average and a second sum read it as well."""
    grid = GRIDS["signed" if signed else "unsigned"][bits]
    graph = graph_of(
        conv("stem", "x", (16, 3, 3, 3), padding=(1, 1), quantized=False),
        quantize("input", "stem", grid, bits),
        conv("first", "input", (16, 16, 3, 3), padding=(1, 1)),
        node("relu", "relu", "first"),
        quantize("middle", "relu", GRIDS["unsigned"][bits], bits),
        conv("second", "middle", (16, 16, 1, 1)),
        node("add", "sum", "second", "input"),
        quantize("sum codes", "sum", grid, bits),
        node("add", "codes", "sum codes", "input"),
        node("max_pool", "most", "codes", **POOL, ceil=True),
        node("avg_pool", "average", "input", **POOL, ceil=False),
        node("clamp", "clamp", "average", low=-0.3, high=0.4),
        node("mean_pool", "mean", "codes"),
        outputs=("sum", "codes", "most", "average", "clamp", "mean", "input", "middle", "sum codes"),
    )
    layers = {n.name: coded_layer(bits, *n.attrs["shape"]) for n in graph if n.op == "conv"}
    layers["stem"] = float_layer(16, 3, 3, 3)
    assert agreement(Numbers(graph, layers), bits, {"frames": frames_of(5)}) > EXACT


# --- saturation -----------------------------------------------------------------------------------------------------


def test_halves_are_the_whole():
    codes = np.arange(-128, 128, dtype=np.int8).reshape(4, 64, 1, 1)
    scale = np.float32([1, -0.5, 0.25, 2])
    for share, spared in ((0.5, True), (0, True), (0.3, False)):
        whole = SignedWeights(codes, scale, scale * np.float32(share))
        parts = split_weights(whole)
        np.testing.assert_allclose(
            sum(weight_values(*part) for part in parts), weight_values(*whole), rtol=0, atol=1e-6
        )
        assert not any(may_saturate(part.codes, 255) for part in parts)
        assert parts[-1].correction.any() != spared


def extreme(bits: int, groups: int) -> Numbers:
    """White frames times the largest weights of either sign: what overflows int16 if anything does."""
    graph = graph_of(
        quantize("codes", "x", Grid(0.001, 0, 2**bits - 1), bits),
        conv("conv", "codes", (6, 3 // groups, 3, 3), groups=groups),
    )
    codes = np.zeros((6, 3 // groups, 3, 3), np.uint8)
    codes[::2] = 2**bits - 1
    one = np.ones(6, np.float32)
    layer = Layer(bits=bits, codes=codes, scale=one, offset=-one * 2 ** (bits - 1), gain=one, bias=0 * one)
    return Numbers(graph, {"conv": layer})


def of_white_frames(bits: int, groups: int, vnni: bool) -> float:
    return agreement(
        extreme(bits, groups), bits, {"frames": np.full((1, *SIZE, 3), 255, np.uint8)}, vnni=vnni
    )


@BOTH_CPUS
@pytest.mark.parametrize("groups", [1, 3])
def test_the_largest_products_do_not_saturate(groups, vnni):
    assert of_white_frames(8, groups, vnni) > EXACT


def test_two_convolutions_only_where_they_must_be():
    for bits, vnni, expected in ((8, True, 1), (8, False, 2), (7, False, 1), (4, False, 1)):
        steps = executed(load(extreme(bits, 1), bits, vnni=vnni))
        products = [kernel for kind, kernel, _ in steps if kind == "Convolution" and kernel.endswith("I8")]
        assert len(products) == expected, (bits, vnni, steps)


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


@NEEDS_AVX2
def test_on_kernels_that_saturate():
    """oneDNN, told to use AVX2 alone, adds products in int16: there the largest ones need two convolutions."""
    code = (
        "from tests.deploy.test_openvino_engine import of_white_frames as f;"
        "print(f(8, 1, True), f(8, 1, False), f(7, 1, True), f(4, 1, False))"
    )
    plain, halved, seven, four = on_avx2(code)
    assert plain < 40 and min(halved, seven, four) > EXACT


# --- bundles --------------------------------------------------------------------------------------------------------

TOYS = {
    "nested": {},
    "dorefa": dict(grid="dorefa"),
    "quantized stem": dict(quantize_stem=True),
    "float parent": dict(parent_bits=32, precisions=(32, 4, 2)),
}


@pytest.fixture(scope="module", params=TOYS)
def toy(request, tmp_path_factory) -> Bundle:
    return Bundle.open(make_toy_bundle(tmp_path_factory.mktemp("toy") / "bundle", **TOYS[request.param]))


@BOTH_CPUS
def test_recognition_is_the_same_whatever_the_number_of_frames(toy, vnni):
    frames = frames_of(16, (32, 32))
    given = {"frames": torch.from_numpy(frames)}
    for bits in toy.precisions:
        run = load(toy, bits, vnni=vnni)
        features = run({"frames": frames})["features"]
        assert ratio(features, run_graph(toy, "recognition", bits, given)["features"]) > EXACT
        for n in (1, 3, 7):
            np.testing.assert_array_equal(run({"frames": frames[-n:]})["features"], features[-n:])


@pytest.mark.parametrize("grid", ["nested", "dorefa"])
def test_one_model_takes_any_number_of_frames_unless_corrections_are_summed(tmp_path, grid):
    """Of those that need one for each number, each is built when it is asked for."""

    def models(runner: OpenVinoRunner) -> int:
        return len(set(map(id, runner._requests.values())))

    bundle = Bundle.open(make_toy_bundle(tmp_path / "bundle", grid=grid))
    run = load(bundle, 4)
    assert models(run) == (1 if grid == "nested" else 0)
    run({"frames": frames_of(7, (32, 32))})
    assert models(run) == (1 if grid == "nested" else len(run._batches))
    run = load(bundle, 32, part="policy")
    assert models(run) == 0
    run({"frames": frames_of(5, (32, 32)), "h": normal(1, HIDDEN), "c": normal(1, HIDDEN)})  # 4, 1
    assert models(run) == 2


@pytest.mark.skipif(not has_bf16(), reason="a CPU with bf16")
def test_in_bf16_floats_are_close_and_integers_the_same(toy):
    frames = frames_of(3, (32, 32))
    exact, auto, asked = (
        OpenVinoEngine(threads=1, float_precision=precision) for precision in ("f32", "auto", "bf16")
    )
    assert [engine.float_precision for engine in (exact, auto, asked)] == ["f32", "bf16", "bf16"]

    def outputs(engine: OpenVinoEngine, part: str, bits: int, **state: np.ndarray) -> dict[str, np.ndarray]:
        return engine.load(toy, part, bits)({"frames": frames, **state})

    for bits in toy.precisions:
        expected, got = (outputs(engine, "recognition", bits)["features"] for engine in (exact, auto))
        if bits == 32:
            assert 35 < ratio(got, torch.from_numpy(expected)) < 80
        else:
            np.testing.assert_array_equal(got, expected)
    state = {"h": normal(1, HIDDEN), "c": normal(1, HIDDEN)}
    policies = [outputs(engine, "policy", 32, **state) for engine in (exact, auto, asked)]
    name = toy.graphs["policy"].outputs[0]
    np.testing.assert_array_equal(policies[0][name], policies[1][name])
    assert 20 < ratio(policies[2][name], torch.from_numpy(policies[0][name])) < 80


def test_where_the_cpu_has_no_bf16(monkeypatch):
    monkeypatch.setenv("ONEDNN_MAX_CPU_ISA", "AVX2")
    assert OpenVinoEngine(threads=1, float_precision="auto").float_precision == "f32"
    with pytest.raises(EngineError, match="float_precision='bf16': this CPU has no AVX512_BF16 or AMX; use"):
        OpenVinoEngine(threads=1, float_precision="bf16")


def test_policy(toy):
    run = load(toy, 32, part="policy")
    feed = {"frames": frames_of(16, (32, 32)), "h": normal(1, HIDDEN), "c": normal(1, HIDDEN, seed=1)}
    assert agreement(toy, 32, feed, part="policy") > 90
    whole, state, logits = run(feed), {name: feed[name] for name in "hc"}, []
    for frame in feed["frames"]:
        step = run({"frames": frame[None], **state})
        state = {"h": step["lstm.h"], "c": step["lstm.c"]}
        logits.append(step["logits"])
    np.testing.assert_allclose(np.concatenate(logits), whole["logits"], rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(state["c"], whole["lstm.c"], rtol=1e-4, atol=1e-5)


def test_what_follows_an_integer_convolution_runs_inside_it(tmp_path):
    """At 4 bits: no sum, relu or quantization of its own but for the last norm; pools work on bytes."""
    bundle = Bundle.open(make_toy_bundle(tmp_path / "bundle", parent_bits=32, precisions=(32, 4, 2)))
    steps = executed(load(bundle, 4))
    kinds = [kind for kind, _, _ in steps]
    assert kinds.count("Convolution") == 6
    assert next(kernel for kind, kernel, _ in steps if kind == "Pooling").endswith("I8")
    alone = [fused for kind, _, fused in steps if kind in ("Eltwise", "FakeQuantize", "Subgraph")]
    assert len(alone) == 1 and "FakeQuantize" not in alone[0], alone  # the normalization of frames


@pytest.mark.parametrize(
    "change",
    [
        lambda x: np.ascontiguousarray(x.transpose(0, 3, 1, 2)).transpose(0, 2, 3, 1),
        lambda x: np.repeat(x, 2, axis=0)[::2],
        lambda x: np.lib.stride_tricks.as_strided(x, writeable=False),
    ],
    ids=["transposed", "every other frame", "read only"],
)
def test_frames_in_any_layout(toy, change):
    frames = frames_of(6, (32, 32))
    run = load(toy, 4)
    want = run({"frames": frames})["features"]
    np.testing.assert_array_equal(run({"frames": change(frames)})["features"], want)


def test_results_are_the_callers(toy):
    run = load(toy, 4)
    first = run({"frames": frames_of(4, (32, 32))})["features"]
    kept = first.copy()
    run({"frames": frames_of(5, (32, 32))})
    np.testing.assert_array_equal(first, kept)


# --- errors ---------------------------------------------------------------------------------------------------------


def test_what_openvino_refuses_is_one_line(monkeypatch, toy):
    engine = OpenVinoEngine(threads=1)

    class Core:
        def compile_model(self, *_):
            raise RuntimeError("Exception from core:\n  out of\n  memory\n")

    monkeypatch.setattr(openvino_engine, "process_core", Core)
    with pytest.raises(
        EngineError, match="cannot build recognition at 4 bits: Exception from core: out of memory"
    ):
        engine.load(toy, "recognition", 4)({"frames": frames_of(1, (32, 32))})


def test_an_openvino_without_the_option_for_shortcuts(monkeypatch, toy):
    engine = OpenVinoEngine(threads=1)
    compile_model = openvino_engine.process_core().compile_model

    class Core:
        def compile_model(self, model, device, config):
            if "SNIPPETS_MODE" in config:
                raise RuntimeError("unsupported property SNIPPETS_MODE")
            return compile_model(model, device, config)

    want = engine.load(toy, "recognition", 4)({"frames": frames_of(3, (32, 32))})["features"]
    monkeypatch.setattr(openvino_engine, "process_core", Core)
    got = engine.load(toy, "recognition", 4)({"frames": frames_of(3, (32, 32))})["features"]
    np.testing.assert_allclose(got, want, rtol=1e-5, atol=1e-6)


SIGNALS = """
import signal, sys, threading
from mmvideoiq.deploy.session import VideoSession

caught = 0

def count(*_):
    global caught
    caught += 1

numbers = (signal.SIGINT, signal.SIGCHLD, signal.SIGUSR1)
for number in numbers:
    signal.signal(number, count)

def send():
    for number in numbers:
        signal.pthread_kill(threading.get_ident(), number)

def work():
    first = VideoSession.open(sys.argv[1], threads=1)
    second = VideoSession.open(sys.argv[1], threads=1)
    del first
    send()
    del second
    send()

for _ in range(3):
    work()
    threads = [threading.Thread(target=work) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    send()
print("caught", caught > 0)
"""


def test_signals_while_sessions_come_and_go(tmp_path):
    path = make_toy_bundle(tmp_path / "toy")
    done = subprocess.run(
        [sys.executable, "-c", SIGNALS, str(path)], capture_output=True, text=True, timeout=120, check=False
    )
    assert (done.returncode, done.stdout) == (0, "caught True\n"), done.stderr


FORK = """
import os, signal, sys
import numpy as np
from mmvideoiq.deploy.engines.base import EngineError
from mmvideoiq.deploy.session import VideoSession

frames = np.zeros((2, 32, 32, 3), np.uint8)

def in_child(*calls):
    child = os.fork()
    if not child:
        signal.alarm(30)
        for call in calls:
            try:
                call()
                print("works", flush=True)
            except EngineError as error:
                print(error, flush=True)
        os._exit(0)
    return os.waitpid(child, 0)[1]

def use():
    VideoSession.open(sys.argv[1], threads=2).run(frames)

ended = [in_child(use)]
session = VideoSession.open(sys.argv[1], threads=2)
session.run(frames)
ended.append(in_child(use, lambda: session.run(frames)))
session.run(frames)
print(ended)
"""


def test_a_forked_process_is_told_instead_of_waiting_forever(tmp_path):
    """A child works where the parent had not started OpenVINO, else every use is refused; the parent goes on."""
    path = make_toy_bundle(tmp_path / "toy")
    done = subprocess.run(
        [sys.executable, "-c", FORK, str(path)], capture_output=True, text=True, timeout=120, check=False
    )
    works, *refusals, ended = done.stdout.splitlines()
    assert (works, ended, done.returncode) == ("works", "[0, 0]", 0), done.stderr
    assert len(refusals) == 2
    for line in refusals:
        assert (
            line.startswith("the engine 'openvino' does not work in a process forked after")
            and "'spawn'" in line
        )
