"""Cost of a frame, a clip and a stored model: MACs, the paper's GFLOPs, strict BitOPs, bytes.

Axes: N videos, T frames, A actions. Source of the paper's conventions: arXiv:2108.10394.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from mmvideoiq.actions import FLOAT_BITS, paper_cost

if TYPE_CHECKING:
    from torch import nn
    from torch.utils.flop_counter import FlopCounterMode

    from mmvideoiq.actions import ActionSpace

OTHER = "(other operations)"  # row of count_model for what runs outside of convolutions and linear layers


@dataclass(frozen=True, kw_only=True)
class LayerCost:
    """One convolution or linear layer, for one frame.

    Attributes:
        macs: multiply-accumulates; 0 for a layer that does not run.
        weight_elements, input_elements, output_elements: element counts.
        quantized: weight and input follow the frame's precision; False means float, 32 bits.
        norm_channels: channels of the batch norm after it (assumed for every convolution without bias).
        bias_elements: elements of its bias.
    """

    name: str
    macs: int
    weight_elements: int
    input_elements: int
    output_elements: int
    quantized: bool
    norm_channels: int = 0
    bias_elements: int = 0

    @property
    def billed_macs(self) -> int:
        """MACs as the paper's counter bills them: a batch norm adds two operations per output element."""
        return self.macs + (2 * self.output_elements if self.norm_channels else 0)


