"""The early-exit baseline: process frames until the score is confident.

Axes: N videos, T frames, M unfinished videos.
"""

from collections import deque
from typing import Any

import torch
from mmaction.models.heads import TSNHead
from mmaction.registry import MODELS
from mmaction.structures import ActionDataSample
from torch import Tensor

from mmvideoiq.models.clip_cost import attach_costs
from mmvideoiq.models.uniform_recognizer import UniformRecognizer
from mmvideoiq.quant.functional import at_least_float32

ORDERS = ("coarse_to_fine", "time")
MEASURES = ("probability", "margin")


def coarse_to_fine(frames: int) -> list[int]:
    """An order of ``frames`` frames that bisects the clip recursively, so that every prefix is spread over it.

    >>> coarse_to_fine(8)
    [4, 2, 6, 1, 3, 5, 7, 0]
    """
    order, gaps = [], deque([(0, frames)])
    while gaps:
        low, high = gaps.popleft()
        if low < high:
            middle = (low + high) // 2
            order.append(middle)
            gaps += (low, middle), (middle + 1, high)
    return order


@MODELS.register_module()
class EarlyExitRecognizer(UniformRecognizer):
    """A float recognizer that stops processing a clip once it is confident.

    Frames are processed one after the other; a clip stops as soon as the softmax of the mean of its scores so far
    exceeds ``threshold``: in its largest value, or in the margin between its two largest. It trains as
    MMAction2's ``Recognizer2D`` and loads its checkpoints. ``policy_actions`` are 0 for processed frames, else 1.

    Args:
        threshold: in [0, 1]; 0 processes one frame, 1 all frames.
        measure: 'probability' or 'margin'.
        order: 'coarse_to_fine' (see :func:`coarse_to_fine`) or 'time'.

    Raises:
        ValueError: an option out of range; a head other than ``TSNHead`` with its average over frames; a backbone
            that mixes the frames of a clip.
    """

    action_list = (dict(bits=32), dict(skip=1))

    def __init__(
        self,
        *,
        threshold: float = 0.9,
        measure: str = "probability",
        order: str = "coarse_to_fine",
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        if measure not in MEASURES:
            raise ValueError(f"measure={measure!r} must be one of {MEASURES}")
        if order not in ORDERS:
            raise ValueError(f"order={order!r} must be one of {ORDERS}")
        if not isinstance(self.cls_head, TSNHead):
            raise ValueError(
                f"cls_head.type={type(self.cls_head).__name__!r} does not average over frames: use TSNHead"
            )
        if getattr(self.backbone, "num_segments", None) is not None:
            raise ValueError(
                f"backbone {type(self.backbone).__name__} mixes the frames of a clip, "
                "so they cannot be processed one by one"
            )
        if self.test_cfg is not None and self.test_cfg.get("fcn_test"):
            raise ValueError("test_cfg.fcn_test needs all frames at once: leave it out")
        self.measure, self.order = measure, order
        self.set_threshold(threshold)

    def set_threshold(self, threshold: float) -> None:
        """Test with another threshold, in [0, 1]."""
        if isinstance(threshold, bool) or not 0 <= threshold <= 1:
            raise ValueError(f"threshold must be in [0, 1], got {threshold}")
        self.threshold = float(threshold)

    def recognize(self, inputs: Tensor) -> tuple[Tensor, Tensor]:
        """Class logits (N, K) of clips (N, T, C, H, W), and which frames were processed, bool (N, T)."""
        clips, frames = inputs.shape[:2]
        sums = inputs.new_zeros(
            clips, self.cls_head.num_classes, dtype=torch.promote_types(inputs.dtype, torch.float32)
        )
        processed = torch.zeros(clips, frames, dtype=torch.bool, device=inputs.device)
        unfinished = torch.arange(clips, device=inputs.device)  # (M,)
        order = coarse_to_fine(frames) if self.order == "coarse_to_fine" else range(frames)
        for count, frame in enumerate(order, 1):
            sums[unfinished] += self._scores(inputs[unfinished, frame])
            processed[unfinished, frame] = True
            unfinished = unfinished[self.confidence(sums[unfinished] / count) <= self.threshold]
            if len(unfinished) == 0:
                break
        return sums / processed.sum(1, keepdim=True), processed

    def confidence(self, logits: Tensor) -> Tensor:
        """Confidence of logits (M, K): (M,) in [0, 1]."""
        best = logits.softmax(-1).topk(min(2, logits.shape[-1]), dim=-1).values
        return best[:, 0] if self.measure == "probability" else best[:, 0] - best[:, 1:].sum(-1)

    def _scores(self, frames: Tensor) -> Tensor:
        """Class logits (M, K) of single frames (M, C, H, W)."""
        features, options = self.extract_feat(frames.unsqueeze(1), test_mode=True)
        return at_least_float32(self.cls_head(features, **options))

    def predict(
        self, inputs: Tensor, data_samples: list[ActionDataSample] | None = None, **kwargs: Any
    ) -> list[ActionDataSample]:
        """Adds pred_score (K,), pred_label, policy_actions (T,) and cost to each sample; inputs (N, T, C, H, W)."""
        if data_samples is None:
            data_samples = [ActionDataSample() for _ in inputs]
        logits, processed = self.recognize(inputs)
        samples = self.cls_head.predict_by_feat(logits, data_samples)
        return attach_costs(samples, (~processed).long(), self.costs(inputs, processed))

    def _forward(self, inputs: Tensor, stage: str = "head", **kwargs: Any) -> Tensor:
        """Class logits (N, K) after the exits; ``stage='backbone'`` as in MMAction2."""
        if stage != "head":
            return super()._forward(inputs, stage=stage, **kwargs)
        return self.recognize(inputs)[0]
