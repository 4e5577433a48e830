"""Baselines that treat all frames alike: in float, in one mode, or in every mode.

They are MMAction2 recognizers whose predictions include their cost. Axes: N videos, T frames, P modes, K classes.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from mmaction.models.recognizers import Recognizer2D
from mmaction.registry import MODELS
from mmaction.structures import ActionDataSample
from torch import Tensor

from mmvideoiq.actions import FLOAT_BITS, FRAME_SIZE, ActionSpace, action_of
from mmvideoiq.cost import ModelCost
from mmvideoiq.models.any_precision_recognizer import AnyPrecisionRecognizer
from mmvideoiq.models.clip_cost import attach_costs, count_float, count_recognizer
from mmvideoiq.quant.functional import at_least_float32
from mmvideoiq.quant.precision import Mode


@MODELS.register_module()
class UniformRecognizer(Recognizer2D):
    """Every frame in float: MMAction2's 2D recognizer with ``cost`` and ``policy_actions`` on its predictions.

    Operations of the head before its classifier (such as an LSTM) are counted too. Checkpoints are MMAction2's.

    Raises:
        ValueError: the config has a neck, which would not be counted.
    """

    action_list: Sequence[dict] = (dict(bits=FLOAT_BITS),)

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        if self.with_neck:
            raise ValueError(
                f"{type(self).__name__} does not count a neck: leave {type(self.neck).__name__} out"
            )
        self.actions = ActionSpace(self.action_list)
        self._model_costs: dict[tuple, ModelCost] = {}

    def predict(
        self, inputs: Tensor, data_samples: list[ActionDataSample] | None = None, **kwargs: Any
    ) -> list[ActionDataSample]:
        """Adds pred_score (K,), pred_label, policy_actions (T,) and cost to each sample; inputs (N, T, C, H, W)."""
        if data_samples is None:
            data_samples = [ActionDataSample() for _ in inputs]
        samples = super().predict(inputs, data_samples, **kwargs)
        processed = torch.ones(inputs.shape[:2], dtype=torch.bool)
        return attach_costs(
            samples, torch.zeros_like(processed, dtype=torch.long), self.costs(inputs, processed)
        )

    def costs(self, inputs: Tensor, processed: Tensor) -> dict[str, np.ndarray]:
        """Costs (N,) of clips whose frames in ``processed``, bool (N, T), ran in float; the others were skipped.

        A skipped frame costs nothing, under the paper's formula too, since no network made the decision.
        """
        shape = tuple(inputs.shape[1:])  # (T, C, H, W)
        if shape not in self._model_costs:
            self._model_costs[shape] = count_float(self.backbone, self.cls_head, shape)
        model, counts = self._model_costs[shape], processed.sum(1).cpu().numpy()
        every = np.ones(len(counts))
        return {
            "mean_cost": counts / shape[0],
            "gflops": model.paper_gflops(1.0, counts),
            "bitops": model.bitops(FLOAT_BITS * processed.cpu().numpy().astype(int)),
            "weight_bytes": model.weight_bytes((FLOAT_BITS,)) * every,
            "peak_activation_bytes": model.peak_activation_bytes(FLOAT_BITS) * every,
        }

    def _forward(self, inputs: Tensor, stage: str = "head", **kwargs: Any) -> Tensor:
        """Class logits (N, K) of clips (N, T, C, H, W)."""
        return super()._forward(inputs, stage=stage, **kwargs)


@MODELS.register_module()
class FixedPrecisionRecognizer(AnyPrecisionRecognizer):
    """Every frame in one mode of an any-precision network, with ``cost`` and ``policy_actions``.

    Args:
        bits: the precision, or a mode such as ``"8@112"``; None is the highest. ``set_fixed_action`` (``--precision``)
            changes it.
        frame_size: short side of the frames, of which sizes are a part.
    """

    def __init__(self, *, bits: Mode | None = None, frame_size: int = FRAME_SIZE, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.actions = ActionSpace([action_of(str(m)) for m in self.backbone.modes], frame_size=frame_size)
        self._model_costs: dict[tuple, ModelCost] = {}
        self.set_fixed_action(bits)

    def predict(
        self, inputs: Tensor, data_samples: list[ActionDataSample] | None = None, **kwargs: Any
    ) -> list[ActionDataSample]:
        """Adds pred_score (K,), pred_label, policy_actions (T,) and cost to each sample; inputs (N, T, C, H, W)."""
        if data_samples is None:
            data_samples = [ActionDataSample() for _ in inputs]
        samples = super().predict(inputs, data_samples, **kwargs)
        action = self.actions.index(self.fixed_mode or self.backbone.modes[0])
        actions = torch.full(inputs.shape[:2], action)
        return attach_costs(samples, actions, self._count(inputs).clip_costs(actions, self.actions))

    def check_frames(self, height: int, width: int) -> None:
        super().check_frames(height, width)
        self.actions.check_frames(height, width)

    def _count(self, inputs: Tensor) -> ModelCost:
        shape = tuple(inputs.shape[2:])  # (C, H, W)
        if shape not in self._model_costs:
            self._model_costs[shape] = count_recognizer(self.backbone, self.cls_head.fc_cls, None, shape)
        return self._model_costs[shape]


@MODELS.register_module()
class PrecisionEnsemble(FixedPrecisionRecognizer):
    """Every mode on every frame: ``score = mean_m softmax(logits_m)``; the cost is the sum of all of them.

    ``policy_actions`` (T, P) contains every mode for each frame, so that all have the same share. The cost
    includes one full pass of the network per mode.

    Args:
        members: precisions, or modes such as ``"8@112"``, to average; None is all of the backbone's.

    Raises:
        ValueError: ``members`` holds no mode, or one that the backbone lacks.
    """

    def __init__(self, *, members: Sequence[Mode] | None = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.members = tuple(self.backbone.modes if members is None else members)
        unknown = set(self.members) - set(self.backbone.modes)
        if unknown or not self.members or len(set(self.members)) < len(self.members):
            raise ValueError(
                f"members={self.members} must be different precisions of {self.backbone.modes}, at least one"
            )

    def set_fixed_action(self, bits: Mode | None = None) -> None:
        """ValueError: no single precision can be chosen."""
        if bits is not None:
            raise ValueError(f"precision {bits}: a PrecisionEnsemble runs all its precisions")
        self.fixed_mode = None

    def predict(
        self, inputs: Tensor, data_samples: list[ActionDataSample] | None = None, **kwargs: Any
    ) -> list[ActionDataSample]:
        """Adds pred_score (K,), pred_label, policy_actions (T, P) and cost to each sample; inputs (N, T, C, H, W)."""
        if data_samples is None:
            data_samples = [ActionDataSample() for _ in inputs]
        samples = self.cls_head.predict_by_feat(self._forward(inputs), data_samples)
        indices = torch.tensor([self.actions.index(mode) for mode in self.members])  # (P,)
        actions = indices.expand(*inputs.shape[:2], -1)  # (N, T, P)
        model = self._count(inputs)
        each = [model.clip_costs(actions[..., p], self.actions) for p in range(len(indices))]
        join = dict(weight_bytes=np.maximum, peak_activation_bytes=np.maximum)
        costs = {name: join.get(name, np.add).reduce([member[name] for member in each]) for name in each[0]}
        return attach_costs(samples, actions, costs)

    def _forward(self, inputs: Tensor, stage: str = "head", **kwargs: Any) -> Tensor:
        """Logarithms of the averaged probabilities, (N, K); ``stage='backbone'`` as in MMAction2."""
        if stage != "head":
            return super()._forward(inputs, stage=stage, **kwargs)
        features = self.backbone.forward_all(inputs.flatten(0, 1), self.members)  # mode -> (N*T, D, h, w)
        logits = [at_least_float32(self.cls_head(f, num_segs=inputs.shape[1])) for f in features.values()]
        return torch.stack(logits).log_softmax(-1).logsumexp(0) - np.log(len(logits))
