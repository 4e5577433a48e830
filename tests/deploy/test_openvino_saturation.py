"""Products of 8-bit integers stay exact with OpenVINO, also on CPUs whose sums of two saturate."""

import numpy as np
import pytest

from mmvideoiq.deploy.bundle.bundle import Layer
from mmvideoiq.deploy.bundle.graph import Grid
from mmvideoiq.deploy.bundle.packing import SignedWeights
from mmvideoiq.deploy.engines.cpu import may_saturate
from mmvideoiq.deploy.engines.lowering import split_weights, weight_values
from tests.deploy.engine_cases import BOTH_CPUS, EXACT
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


@NEEDS_AVX2
def test_on_kernels_that_saturate():
    """oneDNN, told to use AVX2 alone, adds products in int16: there the largest ones need two convolutions."""
    code = (
        "from tests.deploy.test_openvino_saturation import of_white_frames as f;"
        "print(f(8, 1, True), f(8, 1, False), f(7, 1, True), f(4, 1, False))"
    )
    plain, halved, seven, four = on_avx2(code)
    assert plain < 40 and min(halved, seven, four) > EXACT