@dataclass(frozen=True, kw_only=True)
class ModelCost:
    """Counts of a model, made once, from which the cost of clips follows.

    Args:
        layers: the recognition backbone, per frame of its own size (:func:`count_model`).
        classifier_macs: of the classifier, once per clip (frames are averaged before it).
        policy_macs: of the policy, per frame; 0 without one.
        classifier_elements, policy_elements: their parameters, stored as float32.
        policy_bits: of the policy's quantized layers, which have ``policy_quantized_macs`` of its MACs and
            ``policy_quantized_elements`` of its parameters; its LSTM and what else is float have the others.
        resized: by size, ``layers`` for frames of that size.
    """

    layers: Sequence[LayerCost]
    classifier_macs: int = 0
    policy_macs: int = 0
    classifier_elements: int = 0
    policy_elements: int = 0
    policy_bits: int = FLOAT_BITS
    policy_quantized_macs: int = 0
    policy_quantized_elements: int = 0
    resized: Mapping[int, Sequence[LayerCost]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        object.__setattr__(self, "layers", tuple(self.layers))
        if not self.layers:
            raise ValueError("ModelCost layers is empty; count_model found nothing to count")
        counts = ("classifier_macs", "policy_macs", "classifier_elements", "policy_elements")
        for name in (*counts, "policy_quantized_macs", "policy_quantized_elements"):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or value < 0:
                raise ValueError(f"ModelCost {name} must be an int >= 0, got {value!r}")

    @property
    def billed_policy_macs(self) -> float:
        """Of the policy per frame, by the paper's rule: quantized layers are scaled as the backbone's are."""
        return self.policy_macs - (1 - paper_cost(self.policy_bits)) * self.policy_quantized_macs

    @property
    def policy_bitops(self) -> int:
        """Of the policy per frame."""
        quantized = self.policy_quantized_macs
        return (self.policy_macs - quantized) * FLOAT_BITS**2 + quantized * self.policy_bits**2

    def layers_at(self, size: int | None) -> Sequence[LayerCost]:
        """``layers`` for frames resized to ``size``; None is their own."""
        if size is None:
            return self.layers
        if size not in self.resized:
            raise ValueError(f"no count for frames of size {size}; there are {sorted(self.resized)}")
        return self.resized[size]

    def paper_gflops(self, mean_cost: float | np.ndarray, num_frames: int, size: int | None = None) -> Any:
        """The paper's GFLOPs of a clip, in 10^9 multiply-accumulates.

        ``T * (mean_cost * quantized + float + policy)``, where ``quantized`` and ``float`` are the backbone's
        billed MACs (:attr:`LayerCost.billed_macs`); in the paper ``float`` is the first convolution. It bills
        float like 8 bits, charges a skipped frame ``float``, and omits the classifier (below 0.01 % for
        ResNet-50).

        Source: arXiv:2108.10394. For ResNet-50 and 16 frames of 224x224 the paper's 65.76 and 1.92
        (first convolution) are 16 x 4.11 and 16 x 0.12, rounded per frame. This function does not round: with
        the paper's policy (0.898) it returns 66.65, 18.77 and 6.80 for all frames at 32, 4 and 2 bits; the
        paper has 66.66, 18.78, 6.81.

        Args:
            mean_cost: mean of the paper's action costs over the frames, in [0, 1], any shape.
            size: of all frames.
        """
        return self._paper_gflops({size: (mean_cost, 1)}, num_frames)

    def _paper_gflops(self, shares: Mapping[int | None, tuple[Any, Any]], num_frames: int) -> Any:
        """``shares``: by size the sum of costs and the number of frames of that size, both over all frames' number."""
        macs: Any = 0
        for size, (cost, share) in shares.items():
            layers = self.layers_at(size)
            quantized = sum(layer.billed_macs for layer in layers if layer.quantized)
            unscaled = sum(layer.billed_macs for layer in layers if not layer.quantized)
            macs = macs + (cost * quantized + share * unscaled)
        return num_frames * (macs + self.billed_policy_macs) / 1e9

    def bitops(self, bits_per_frame: Any, size: int | None = None) -> Any:
        """Strict BitOPs: sum of MACs x weight bits x activation bits.

        Quantized layers count bits x bits, those of the policy (every frame) at its own bits; float layers and
        classifier (once) 32 x 32.
        A skipped frame counts the policy only.

        Args:
            bits_per_frame: (..., T) integers in 0..32; 0 is a skipped frame.
            size: of all frames.

        Returns: (...) float64.
        """
        bits = np.asarray(bits_per_frame)
        if bits.ndim == 0 or bits.dtype.kind not in "iu" or bits.size == 0:
            raise ValueError(f"bits_per_frame must hold integers of shape (..., T), got {bits_per_frame!r}")
        if bits.min() < 0 or bits.max() > FLOAT_BITS:
            raise ValueError(f"bits_per_frame must be in 0..{FLOAT_BITS}, got {bits.min()}..{bits.max()}")
        return self._clip_bitops(self._frame_bitops(bits.astype(np.float64), size))

    def _frame_bitops(self, bits: np.ndarray, size: int | None) -> np.ndarray:
        """Of the backbone, for each frame."""
        layers = self.layers_at(size)
        quantized = sum(layer.macs for layer in layers if layer.quantized)
        unquantized = sum(layer.macs for layer in layers if not layer.quantized)
        return quantized * bits**2 + unquantized * FLOAT_BITS**2 * (bits > 0)

    def _clip_bitops(self, frames: np.ndarray) -> Any:
        """``frames``: (..., T), the backbone's."""
        others = self.classifier_macs * FLOAT_BITS**2 + frames.shape[-1] * self.policy_bitops
        return frames.sum(-1) + others

    def clip_costs(self, actions: Any, space: ActionSpace) -> dict[str, np.ndarray]:
        """Costs of a batch of clips.

        An action with ``separate`` is billed as a float pass of the same backbone.

        Args:
            actions: (N, T) integers in [0, A), array or tensor.

        Returns: float64 arrays of shape (N,):
            ``mean_cost``: mean of ``space.costs`` over the frames, in [0, 1];
            ``gflops``: :meth:`paper_gflops` (always under the paper's costs, whatever the rule of ``space``);
            ``bitops``: :meth:`bitops`;
            ``weight_bytes``: :meth:`weight_bytes`, the same for all clips;
            ``peak_activation_bytes``: :meth:`peak_activation_bytes`, the maximum over the clip's frames.
        """
        indices = space.indices(actions)
        if indices.ndim != 2 or indices.size == 0:
            raise ValueError(f"actions must have shape (N, T) with N, T >= 1, got {indices.shape}")
        bits = [action.bits or 0 for action in space]
        sizes = [action.size for action in space]
        paper = np.array([paper_cost(b) for b in bits])
        pairs = list(zip(bits, sizes, strict=True))
        strict = np.array([float(self._frame_bitops(np.float64(b), size)) for b, size in pairs])
        peak = np.array([self.peak_activation_bytes(b, size) for b, size in pairs], dtype=np.float64)
        shares: dict[int | None, tuple[Any, Any]] = {}
        for size in dict.fromkeys(sizes):
            here = np.array([s == size for s in sizes])
            shares[size] = (paper * here)[indices].mean(1), here[indices].mean(1)
        modes = [(a.bits, a.size) for a in space if a.bits and not a.separate]
        stored = self.weight_bytes(modes, separate=any(action.separate for action in space))
        return {
            "mean_cost": np.array(space.costs)[indices].mean(1),
            "gflops": self._paper_gflops(shares, indices.shape[1]),
            "bitops": self._clip_bitops(strict[indices]),
            "weight_bytes": np.full(len(indices), float(stored)),
            "peak_activation_bytes": peak[indices].max(1),
        }

    def weight_bytes(
        self, precisions: Sequence[int | tuple[int, int | None]], *, separate: bool = False
    ) -> int:
        """Bytes of the stored model.

        Quantized weights are stored once, at the precision from which the lower ones are derived: as
        float32 if 32 is among ``precisions``, else at the highest precision, packed without gaps per layer.
        Float weights, biases, classifier and policy take 4 bytes per element, the policy's quantized weights its bits.
        A batch norm takes 4 float32 per channel (weight, bias, mean, variance), once per mode behind a quantized
        layer, else once per size.
        ``separate`` adds a float backbone and classifier. Scales and clips (a few bytes per layer) are not counted.

        Args:
            precisions: bits, or pairs of bits and size.
        """
        if not precisions and not separate:
            raise ValueError("precisions is empty; weight_bytes needs at least one")
        quantized = self.policy_quantized_elements
        total = 4 * (self.policy_elements - quantized) + math.ceil(quantized * self.policy_bits / 8)
        modes = [(mode, None) if isinstance(mode, int) else mode for mode in precisions]
        for stored in [modes] * bool(modes) + [[(FLOAT_BITS, None)]] * separate:
            total += 4 * self.classifier_elements
            for layer in self.layers:
                weight_bits = max(bits for bits, _ in stored) if layer.quantized else FLOAT_BITS
                norms = len(stored) if layer.quantized else len({size for _, size in stored})
                total += math.ceil(layer.weight_elements * weight_bits / 8)
                total += 4 * layer.bias_elements + 16 * layer.norm_channels * norms
        return total

    def peak_activation_bytes(self, bits: int, size: int | None = None) -> int:
        """Bytes that one backbone layer reads and writes for one frame, at the layer where this is largest.

        The input is held at ``bits`` (32 for a float layer), the output as 32-bit sums before it is quantized
        again. Values kept for a shortcut are not counted. A skipped frame (``bits=0``) costs 0.
        """
        if not 0 <= bits <= FLOAT_BITS:
            raise ValueError(f"bits must be in 0..{FLOAT_BITS}, got {bits}")
        if bits == 0:
            return 0
        return max(
            math.ceil(layer.input_elements * (bits if layer.quantized else FLOAT_BITS) / 8)
            + 4 * layer.output_elements
            for layer in self.layers_at(size)
        )


def count_model(
    backbone: nn.Module,
    frame_shape: tuple[int, int, int],
    quantized_names: Collection[str],
    num_frames_per_forward: int = 1,
) -> list[LayerCost]:
    """Count every convolution and linear layer of a backbone, per frame, in order of execution.

    The backbone runs once on zeros, in eval mode and without gradient, on its own device and in its own
    dtype; its training flags are restored. MACs come from ``torch.utils.flop_counter``. What runs outside of
    Conv2d and Linear layers (an attention product, say) appears as one float row ``(other operations)``;
    layers that do not run come last, with 0 MACs, since their weights are stored as well.

    Args:
        frame_shape: (C, H, W) of one frame.
        quantized_names: names, within ``backbone``, of the layers that follow the frame's precision.
        num_frames_per_forward: frames the backbone mixes in one forward (temporal shift: ``num_segments``).

    Raises:
        ValueError: a name that is not a Conv2d or Linear of the backbone, or a shape or count out of range.
    """
    import torch
    from torch import nn

    if len(frame_shape) != 3 or min(frame_shape) < 1:
        raise ValueError(f"frame_shape must be (C, H, W), each >= 1, got {tuple(frame_shape)}")
    if num_frames_per_forward < 1:
        raise ValueError(f"num_frames_per_forward must be >= 1, got {num_frames_per_forward}")
    leaves = {n: m for n, m in backbone.named_modules() if isinstance(m, (nn.Conv2d, nn.Linear))}
    quantized = set(quantized_names)
    if unknown := sorted(quantized - set(leaves)):
        raise ValueError(f"{', '.join(unknown)} is not a Conv2d or Linear of {type(backbone).__name__}")

    started: dict[nn.Module, int] = {}
    runs: dict[nn.Module, tuple[int, int, int]] = {}  # MACs, input elements, output elements of one forward

    def before(leaf: nn.Module, _args: Any) -> None:
        started[leaf] = counter.get_total_flops()

    def after(leaf: nn.Module, args: Any, output: Any) -> None:
        macs, read, written = runs.get(leaf, (0, 0, 0))
        macs += (counter.get_total_flops() - started[leaf]) // 2  # the counter takes 2 per MAC
        runs[leaf] = macs, max(read, args[0].numel()), max(written, output.numel())

    weight = next((p for p in backbone.parameters() if p.is_floating_point()), torch.zeros(()))
    frames = torch.zeros(num_frames_per_forward, *frame_shape, device=weight.device, dtype=weight.dtype)
    handles = [leaf.register_forward_pre_hook(before) for leaf in leaves.values()]
    handles += [leaf.register_forward_hook(after) for leaf in leaves.values()]
    try:
        with _counting(backbone) as counter:
            backbone(frames)
    finally:
        for handle in handles:
            handle.remove()

    layers = []
    order = list(runs)
    for name, leaf in sorted(
        leaves.items(), key=lambda item: order.index(item[1]) if item[1] in runs else len(order)
    ):
        macs, read, written = (count // num_frames_per_forward for count in runs.get(leaf, (0, 0, 0)))
        layers.append(
            LayerCost(
                name=name,
                macs=macs,
                weight_elements=leaf.weight.numel(),
                input_elements=read,
                output_elements=written,
                quantized=name in quantized,
                norm_channels=leaf.out_channels if isinstance(leaf, nn.Conv2d) and leaf.bias is None else 0,
                bias_elements=0 if leaf.bias is None else leaf.bias.numel(),
            )
        )
    if rest := counter.get_total_flops() // 2 - sum(macs for macs, _, _ in runs.values()):
        zeros = dict(weight_elements=0, input_elements=0, output_elements=0)
        layers.append(LayerCost(name=OTHER, macs=rest // num_frames_per_forward, quantized=False, **zeros))
    return layers


def count_macs(module: nn.Module, *inputs: Any) -> int:
    """Multiply-accumulates of one forward of ``module`` on ``inputs``, in eval mode and without gradient.

    For parts that are not counted by layer, such as the policy; products in its LSTM are included.
    """
    with _counting(module) as counter:
        module(*inputs)
    return counter.get_total_flops() // 2


@contextmanager
def _counting(module: nn.Module) -> Iterator[FlopCounterMode]:
    """An active counter, with all of ``module`` in eval mode and gradients off; flags are restored.

    oneDNN and cuDNN are disabled: they run an LSTM as one operation, which the counter does not see.
    """
    import torch
    from torch.backends import cudnn, mkldnn
    from torch.utils.flop_counter import FlopCounterMode

    modes = [(part, part.training) for part in module.modules()]
    fused = mkldnn.enabled, cudnn.enabled
    try:
        mkldnn.enabled, cudnn.enabled = False, False
        for part, _ in modes:
            part.training = False
        with torch.no_grad(), FlopCounterMode(display=False) as counter:
            yield counter
    finally:
        mkldnn.enabled, cudnn.enabled = fused
        for part, training in modes:
            part.training = training
