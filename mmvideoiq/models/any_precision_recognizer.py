"""Joint training of all precisions of one backbone (arXiv:2108.10394, section 3.2).

Axes: N videos, T frames, V clips of a video, C H W, D features, K classes.
"""

from itertools import pairwise
from typing import Any

import torch
from mmaction.models.recognizers import BaseRecognizer, Recognizer2D, Recognizer3D
from mmaction.registry import MODELS
from torch import Tensor

from mmvideoiq.models.any_precision_backbone import require_any_precision
from mmvideoiq.models.frozen import build_teacher, freeze_, load_teacher_
from mmvideoiq.quant.functional import at_least_float32


class _AnyPrecision(BaseRecognizer):
    """An MMAction2 recognizer that trains every precision in each step; subclasses define what the backbone reads.

    Loss: ``sum_b CE(scores_b, label) + distill(scores_b, target_b)``. The target of every precision is the output of
    the float teacher, if there is one; otherwise each lower precision learns from the next higher one.

    Args:
        backbone: config of an ``AnyPrecisionBackbone``.
        cls_head: config of a head of MMAction2; ``average_clips`` defaults to "prob".
        distill: config of the distillation loss; None trains on labels alone.
        teacher: config of a float recognizer with the key ``checkpoint``.
        data_preprocessor, train_cfg, test_cfg: as in MMAction2.

    Raises:
        ValueError: a backbone that is not any-precision or reads something else, or a teacher without ``distill``.
    """

    reads: str

    def __init__(
        self,
        *,
        backbone: dict,
        cls_head: dict,
        distill: dict | None = dict(type="DistillationLoss"),
        teacher: dict | None = None,
        data_preprocessor: dict | None = None,
        train_cfg: dict | None = None,
        test_cfg: dict | None = None,
    ) -> None:
        super().__init__(
            backbone=backbone,
            cls_head=cls_head,
            data_preprocessor=data_preprocessor,
            train_cfg=train_cfg,
            test_cfg=test_cfg,
        )
        if "average_clips" not in cls_head and getattr(self.cls_head, "average_clips", "") is None:
            self.cls_head.average_clips = (
                "prob"  # otherwise MMAction2's metrics get scores of each clip, and fail
            )
        require_any_precision(self.backbone, backbone)
        if self.backbone.reads != self.reads:
            other = {"frames": "AnyPrecisionRecognizer", "clips": "AnyPrecisionRecognizer3D"}[
                self.backbone.reads
            ]
            raise ValueError(
                f"backbone {type(self.backbone.net).__name__} reads {self.backbone.reads}, "
                f"{type(self).__name__} passes {self.reads}: use {other}"
            )
        if teacher is not None and distill is None:
            raise ValueError(
                "a teacher is given but distill=None: name a distillation loss or leave the teacher out"
            )
        self.distill = None if distill is None else MODELS.build(distill)
        self.teacher = None if teacher is None else build_teacher(teacher)
        self.fixed_bits: int | None = None

    def set_fixed_action(self, bits: int | None = None) -> None:
        """Test at ``bits``; None is the highest precision."""
        if bits is not None and bits not in self.backbone.precisions:
            raise ValueError(f"precision {bits} is not one of the model's {self.backbone.precisions}")
        self.fixed_bits = bits

    def init_weights(self) -> None:
        super().init_weights()
        if self.teacher is not None:
            load_teacher_(self.teacher)

    def train(self, mode: bool = True) -> "_AnyPrecision":
        super().train(mode)
        if self.teacher is not None:
            freeze_(self.teacher)
        return self

    def extract_feat(self, inputs: Tensor, *args: Any, **kwargs: Any) -> tuple:
        """MMAction2's feature extraction, at the fixed precision."""
        with self.backbone.switch.at(self.fixed_bits or self.backbone.precisions[0]):
            return super().extract_feat(inputs, *args, **kwargs)

    def _forward(self, inputs: Tensor, stage: str = "head", **kwargs: Any) -> Tensor:
        """Class logits (N, K) at the fixed precision."""
        return super()._forward(inputs, stage=stage, **kwargs)

    def scores(self, inputs: Tensor) -> dict[int, Tensor]:
        """Class logits at each precision: bits -> (N, K)."""
        raise NotImplementedError

    def loss(self, inputs: Tensor, data_samples: list, **kwargs: Any) -> dict[str, Tensor]:
        """Losses and accuracies of every precision."""
        # at least float32, under autocast too, for MMAction2's accuracies
        scores = {bits: at_least_float32(score) for bits, score in self.scores(inputs).items()}
        results = {}
        for bits, score in scores.items():
            for name, value in self.cls_head.loss_by_feat(score, data_samples).items():
                results[f"{name}_{bits}"] = value
        if self.distill is not None:
            for bits, target in self._targets(inputs, scores).items():
                results[f"loss_kd_{bits}"] = self.distill(scores[bits], target)
        return results

    def _targets(self, inputs: Tensor, scores: dict[int, Tensor]) -> dict[int, Tensor]:
        """Target logits (N, K) of each precision."""
        if self.teacher is None:
            return {low: scores[high].detach() for high, low in pairwise(scores)}
        with torch.no_grad():
            features, kwargs = self.teacher.extract_feat(inputs)
            target = self.teacher.cls_head(features, **kwargs)
        return dict.fromkeys(scores, target)


@MODELS.register_module()
class AnyPrecisionRecognizer(_AnyPrecision, Recognizer2D):
    __doc__ = _AnyPrecision.__doc__
    reads = "frames"

    def scores(self, inputs: Tensor) -> dict[int, Tensor]:
        """Class logits of clips (N, T, C, H, W), averaged over their frames: bits -> (N, K)."""
        features = self.backbone.forward_all(inputs.flatten(0, 1))  # bits -> (N*T, D, h, w)
        return {bits: self.cls_head(f, num_segs=inputs.shape[1]) for bits, f in features.items()}


@MODELS.register_module()
class AnyPrecisionRecognizer3D(_AnyPrecision, Recognizer3D):
    """:class:`AnyPrecisionRecognizer` for backbones over clips: one precision for all frames of a clip.

    ``set_fixed_action(bits)`` selects it. Policies and bundles do not support clips.
    """

    reads = "clips"

    def scores(self, inputs: Tensor) -> dict[int, Tensor]:
        """Class logits of clips (N, V, C, T, H, W): bits -> (N*V, K)."""
        features = self.backbone.forward_all(inputs.flatten(0, 1))  # bits -> input of MMAction2's head
        return {bits: self.cls_head(f) for bits, f in features.items()}
