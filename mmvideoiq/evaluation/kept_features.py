"""One network tested again and again: the features of every frame in every mode are computed once.

Axes: N videos, T frames, P processed actions (those that are not skips), D features.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from mmvideoiq.models.feature_cache import FeatureCache

MAX_BYTES = 2**31
"""Of features of the test list; of a longer one nothing is kept."""


class KeptFeatures:
    """Lets :class:`~mmvideoiq.models.VideoIQRecognizer` look its features up, where all its clips' fit in memory.

    A frame's features depend on the frame and the mode alone, so what is looked up is what would be computed, up to
    the rounding of another grouping. The recognizer's costs are counted as before.

    Args:
        frames: of the whole test list. The val list's are kept as well, as far as there is as much room again.
    """

    def __init__(self, model: Any, *, frames: int) -> None:
        self.model = model
        size = frames * len(model.processed) * model.cls_head.in_channels * 4
        self.fits = size <= MAX_BYTES
        self.cache, self.source = FeatureCache(2 * MAX_BYTES), ""
        skips = torch.tensor(model.actions.skip_mask)
        self.columns = (torch.cumsum(~skips, 0) - 1).clamp_min(
            0
        )  # of an action among the processed ones, (A,)
        self.processed = ~skips
        if self.fits:
            model.features_of_every_action = self.of_every_action
            model.features_of_chosen_actions = self.of_chosen_actions

    def follow(self) -> None:
        """To be called when the weights have changed."""
        if not self.fits:
            return
        source = self.model.feature_source()
        if source != self.source:
            self.cache.clear()
            self.source = source

    @torch.no_grad()
    def of_every_action(self, inputs: Tensor) -> Tensor:
        """As the recognizer's ``features_of_every_action``: (N, T, P, D)."""
        return self.cache(inputs, self.model.compute_every_action)

    def of_chosen_actions(self, inputs: Tensor, actions: Tensor) -> tuple[Tensor, Tensor]:
        """As the recognizer's ``features_of_chosen_actions``: (N, T, D), zero for skips, and (N, T)."""
        features = self.of_every_action(inputs)
        columns = self.columns.to(actions.device)[actions][..., None, None]  # (N, T, 1, 1)
        chosen = features.gather(2, columns.expand(-1, -1, 1, features.shape[-1]).to(features.device))[
            :, :, 0
        ]
        processed = self.processed.to(actions.device)[actions].to(features)
        return chosen * processed[..., None], processed
