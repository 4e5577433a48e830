"""What the tests of both engines run: layers of every kind with numbers of their own, and how results are compared."""

from typing import Any

import numpy as np
import pytest
import torch

from mmvideoiq.deploy.bundle.bundle import Layer
from mmvideoiq.deploy.bundle.graph import Grid, Node
from mmvideoiq.deploy.engines.cpu import has_vnni

EXACT = 110  # dB: nothing but float rounding
NEEDS_VNNI = pytest.mark.skipif(not has_vnni(), reason="this CPU has no VNNI")
BOTH_CPUS = pytest.mark.parametrize(
    "vnni", [pytest.param(True, marks=NEEDS_VNNI), False], ids=["vnni", "no-vnni"]
)
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
GRIDS = {
    "unsigned": {8: Grid(0.01, 0, 255), 4: Grid(0.15, 0, 15), 2: Grid(0.7, 0, 3)},
    "signed": {8: Grid(0.02, -127, 127), 4: Grid(0.3, -7, 7), 2: Grid(1.5, -1, 1)},
    "origin": {8: Grid(0.015, 0, 255, -1.7), 4: Grid(0.25, 0, 15, -1.7), 2: Grid(1.1, 0, 3, 0.3)},
}


def node(op: str, name: str, *inputs: str, **attrs: Any) -> Node:
    return Node(op=op, name=name, inputs=inputs, attrs=attrs)


def normal(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng([seed, *shape]).standard_normal(shape, dtype=np.float32)


def float_layer(*shape: int) -> Layer:
    """Gains of both signs."""
    gain = np.linspace(-1, 1.5, shape[0], dtype=np.float32)
    return Layer(bits=32, weight=normal(*shape) / shape[1], gain=gain, bias=normal(shape[0], seed=1))


def coded_layer(bits: int, *shape: int, symmetric: bool = True) -> Layer:
    """Gains of both signs, a scale for each channel; without symmetry a correction is left at all bits."""
    codes = np.random.default_rng(bits).integers(0, 2**bits, shape, dtype=np.uint8)
    scale = np.linspace(0.5, 1.5, shape[0], dtype=np.float32) / np.float32(2**bits)
    offset = -scale * np.float32((2**bits - 1) / 2 if symmetric else 0.3 * 2**bits)
    gain = np.linspace(-1, 1.5, shape[0], dtype=np.float32)
    return Layer(bits=bits, codes=codes, scale=scale, offset=offset, gain=gain, bias=normal(shape[0], seed=2))


def ratio(got: np.ndarray, want: torch.Tensor) -> float:
    """Signal to noise in dB; also that shape and type are right."""
    expected = want.double().numpy()
    assert got.shape == expected.shape and got.dtype == np.float32
    return 10 * np.log10(np.square(expected).mean() / max(np.square(got - expected).mean(), 1e-30))
