"""Layers that hold one set of weights and compute at the precision their switch says."""

import copy
from collections.abc import Mapping
from typing import Any, Self

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mmvideoiq.quant.precision import PrecisionSwitch


class _AnyPrecision(nn.Module):
    """Shared by the layers below: quantize the input, and the weight once per precision while it does not change."""

    weight: nn.Parameter
    switch: PrecisionSwitch
    weight_quantizer: nn.Module
    act_quantizer: nn.Module | None
    _frozen: dict[int, tuple[tuple[Any, ...], Tensor]]

    def _adopt(
        self, switch: PrecisionSwitch, weight_quantizer: nn.Module, act_quantizer: nn.Module | None
    ) -> None:
        self.switch = switch
        self.weight_quantizer = weight_quantizer
        self.act_quantizer = act_quantizer
        self._frozen = {}

    def quantized_weight(self) -> Tensor:
        """The weight at the active precision; kept between calls while no gradient is asked of it."""
        bits = self.switch.bits
        if self.weight_quantizer.is_float(bits):
            return self.weight
        sources = (self.weight, *self.weight_quantizer.parameters())
        if torch.is_grad_enabled() and any(source.requires_grad for source in sources):
            return self.weight_quantizer(self.weight, bits)
        # A parameter's version counts its in-place changes; its address changes with device and dtype.
        state = tuple((source.data_ptr(), source._version) for source in sources)
        kept = self._frozen.get(bits)
        if kept is None or kept[0] != state:
            with torch.no_grad():
                kept = self._frozen[bits] = (state, self.weight_quantizer(self.weight, bits))
        return kept[1]

    def train(self, mode: bool = True) -> Self:
        self._frozen.clear()
        return super().train(mode)

    def _input(self, x: Tensor) -> Tensor:
        return x if self.act_quantizer is None else self.act_quantizer(x, self.switch.bits)


class AnyPrecisionConv2d(_AnyPrecision, nn.Conv2d):
    """A convolution whose input and weight are quantized at the active precision; its bias stays float.

    ``act_quantizer=None`` means that the input arrives quantized (first convolutions of residual blocks).
    """

    @classmethod
    def from_float(
        cls,
        conv: nn.Conv2d,
        *,
        switch: PrecisionSwitch,
        weight_quantizer: nn.Module,
        act_quantizer: nn.Module | None,
    ) -> Self:
        """Take over ``conv``'s hyper-parameters and its very Parameter objects."""
        new = cls(
            conv.in_channels,
            conv.out_channels,
            conv.kernel_size,  # type: ignore[arg-type]
            stride=conv.stride,  # type: ignore[arg-type]
            padding=conv.padding,  # type: ignore[arg-type]
            dilation=conv.dilation,  # type: ignore[arg-type]
            groups=conv.groups,
            bias=conv.bias is not None,
            padding_mode=conv.padding_mode,
            device="meta",
        )
        new.weight, new.bias = conv.weight, conv.bias
        new._adopt(switch, weight_quantizer, act_quantizer)
        return new.train(conv.training)

    def forward(self, input: Tensor) -> Tensor:
        return self._conv_forward(self._input(input), self.quantized_weight(), self.bias)


class AnyPrecisionLinear(_AnyPrecision, nn.Linear):
    """A linear layer whose input and weight are quantized at the active precision; its bias stays float."""

    @classmethod
    def from_float(
        cls,
        linear: nn.Linear,
        *,
        switch: PrecisionSwitch,
        weight_quantizer: nn.Module,
        act_quantizer: nn.Module | None,
    ) -> Self:
        """Take over ``linear``'s very Parameter objects."""
        new = cls(linear.in_features, linear.out_features, bias=linear.bias is not None, device="meta")
        new.weight, new.bias = linear.weight, linear.bias
        new._adopt(switch, weight_quantizer, act_quantizer)
        return new.train(linear.training)

    def forward(self, input: Tensor) -> Tensor:
        return F.linear(self._input(input), self.quantized_weight(), self.bias)


class SwitchableBatchNorm2d(nn.Module):
    """One batch norm per precision; only the active one computes, and only its statistics move.

    ``norms`` holds real batch norms, keyed by the precision. A state dict with the plain names of one float batch
    norm loads too: every precision starts from it.
    """

    def __init__(self, norm: nn.modules.batchnorm._BatchNorm, *, switch: PrecisionSwitch) -> None:
        super().__init__()
        self.switch = switch
        self.norms = nn.ModuleDict(
            {str(bits): norm if i == 0 else copy.deepcopy(norm) for i, bits in enumerate(switch.precisions)}
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.norms[str(self.switch.bits)](x)

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *args: Any) -> None:
        expand_float_norm_(state_dict, prefix, self.norms)
        super()._load_from_state_dict(state_dict, prefix, *args)


def expand_float_norm_(state_dict: dict[str, Any], prefix: str, norms: Mapping[str, nn.Module]) -> None:
    """Rewrite the names of one float batch norm at ``prefix`` to those of every precision in ``norms``.

    Raises:
        ValueError: the state dict holds batch norms of another precision list.
    """
    found = {key[len(prefix) + 6 :].split(".")[0] for key in state_dict if key.startswith(prefix + "norms.")}
    if found and found != set(norms):
        raise ValueError(
            f"the checkpoint has batch norms for precisions {tuple(sorted(map(int, found), reverse=True))} at "
            f"{prefix.rstrip('.')}, the model for {tuple(map(int, norms))}: use the precisions it was trained with"
        )
    plain = next(iter(norms.values())).state_dict()
    for name in plain:
        if prefix + name in state_dict:
            value = state_dict.pop(prefix + name)
            for key in norms:
                state_dict[f"{prefix}norms.{key}.{name}"] = value
