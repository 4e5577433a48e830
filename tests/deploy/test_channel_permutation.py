"""Orders of channels: what conflicts, who is paired, which values share an order; and that one convolution is exact."""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from mmvideoiq.deploy.bundle.bundle import Layer
from mmvideoiq.deploy.bundle.graph import Graph, Grid, Node
from mmvideoiq.deploy.engines.channel_permutation import (
    channel_orders,
    conflicts,
    pair_up,
    pair_up_sections,
    reordered,
    saturates_in_pairs,
)
from mmvideoiq.deploy.engines.openvino_engine import OpenVinoEngine, OpenVinoRunner
from mmvideoiq.deploy.engines.openvino_model import OpenVinoModel
from tests.deploy.engine_cases import EXACT, float_layer, node
from tests.deploy.openvino_models import (
    NEEDS_AVX2,
    SIZE,
    Numbers,
    agreement,
    conv,
    executed,
    graph_of,
    load,
    on_avx2,
    quantize,
)

UNSIGNED = Grid(0.001, 0, 255)  # of so small a step that most activations end at 255

# --- conflicts ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("high", [255, 254, 200, 128])
def test_conflicts_are_what_leaves_int16(high):
    codes = np.random.default_rng(high).integers(-128, 128, (5, 7, 1, 2)).astype(np.int8)
    codes[0, :2, 0, 0] = 127, -128
    found = conflicts(codes, high)
    wide = codes.astype(int).transpose(0, 2, 3, 1).reshape(-1, 7)
    for i in range(7):
        for j in range(7):
            pair = wide[:, [i, j]]
            most, least = (high * f(pair, 0).sum(axis=1) for f in (np.maximum, np.minimum))
            leaves = bool(((most > 32767) | (least < -32768)).any())
            assert saturates_in_pairs(codes[:, [i, j]], high) == leaves
            assert found[i, j] == (leaves and i != j)


def test_only_neighbours_meet():
    codes = np.int8([[127, 1, 127, 1, 127]])
    assert not saturates_in_pairs(codes, 255)
    assert saturates_in_pairs(codes[:, [0, 2, 1, 3, 4]], 255)
    assert not saturates_in_pairs(codes[:, [1, 3, 0]], 255)  # an odd one out meets nobody


