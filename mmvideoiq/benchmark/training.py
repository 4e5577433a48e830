"""Measures training and simulated evaluation beside the float network that they are made of.

Ratios are of pairs measured in one round, so that other load on the machine affects both sides. The
processor time, which other programs disturb less, is given beside the clock.
"""

from __future__ import annotations

import ctypes
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from mmaction.registry import MODELS
from mmaction.structures import ActionDataSample
from mmengine.optim import OptimWrapper
from mmengine.registry import init_default_scope
from torch import Tensor, nn
from torch.nn import functional as F

import mmvideoiq.models  # noqa: F401  registers what the configs below name
from mmvideoiq.latency.environment import describe_environment
from mmvideoiq.latency.interleave import Times, interleave, paired, timed
from mmvideoiq.quant.quantizers import WEIGHT_QUANTIZERS

# name -> config of MMAction2's backbone, width of its features
BACKBONES: dict[str, tuple[dict[str, Any], int]] = {
    "resnet18": (dict(type="ResNet", depth=18, pretrained=None), 512),
    "resnet50": (dict(type="ResNet", depth=50, pretrained=None), 2048),
    "mobilenet_v2": (dict(type="MobileNetV2", pretrained=None), 1280),
}
PRECISIONS = (32, 4, 2)
USAGE = {"32": 0.2, "4": 0.3, "2": 0.2, "skip": 0.3}
CLASSES = 200
POLICY_SIZE = 84
SIZES = (7, 5, 3.5)  # sevenths of the frame's side, at 8 bits: 224, 160, 112
LEAST_SIZE = 32  # the backbones' stride
RATIOS = {
    "any_precision_step": "float_step",
    "policy_step": "float_step",
    "sizes_step": "one_size_step",
    "dynamic_eval": "float_eval",
}
EVALUATIONS = 3  # rounds of evaluation per round of training: they are short


@dataclass(frozen=True, kw_only=True)
class TrainSettings:
    """What :func:`measure_training` measures.

    A step takes ``clips`` of ``frames``, evaluation as many of ``eval_frames``, by default the paper's 16;
    ``repeats`` and ``warmup`` count rounds.
    """

    backbone: str = "resnet50"
    weight: str = "dorefa"
    size: int = 224
    frames: int = 8
    eval_frames: int = 16
    clips: int = 1
    threads: int = 2
    repeats: int = 7
    warmup: int = 2

    def __post_init__(self) -> None:
        if self.backbone not in BACKBONES:
            raise ValueError(f"backbone={self.backbone!r} must be one of {sorted(BACKBONES)}")
        if self.weight not in WEIGHT_QUANTIZERS:
            raise ValueError(f"weight={self.weight!r} must be one of {sorted(WEIGHT_QUANTIZERS)}")
        for field in ("frames", "eval_frames", "clips", "threads", "repeats", "warmup"):
            if getattr(self, field) < 1:
                raise ValueError(f"{field}={getattr(self, field)} must be at least 1")
        if self.size < LEAST_SIZE:
            raise ValueError(f"size={self.size} must be at least {LEAST_SIZE}")

    @property
    def policy_size(self) -> int:
        return min(POLICY_SIZE, self.size)

    @property
    def sizes(self) -> tuple[int, ...]:
        """Frame sizes of the step with sizes, high to low."""
        sizes = {max(LEAST_SIZE, round(self.size * sevenths / 7)) for sevenths in SIZES}
        return tuple(sorted(sizes, reverse=True))

    @property
    def ideal_sizes_ratio(self) -> float:
        """Pixels of a frame at all ``sizes``, over those of a frame."""
        return sum((size / self.size) ** 2 for size in self.sizes)


