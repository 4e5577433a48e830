"""ONNX models against the oracle: operations, codes, layers, the largest products."""

from typing import Any

import numpy as np
import pytest

from mmvideoiq.deploy.bundle.bundle import Layer
from mmvideoiq.deploy.bundle.graph import Graph, Grid
from mmvideoiq.deploy.engines.onnx_model import build_model
from mmvideoiq.deploy.engines.onnxruntime_engine import OnnxRuntimeEngine
from tests.deploy.engine_cases import BOTH_CPUS, EXACT, GRIDS, WINDOWS, coded_layer, float_layer, node, normal
from tests.deploy.onnx_models import FakeBundle, agreement, chain, conv, frames_of, onnx, operators


def quantize(grid: Grid, bits: int) -> tuple[str, dict[str, Any]]:
    return "quantize", dict(grids={str(bits): tuple(grid)})


POOL = dict(kernel=(3, 2), stride=(2, 2), padding=(1, 0))


POOL_WITH_TAIL = dict(
    kernel=(2, 3), stride=(3, 3), padding=(1, 1), ceil=True
)  # its last window is beyond the input


@pytest.mark.parametrize("n", [1, 3, 16])
@pytest.mark.parametrize(
    "ops",
    [
        [],
        [("resize", dict(size=(5, 4)))],
        [("resize", dict(size=(20, 23)))],
        [("relu", {})],
        [("clamp", dict(low=-0.5, high=0.75))],
        [("max_pool", dict(**POOL, ceil=False))],
        [("max_pool", dict(**POOL, ceil=True))],
        [("max_pool", POOL_WITH_TAIL)],
        [("avg_pool", dict(**POOL, ceil=False))],
        [("avg_pool", dict(**POOL, ceil=True))],
        [("avg_pool", POOL_WITH_TAIL)],
        [("mean_pool", {})],
        [("mean_pool", {}), ("flatten", {})],
        [("avg_pool", dict(kernel=(11, 9), stride=(1, 1), padding=(0, 0), ceil=False)), ("flatten", {})],
    ],
    ids=lambda ops: "-".join(op for op, _ in ops) if isinstance(ops, list) else None,
)
def test_an_operation(ops, n):
    assert agreement(FakeBundle({"a": chain(*ops)}), 32, {"frames": frames_of(n)}) > EXACT


@pytest.mark.parametrize("bits", [32, 4])
@pytest.mark.parametrize("frames", [1, 4])
def test_temporal_shift_of_floats_and_of_codes(frames, bits):
    """Several clips; the channels that come from beyond a clip are 0."""
    grid = Grid(step=0.2, low=-7, high=7)
    stem = conv("stem", (8, 3, 3, 3), quantized=False)
    body = [
        quantize(grid, 4),
        ("shift", dict(frames=frames, fold=2)),
        conv("conv", (6, 8, 3, 3), padding=(1, 1)),
    ]
    layers = {"stem": float_layer(8, 3, 3, 3), "conv": float_layer(6, 8, 3, 3)}
    if bits == 4:
        layers["conv"] = coded_layer(4, 6, 8, 3, 3)
    bundle = FakeBundle({"a": chain(stem, *body)}, layers)
    assert agreement(bundle, bits, {"frames": frames_of(8)}) > EXACT
    assert operators(bundle, bits).count("Conv") == (2 if bits == 32 else 1)


def test_a_shift_cannot_keep_codes_that_have_none_for_0():
    grid = Grid(step=0.2, low=0, high=15, origin=-1.53)
    body = [quantize(grid, 4), ("shift", dict(frames=4, fold=1)), conv("conv", (6, 3, 3, 3), padding=(1, 1))]
    bundle = FakeBundle({"a": chain(*body)}, {"conv": coded_layer(4, 6, 3, 3, 3)})
    assert agreement(bundle, 4, {"frames": frames_of(8)}) > EXACT


def test_add_and_affine_of_values_that_are_laid_out_differently():
    """An integer convolution gives channels last, a float one channels first."""
    ops = [quantize(Grid(0.0213, -127, 127), 8), conv("integer", (6, 3, 3, 3), padding=(1, 1))]
    graph = chain(*ops)
    nodes = [
        *graph.nodes,
        node("conv", "float", "x", **conv("float", (6, 3, 3, 3), padding=(1, 1), quantized=False)[1]),
        node("affine", "affine.1", graph.outputs[0], layer="affine", channels=6),
        node("affine", "affine.2", "float", layer="affine", channels=6),
        node("add", "sum.1", "affine.1", "affine.2"),
        node("add", "sum.2", "affine.2", "affine.1"),
    ]
    outputs = ("sum.1", "sum.2", "0.quantize")
    layers = {
        "integer": coded_layer(8, 6, 3, 3, 3),
        "float": float_layer(6, 3, 3, 3),
        "affine": Layer(bits=8, gain=normal(6), bias=normal(6, seed=1)),
    }
    bundle = FakeBundle({"a": Graph(inputs=graph.inputs, nodes=tuple(nodes), outputs=outputs)}, layers)
    assert agreement(bundle, 8, {"frames": frames_of(3)}) > EXACT


