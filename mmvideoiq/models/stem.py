"""The float start of a network, computed once for all precisions, and the rest of it."""

import copy
from collections.abc import Callable, Collection, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from mmvideoiq.quant.convert import evaluating


def find_stem(
    net: nn.Module, forward: Callable[[Tensor], Any], sample: Tensor, converted: Collection[str]
) -> tuple[str, ...]:
    """Names of the float children with which a network starts, each reading the output of the one before it.

    The chain ends at a value that the network changes in place: the change would be repeated for every precision.

    Args:
        forward: runs ``net`` on ``sample``.
        converted: names of the layers that follow the precision.
    """
    started: list[int] = []
    calls: list[
        tuple[str, Any, int, Any, int]
    ] = []  # child, arguments, version before, output, version after

    def before(_module: nn.Module, args: tuple[Any, ...]) -> None:
        started.append(_version(args[0]) if args else 0)

    def after(name: str) -> Callable[..., None]:
        return lambda _, args, out: calls.append((name, args, started.pop(), out, _version(out)))

    handles = []
    for name, child in net.named_children():
        handles.append(child.register_forward_pre_hook(before))
        handles.append(child.register_forward_hook(after(name)))
    try:
        # tensors made in inference mode have no version
        with evaluating(net), torch.inference_mode(False), torch.no_grad():
            sample = sample.clone()
            forward(sample)
    finally:
        for handle in handles:
            handle.remove()
    chain: list[tuple[str, Any, int]] = []
    called = [name for name, *_ in calls]
    value, version = sample, _version(sample)
    for name, args, seen, out, then in calls:
        quantized = any(layer == name or layer.startswith(name + ".") for layer in converted)
        reads_value = len(args) == 1 and args[0] is value and seen == version
        if quantized or not reads_value or called.count(name) > 1:
            break
        chain.append((name, out, then))
        value, version = out, then
    while chain and _version(chain[-1][1]) != chain[-1][2]:
        chain.pop()
    return tuple(name for name, *_ in chain)


def after_stem(net: nn.Module, stem: Sequence[str], frames: Tensor) -> nn.Module:
    """``net`` with its ``stem`` computed for ``frames``: a view that shares all modules after it.

    ``after_stem(net, stem, frames)(frames)`` equals ``net(frames)``, gradients included, as often as it is called.
    """
    output = frames
    for name in stem:
        output = getattr(net, name)(output)
    rest = copy.copy(net)
    rest._modules = {**net._modules, **dict.fromkeys(stem, _Computed(output))}
    return rest


def _version(value: Any) -> int:
    """How often a tensor was changed in place."""
    return value._version if isinstance(value, Tensor) else 0


class _Computed(nn.Module):
    """Replaces modules whose output is known."""

    def __init__(self, output: Tensor) -> None:
        super().__init__()
        self.output = output

    def forward(self, _: Tensor) -> Tensor:
        return self.output
