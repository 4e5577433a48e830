"""Turn a float network into an any-precision one, in place, keeping its Parameter objects."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import Any

import torch
from torch import Tensor, nn

from mmvideoiq.quant.layers import (
    AnyPrecisionConv2d,
    AnyPrecisionConv3d,
    AnyPrecisionLinear,
    SwitchableBatchNorm,
)
from mmvideoiq.quant.precision import PrecisionSwitch
from mmvideoiq.quant.quantizers import build_quantizer

CONVERTIBLE: dict[type[nn.Module], Any] = {
    nn.Conv2d: AnyPrecisionConv2d,
    nn.Conv3d: AnyPrecisionConv3d,
    nn.Linear: AnyPrecisionLinear,
}
# modules with multiplications: converted, or reported if they stay float
LAYERS = (nn.modules.conv._ConvNd, nn.Linear, nn.Bilinear, nn.MultiheadAttention, nn.RNNBase, nn.RNNCellBase)
NORMS = (nn.modules.batchnorm._BatchNorm,)


class SampleError(ValueError):
    """The model does not run on the sample input."""


@dataclass
class ConversionReport:
    """What a conversion did.

    Attributes:
        converted: names of the layers that now follow the switch, in the order in which they run.
        norms: names of the batch norms that became switchable.
        block_inputs: names of the blocks whose input is quantized once.
        left: name -> why it stayed float.
        stem: name of the first layer that runs; None if nothing ran.
    """

    converted: list[str] = field(default_factory=list)
    norms: list[str] = field(default_factory=list)
    block_inputs: list[str] = field(default_factory=list)
    left: dict[str, str] = field(default_factory=dict)
    stem: str | None = None

    def __str__(self) -> str:
        head = (
            f"{len(self.converted)} layers and {len(self.norms)} batch norms follow the precision switch; "
            f"{len(self.block_inputs)} block inputs are quantized once"
        )
        return "\n".join([head, *(f"  float: {name} ({why})" for name, why in self.left.items())])


@dataclass
class _Trace:
    """Names in the order of their first call, and which of them saw a negative input."""

    order: list[str] = field(default_factory=list)
    signed: set[str] = field(default_factory=set)


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Eval mode and no gradient inside the ``with`` block; then each module returns to the mode it was in."""
    modes = {module: module.training for module in model.modules()}
    try:
        for module in modes:
            module.training = False
        with torch.no_grad():
            yield
    finally:
        for module, mode in modes.items():
            module.training = mode


def _is_bare(layer: nn.Module) -> bool:
    """Whether ``layer`` has nothing but a weight and a bias: no hooks, no reparametrization, no buffers."""
    more = layer._forward_hooks or layer._forward_pre_hooks or layer._modules or layer._buffers
    return not more and {"weight"} <= set(layer._parameters) <= {"weight", "bias"}