@pytest.mark.parametrize("n", [1, 5])
def test_lstm_starts_from_the_state_and_gives_it_back(n):
    hidden = 6
    graph = chain(("mean_pool", {}))
    inputs = {**graph.inputs, "h": (1, hidden), "c": (1, hidden)}
    nodes = (*graph.nodes, node("lstm", "cell", "0.mean_pool", "h", "c", layer="cell", hidden=hidden))
    whole = Graph(inputs=inputs, nodes=nodes, outputs=("cell", "cell.h", "cell.c"))
    bundle = FakeBundle(
        {"a": whole}, cell=(normal(4 * hidden, 3), normal(4 * hidden, hidden), normal(4 * hidden))
    )
    feed = {"frames": frames_of(n), "h": normal(1, hidden), "c": normal(1, hidden) + 1}
    assert agreement(bundle, 32, feed) > EXACT

    run = OnnxRuntimeEngine(threads=1).load(bundle, "a", 32)
    state = {"h": feed["h"], "c": feed["c"]}
    for t in range(n):  # frame by frame
        step = run({"frames": feed["frames"][t : t + 1], **state})
        state = {"h": step["cell.h"], "c": step["cell.c"]}
    np.testing.assert_allclose(state["c"], run(feed)["cell.c"], rtol=1e-5)


@pytest.mark.parametrize(
    "grid",
    [
        Grid(1.0, 0, 3),
        Grid(1.0, 0, 15),
        Grid(1.0, 0, 255),
        Grid(1.0, -7, 7),
        Grid(1.0, -127, 127),
        Grid(1.0, 0, 15, -2.5),
    ],
    ids=str,
)
def test_codes_round_half_to_even_and_end_where_the_grid_ends(grid):
    """Frames are codes already; the affine moves them to halves and beyond both ends, all exactly."""
    graph = chain(("affine", dict(layer="halves", channels=3)), quantize(grid, 4), height=16, width=16)
    bare = node("normalize", "x", "frames", mean=(0.0,) * 3, std=(1.0,) * 3)
    graph = Graph(inputs=graph.inputs, nodes=(bare, *graph.nodes[1:]), outputs=graph.outputs)
    halves = Layer(bits=4, gain=np.full(3, 2.5, np.float32), bias=np.full(3, -200, np.float32))
    frames = np.arange(256, dtype=np.uint8).repeat(3).reshape(1, 16, 16, 3)
    bundle = FakeBundle({"a": graph}, {"halves": halves})
    (got,) = OnnxRuntimeEngine(threads=1).load(bundle, "a", 4)({"frames": frames}).values()
    values = np.arange(256).reshape(16, 16) * 2.5 - 200
    want = np.clip(np.rint(values - grid.origin), grid.low, grid.high) + grid.origin
    np.testing.assert_array_equal(got[0], np.stack([want] * 3))


def test_a_relu_stays_where_a_reader_needs_it():
    unsigned, signed, low = Grid(0.113, 0, 15), Grid(0.113, -7, 7), Grid(0.113, 0, 15, -1.0)
    after = {
        "unsigned": quantize(unsigned, 4),
        "signed": quantize(signed, 4),
        "low": quantize(low, 4),
    }
    kept = {
        name: operators(FakeBundle({"a": chain(("relu", {}), op)}), 4).count("Relu")
        for name, op in after.items()
    }
    assert kept == {"unsigned": 0, "signed": 1, "low": 1}
    graph = chain(("relu", {}), after["unsigned"])
    shared = Graph(inputs=graph.inputs, nodes=graph.nodes, outputs=("0.relu", "1.quantize"))
    for bundle in [
        FakeBundle({"a": shared}),
        *(FakeBundle({"a": chain(("relu", {}), op)}) for op in after.values()),
    ]:
        assert agreement(bundle, 4, {"frames": frames_of(3)}) > EXACT


