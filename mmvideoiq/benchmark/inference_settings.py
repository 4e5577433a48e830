"""What the benchmark of inference measures: the contenders by name, and the settings of a run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any, NamedTuple

from mmvideoiq.quant.quantizers import WEIGHT_QUANTIZERS
from mmvideoiq.video.preprocessing import Preprocessing


class Mix(NamedTuple):
    """A bundle of ours, and the share of frames that each action and then the skip gets.

    Attributes:
        modes: bits, and the part of the frame's side.
    """

    modes: Sequence[tuple[int, Fraction]]
    usage: Sequence[float]

    def actions(self, size: int) -> list[dict[str, int]]:
        """Without the skip, of frames of this size."""
        return [
            dict(bits=bits) if part == 1 else dict(bits=bits, size=int(size * part))
            for bits, part in self.modes
        ]


WHOLE, MIDDLE, HALF = Fraction(1), Fraction(5, 7), Fraction(1, 2)  # of the frame's side: 224, 160, 112
PAPER_USAGE = (0.2, 0.3, 0.2, 0.3)
MIXES = {
    "ours-32-4-2": Mix([(bits, WHOLE) for bits in (32, 4, 2)], PAPER_USAGE),
    "ours-8-4-2": Mix([(bits, WHOLE) for bits in (8, 4, 2)], PAPER_USAGE),
    "ours-8-sizes": Mix([(8, part) for part in (WHOLE, MIDDLE, HALF)], (0.3, 0.0, 0.4, 0.3)),
}
FP32 = ("onnxruntime-fp32", "openvino-fp32")
#: Static INT8 of smaller or fewer frames: part of the side, part of the frames.
STATIC = {
    "openvino-int8": (WHOLE, WHOLE),
    "openvino-int8-middle-size": (MIDDLE, WHOLE),
    "openvino-int8-half-size": (HALF, WHOLE),
    "openvino-int8-half-frames": (WHOLE, HALF),
    "openvino-int8-quarter-frames": (WHOLE, HALF * HALF),
}
PEERS = ("mmaction2-eager", "torch-compile", *FP32, "openvino-auto", *STATIC)
POLICY_SIZE = 84
MOBILENET = dict(
    backbone=dict(type="MobileNetV2", out_indices=(7,)), channels=1280, hidden=512, size=POLICY_SIZE
)
SLIM = dict(type="SlimResNet", base_channels=16, stage_blocks=(1, 1, 1, 1))
#: Policies of ours: the paper's, in float and at 8 bits, and that of configs/_base_/models/integer_policy.py.
POLICIES: dict[str, dict[str, Any]] = {
    "float": MOBILENET,
    "int8": MOBILENET,
    "tiny": dict(backbone=SLIM, channels=128, hidden=128, size=64),
}


@dataclass(frozen=True, kw_only=True)
class InferSettings:
    """What :func:`measure_inference` measures: clips of ``frames`` at ``size``, in ``repeats`` rounds."""

    depth: int = 50
    size: int = 224
    frames: int = 16
    threads: int = 2
    repeats: int = 17
    warmup: int = 3
    engine: str = "openvino"
    weight: str = "nested"
    per_channel: bool = False  # nested and lsq: a weight scale for each output channel, not one for the layer
    float_stem: bool = False  # as in the paper: the frame and the first convolution stay float
    policy: str = "tiny"  # of ours, one of POLICIES
    video: Path | None = None  # from file to label of this one; None makes one of 10 seconds
    sampling: str = "nearby"  # how ours reads it; the others read the exact frames with decord
    tolerance: int = 3  # seconds that a key frame may be away
    only: Sequence[str] = ()  # of the contenders; empty for all

    def __post_init__(self) -> None:
        unknown = sorted(set(self.only) - {*PEERS, *MIXES})
        if unknown:
            raise ValueError(f"only={', '.join(unknown)}: choose among {', '.join([*PEERS, *MIXES])}")
        if self.depth not in (18, 34, 50, 101, 152):
            raise ValueError(f"depth={self.depth} must be one of 18, 34, 50, 101, 152")
        for field, least in dict(frames=1, threads=1, repeats=2, warmup=1).items():
            if getattr(self, field) < least:
                raise ValueError(f"{field}={getattr(self, field)} must be at least {least}")
        if self.weight not in WEIGHT_QUANTIZERS:
            raise ValueError(f"weight={self.weight!r} must be one of {sorted(WEIGHT_QUANTIZERS)}")
        if self.policy not in POLICIES:
            raise ValueError(f"policy={self.policy!r} must be one of {', '.join(POLICIES)}")
        if self.per_channel and self.weight == "dorefa":
            raise ValueError("per_channel is for weight='nested' and 'lsq': dorefa has one scale for a layer")
        if self.size < POLICY_SIZE:
            raise ValueError(f"size={self.size} must be at least {POLICY_SIZE}, the policy's own")
        preprocessing_of(self.size, self.frames)._replace(
            sampling=self.sampling, tolerance_s=self.tolerance
        ).checked()


def preprocessing_of(size: int, frames: int) -> Preprocessing:
    """As usual in testing: the short side 256 / 224 of the crop."""
    return Preprocessing(frames, 256 * size // 224, size, (size, size))