def _trace(model: nn.Module, sample: Tensor, watched: Mapping[str, nn.Module]) -> _Trace:
    """Run ``model(sample)`` once in eval mode without gradient; nothing of the model changes."""
    trace = _Trace()

    def watch(name: str) -> Any:
        def look(_module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
            if name not in trace.order:
                trace.order.append(name)
            x = next((value for value in (*args, *kwargs.values()) if isinstance(value, Tensor)), None)
            if x is not None and bool((x < 0).any()):
                trace.signed.add(name)

        return look

    handles = [
        module.register_forward_pre_hook(watch(name), with_kwargs=True) for name, module in watched.items()
    ]
    try:
        with evaluating(model):
            model(sample)
    except ImportError:
        raise
    except Exception as error:  # raised by the network's own code
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise SampleError(
            f"{type(model).__name__} does not run on a sample of shape {tuple(sample.shape)}: {reason}"
        ) from error
    finally:
        for handle in handles:
            handle.remove()
    return trace


def _quantize_block_input(block: Any, args: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    """Forward pre-hook of a residual block: its first argument at the active precision."""
    return (block.input_quantizer(args[0], block.input_switch.bits), *args[1:])


def _matches(name: str, patterns: Sequence[str]) -> bool:
    return any(fnmatchcase(name, pattern) for pattern in patterns)


def _replace(model: nn.Module, old: nn.Module, new: nn.Module) -> None:
    """Replace ``old`` by ``new`` everywhere: a shared module stays shared."""
    for parent in list(model.modules()):
        for leaf in [leaf for leaf, child in parent._modules.items() if child is old]:
            parent._modules[leaf] = new


def to_any_precision_(
    model: nn.Module,
    *,
    switch: PrecisionSwitch,
    sample: Tensor,
    weight: dict[str, Any],
    activation: dict[str, Any],
    blocks: Mapping[type[nn.Module], Sequence[str]] = {},
    include: Sequence[str] | None = None,
    exclude: Sequence[str] = (),
    plain: Sequence[type[nn.Module]] = (),
    quantize_stem: bool = False,
) -> ConversionReport:
    """Replace convolutions, linear layers and batch norms of ``model`` by ones that follow ``switch``.

    One forward pass of ``sample`` determines the order of the layers, which inputs take negative values (these get
    two-sided clips) and which layer comes first (the stem).

    Args:
        model: float network.
        switch: the owner of the active precision.
        sample: an input that ``model`` accepts, with at least one element.
        weight, activation: quantizer configs: ``dict(type='nested')``, ``dict(type='pact', init_clip=2.0)``.
        blocks: class of residual block -> names of its children that read the block's input. That input is
            quantized once, for them and for the shortcut.
        include: name patterns (``*`` matches anything) of layers to convert; None means all.
        exclude: name patterns of layers to leave float.
        plain: subclasses of ``nn.Conv2d``, ``nn.Conv3d`` and ``nn.Linear`` with the same computation; others stay
            float.
        quantize_stem: convert the first layer too; its input is not quantized here (the caller does that).

    Returns: the report.

    Raises:
        ValueError: nothing was converted, a pattern matches nothing, an unknown quantizer, an empty sample, a
            model that is converted already.
        SampleError: a ValueError; the model does not run on the sample.
    """
    for field_name, patterns in (("include", include), ("exclude", exclude)):
        if isinstance(patterns, str):
            raise ValueError(
                f"{field_name}={patterns!r} must be a list of name patterns, e.g. [{patterns!r}]"
            )
    if isinstance(model, (*LAYERS, *NORMS)):
        raise ValueError(f"the model is itself a layer ({type(model).__name__}): put it into a module")
    if any(isinstance(module, (*CONVERTIBLE.values(), SwitchableBatchNorm)) for module in model.modules()):
        raise ValueError(f"{type(model).__name__} is any-precision already: convert a float network")
    if sample.numel() == 0:
        raise ValueError(f"sample has shape {tuple(sample.shape)}: it must hold at least one element")
    kinds = (*LAYERS, *NORMS, *blocks)
    watched: dict[str, Any] = {
        name: module for name, module in model.named_modules() if isinstance(module, kinds)
    }
    trace = _trace(model, sample, watched)
    report = ConversionReport()
    layers = [name for name in trace.order if isinstance(watched[name], LAYERS)]
    report.stem = layers[0] if layers else None
    for pattern in (*(include or ()), *exclude):
        if not any(_matches(name, [pattern]) for name in layers):
            raise ValueError(f"pattern {pattern!r} of include/exclude matches no layer; layers are {layers}")

    def reason_to_leave(name: str) -> str | None:
        if name == report.stem and not quantize_stem:
            return "first layer"
        if type(watched[name]) not in (*CONVERTIBLE, *plain):
            return f"{type(watched[name]).__name__} is not supported"
        if not _is_bare(watched[name]):
            return f"{type(watched[name]).__name__} with hooks or parameters of its own is not supported"
        if include is not None and not _matches(name, include):
            return "not in include"
        return "in exclude" if _matches(name, exclude) else None

    chosen = []
    for name in layers:
        why = reason_to_leave(name)
        if why is None:
            chosen.append(name)
        else:
            report.left[name] = why
    if not chosen:
        raise ValueError(
            f"no layer of {type(model).__name__} would be converted: {report.left or 'it has none'}"
        )

    def input_quantizer(name: str) -> nn.Module:
        return build_quantizer(
            "activation", activation, precisions=switch.precisions, signed=name in trace.signed
        ).to(sample.device)

    fed_by_block: set[str] = set()
    for name in (name for name in trace.order if isinstance(watched[name], tuple(blocks))):
        block = watched[name]
        consumers = next(children for kind, children in blocks.items() if isinstance(block, kind))
        prefixes = [f"{name}.{consumer}".lstrip(".") for consumer in consumers]
        fed = [layer for layer in chosen if any(layer == p or layer.startswith(p + ".") for p in prefixes)]
        if fed:
            block.add_module("input_quantizer", input_quantizer(name))
            block.input_switch = switch
            block.register_forward_pre_hook(_quantize_block_input)
            fed_by_block.update(fed)
            report.block_inputs.append(name)

    for name in chosen:
        layer = watched[name]
        weight_quantizer = build_quantizer(
            "weight", weight, precisions=switch.precisions, weight=layer.weight.detach()
        ).to(layer.weight.device)
        convert = next(new for kind, new in CONVERTIBLE.items() if isinstance(layer, kind)).from_float
        new = convert(
            layer,
            switch=switch,
            weight_quantizer=weight_quantizer,
            act_quantizer=None if name in fed_by_block or name == report.stem else input_quantizer(name),
        )
        _replace(model, layer, new)
        report.converted.append(name)

    first = trace.order.index(chosen[0])
    for position, name in enumerate(trace.order):
        norm = watched[name]
        if not isinstance(norm, NORMS):
            continue
        if position < first and len(switch.sizes) == 1:
            report.left[name] = "before the first converted layer: the same at every precision"
        else:
            _replace(model, norm, SwitchableBatchNorm(norm, switch=switch, by_size=position < first))
            report.norms.append(name)
    for name, module in watched.items():
        if name not in trace.order and isinstance(module, (*LAYERS, *NORMS)):
            report.left[name] = "did not run on the sample input"
    return report
