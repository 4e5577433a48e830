"""Layers with one set of weights that compute in the active mode of their switch."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mmvideoiq.quant.precision import Mode, PrecisionSwitch, split_mode
from mmvideoiq.quant.quantizers import WeightQuantizer, check_same_precisions

if TYPE_CHECKING:
    from typing import Self  # Python 3.11


class AnyPrecisionLayer(nn.Module):
    """Base of the layers below: quantizes the input, and caches quantized weights that do not change.

    Weights that do not learn are cached, and all weights in eval mode. In-place changes are detected, except those
    that autograd does not record (``parameter.data.copy_(...)``, as in exponential moving averages; fused
    optimizers): call ``train`` or ``eval`` after them, as MMEngine's loops do when they begin.
    """

    weight: Tensor
    switch: PrecisionSwitch
    weight_quantizer: WeightQuantizer
    act_quantizer: nn.Module | None
    _frozen: dict[int, Tensor]  # bits -> quantized weight
    _frozen_from: list[tuple[Tensor, int]]  # its sources, and their versions at that time

    def _adopt(
        self, switch: PrecisionSwitch, weight_quantizer: WeightQuantizer, act_quantizer: nn.Module | None
    ) -> None:
        self.switch = switch
        self.weight_quantizer = weight_quantizer
        self.act_quantizer = act_quantizer
        self._thaw()

    def _thaw(self) -> None:
        self._frozen, self._frozen_from = {}, []

    def quantized_weight(self) -> Tensor:
        """The weight at the active precision, with its gradient if one is required."""
        bits = self.switch.bits
        if self.weight_quantizer.is_float(bits):
            return self.weight
        sources = (self.weight, *self.weight_quantizer.parameters())
        if any(source.requires_grad for source in sources) and (torch.is_grad_enabled() or self.training):
            self._thaw()  # an optimizer's step may follow, and fused ones do not change the version
            return self._learning_weight(bits)
        # Inference tensors do not count their changes; traced ones must not outlive the trace.
        if torch.compiler.is_compiling() or any(source.is_inference() for source in sources):
            return self.weight_quantizer(self.weight.detach(), bits)
        # A version counts in-place changes. Keeping the sources alive prevents reuse of their addresses.
        same = len(self._frozen_from) == len(sources) and all(
            source.is_set_to(seen) and source._version == version
            for source, (seen, version) in zip(sources, self._frozen_from, strict=True)
        )
        # The result must serve training too, even if it is first computed in inference mode.
        with torch.inference_mode(False), torch.no_grad():
            if not same:
                self._thaw()
                self._frozen_from = [(source.detach(), source._version) for source in sources]
            if bits not in self._frozen:
                self._frozen[bits] = self.weight_quantizer(self.weight, bits)
        return self._frozen[bits]

    def _learning_weight(self, bits: int) -> Tensor:
        """The weight at ``bits``, its common part computed once inside ``switch.together``."""
        shared = self.switch.shared
        if shared is None:
            return self.weight_quantizer(self.weight, bits)
        key = (self, torch.is_grad_enabled())
        if key not in shared:
            shared[key] = self.weight_quantizer.prepare(self.weight)
        if (*key, bits) not in shared:  # several sizes read the same bits
            shared[*key, bits] = self.weight_quantizer.read(self.weight, shared[key], bits)
        return shared[*key, bits]

    def train(self, mode: bool = True) -> Self:
        self._thaw()
        return super().train(mode)

    def _apply(self, fn: Any, recurse: bool = True) -> Self:  # to(), cuda(), half(), ...
        self._thaw()
        return super()._apply(fn, recurse)

    def __getstate__(self) -> dict[str, Any]:  # copies and pickles start without cached weights
        return {**self.__dict__, "_frozen": {}, "_frozen_from": []}

    def _input(self, x: Tensor) -> Tensor:
        return x if self.act_quantizer is None else self.act_quantizer(x, self.switch.bits)


class _AnyPrecisionConv(AnyPrecisionLayer):
    """A convolution whose input and weight are quantized at the active precision; its bias stays float.

    ``act_quantizer=None`` means that the input arrives quantized (first convolutions of residual blocks).
    """

    bias: Tensor | None
    plain: type  # of convolution, with the same weight
    _conv_forward: Any

    @classmethod
    def from_float(
        cls,
        conv: Any,
        *,
        switch: PrecisionSwitch,
        weight_quantizer: WeightQuantizer,
        act_quantizer: nn.Module | None,
    ) -> Self:
        """Take over the hyper-parameters and the Parameter objects of ``conv``."""
        new = _shaped_like(conv, cls)
        new.weight, new.bias = conv.weight, conv.bias
        new._adopt(switch, weight_quantizer, act_quantizer)
        return new.train(conv.training)

    def to_float(self) -> Any:
        """A plain convolution that holds the weight at the active precision; the input quantizer is left out."""
        new = _shaped_like(self, self.plain)
        new.weight, new.bias = nn.Parameter(self.quantized_weight().detach().clone()), self.bias
        return new.train(self.training)

    def forward(self, input: Tensor) -> Tensor:
        return self._conv_forward(self._input(input), self.quantized_weight(), self.bias)


def _shaped_like(conv: Any, kind: type) -> Any:
    """A convolution of ``kind`` without values."""
    return kind(
        conv.in_channels,
        conv.out_channels,
        conv.kernel_size,
        stride=conv.stride,
        padding=conv.padding,
        dilation=conv.dilation,
        groups=conv.groups,
        bias=conv.bias is not None,
        padding_mode=conv.padding_mode,
        device="meta",
    )


class AnyPrecisionConv2d(_AnyPrecisionConv, nn.Conv2d):
    """Over a frame: (N, C, H, W)."""

    plain = nn.Conv2d


class AnyPrecisionConv3d(_AnyPrecisionConv, nn.Conv3d):
    """Over a clip: (N, C, T, H, W); every frame of it at the same precision."""

    plain = nn.Conv3d


class AnyPrecisionLinear(AnyPrecisionLayer, nn.Linear):
    """A linear layer whose input and weight are quantized at the active precision; its bias stays float."""

    @classmethod
    def from_float(
        cls,
        linear: nn.Linear,
        *,
        switch: PrecisionSwitch,
        weight_quantizer: WeightQuantizer,
        act_quantizer: nn.Module | None,
    ) -> Self:
        """Take over the Parameter objects of ``linear``."""
        new = cls(linear.in_features, linear.out_features, bias=linear.bias is not None, device="meta")
        new.weight, new.bias = linear.weight, linear.bias
        new._adopt(switch, weight_quantizer, act_quantizer)
        return new.train(linear.training)

    def forward(self, input: Tensor) -> Tensor:
        return F.linear(self._input(input), self.quantized_weight(), self.bias)


class SwitchableBatchNorm(nn.Module):
    """One batch norm per mode; only the active one computes, and only its statistics move.

    Batch norms of any dimension are accepted. Layer norms keep no statistics, so one serves all modes.
    ``norms`` holds the batch norms by mode. A state dict with the names of a single float batch norm loads too:
    every mode starts from it. One of other modes is a ValueError.

    Args:
        by_size: one batch norm per size, named after its highest mode: for norms before the first quantized layer.
    """

    def __init__(
        self, norm: nn.modules.batchnorm._BatchNorm, *, switch: PrecisionSwitch, by_size: bool = False
    ) -> None:
        super().__init__()
        self.switch = switch
        highest = {split_mode(mode)[1]: mode for mode in reversed(switch.modes)}  # of each size
        self.keys = {mode: str(highest[split_mode(mode)[1]] if by_size else mode) for mode in switch.modes}
        keys = dict.fromkeys(self.keys.values())
        self.norms = nn.ModuleDict(
            {key: norm if i == 0 else copy.deepcopy(norm) for i, key in enumerate(keys)}
        )

    def of(self, mode: Mode) -> nn.Module:
        """The batch norm of ``mode``."""
        return self.norms[self.keys[mode]]

    def forward(self, x: Tensor) -> Tensor:
        return self.norms[self.keys[self.switch.mode]](x)

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *args: Any) -> None:
        check_same_precisions(state_dict, prefix, "norms", self.norms)
        for name in next(iter(self.norms.values())).state_dict():
            if prefix + name in state_dict:
                value = state_dict.pop(prefix + name)
                for key in self.norms:
                    state_dict[f"{prefix}norms.{key}.{name}"] = value
        super()._load_from_state_dict(state_dict, prefix, *args)
