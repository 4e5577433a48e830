"""OpenVINO's models against the oracle: operations, codes, layers."""

from dataclasses import replace

import numpy as np
import pytest

from mmvideoiq.deploy.bundle.bundle import Layer
from mmvideoiq.deploy.bundle.graph import Graph, Grid
from mmvideoiq.deploy.engines.lowering import bytes_are_codes
from mmvideoiq.deploy.engines.openvino_model import OpenVinoModel
from tests.deploy.engine_cases import (
    EXACT,
    GRIDS,
    NEEDS_VNNI,
    WINDOWS,
    coded_layer,
    float_layer,
    node,
    normal,
)
from tests.deploy.openvino_models import (
    SIZE,
    Numbers,
    agreement,
    conv,
    executed,
    frames_of,
    graph_of,
    load,
    quantize,
)

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
    ("mean", "std", "grid", "normalized"),
    [
        ((127.5,) * 3, (127.5,) * 3, Grid(2 / 255, 0, 255, -1.0), False),
        ((0.0,) * 3, (255.0,) * 3, Grid(1 / 255, 0, 255), False),
        ((127.5,) * 3, (127.5, 127.5, 126.0), Grid(2 / 255, 0, 255, -1.0), True),
        ((0.0,) * 3, (255.0,) * 3, Grid(1 / 15, 0, 15), True),
    ],
    ids=["from -1 to 1", "from 0 to 1", "one channel differs", "other levels"],
)
def test_frames_whose_bytes_are_the_codes_are_not_normalized(mean, std, grid, normalized):
    """Padding is of the value 0, which is no code on the first grid."""
    bits, shape = (8 if grid.high == 255 else 4), (6, 3, 3, 3)
    nodes = (
        node("normalize", "x", "frames", mean=mean, std=std),
        quantize("codes", "x", grid, bits),
        conv("y", "codes", shape, padding=(1, 1), stride=(2, 2)),
    )
    graph = Graph(inputs={"frames": (-1, 16, 16, 3)}, nodes=nodes, outputs=("y",))
    numbers = Numbers(graph, {"y": coded_layer(bits, *shape)})
    assert [bytes_are_codes(graph, given, bits) for given in graph] == [not normalized, False, False]
    frames = frames_of(3, (16, 16))
    frames[0] = np.arange(256).reshape(16, 16, 1)
    assert agreement(numbers, bits, {"frames": frames}) > EXACT


BORDERS = {
    "3x3": dict(shape=(6, 3, 3, 3), padding=(1, 1)),
    "3x3 stride": dict(shape=(6, 3, 3, 3), padding=(1, 1), stride=(2, 2)),
    "7x5 stride": dict(shape=(6, 3, 7, 5), padding=(3, 1), stride=(2, 3)),
    "depthwise": dict(shape=(6, 1, 3, 3), padding=(1, 1), stride=(2, 1), groups=3),
    "dilation": dict(shape=(6, 3, 3, 3), padding=(2, 3), dilation=(2, 3)),
    "rows": dict(shape=(6, 3, 3, 1), padding=(1, 0)),
    "all windows meet padding": dict(shape=(6, 3, 7, 3), padding=(5, 1), dilation=(2, 1)),
}
BYTES = Grid(2 / 255, 0, 255, -1.0)  # 0 is no code


def with_zero(layer: Layer) -> Layer:
    """The layer with a code for the weight 0, as the top precision has."""
    return replace(layer, offset=-layer.scale * np.float32(2 ** (layer.bits - 1)))


BETWEEN = {
    "nothing": [],
    "clamp": [node("clamp", "clamp", "stem", low=0.0, high=2.0)],
    "relu": [node("relu", "relu", "stem")],
    "pool": [node("max_pool", "pool", "stem", **POOL, ceil=False)],
}


