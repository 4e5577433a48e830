"""Whether an engine computes what the simulation computes: codes layer by layer, then the features.

A quantized network is not continuous. Where a value falls on a tie, the middle between two codes, its last digit
decides, and all that follows differs: with random weights a deep simulation in float32 and itself in float64 are only
15 to 40 dB apart. Features of two whole runs tell little, so each layer is compared by itself: the simulation, in
float64, goes on from the engine's codes, and what its quantizers then give must be the engine's next codes. Only values
near a tie may get the other code, and only few values may lie there.

Weights are quantized in float32, as in training and testing, and then widened.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from mmvideoiq.deploy.bundle.bundle import Bundle
from mmvideoiq.deploy.bundle.graph import Graph, Grid
from mmvideoiq.deploy.engines.base import Engine
from mmvideoiq.deploy.export.trace import pact_grid
from mmvideoiq.models.any_precision_backbone import resize
from mmvideoiq.models.videoiq_recognizer import pool
from mmvideoiq.quant import AnyPrecisionConv2d, AnyPrecisionLinear, Pact
from mmvideoiq.quant.precision import FLOAT_BITS, Mode, split_mode

TIE = 0.01  # steps from a tie within which float32 may choose the other code; seen: 0.003, DoReFa at 8 bits
NEAR = 4 * TIE  # of all values, within TIE of a tie: twice the share if they fell anywhere; seen: 0.6 times
DIFFERING = 5e-4  # of all codes; seen: 1.8e-4, DoReFa at 8 bits
FLOOR_DB = 80.0  # of the features; seen: 94, a deep network at 32 bits, 105 from codes
ON_GRID = 1e-3  # steps by which float32 may miss a level of the grid


@dataclass(frozen=True, kw_only=True)
class Agreement:
    """What :func:`compare` found in ``mode``.

    Attributes:
        codes: how many were compared.
        near: how many of their values lie within ``TIE`` of a tie.
        differing: how many codes differ.
        distance: steps from the middle between two codes that differ to the value that both were rounded from, the
            largest.
        quantizer: the first in which it is more than ``TIE``.
        features: float32 (N, D), the engine's.
        expected: float64 (N, D), the simulation's, from the engine's last codes.
    """

    mode: Mode
    codes: int = 0
    near: int = 0
    differing: int = 0
    distance: float = 0.0
    quantizer: str = ""
    features: Tensor
    expected: Tensor

    @property
    def decibels(self) -> float:
        """Signal to noise ratio of the features."""
        return decibels(self.features, self.expected)

    @property
    def problem(self) -> str | None:
        """What is wrong, in one line; None where engine and simulation agree."""
        where = f"at {self.mode} bits" if isinstance(self.mode, int) else f"at {self.mode}"
        if self.distance > TIE:
            return f"{where} the engine's codes differ from the simulation's, first at {self.quantizer}"
        if self.near > NEAR * self.codes:
            return (
                f"{where} {self.near / self.codes:.0%} of the values lie on a tie, too many to compare codes"
            )
        if self.differing > DIFFERING * self.codes:
            return f"{where} {self.differing / self.codes:.2%} of the engine's codes differ from the simulation's"
        if not self.decibels >= FLOOR_DB:
            return f"{where} the engine's features agree with the simulation's to {self.decibels:.0f} dB only"
        return None


@torch.no_grad()
def compare(
    model: Any, bundle: Bundle, engine: Engine, frames: np.ndarray, mode: Mode, part: str = "recognition"
) -> Agreement:
    """Run ``part`` of ``bundle`` in ``mode``, and follow it with the simulation.

    Args:
        model: the recognizer of frames that ``bundle`` was exported from; it is not changed.
        frames: uint8 (N, H, W, 3), of the size the bundle takes; whole clips where the backbone mixes frames.
        mode: of the policy its bits.
        part: 'policy' stops at the features that its LSTM reads.

    Raises:
        ValueError: a quantizer of the engine gives values off its grid.
        RuntimeError: the quantizers of the bundle are not those of the simulation.
    """
    bits, size = split_mode(mode)
    bundle = bundle.sized(size)
    graph = bundle.graphs[part]
    features = next((node.inputs[0] for node in graph if node.op == "lstm"), graph.outputs[0])
    grids = {node.name: grid for node in graph if node.op == "quantize" and (grid := node.grid(bits))}
    found = run_widened(bundle, engine, frames, bits, [features, *grids], part)
    given = {name: codes_of(found[name], grid, name) for name, grid in grids.items()}
    counts = np.zeros(3, np.int64)
    distances: dict[str, float] = {}  # in the order in which quantizers run

    def read(name: str, values: Tensor, grid: Grid) -> Tensor:
        nonlocal counts
        if name not in given:
            raise RuntimeError(f"the bundle lacks the quantizer {name!r} of the simulation at {mode}")
        codes = given[name]
        place = places(values, grid)
        expected = place.round().clamp(grid.low, grid.high)
        tie = (place.floor() + 0.5).clamp(grid.low + 0.5, grid.high - 0.5)
        differs = codes != expected
        middle = (codes + expected)[differs] / 2
        counts += (codes.numel(), int(((place - tie).abs() <= TIE).sum()), len(middle))
        distances[name] = float((place[differs] - middle).abs().max()) if len(middle) else 0.0
        return grid.origin + grid.step * codes

    expected = follow(model, frames, mode, read, part)
    if unread := grids.keys() - distances.keys():
        raise RuntimeError(f"the simulation lacks the quantizer {min(unread)!r} of the bundle at {mode}")
    codes, near, differing = map(int, counts)
    return Agreement(
        mode=mode,
        codes=codes,
        near=near,
        differing=differing,
        distance=max(distances.values(), default=0.0),
        quantizer=next((name for name, distance in distances.items() if distance > TIE), ""),
        features=found[features],
        expected=expected,
    )


def run_widened(
    bundle: Bundle, engine: Engine, frames: np.ndarray, bits: int, names: Iterable[str], part: str
) -> dict[str, Tensor]:
    """The outputs of ``part`` on the engine, and its values called ``names``."""
    graph = bundle.graphs[part]
    outputs = tuple(dict.fromkeys([*graph.outputs, *names]))
    wide = Graph(inputs=graph.inputs, nodes=graph.nodes, outputs=outputs)
    wider = replace(bundle, graphs={**bundle.graphs, part: wide})
    states = {name: np.zeros(shape, np.float32) for name, shape in graph.inputs.items() if name != "frames"}
    found = engine.load(wider, part, bits)({"frames": frames, **states})
    return {name: torch.from_numpy(array) for name, array in found.items()}


def follow(
    model: Any,
    frames: np.ndarray,
    mode: Mode,
    read: Callable[[str, Tensor, Grid], Tensor],
    part: str = "recognition",
) -> Tensor:
    """The simulation's features in float64, (N, D).

    Args:
        read: of a quantizer's name, the values it reads and its grid, the values it gives.
    """

    def hook(name: str, grid: Grid) -> Callable[[nn.Module, tuple[Tensor], Tensor], Tensor]:
        return lambda _module, args, _output: read(name, args[0], grid)

    bits, size = split_mode(mode)
    owner = model.policy if part == "policy" else model
    backbone = in_float64(owner.backbone, mode)
    pixels = torch.from_numpy(frames).permute(0, 3, 1, 2).double()
    x = model.data_preprocessor.preprocess([pixels], None)[0][0].double()
    if part == "policy":
        x = model.policy.resize(x)
    x = x if size is None else resize(x, size)
    if backbone.input_range is not None and bits != FLOAT_BITS:
        with backbone.switch.at(mode):
            low, high = backbone.input_levels()
        x = read("input", x, Grid((high - low) / (2**bits - 1), 0, 2**bits - 1, low))
    prefix = "backbone." if part == "policy" else ""  # of names in the bundle
    for name, module in backbone.net.named_modules():
        if isinstance(module, Pact) and str(bits) in module.clip:
            module.register_forward_hook(hook(prefix + name, pact_grid(module, bits)))
    return pool(backbone.forward_at(x, mode))


def in_float64(backbone: nn.Module, mode: Mode) -> Any:
    """A copy that computes in float64, and in ``mode`` alone."""
    copied: Any = copy.deepcopy(backbone).cpu().float().eval()
    layers: list[Any] = [
        module for module in copied.modules() if isinstance(module, (AnyPrecisionConv2d, AnyPrecisionLinear))
    ]
    with copied.switch.at(mode):
        weights = [layer.quantized_weight().double() for layer in layers]
    copied.double()
    for layer, weight in zip(layers, weights, strict=True):
        layer.quantized_weight = weight.detach  # the same at every call
    return copied


def places(values: Tensor, grid: Grid) -> Tensor:
    """Where ``values`` lie on ``grid``: its codes where they are whole numbers. float64."""
    return (values.double() - grid.origin) / grid.step


def codes_of(values: Tensor, grid: Grid, name: str) -> Tensor:
    """Whole numbers in float64, of values on ``grid``."""
    place = places(values, grid)
    codes = place.round()
    if not ((place - codes).abs() <= ON_GRID).all() or codes.min() < grid.low or codes.max() > grid.high:
        raise ValueError(f"{name} gives values that are not on its grid")
    return codes


def decibels(found: Tensor, expected: Tensor) -> float:
    """Signal to noise ratio of ``found``, in dB."""
    noise = (found.double() - expected.double()).square().sum().clamp_min(1e-300)
    return float(10 * torch.log10(expected.double().square().sum() / noise))
