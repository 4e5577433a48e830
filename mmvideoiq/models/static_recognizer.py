"""The static INT8 baseline: a float recognizer that was quantized after training, all frames at one size.

Axes: N videos, T frames, K classes.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from mmaction.models.heads import TSNHead
from mmaction.registry import MODELS
from mmaction.structures import ActionDataSample
from torch import Tensor, nn

from mmvideoiq.actions import ActionSpace, resized_shape
from mmvideoiq.cost import ModelCost, count_model
from mmvideoiq.models.choosers import middle_frames
from mmvideoiq.models.clip_cost import attach_costs
from mmvideoiq.models.uniform_recognizer import UniformRecognizer

BITS = 8


@MODELS.register_module()
class StaticInt8Recognizer(UniformRecognizer):
    """A float recognizer of which a quantized copy is tested; it loads MMAction2's checkpoints.

    Its convolutions count as 8 bits. ``policy_actions`` are 0 for processed frames, else 1.

    Args:
        size: short side to which the copy resizes frames; at most their own.
        frames: that are processed of each clip, evenly spread; None is all.

    Attributes:
        network: the copy: frames uint8 (T, H, W, 3) -> probabilities (K,); to be set before testing.

    Raises:
        ValueError: an option below 1, or a head other than ``TSNHead`` with its average over frames.
    """

    def __init__(self, *, size: int, frames: int | None = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        if not isinstance(self.cls_head, TSNHead):
            raise ValueError(
                f"cls_head.type={type(self.cls_head).__name__!r} does not average over frames: use TSNHead"
            )
        if frames is not None and frames < 1:
            raise ValueError(f"frames={frames} must be at least 1, or None")
        self.actions = ActionSpace([dict(bits=BITS, size=size), dict(skip=1)], frame_size=size)
        self.size, self.frames = size, frames
        self.network: Callable[[np.ndarray], np.ndarray] | None = None

    def predict(
        self, inputs: Tensor, data_samples: list[ActionDataSample] | None = None, **kwargs: Any
    ) -> list[ActionDataSample]:
        """Adds pred_score (K,), pred_label, policy_actions (T,) and cost to each sample; inputs (N, T, C, H, W)."""
        if self.network is None:
            raise RuntimeError("StaticInt8Recognizer has no network: tools/compare.py makes one")
        if data_samples is None:
            data_samples = [ActionDataSample() for _ in inputs]
        places = self.places(inputs.shape[1])
        scores = np.stack([self.network(frames[places]) for frames in self.pixels(inputs)])
        logits = torch.from_numpy(scores).log().to(inputs.device)
        samples = self.cls_head.predict_by_feat(logits, data_samples)
        processed = torch.zeros(inputs.shape[:2], dtype=torch.bool)
        processed[:, places] = True
        return attach_costs(samples, (~processed).long(), self.costs(inputs, processed))

    def places(self, frames: int) -> list[int]:
        """Which of a clip's frames are processed."""
        return list(range(frames)) if self.frames is None else middle_frames(self.frames, frames)

    def pixels(self, inputs: Tensor) -> np.ndarray:
        """Normalized clips (N, T, C, H, W) as they were before, uint8 (N, T, H, W, C)."""
        prepared = self.data_preprocessor
        pixels = inputs * getattr(prepared, "std", 1.0) + getattr(prepared, "mean", 0.0)
        return pixels.round().clamp(0, 255).byte().permute(0, 1, 3, 4, 2).contiguous().cpu().numpy()

    def costs(self, inputs: Tensor, processed: Tensor) -> dict[str, np.ndarray]:
        """Costs (N,) of clips whose frames in ``processed``, bool (N, T), ran; the others were skipped."""
        channels, height, width = inputs.shape[2:]
        shape = (channels, *resized_shape(height, width, self.size))
        if shape not in self._model_costs:
            modules = self.backbone.named_modules()
            names = [name for name, module in modules if isinstance(module, nn.Conv2d | nn.Linear)]
            segments = getattr(self.backbone, "num_segments", None) or 1
            classifier = self.cls_head.fc_cls
            self._model_costs[shape] = ModelCost(
                layers=count_model(self.backbone, shape, names, segments),
                classifier_macs=classifier.weight.numel(),
                classifier_elements=sum(each.numel() for each in classifier.parameters()),
            )
        model, flags = self._model_costs[shape], processed.cpu().numpy()
        share = flags.mean(1)
        every = np.ones(len(flags))
        return {
            "mean_cost": share * self.size**2 / min(height, width) ** 2,
            "gflops": model.paper_gflops(share, flags.shape[1]),
            "bitops": model.bitops(BITS * flags.astype(int)),
            "weight_bytes": model.weight_bytes((BITS,)) * every,
            "peak_activation_bytes": model.peak_activation_bytes(BITS) * every,
        }
