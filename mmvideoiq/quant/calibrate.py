"""Fit activation clips to data before training: fewer steps are lost than from one guess for every layer."""

import torch
from torch import Tensor, nn

from mmvideoiq.quant.convert import evaluating
from mmvideoiq.quant.functional import pact
from mmvideoiq.quant.quantizers import Pact

SAMPLE = 65536  # values of a layer that are looked at
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
    """Run ``model(*inputs)`` at its active precision; :func:`fit_clip` each clip to what its layer saw.

    Returns: how many quantizers were set. Use the highest precision, so that what is seen is not yet rounded.

    Raises:
        ValueError: a layer saw nothing, or values that are not finite.
    """
    seen: dict[Pact, Tensor] = {}

    def look(quantizer: Pact, args: tuple[Tensor, int]) -> None:
        flat = args[0].detach().flatten().float()
        seen[quantizer] = flat[:: max(1, flat.numel() // SAMPLE)].clone()

    names = {module: name for name, module in model.named_modules() if isinstance(module, Pact)}
    handles = [quantizer.register_forward_pre_hook(look) for quantizer in names]
    try:
        with evaluating(model):
            model(*inputs)
    finally:
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
