"""Count a recognizer once, so that every prediction can say what it cost."""

import torch
from torch import nn

from mmvideoiq.cost import ModelCost, count_macs, count_model
from mmvideoiq.models.any_precision_backbone import AnyPrecisionBackbone


def count_recognizer(
    backbone: AnyPrecisionBackbone,
    classifier: nn.Linear,
    policy: nn.Module | None,
    frame_shape: tuple[int, int, int],
) -> ModelCost:
    """The cost model of frames of shape (C, H, W); ``policy=None`` where no policy runs."""
    report = backbone.report
    layers = count_model(backbone.net, frame_shape, report.converted, report.stem, backbone.num_segments or 1)
    policy_macs = 0
    if policy is not None:
        frame = torch.zeros(
            1, 1, *frame_shape, device=classifier.weight.device, dtype=classifier.weight.dtype
        )
        policy_macs = count_macs(policy, frame)
    return ModelCost(
        layers=layers,
        classifier_macs=classifier.weight.numel(),
        classifier_elements=_elements(classifier),
        policy_macs=policy_macs,
        policy_elements=0 if policy is None else _elements(policy),
    )


def _elements(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())
