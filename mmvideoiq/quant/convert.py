"""Turn a float network into an any-precision one, in place, keeping its very Parameter objects."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import Any

import torch
from torch import Tensor, nn

from mmvideoiq.quant.layers import AnyPrecisionConv2d, AnyPrecisionLinear, SwitchableBatchNorm2d
from mmvideoiq.quant.precision import PrecisionSwitch
from mmvideoiq.quant.quantizers import build_quantizer

CONVERTIBLE = {nn.Conv2d: AnyPrecisionConv2d, nn.Linear: AnyPrecisionLinear}
# what could hold multiplications and is reported when it stays float
COUNTED = (nn.modules.conv._ConvNd, nn.Linear, nn.modules.batchnorm._BatchNorm, nn.MultiheadAttention)


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
        lines = [
            f"{len(self.converted)} layers and {len(self.norms)} batch norms follow the precision switch; "
            f"{len(self.block_inputs)} block inputs are quantized once"
        ]
        lines += [f"  float: {name} ({why})" for name, why in self.left.items()]
        return "\n".join(lines)


@dataclass
class _Trace:
    """Names in the order of their first call, and which of them saw a negative input."""

    order: list[str]
    signed: set[str]


def _trace(model: nn.Module, sample: Tensor, watched: Mapping[str, nn.Module]) -> _Trace:
    """Run ``model(sample)`` once in eval mode without gradient; nothing of the model changes."""
    trace = _Trace([], set())

    def watch(name: str) -> Any:
        def look(_module: nn.Module, args: tuple[Tensor, ...]) -> None:
            if name not in trace.order:
                trace.order.append(name)
            if bool((args[0] < 0).any()):
                trace.signed.add(name)

        return look

    modes = {module: module.training for module in model.modules()}
    handles = [module.register_forward_pre_hook(watch(name)) for name, module in watched.items()]
    try:
        for module in modes:
            module.training = False
        with torch.no_grad():
            model(sample)
    finally:
        for module, mode in modes.items():
            module.training = mode
        for handle in handles:
            handle.remove()
    return trace


def _quantize_block_input(block: nn.Module, args: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    """Forward pre-hook of a residual block: its first argument at the active precision."""
    return (block.input_quantizer(args[0], block.input_switch.bits), *args[1:])


def _matches(name: str, patterns: Sequence[str]) -> bool:
    return any(fnmatchcase(name, pattern) for pattern in patterns)


def _replace(model: nn.Module, name: str, new: nn.Module) -> None:
    parent, _, leaf = name.rpartition(".")
    setattr(model.get_submodule(parent), leaf, new)


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

    One pass of ``sample`` tells the order of the layers, which inputs take negative values (these get two-sided
    clips) and which layer comes first (the stem).

    Args:
        model: float network.
        switch: the owner of the active precision.
        sample: an input that ``model`` accepts.
        weight, activation: quantizer configs, e.g. ``dict(type='nested')``, ``dict(type='pact', init_clip=2.0)``.
        blocks: class of residual block -> names of its children that read the block's input. That input is
            quantized once, for them and for the shortcut.
        include: name patterns (``*`` matches anything) of layers to convert; None means all.
        exclude: name patterns of layers to leave float.
        plain: subclasses of ``nn.Conv2d`` and ``nn.Linear`` that compute as those do; others are left float.
        quantize_stem: convert the first layer too; its input is not quantized here (the caller does that).

    Returns: the report.

    Raises:
        ValueError: nothing was converted, a pattern matches nothing, an unknown quantizer.
    """
    names = {module: name for name, module in model.named_modules()}
    watched = {name: module for module, name in names.items() if isinstance(module, (*COUNTED, *blocks))}
    trace = _trace(model, sample, watched)
    report = ConversionReport()
    layers = [name for name in trace.order if isinstance(watched[name], (nn.modules.conv._ConvNd, nn.Linear))]
    report.stem = layers[0] if layers else None
    for pattern in (*(include or ()), *exclude):
        if not any(_matches(name, [pattern]) for name in watched):
            raise ValueError(f"pattern {pattern!r} of include/exclude matches no layer; layers are {layers}")

    def reason_to_leave(name: str) -> str | None:
        if name == report.stem and not quantize_stem:
            return "first layer"
        if type(watched[name]) not in (*CONVERTIBLE, *plain):
            return f"{type(watched[name]).__name__} is not supported"
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
        raise ValueError(f"no layer of {type(model).__name__} would be converted: {report.left or 'it has none'}")

    fed_by_block: set[str] = set()
    for name in (name for name in trace.order if isinstance(watched[name], tuple(blocks))):
        block = watched[name]
        readers = next(children for kind, children in blocks.items() if isinstance(block, kind))
        prefixes = [f"{name}.{reader}" for reader in readers]
        fed = [layer for layer in chosen if any(layer == p or layer.startswith(p + ".") for p in prefixes)]
        if fed:
            quantizer = build_quantizer(
                "activation", activation, precisions=switch.precisions, signed=name in trace.signed
            )
            block.add_module("input_quantizer", quantizer)
            block.input_switch = switch  # type: ignore[assignment]
            block.register_forward_pre_hook(_quantize_block_input)
            fed_by_block.update(fed)
            report.block_inputs.append(name)

    for name in chosen:
        layer = watched[name]
        act_quantizer = None
        if name not in fed_by_block and name != report.stem:
            act_quantizer = build_quantizer(
                "activation", activation, precisions=switch.precisions, signed=name in trace.signed
            )
        weight_quantizer = build_quantizer(
            "weight", weight, precisions=switch.precisions, weight=layer.weight.detach()
        )
        convert = next(new for kind, new in CONVERTIBLE.items() if isinstance(layer, kind)).from_float
        _replace(
            model,
            name,
            convert(layer, switch=switch, weight_quantizer=weight_quantizer, act_quantizer=act_quantizer),
        )
        report.converted.append(name)

    first = trace.order.index(chosen[0])
    for position, name in enumerate(trace.order):
        norm = watched[name]
        if not isinstance(norm, nn.modules.batchnorm._BatchNorm):
            continue
        if position < first:
            report.left[name] = "before the first converted layer: the same at every precision"
        else:
            _replace(model, name, SwitchableBatchNorm2d(norm, switch=switch))
            report.norms.append(name)
    for name, module in watched.items():
        if name not in trace.order and isinstance(module, COUNTED):
            report.left[name] = "did not run on the sample input"
    return report