def build_models(settings: TrainSettings) -> dict[str, nn.Module]:
    """Recognizers of one backbone: MMAction2's float one, with a teacher any-precision and VideoIQ, and without one
    any-precision at 8 bits with one frame size and with several.
    """
    init_default_scope("mmaction")
    backbone, width = BACKBONES[settings.backbone]
    head = dict(num_classes=CLASSES, in_channels=width, topk=(1, 5), average_clips="prob")
    float_model = dict(type="Recognizer2D", backbone=backbone, cls_head=dict(type="TSNHead", **head))
    common = dict(
        backbone=dict(
            type="AnyPrecisionBackbone",
            backbone=backbone,
            precisions=PRECISIONS,
            weight=dict(type=settings.weight),
            activation=dict(type="pact"),
        ),
        teacher=float_model,
        distill=dict(type="DistillationLoss"),
    )

    def without_teacher(modes: Sequence[dict[str, int]]) -> dict[str, Any]:
        quantized = dict(common["backbone"], precisions=modes)
        return dict(type="AnyPrecisionRecognizer", backbone=quantized, cls_head=dict(type="TSNHead", **head))

    configs = {
        "float": float_model,
        "one_size": without_teacher([dict(bits=8)]),
        "sizes": without_teacher([dict(bits=8, size=size) for size in settings.sizes]),
        "any_precision": dict(type="AnyPrecisionRecognizer", cls_head=dict(type="TSNHead", **head), **common),
        "policy": dict(
            type="VideoIQRecognizer",
            cls_head=dict(type="FrameAverageHead", **head),
            policy=dict(
                type="PrecisionPolicy",
                input_size=settings.policy_size,
                backbone=dict(type="MobileNetV2", pretrained=None),
                head=dict(type="PolicyHead", in_channels=1280),
            ),
            actions=[*(dict(bits=bits) for bits in PRECISIONS), dict(skip=1)],
            frozen=("backbone",),
            **common,
        ),
    }
    return {name: MODELS.build(cfg) for name, cfg in configs.items()}


def make_train_step(model: nn.Module, clips: Tensor) -> Callable[[], None]:
    """A step of MMAction2's training loop, always on the same clips: forward, losses, backward, optimizer."""
    model.train()
    samples = [ActionDataSample().set_gt_label(i % CLASSES) for i in range(len(clips))]
    learned = [p for p in model.parameters() if p.requires_grad]
    optim = OptimWrapper(torch.optim.SGD(learned, lr=1e-4, momentum=0.9, weight_decay=5e-4))

    def step() -> None:
        loss, _ = model.parse_losses(model(clips, samples, mode="loss"))
        optim.update_params(loss)

    return step


def make_evaluation(model: nn.Module, clips: Tensor) -> Callable[[], None]:
    """Predictions of ``clips`` as in MMAction2's test loop. Puts the model in eval mode."""
    model.eval()

    @torch.no_grad()
    def evaluate() -> None:
        model(clips, [ActionDataSample() for _ in clips], mode="predict")

    return evaluate


class GivenUsage:
    """Forward hook of a policy: the policy runs, then its decisions are replaced by ones of the given usage.

    An untrained policy does not choose a mix of actions. All else is the shipped path, the policy's time
    included. Each call decides whole frames, such that the mean usage over many calls is ``shares``;
    ``counts`` adds them up.
    """

    def __init__(self, shares: Sequence[float], seed: int = 0) -> None:
        self.bounds = torch.tensor(shares, dtype=torch.float64).cumsum(0)
        self.counts = torch.zeros(len(shares), dtype=torch.long)
        self.generator = torch.Generator().manual_seed(seed)

    def __call__(self, policy: nn.Module, args: tuple, output: Any) -> Any:
        clips, frames, actions = output.decisions.shape
        total = clips * frames
        start = torch.rand((), generator=self.generator, dtype=torch.float64)
        points = (torch.arange(total) + start) / total * self.bounds[-1]
        chosen = torch.searchsorted(self.bounds, points, right=True).clamp_(max=actions - 1)
        chosen = chosen[torch.randperm(total, generator=self.generator)]
        self.counts += torch.bincount(chosen, minlength=actions)
        decisions = F.one_hot(chosen, actions).view(clips, frames, actions)
        return output._replace(decisions=decisions.to(output.decisions))