@pytest.mark.parametrize(
    ("window", "between", "bits", "std"),
    [
        *[(window, "relu", bits, 127.5) for window in BORDERS for bits in (8, 4)],
        *[("7x5 stride", between, 8, 127.5) for between in BETWEEN],
        *[("3x3 stride", "clamp", bits, 120.0) for bits in (8, 4)],  # no bytes as codes
    ],
)
def test_the_border_of_frames_whose_zero_is_no_code(window, between, bits, std):
    nodes = BETWEEN[between]
    known = {
        "stem": with_zero(coded_layer(bits, *BORDERS[window]["shape"])),
        "last": coded_layer(bits, 5, 6, 3, 3),
    }
    chain = (
        node("normalize", "x", "frames", mean=(127.5,) * 3, std=(127.5, 127.5, std)),
        quantize("codes", "x", BYTES, bits),
        conv("stem", "codes", **BORDERS[window]),
        *nodes,
        quantize("middle", nodes[-1].name if nodes else "stem", Grid(0.02, 0, 2**bits - 1), bits),
        conv("last", "middle", (5, 6, 3, 3), padding=(1, 1)),
    )
    size = (12, 13)
    for outputs in (("middle", "last"), ("stem", *(n.name for n in nodes), "middle", "last")):
        graph = Graph(inputs={"frames": (-1, *size, 3)}, nodes=chain, outputs=outputs)
        assert agreement(Numbers(graph, known), bits, {"frames": frames_of(4, size)}) > EXACT


@pytest.mark.parametrize("bits", [8, 4])
@pytest.mark.parametrize("strides", [(1, 2), (2, 2), (2, 3)])
@pytest.mark.parametrize(("kernel", "padding", "width"), [((3, 3), 0, 3), ((1, 3), 1, 1), ((5, 5), 1, 3)])
def test_an_output_of_one_column(bits, strides, kernel, padding, width):
    """On CPUs with AMX the plugin has a second column right, but not one alone."""
    size, shape = (31, width), (8, 3, *kernel)
    graph = graph_of(
        quantize("codes", "x", Grid(0.03, 0, 2**bits - 1), bits),
        conv("y", "codes", shape, stride=strides, padding=(0, padding)),
        size=size,
        outputs=("y",),
    )
    numbers = Numbers(graph, {"y": with_zero(coded_layer(bits, *shape))})
    assert agreement(numbers, bits, {"frames": frames_of(4, size)}) > EXACT
    nodes = OpenVinoModel(numbers, "recognition", bits, True).model.get_ops()
    columns = {
        op.get_output_partial_shape(0)[3].get_length() for op in nodes if "Convolution" in op.get_type_name()
    }
    assert columns == {2}


def test_all_but_the_border_of_frames_goes_from_bytes_to_codes():
    """Weights of 4 bits: one convolution on every CPU."""
    nodes = (
        node("normalize", "x", "frames", mean=(127.5,) * 3, std=(127.5,) * 3),
        quantize("codes", "x", BYTES, 4),
        conv("stem", "codes", (16, 3, 3, 3), padding=(1, 1), stride=(2, 2)),
        quantize("middle", "stem", Grid(0.3, 0, 15), 4),
        conv("last", "middle", (8, 16, 1, 1)),
    )
    graph = Graph(inputs={"frames": (-1, 64, 64, 3)}, nodes=nodes, outputs=("last",))
    numbers = {"stem": with_zero(coded_layer(4, 16, 3, 3, 3)), "last": with_zero(coded_layer(4, 8, 16, 1, 1))}
    steps = executed(load(Numbers(graph, numbers), 4))
    convolutions = [(kernel, fused) for kind, kernel, fused in steps if kind == "Convolution"]
    assert len(convolutions) == 4 and all(kernel.endswith("I8") for kernel, _ in convolutions)
    assert sum("FakeQuantize" in fused for _, fused in convolutions) == 1  # the border's sums are floats
    assert sum(kind == "Concatenation" for kind, _, _ in steps) == 2


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
