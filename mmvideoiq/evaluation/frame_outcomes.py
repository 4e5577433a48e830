"""Which frames are right by themselves in which mode: what an oracle chooses from, and waste and regret are made of.

Axes: N videos, T frames, P processed actions (those that are not skips), D features.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor


@torch.no_grad()
def right_alone(model: Any, batches: Iterable[Any]) -> Tensor | None:
    """Whether each frame alone, in each mode, gets its clip's label.

    Args:
        model: a :class:`~mmvideoiq.models.VideoIQRecognizer` in eval mode.
        batches: a data loader's, of MMAction2.

    Returns: bool (V, T, P); None where a clip is tested in several views, or has several labels or none.
    """
    rows = []
    for batch in batches:
        data = model.data_preprocessor(batch, False)
        inputs = data["inputs"]  # (N, T, C, H, W)
        labels = [sample.get("gt_label") for sample in data["data_samples"]]
        views = inputs.shape[1] // (model.num_frames or inputs.shape[1])
        if views > 1 or any(label is None or label.numel() > 1 for label in labels):
            return None
        features = model.features_of_every_action(inputs)  # (N, T, P, D)
        alone = features.flatten(0, 2).unsqueeze(1)  # (N*T*P, 1, D)
        logits = model.cls_head(alone, alone.new_ones(alone.shape[:2]))
        wanted = torch.cat([label.flatten() for label in labels]).to(logits.device)
        rows.append((logits.argmax(-1).view(features.shape[:3]) == wanted[:, None, None]).cpu())
    return torch.cat(rows)
