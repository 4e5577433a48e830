"""Quantizers as modules, with their learned parameters.

At 32 bits values pass unchanged, so that the converted network equals the float one there; with ``quantize_32=True``,
as in the authors' release, 32 bits is a grid too.
"""

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from mmvideoiq.quant import functional as F
from mmvideoiq.quant.precision import FLOAT_BITS, check_precisions, mode_order


def _listed(bits: Iterable[str]) -> str:
    return f"({', '.join(sorted(bits, key=mode_order))})"


def check_same_precisions(state_dict: dict[str, Any], prefix: str, name: str, own: Iterable[str]) -> None:
    """ValueError if ``state_dict`` has ``{prefix}{name}.<bits>`` for other precisions than ``own``."""
    start = f"{prefix}{name}."
    found = {key[len(start) :].split(".")[0] for key in state_dict if key.startswith(start)}
    if found and found != set(own):
        raise ValueError(
            f"the checkpoint holds {start}* for precisions {_listed(found)}, the model for {_listed(own)}: "
            "use the precisions it was trained with"
        )


class WeightQuantizer(nn.Module):
    """Maps a weight to its value at ``bits``: ``forward(weight, bits)``; ``to_codes`` returns the codes.

    ``forward`` is ``prepare``, then ``read``; for several precisions call ``prepare`` once.
    """

    def __init__(self, *, precisions: Sequence[int], weight: Tensor) -> None:
        super().__init__()
        self.precisions = check_precisions(precisions)

    def prepare(self, weight: Tensor) -> Any:
        """The part that all precisions have in common, with its gradient."""
        raise NotImplementedError

    def read(self, weight: Tensor, prepared: Any, bits: int) -> Tensor:
        """The value at ``bits``, from the result of ``prepare`` for the same weight."""
        raise NotImplementedError

    def forward(self, weight: Tensor, bits: int) -> Tensor:
        return self.read(weight, self.prepare(weight), bits)

    def to_codes(self, weight: Tensor, bits: int) -> Tensor:
        """Integer grid values in [0, 2**bits), shaped like ``weight``."""
        raise NotImplementedError

    def is_float(self, bits: int) -> bool:
        """Whether weights pass unchanged at ``bits``."""
        return bits == FLOAT_BITS


class Dorefa(WeightQuantizer):
    """The paper's weights, cut from the highest precision (:func:`.functional.dorefa_weight`).

    ``quantize_32`` follows the release: a grid at 32 bits too, of 2**32 steps in any dtype. In ``forward`` the
    largest weight then has the code 2**32, one step past the grid at lower precisions; ``to_codes`` stays in range.
    """

    def __init__(self, *, precisions: Sequence[int], weight: Tensor, quantize_32: bool = False) -> None:
        super().__init__(precisions=precisions, weight=weight)
        self.quantize_32 = quantize_32

    def is_float(self, bits: int) -> bool:
        return super().is_float(bits) and not self.quantize_32

    def to_codes(self, weight: Tensor, bits: int) -> Tensor:
        return F.dorefa_codes(weight, bits, self.precisions[0])

    def prepare(self, weight: Tensor) -> F.DorefaParent:
        return F.dorefa_parent(weight, self.precisions[0], overflow=self.quantize_32)

    def read(self, weight: Tensor, prepared: F.DorefaParent, bits: int) -> Tensor:
        return F.dorefa_read(prepared, bits, self.precisions[0]).to(weight.dtype)


ZERO_BITS = 8  # int8 holds the odd multiples ``2 code + 1 - 2**bits`` of 7 bits, not those of 8


class Nested(WeightQuantizer):
    """The nested grid, ``scale = max|w|`` of each output channel (a constant to the gradient).

    Args:
        per_channel: False takes one scale for the layer: coarser, but on CPUs without VNNI 8-bit layers then run as
            one convolution in place of two (:mod:`mmvideoiq.deploy.engines.channel_permutation`).
        exact_zero: where 8 bits are the highest integer precision, zero is a level of theirs, and they need no
            correction in engines. Of any other highest precision, and with False, the levels are the middles of
            cells, as in networks that were trained before this option came.
    """

    _version = 2  # of the state; in 1 no level was zero

    def __init__(
        self,
        *,
        precisions: Sequence[int],
        weight: Tensor,
        per_channel: bool = True,
        exact_zero: bool = True,
    ) -> None:
        super().__init__(precisions=precisions, weight=weight)
        self.per_channel = per_channel
        highest = max((bits for bits in self.precisions if not self.is_float(bits)), default=FLOAT_BITS)
        self.zero_bits = ZERO_BITS if exact_zero and highest == ZERO_BITS else None

    def _load_from_state_dict(
        self, state_dict: dict[str, Any], prefix: str, local_metadata: dict[str, Any], *args: Any
    ) -> None:
        if self.zero_bits is not None and local_metadata.get("version") == 1:
            raise ValueError(
                f"the checkpoint's {prefix.removesuffix('.')} was trained on a grid without zero: "
                "set exact_zero=False in weight=dict(...) to read it as it was trained"
            )
        super()._load_from_state_dict(state_dict, prefix, local_metadata, *args)

    def scale(self, weight: Tensor) -> Tensor:
        """Half the width of the grid, positive: shape (C_out, 1, ...), of a layer (1, 1, ...)."""
        dims = range(1 if self.per_channel else 0, weight.dim())
        with torch.no_grad():
            return weight.abs().amax(dim=tuple(dims), keepdim=True).clamp_min(1e-8)

    def to_codes(self, weight: Tensor, bits: int) -> Tensor:
        with torch.no_grad():
            return F.nested_codes(weight, self.scale(weight), bits, zero_bits=self.zero_bits)

    def prepare(self, weight: Tensor) -> Tensor:
        return self.scale(weight)

    def read(self, weight: Tensor, prepared: Tensor, bits: int) -> Tensor:
        return F.nested_weight(weight, prepared, bits, zero_bits=self.zero_bits)


