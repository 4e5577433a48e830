"""Joint training of all modes, that is precisions and frame sizes, of one backbone (arXiv:2108.10394, section 3.2).

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
from mmvideoiq.quant.precision import Mode


class _AnyPrecision(BaseRecognizer):
    """An MMAction2 recognizer that trains every mode in each step; subclasses define what the backbone reads.

    Loss: ``sum_m CE(scores_m, label) + distill(scores_m, target_m)``. The target of every mode is the output of the
    float teacher, if there is one. Otherwise each lower precision learns from the next higher one; where there are
    frame sizes, all others learn from the highest mode.

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
            # otherwise MMAction2's metrics get scores of each clip, and fail
            self.cls_head.average_clips = "prob"
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
        self.fixed_mode: Mode | None = None

    def set_fixed_action(self, bits: Mode | None = None) -> None:
        """Test at ``bits``, or in the mode of that name (``"8@112"``); None is the highest mode."""
        if bits is not None and bits not in self.backbone.modes:
            raise ValueError(f"precision {bits} is not one of the model's {self.backbone.modes}")
        self.fixed_mode = bits

    def check_frames(self, height: int, width: int) -> None:
        """ValueError if frames are smaller than a mode's; the commands call it before the first step."""
        self.backbone.check_frames(height, width)

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
        """MMAction2's feature extraction, in the fixed mode."""
        with self.backbone.switch.at(self.fixed_mode or self.backbone.modes[0]):
            return super().extract_feat(inputs, *args, **kwargs)

    def _forward(self, inputs: Tensor, stage: str = "head", **kwargs: Any) -> Tensor:
        """Class logits (N, K) in the fixed mode."""
        return super()._forward(inputs, stage=stage, **kwargs)

    def scores(self, inputs: Tensor) -> dict[Mode, Tensor]:
        """Class logits in each mode: mode -> (N, K)."""
        raise NotImplementedError

    def loss(self, inputs: Tensor, data_samples: list, **kwargs: Any) -> dict[str, Tensor]:
        """Losses and accuracies of every mode."""
        # at least float32, under autocast too, for MMAction2's accuracies
        scores = {mode: at_least_float32(score) for mode, score in self.scores(inputs).items()}
        results = {}
        for mode, score in scores.items():
            for name, value in self.cls_head.loss_by_feat(score, data_samples).items():
                results[f"{name}_{mode}"] = value
        if self.distill is not None:
            for mode, target in self._targets(inputs, scores).items():
                results[f"loss_kd_{mode}"] = self.distill(scores[mode], target)
        return results

    def _targets(self, inputs: Tensor, scores: dict[Mode, Tensor]) -> dict[Mode, Tensor]:
        """Target logits (N, K) of each mode."""
        if self.teacher is not None:
            with torch.no_grad():
                features, kwargs = self.teacher.extract_feat(inputs)
                target = self.teacher.cls_head(features, **kwargs)
            return dict.fromkeys(scores, target)
        if len(self.backbone.switch.sizes) > 1:
            highest, *others = scores
            return dict.fromkeys(others, scores[highest].detach())
        return {low: scores[high].detach() for high, low in pairwise(scores)}


@MODELS.register_module()
class AnyPrecisionRecognizer(_AnyPrecision, Recognizer2D):
    __doc__ = _AnyPrecision.__doc__
    reads = "frames"

    def scores(self, inputs: Tensor) -> dict[Mode, Tensor]:
        """Class logits of clips (N, T, C, H, W), averaged over their frames: mode -> (N, K)."""
        features = self.backbone.forward_all(inputs.flatten(0, 1))  # mode -> (N*T, D, h, w)
        return {mode: self.cls_head(f, num_segs=inputs.shape[1]) for mode, f in features.items()}


@MODELS.register_module()
class AnyPrecisionRecognizer3D(_AnyPrecision, Recognizer3D):
    """:class:`AnyPrecisionRecognizer` for backbones over clips: one mode for all frames of a clip.

    ``set_fixed_action(bits)`` selects it. Policies and bundles do not support clips.
    """

    reads = "clips"

    def scores(self, inputs: Tensor) -> dict[Mode, Tensor]:
        """Class logits of clips (N, V, C, T, H, W): mode -> (N*V, K)."""
        features = self.backbone.forward_all(inputs.flatten(0, 1))  # mode -> input of MMAction2's head
        return {mode: self.cls_head(f) for mode, f in features.items()}