def keep_freed_memory() -> bool:
    """Ask glibc to keep freed memory for this process; False where that cannot be asked.

    Otherwise the kernel zeroes the pages of every large tensor anew, and networks in one process disturb each
    other: the small step finds the pages that the large one left behind, the large one pays for its own.
    """
    trim_threshold, mmap_max = -1, -4  # M_TRIM_THRESHOLD, M_MMAP_MAX of malloc.h
    try:
        mallopt = ctypes.CDLL("libc.so.6").mallopt
    except (OSError, AttributeError):
        return False
    return bool(mallopt(mmap_max, 0)) and bool(mallopt(trim_threshold, -1))


def measure_training(
    settings: TrainSettings, *, begin: Callable[[str, int], Callable[[], None]] | None = None
) -> dict[str, Any]:
    """The any-precision step and the policy step over the float step, a step with sizes over one without, and dynamic
    over float evaluation.

    Args:
        begin: called with a label and a number of runs before they start; gives what is called after each.

    Returns: medians of paired ratios, their spread, and everything they depend on; ready for JSON.
    """
    torch.manual_seed(0)
    torch.set_num_threads(settings.threads)
    begin = begin or (lambda label, total: lambda: None)
    models = build_models(settings)
    usage = GivenUsage(tuple(USAGE.values()))
    shape = (3, settings.size, settings.size)
    clips = torch.randn(settings.clips, settings.frames, *shape)
    eval_clips = torch.randn(settings.clips, settings.eval_frames, *shape)

    def time_all(label: str, runs: Mapping[str, Callable[[], None]], repeats: int) -> dict[str, list[Times]]:
        advance = begin(label, (settings.warmup + repeats) * len(runs))
        timings = {name: partial(timed, run) for name, run in runs.items()}
        return interleave(timings, warmup=settings.warmup, repeats=repeats, advance=advance)

    hook = models["policy"].policy.register_forward_hook(usage)
    evaluations = {
        "float_eval": make_evaluation(models["float"], eval_clips),
        "dynamic_eval": make_evaluation(models["policy"], eval_clips),
    }
    times = time_all("evaluation", evaluations, EVALUATIONS * settings.repeats)
    hook.remove()
    steps = {f"{name}_step": make_train_step(model, clips) for name, model in models.items()}
    times |= time_all("training steps", steps, settings.repeats)
    clock, processor = (
        {
            f"{name}_ratio": paired([t[i] for t in times[name]], [t[i] for t in times[base]])
            for name, base in RATIOS.items()
        }
        for i in (0, 1)
    )
    return dict(
        **{name: ratio["median"] for name, ratio in clock.items()},
        processor_time={name: ratio["median"] for name, ratio in processor.items()},
        spread=clock,
        seconds={name: statistics.median(t.clock for t in values) for name, values in times.items()},
        backbone=settings.backbone,
        input_size=settings.size,
        frames=settings.frames,
        eval_frames=settings.eval_frames,
        clips=settings.clips,
        classes=CLASSES,
        precisions=list(PRECISIONS),
        sizes=list(settings.sizes),
        ideal_sizes_ratio=settings.ideal_sizes_ratio,
        quantizers=dict(weight=settings.weight, activation="pact"),
        teacher="frozen float network of the same backbone, in the any-precision step and the policy step",
        policy=dict(backbone="MobileNetV2", input_size=settings.policy_size),
        usage=dict(
            asked=USAGE,
            run=dict(zip(USAGE, (usage.counts / usage.counts.sum()).tolist(), strict=True)),
            how="the policy runs and is timed; then its decisions are replaced by this usage",
        ),
        repeats=dict(
            steps=settings.repeats, evaluations=EVALUATIONS * settings.repeats, warmup=settings.warmup
        ),
        threads=settings.threads,
        **describe_environment(),
    )
