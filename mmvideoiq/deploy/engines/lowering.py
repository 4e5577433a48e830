"""What both engines derive from a bundle before they build a model: integer weights, window sums, sizes, states.

Axes: O output channels, I inputs per group, kh kw a kernel's height and width.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from mmvideoiq.deploy.bundle.graph import Graph, Node
from mmvideoiq.deploy.bundle.packing import SignedWeights, signed_weights

if TYPE_CHECKING:
    from mmvideoiq.deploy.bundle.bundle import Layer

FAR_FROM_HALF = 0.1  # of a code: no rounding of floats reaches it
EPS = 1e-4  # a zero-point correction below this share of the weight's step is rounding

# --- weights ----------------------------------------------------------------------------------------------------------


def float_weight(layer: Layer) -> np.ndarray:
    """The weight times the gain, float64 (O, ...)."""
    weight = layer.weight
    if weight is None:
        assert layer.codes is not None and layer.scale is not None and layer.offset is not None
        weight = weight_values(layer.codes, layer.scale, layer.offset)
    return weight_values(weight, layer.gain, np.zeros_like(layer.gain))


def integer_weight(layer: Layer) -> SignedWeights:
    """The weight times the gain: int8 codes (O, ...); scale and zero-point correction float64 (O,)."""
    assert layer.codes is not None and layer.scale is not None and layer.offset is not None
    signed = signed_weights(layer.codes, layer.scale, layer.offset, layer.bits)
    gain = layer.gain.astype(np.float64)
    return signed._replace(scale=gain * signed.scale, correction=gain * signed.correction)


def weight_values(codes: np.ndarray, scale: np.ndarray, offset: np.ndarray) -> np.ndarray:
    """``scale * codes + offset`` with one scale and offset per output channel, float64."""
    shape = (-1, *[1] * (codes.ndim - 1))
    return scale.astype(np.float64).reshape(shape) * codes + offset.astype(np.float64).reshape(shape)


def split_weights(weights: SignedWeights) -> list[SignedWeights]:
    """Two weights of at most 7 bits whose values add up to those of ``weights``; only the second has a correction.

    ``scale * code + correction = 2 scale * (code >> 1) + scale * (code & 1) + correction``. A correction of half a
    step, as on the centred grid of 8 bits, goes into the second term: ``scale / 2 * (2 (code & 1) + 1)``.
    """
    codes, scale, correction = weights
    first, low = SignedWeights(codes >> 1, 2 * scale, np.zeros_like(correction)), codes & 1
    if np.all(np.abs(correction - scale / 2) < EPS * np.abs(scale)):
        return [first, SignedWeights(2 * low + 1, scale / 2, np.zeros_like(correction))]
    return [first, SignedWeights(low, scale, correction)]


def reorder_gates(arrays: Sequence[np.ndarray], order: Sequence[int]) -> list[np.ndarray]:
    """LSTM weights (4H, ...), whose gates stand as i, f, g, o, with the gates in another order: (1, 4H, ...)."""
    return [np.concatenate([np.split(array, 4)[i] for i in order])[None] for array in arrays]


# --- resizing ---------------------------------------------------------------------------------------------------------


def linear_taps(before: int, after: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Bilinear resizing, half-pixel centres, along one side: ``y = x[low] + share * (x[high] - x[low])``.

    Returns: low, high int32, share float32, each (after,).
    """
    place = np.maximum((np.arange(after) + 0.5) * (before / after) - 0.5, 0)
    low = np.minimum(place.astype(np.int32), before - 1)
    return low, np.minimum(low + 1, before - 1), (place - low).astype(np.float32)


# --- the graph --------------------------------------------------------------------------------------------------------


def consumers(graph: Graph, node: Node) -> list[Node]:
    """The nodes that read the value of ``node``."""
    return [other for other in graph if node.name in other.inputs]


def producers(graph: Graph, node: Node) -> list[Node]:
    """The nodes whose values ``node`` reads."""
    return [other for other in graph if set(other.outputs) & set(node.inputs)]


def bytes_are_codes(graph: Graph, node: Node, bits: int) -> bool:
    """Whether ``node`` normalizes frames such that the one quantization that reads it gives their bytes back."""
    readers = consumers(graph, node)
    if node.op != "normalize" or node.name in graph.outputs or [each.op for each in readers] != ["quantize"]:
        return False
    grid, pixels = readers[0].grid(bits), np.arange(256)
    if grid is None or (grid.low, grid.high) != (0, 255):
        return False
    mean, std = (np.array(node.attrs[key], np.float64)[:, None] for key in ("mean", "std"))
    codes = ((pixels - mean) / std - grid.origin) / grid.step
    return bool(np.all(np.abs(codes - pixels) < FAR_FROM_HALF))


def clipped_at_zero(graph: Graph, node: Node, bits: int) -> bool:
    """Whether all that read ``node`` take its negative values as 0, which makes a ReLU there superfluous."""

    def clips(reader: Node) -> bool:
        if reader.op == "max_pool":
            return clipped_at_zero(graph, reader, bits)
        grid = reader.grid(bits) if reader.op == "quantize" else None
        return grid is not None and grid.low == 0 and grid.origin >= 0

    return node.name not in graph.outputs and all(map(clips, consumers(graph, node)))


def states(graph: Graph) -> dict[str, str]:
    """Output -> input that takes it with the frames that follow, of all LSTMs."""
    lstms = [node for node in graph if node.op == "lstm"]
    return {out: name for node in lstms for name, out in zip(node.inputs[1:], node.outputs[1:], strict=True)}


def model_outputs(graph: Graph) -> list[str]:
    """The graph's outputs, and the states."""
    return list(dict.fromkeys([*graph.outputs, *states(graph)]))