# --- pairs ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("count", [1, 2, 8, 63, 64, 257])
@pytest.mark.parametrize("share", [0.0, 0.3, 0.6])
def test_an_order_without_conflicting_neighbours(count, share):
    conflict = np.random.default_rng(count).random((count, count)) < share
    conflict = np.triu(conflict, 1) | np.triu(conflict, 1).T
    order = pair_up(conflict)
    if count < 8 and order is None:
        assert conflict.any()
        return
    assert sorted(order) == list(range(count))
    pairs = order[: count // 2 * 2].reshape(-1, 2)
    assert not conflict[pairs[:, 0], pairs[:, 1]].any()
    np.testing.assert_array_equal(order, pair_up(conflict))


@pytest.mark.parametrize("seed", range(20))
def test_a_hidden_pairing_is_found(seed):
    """Each channel can meet one other alone."""
    partners = np.random.default_rng(seed).permutation(32).reshape(-1, 2)
    conflict = ~np.eye(32, dtype=bool)
    conflict[partners[:, 0], partners[:, 1]] = conflict[partners[:, 1], partners[:, 0]] = False
    found = pair_up(conflict).reshape(-1, 2)
    assert {frozenset(pair) for pair in found.tolist()} == {frozenset(pair) for pair in partners.tolist()}


def test_those_left_over_change_partners():
    """0-1, 1-2, 2-3 are free: a first choice of 1-2 must be undone. As a path of pairs, of any length."""
    for count in (4, 6, 8):
        conflict = np.ones((count, count), bool)
        for a in range(count - 1):
            conflict[a, a + 1] = conflict[a + 1, a] = False
        assert {frozenset(p) for p in pair_up(conflict).reshape(-1, 2).tolist()} == {
            frozenset((a, a + 1)) for a in range(0, count, 2)
        }


def test_what_cannot_be_paired():
    star = np.ones((4, 4), bool)
    star[0] = star[:, 0] = False  # three that can meet nobody but the first
    assert pair_up(star) is None
    assert pair_up(np.ones((3, 3), bool)) is None
    assert pair_up(np.ones((1, 1), bool)).tolist() == [0]


def test_a_hopeless_layer_is_given_up_at_once():
    assert pair_up(~np.eye(2048, dtype=bool)) is None


def test_sections_do_not_mix():
    conflict = np.zeros((10, 10), bool)
    conflict[0, 1] = conflict[1, 0] = True
    order = pair_up_sections(conflict, [0, 4, 10])
    assert sorted(order[:4]) == [0, 1, 2, 3] and {0, 1} not in map(set, order[:4].reshape(-1, 2))
    assert pair_up_sections(conflict, [0, 3, 10]) is None  # the second section would begin within a pair
    assert pair_up_sections(conflict, [0, 2, 10]) is None  # 0 and 1 are left to each other


# --- which values share an order ------------------------------------------------------------------------------------


def hidden_pairs(outputs: int, inputs: int, kernel: int, pairs: np.ndarray, seed: int) -> np.ndarray:
    """Signed weights that are exact in these ``pairs`` and saturate in any others."""
    rng = np.random.default_rng(seed)
    shape = (outputs, len(pairs), kernel, kernel)
    sign, first = rng.choice([-1, 1], shape), rng.integers(0, 2, shape, dtype=bool)
    weight = np.zeros((outputs, inputs, kernel, kernel), np.int64)
    weight[:, pairs[:, 0]] = sign * np.where(first, 127, 1)
    weight[:, pairs[:, 1]] = sign * np.where(first, 1, 127)
    return weight


def coded(weight: np.ndarray, *, correction: float = 0.0, seed: int = 0) -> Layer:
    count, rng = len(weight), np.random.default_rng(seed)
    scale = rng.uniform(0.5, 1.5, count).astype(np.float32) / 2**8
    return Layer(
        bits=8,
        codes=(weight + 128).astype(np.uint8),
        scale=scale,
        offset=(-128 + correction) * scale,
        gain=rng.uniform(-1, 1, count).astype(np.float32),
        bias=rng.normal(size=count).astype(np.float32),
    )


PAIRS = np.random.default_rng(5).permutation(32).reshape(-1, 2)
INNER = np.random.default_rng(6).permutation(24).reshape(-1, 2)


def residual(correction: float = 0.0, outputs: tuple[str, ...] = ("mean", "sum codes")) -> Numbers:
    """A block whose shortcut joins the input and the sum, which two convolutions read; a norm on the way."""
    graph = graph_of(
        conv("stem", "x", (32, 3, 3, 3), padding=(1, 1), quantized=False),
        quantize("input", "stem", UNSIGNED, 8),
        conv("first", "input", (24, 32, 3, 3), padding=(1, 1)),
        node("relu", "relu", "first"),
        quantize("middle", "relu", UNSIGNED, 8),
        conv("depthwise", "middle", (24, 1, 3, 3), padding=(1, 1), groups=24),
        quantize("inner", "depthwise", UNSIGNED, 8),
        conv("second", "inner", (32, 24, 1, 1)),
        node("add", "sum", "second", "input"),
        node("affine", "norm", "sum", layer="norm", channels=32),
        quantize("sum codes", "norm", UNSIGNED, 8),
        conv("last", "sum codes", (16, 32, 1, 1)),
        node("mean_pool", "mean", "last"),
        outputs=outputs,
    )
    small = np.random.default_rng(0).integers(-60, 60, (24, 1, 3, 3))
    return Numbers(
        graph,
        {
            "stem": float_layer(32, 3, 3, 3),
            "first": coded(hidden_pairs(24, 32, 3, PAIRS, 1), correction=correction, seed=1),
            "depthwise": coded(small, correction=correction, seed=2),
            "second": coded(hidden_pairs(32, 24, 1, INNER, 3), correction=correction, seed=3),
            "last": coded(hidden_pairs(16, 32, 1, PAIRS, 4), correction=correction, seed=4),
            "norm": replace(float_layer(32, 3), weight=None),
        },
    )


def signed(bundle: Numbers):
    return lambda n, high: (bundle.layers[n.name].codes.astype(np.int16) - 128).astype(np.int8)


def pairs_of(order: np.ndarray) -> set[frozenset[int]]:
    return {frozenset(pair) for pair in order.reshape(-1, 2).tolist()}


def test_joined_values_share_an_order():
    bundle = residual()
    orders = channel_orders(bundle.graph, 8, signed(bundle))
    outer = {"stem", "input", "second", "sum", "norm", "sum codes"}
    inner = {"first", "relu", "middle", "depthwise", "inner"}
    assert set(orders) == outer | inner  # neither the frames nor what nobody reads
    assert pairs_of(orders["input"]) == {frozenset(pair) for pair in PAIRS.tolist()}
    assert pairs_of(orders["inner"]) == {frozenset(pair) for pair in INNER.tolist()}
    for names in (outer, inner):
        assert len({tuple(orders[name]) for name in names}) == 1


def test_a_layer_that_leaves_no_pairs_is_left_out():
    bundle = residual()
    bundle.layers["last"] = coded(np.full((16, 32, 1, 1), 127))
    orders = channel_orders(bundle.graph, 8, signed(bundle))
    assert pairs_of(orders["input"]) == {frozenset(pair) for pair in PAIRS.tolist()}
    bundle.layers["first"] = coded(np.full((24, 32, 3, 3), 127))
    assert set(channel_orders(bundle.graph, 8, signed(bundle))) == {
        "first", "relu", "middle", "depthwise", "inner",
    }  # fmt: skip


def test_nothing_is_ordered_where_nothing_saturates():
    assert channel_orders(residual().graph, 8, lambda *_: None) == {}


def test_frames_shifts_and_groups_hold_their_channels():
    def orders(*nodes: Node) -> dict[str, np.ndarray]:
        layers = {
            n.name: coded(hidden_pairs(n.attrs["shape"][0], 32, 1, PAIRS, 1)) for n in nodes if n.op == "conv"
        }
        return channel_orders(graph_of(*nodes, size=(4, 4)), 8, signed(Numbers(graph_of(*nodes), layers)))

    stem = conv("stem", "x", (32, 3, 1, 1), quantized=False)
    codes = quantize("codes", "stem", UNSIGNED, 8)
    last = conv("last", "codes", (8, 32, 1, 1))
    assert set(orders(stem, codes, last)) == {"stem", "codes"}
    grouped = conv("grouped", "codes", (32, 16, 1, 1), groups=2)
    assert orders(stem, codes, grouped, last) == {}
    shift = node("shift", "shift", "codes", frames=4, fold=4)
    assert orders(stem, codes, shift, conv("last", "shift", (8, 32, 1, 1))) == {}  # pairs across the folds
    inputs = Graph(inputs={"frames": (-1, 4, 4, 32)}, nodes=(
        node("normalize", "stem", "frames", mean=(0.0,) * 32, std=(1.0,) * 32), codes, last,
    ), outputs=("last",))  # fmt: skip
    bundle = Numbers(inputs, {"last": coded(hidden_pairs(8, 32, 1, PAIRS, 1))})
    assert channel_orders(inputs, 8, signed(bundle)) == {}


def test_a_layer_in_another_order():
    layer, given, wanted = coded(hidden_pairs(24, 32, 3, PAIRS, 1)), PAIRS.reshape(-1), INNER.reshape(-1)
    step = conv("first", "input", (24, 32, 3, 3))
    assert reordered(layer, step, {}) is layer
    turned = reordered(layer, step, {"input": given, "first": wanted})
    np.testing.assert_array_equal(turned.codes, layer.codes[wanted][:, given])
    for name in ("scale", "offset", "gain", "bias"):
        np.testing.assert_array_equal(getattr(turned, name), getattr(layer, name)[wanted])
    one_scale = replace(layer, scale=layer.scale[:1], offset=layer.offset[:1])
    assert reordered(one_scale, step, {"first": wanted}).scale.shape == (1,)


# --- on the engine --------------------------------------------------------------------------------------------------


def of_frames(correction: float) -> float:
    """Signal to noise of white and of random frames, the least."""
    outputs = ("mean", "sum codes", "inner", "middle", "input")
    white = np.full((7, *SIZE, 3), 255, np.uint8)  # 4, 2 and 1 at a time
    frames = np.random.default_rng(0).integers(0, 256, white.shape, dtype=np.uint8)
    return min(
        agreement(residual(correction, outputs), 8, {"frames": given}, vnni=False)
        for given in (white, frames)
    )


@pytest.mark.parametrize("correction", [0.0, 0.5, 3.3])
def test_single_convolutions_are_exact(correction):
    assert of_frames(correction) > EXACT


def integer_products(bundle: Numbers, *, ordered: bool) -> int:
    """Convolutions with int8 weights in the model, before the plugin picks its kernels."""
    model = OpenVinoModel(bundle, "recognition", 8, vnni=False, ordered=ordered).model
    convolutions = [op for op in model.get_ops() if op.get_type_name().endswith("Convolution")]
    return sum("i8" in constants(op.input_value(1).get_node()) for op in convolutions)


def constants(op: Any) -> Iterator[str]:
    """Types of the constants that ``op`` is computed from."""
    if op.get_type_name() == "Constant":
        yield op.get_element_type().get_type_name()
    for value in op.input_values():
        yield from constants(value.get_node())


def test_each_layer_is_one_convolution():
    bundle = residual(outputs=("mean",))
    assert integer_products(bundle, ordered=True) == 4
    assert integer_products(bundle, ordered=False) == 7  # two halves of each but the depthwise one
    bundle.layers["last"] = coded(np.full((16, 32, 1, 1), 127))
    assert integer_products(bundle, ordered=True) == 5  # two of the last one


def integer_kernels(runner: OpenVinoRunner) -> int:
    steps = executed(runner)
    return sum(kind == "Convolution" and kernel.endswith("I8") for kind, kernel, _ in steps)


@NEEDS_AVX2
@pytest.mark.slow
def test_on_kernels_that_saturate():
    """oneDNN, told to use AVX2 alone, adds products in int16; in the order of the graph that goes wrong."""
    code = (
        "from tests.deploy import openvino_models as e, test_channel_permutation as t;"
        "bundle = t.residual(); white = {'frames': t.np.full((1, *t.SIZE, 3), 255, t.np.uint8)};"
        "print(t.of_frames(0.5), t.integer_kernels(e.load(t.residual(outputs=('mean',)), 8, vnni=False)));"
        "print(e.ratio(e.load(bundle, 8, vnni=True)(white)['mean'],"
        " e.run_graph(bundle, 'recognition', 8, {'frames': e.torch.from_numpy(white['frames'])})['mean']))"
    )
    exact, products, as_given = on_avx2(code)
    assert exact > EXACT and products == 4 and as_given < 40


def test_a_kernel_that_is_not_known_to_be_exact_gets_halves(monkeypatch):
    bundle = residual(0.5)
    for found in (frozenset(), frozenset({"another_I8"})):
        engine = OpenVinoEngine(threads=1, vnni=False)
        monkeypatch.setattr(engine, "_exact_kernels", found)
        assert integer_kernels(engine.load(bundle, "recognition", 8)) > 7


@pytest.mark.parametrize(("groups", "asked"), [(1, True), (32, False)])
def test_kernels_of_convolutions_with_groups_need_not_be_exact_in_pairs(groups, asked):
    graph = graph_of(
        conv("stem", "x", (32, 3, 3, 3), padding=(1, 1), quantized=False),
        quantize("codes", "stem", UNSIGNED, 8),
        conv("layer", "codes", (32, 32 // groups, 3, 3), groups=groups),
    )
    small = np.random.default_rng(0).integers(-60, 60, (32, 32 // groups, 3, 3))
    runner = load(Numbers(graph, {"stem": float_layer(32, 3, 3, 3), "layer": coded(small)}), 8, vnni=False)
    assert integer_kernels(runner) == 1
    assert bool(OpenVinoEngine.kernels(runner._requests)) == asked
