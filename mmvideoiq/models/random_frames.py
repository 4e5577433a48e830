"""Training on random subsets of a clip's frames: a classifier then knows averages of few frames, as a policy leaves.

Axes: N videos, T frames, C H W.
"""

from typing import Any

import torch
from mmaction.models.data_preprocessors import ActionDataPreprocessor
from mmaction.registry import MODELS


@MODELS.register_module()
class RandomFramesPreprocessor(ActionDataPreprocessor):
    """MMAction2's preprocessor that in training keeps random frames of each clip (N, T, C, H, W), in their order.

    Their number is drawn for the whole batch, uniformly in [``min_frames``, T]; the other frames are not computed.
    In testing all frames stay.

    Args:
        min_frames: >= 1.
        options: of ``ActionDataPreprocessor``, with ``format_shape="NCHW"``.

    Raises:
        ValueError: ``min_frames`` is below 1 or, in training, above T; or another ``format_shape``.
    """

    def __init__(self, *, min_frames: int = 1, **options: Any) -> None:
        super().__init__(**options)
        if min_frames < 1:
            raise ValueError(f"min_frames={min_frames} must be at least 1")
        if self.format_shape != "NCHW":
            raise ValueError(
                f"format_shape={self.format_shape!r}: random frames need clips of frames, 'NCHW'"
            )
        self.min_frames = min_frames

    def forward(self, data: Any, training: bool = False) -> Any:
        data = super().forward(data, training)
        if not training:
            return data
        clips = data["inputs"]  # (N, T, C, H, W)
        frames = clips.shape[1]
        if self.min_frames > frames:
            raise ValueError(f"min_frames={self.min_frames} is more than the {frames} frames of a clip")
        count = int(torch.randint(self.min_frames, frames + 1, ()))
        kept = torch.rand(clips.shape[:2]).argsort(1)[:, :count].sort(1).values  # (N, count)
        rows = torch.arange(len(clips)).unsqueeze(1)
        return {**data, "inputs": clips[rows, kept.to(clips.device)]}