class Lsq(Nested):
    """Learned step size (arXiv:1902.08153) on the nested grid: ``scale = |ratio| * max|w|`` of each channel.

    ``ratio`` starts at 1, so float weights may be loaded at any time. One scale serves all precisions, which
    keeps their codes nested. The gradient of ``ratio`` is multiplied by
    ``1 / sqrt(weights that share it * 2**(bits-1))``.

    Args:
        per_channel, exact_zero: as of :class:`Nested`.
    """

    def __init__(
        self,
        *,
        precisions: Sequence[int],
        weight: Tensor,
        per_channel: bool = True,
        exact_zero: bool = True,
    ) -> None:
        super().__init__(precisions=precisions, weight=weight, per_channel=per_channel, exact_zero=exact_zero)
        self.ratio = nn.Parameter(torch.ones_like(super().scale(weight)))

    def scale(self, weight: Tensor) -> Tensor:
        return self.ratio.abs().clamp_min(1e-3) * super().scale(weight)

    def read(self, weight: Tensor, prepared: Tensor, bits: int) -> Tensor:
        damping = (weight.numel() / self.ratio.numel() * 2.0 ** (bits - 1)) ** -0.5
        return super().read(weight, F.scale_gradient(prepared, damping), bits)


class Pact(nn.Module):
    """Activations: clip and round (:func:`~mmvideoiq.quant.functional.pact`), one learned clip per precision.

    Args:
        precisions: high to low.
        signed: two-sided range, for inputs that take negative values.
        init_clip: first value of every clip, > 0; :func:`~mmvideoiq.quant.calibrate_clips_` fits it to data.
        quantize_32: also clip and round at 32 bits, as the release does.
    """

    def __init__(
        self,
        *,
        precisions: Sequence[int],
        signed: bool = False,
        init_clip: float = 2.0,
        quantize_32: bool = False,
    ) -> None:
        super().__init__()
        if not 0 < init_clip < float("inf"):
            raise ValueError(f"init_clip={init_clip} of the pact quantizer must be a positive number")
        if signed and 1 in precisions:
            raise ValueError(
                f"precisions={tuple(precisions)}: 1 bit cannot hold an activation that takes both signs; "
                "leave 1 out, or leave the layer float with exclude"
            )
        self.signed = signed
        self.clip = nn.ParameterDict(
            {
                str(bits): nn.Parameter(torch.full((1,), float(init_clip)))
                for bits in check_precisions(precisions)
                if bits != FLOAT_BITS or quantize_32
            }
        )

    def forward(self, x: Tensor, bits: int) -> Tensor:
        if str(bits) in self.clip:
            return F.pact(x, self.clip[str(bits)], bits, self.signed)
        if bits == FLOAT_BITS:
            return x
        raise ValueError(f"no clip for {bits} bits; there are clips for {_listed(self.clip)}")

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *args: Any) -> None:
        check_same_precisions(state_dict, prefix, "clip", self.clip)
        super()._load_from_state_dict(state_dict, prefix, *args)

    def extra_repr(self) -> str:
        return f"clips for {_listed(self.clip)}, signed={self.signed}"


WEIGHT_QUANTIZERS: dict[str, Callable[..., nn.Module]] = {"dorefa": Dorefa, "nested": Nested, "lsq": Lsq}
ACTIVATION_QUANTIZERS: dict[str, Callable[..., nn.Module]] = {"pact": Pact}


def build_quantizer(field: str, cfg: dict[str, Any], **given: Any) -> nn.Module:
    """Build the quantizer that a config names: ``dict(type='nested')``.

    Args:
        field: ``weight`` or ``activation``; selects the table of names and appears in messages.
        cfg: ``type`` and the quantizer's own options.
        given: arguments from the converted layer (precisions, weight, signed).

    Raises:
        ValueError: unknown name or option; the message lists what is allowed.
    """
    table = {"weight": WEIGHT_QUANTIZERS, "activation": ACTIVATION_QUANTIZERS}[field]
    options = dict(cfg)
    name = options.pop("type", None)
    if name not in table:
        raise ValueError(f"{field}=dict(type={name!r}): unknown quantizer; choose one of {sorted(table)}")
    try:
        return table[name](**given, **options)
    except TypeError as error:
        raise ValueError(f"{field}={dict(cfg)}: {error}") from error