@BOTH_CPUS
@pytest.mark.parametrize("symmetric", [True, False], ids=["symmetric", "correction"])
@pytest.mark.parametrize("bits", [8, 4, 2])
@pytest.mark.parametrize("grid", GRIDS)
@pytest.mark.parametrize("window", WINDOWS)
def test_an_integer_convolution(window, grid, bits, symmetric, vnni):
    sizes = WINDOWS[window]
    stem = conv("stem", (4, 3, 1, 1), quantized=False)
    graph = chain(stem, quantize(GRIDS[grid][bits], bits), conv("conv", **sizes))
    layers = {
        "stem": float_layer(4, 3, 1, 1),
        "conv": coded_layer(bits, *sizes["shape"], symmetric=symmetric),
    }
    bundle = FakeBundle({"a": graph}, layers)
    assert agreement(bundle, bits, {"frames": frames_of(3)}, vnni=vnni) > EXACT
    products = operators(bundle, bits, vnni=vnni)
    assert "ConvInteger" in products if "groups" in sizes else "MatMulIntegerToFloat" in products


@BOTH_CPUS
@pytest.mark.parametrize("symmetric", [True, False], ids=["symmetric", "correction"])
@pytest.mark.parametrize("bits", [8, 4, 2])
@pytest.mark.parametrize("grid", GRIDS)
def test_an_integer_linear_layer(grid, bits, symmetric, vnni):
    first = ("linear", dict(layer="first", shape=(16, 3), quantized=False))
    second = ("linear", dict(layer="second", shape=(5, 16), quantized=True))
    graph = chain(("mean_pool", {}), first, quantize(GRIDS[grid][bits], bits), ("flatten", {}), second)
    layers = {"first": float_layer(16, 3), "second": coded_layer(bits, 5, 16, symmetric=symmetric)}
    bundle = FakeBundle({"a": graph}, layers)
    assert agreement(bundle, bits, {"frames": frames_of(3)}, vnni=vnni) > EXACT
    assert operators(bundle, bits).count("Gemm") == (1 if bits < 8 and symmetric else 2)


@pytest.mark.parametrize("window", WINDOWS)
def test_a_float_convolution(window):
    sizes = WINDOWS[window]
    graph = chain(conv("stem", (4, 3, 1, 1), quantized=False), conv("conv", **sizes))
    bundle = FakeBundle({"a": graph}, {"stem": float_layer(4, 3, 1, 1), "conv": float_layer(*sizes["shape"])})
    assert agreement(bundle, 32, {"frames": frames_of(3)}) > EXACT


def test_codes_of_weights_meet_inputs_without_a_grid_in_float():
    bundle = FakeBundle({"a": chain(conv("conv", (6, 3, 3, 3)))}, {"conv": coded_layer(4, 6, 3, 3, 3)})
    assert agreement(bundle, 4, {"frames": frames_of(3)}) > EXACT
    assert operators(bundle, 4).count("Conv") == 1


def extreme(bits: int, groups: int = 1) -> FakeBundle:
    """White frames times the largest weights of either sign: what overflows int16 if anything does."""
    graph = chain(
        quantize(Grid(0.01, 0, 2**bits - 1), bits), conv("conv", (6, 3 // groups, 3, 3), groups=groups)
    )
    codes = np.zeros((6, 3 // groups, 3, 3), np.uint8)
    codes[::2] = 2**bits - 1
    one = np.ones(6, np.float32)
    layer = Layer(bits=bits, codes=codes, scale=one, offset=-one * 2 ** (bits - 1), gain=one, bias=0 * one)
    return FakeBundle({"a": graph}, {"conv": layer})


@BOTH_CPUS
@pytest.mark.parametrize("groups", [1, 3])
def test_the_largest_products_do_not_saturate(groups, vnni):
    white = np.full((1, 11, 9, 3), 255, np.uint8)
    assert agreement(extreme(8, groups), 8, {"frames": white}, vnni=vnni) > EXACT


@pytest.mark.parametrize(
    ("bits", "vnni", "kind"), [(8, True, "INT8"), (8, False, "UINT8"), (7, False, "INT8"), (4, False, "INT8")]
)
def test_weights_are_unsigned_only_where_they_must_be(bits, vnni, kind):
    model = onnx.load_from_string(build_model(extreme(bits), "a", bits, vnni=vnni))
    (product,) = [step for step in model.graph.node if step.op_type == "MatMulIntegerToFloat"][:1]
    (weight,) = [constant for constant in model.graph.initializer if constant.name == product.input[1]]
    assert weight.data_type == onnx.TensorProto.DataType.Value(kind)
