"""Fit clips and batch norm statistics to data before training: the lower precisions then start close to the highest."""

from functools import partial
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from mmvideoiq.quant.convert import evaluating
from mmvideoiq.quant.functional import at_least_float32, pact
from mmvideoiq.quant.layers import AnyPrecisionLayer, SwitchableBatchNorm
from mmvideoiq.quant.precision import PrecisionSwitch
from mmvideoiq.quant.quantizers import Pact

SAMPLE = 65536  # values of a layer that are used
CANDIDATES = 32  # clips tried, as fractions of the largest magnitude


def fit_clip(values: Tensor, bits: int, signed: bool) -> Tensor:
    """The clip of least mean squared rounding error on ``values``: one of 1/32 .. 32/32 of their maximum.

    Returns: shape (1,), positive.
    """
    top = values.abs().max().clamp_min(1e-3)
    clips = [top.reshape(1) * (i / CANDIDATES) for i in range(1, CANDIDATES + 1)]
    errors = torch.stack([(pact(values, clip, bits, signed) - values).square().mean() for clip in clips])
    return clips[int(errors.argmin())]


@torch.no_grad()
def calibrate_clips_(model: nn.Module, *inputs: Tensor) -> int:
    """Run ``model(*inputs)`` in float; :func:`fit_clip` each clip to the inputs of its layer.

    Returns: how many quantizers were set.

    Raises:
        ValueError: a layer got no input, or values that are not finite.
    """
    seen: dict[Pact, Tensor] = {}

    def look(quantizer: Pact, args: tuple[Tensor, int]) -> None:
        flat = at_least_float32(args[0].detach().flatten())
        seen[quantizer] = flat[:: max(1, flat.numel() // SAMPLE)].clone()

    names = {module: name for name, module in model.named_modules() if isinstance(module, Pact)}
    handles = [quantizer.register_forward_pre_hook(look) for quantizer in names]
    handles += [
        quantizer.register_forward_hook(lambda _module, args, _output: args[0]) for quantizer in names
    ]
    layers = [module for module in model.modules() if isinstance(module, AnyPrecisionLayer)]
    for layer in layers:
        layer.quantized_weight = partial(getattr, layer, "weight")  # type: ignore[method-assign]
    try:
        with evaluating(model):
            model(*inputs)
    finally:
        for layer in layers:
            del layer.quantized_weight
        for handle in handles:
            handle.remove()
    for quantizer, values in seen.items():
        if values.numel() == 0 or not bool(values.isfinite().all()):
            raise ValueError(
                f"cannot fit the clips of {names[quantizer]}: it saw {values.numel()} sampled values, "
                f"{int((~values.isfinite()).sum())} of them not finite"
            )
    for quantizer, values in seen.items():
        for bits, clip in quantizer.clip.items():
            clip.copy_(fit_clip(values, int(bits), quantizer.signed))
    return len(seen)


@torch.no_grad()
def calibrate_norms_(model: nn.Module, switch: PrecisionSwitch, *inputs: Tensor) -> int:
    """Correct the batch norm statistics of each lower mode for its effect on their input.

    With input statistics ``m, v`` measured in the highest mode and ``m_b, v_b`` in another, its running ones
    become ``mean_b = mean + m_b - m`` and ``var_b = var * v_b / v``. Layers are corrected in the order in which
    they run, each on the output of the corrected ones before it. Call it after :func:`calibrate_clips_`.

    Returns: how many batch norms were set, all modes counted.
    """
    norms = [
        module
        for module in model.modules()
        if isinstance(module, SwitchableBatchNorm)
        and cast(_BatchNorm, module.of(switch.mode)).track_running_stats
    ]
    reference: dict[nn.Module, tuple[Tensor, Tensor]] = {}
    highest, *lower = switch.modes

    def moments(x: Tensor) -> tuple[Tensor, Tensor]:
        var, mean = torch.var_mean(at_least_float32(x), dim=(0, *range(2, x.dim())), correction=0)
        return mean, var

    def look(norm: SwitchableBatchNorm, args: tuple[Tensor]) -> None:
        reference[norm] = moments(args[0])

    def correct(norm: SwitchableBatchNorm, args: tuple[Tensor]) -> None:
        best, own = (cast(_BatchNorm, norm.of(mode)) for mode in (highest, switch.mode))
        if own is best:
            return
        assert best.running_mean is not None and best.running_var is not None
        assert own.running_mean is not None and own.running_var is not None
        mean, var = moments(args[0])
        best_mean, best_var = reference[norm]
        own.running_mean.copy_(best.running_mean + mean - best_mean)
        own.running_var.copy_(best.running_var * ((var + own.eps) / (best_var + own.eps)))

    for mode, hook in [(highest, look), *((mode, correct) for mode in lower)]:
        handles = [norm.register_forward_pre_hook(hook) for norm in norms]
        try:
            with switch.at(mode), evaluating(model):
                model(*inputs)
        finally:
            for handle in handles:
                handle.remove()
    return len(norms) * len(lower)
