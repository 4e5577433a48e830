"""Cost counts of recognizers, and the cost fields of their predictions."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from mmaction.structures import ActionDataSample
from torch import Tensor, nn

from mmvideoiq.actions import resized_shape
from mmvideoiq.cost import LayerCost, ModelCost, count_macs, count_model
from mmvideoiq.models.any_precision_backbone import AnyPrecisionBackbone


def count_recognizer(
    backbone: AnyPrecisionBackbone,
    classifier: nn.Linear,
    policy: nn.Module | None,
    frame_shape: tuple[int, int, int],
) -> ModelCost:
    """The cost model for frames of shape (C, H, W); ``policy=None`` if no policy runs."""

    def count(height: int, width: int) -> list[LayerCost]:
        shape = (frame_shape[0], height, width)
        return count_model(backbone.net, shape, backbone.report.converted, backbone.num_segments or 1)

    costs: dict[str, int] = {}
    if policy is not None:
        frame = torch.zeros(
            1, 1, *frame_shape, device=classifier.weight.device, dtype=classifier.weight.dtype
        )
        costs = dict(policy_macs=count_macs(policy, frame), policy_elements=_elements(policy))
        costs |= _quantized_part(policy, frame_shape)
    return ModelCost(
        layers=count(*frame_shape[1:]),
        resized={
            size: count(*resized_shape(*frame_shape[1:], size)) for size in backbone.switch.sizes if size
        },
        classifier_macs=classifier.weight.numel(),
        classifier_elements=_elements(classifier),
        **costs,
    )


def _quantized_part(policy: Any, frame_shape: tuple[int, int, int]) -> dict[str, int]:
    """Bits, MACs and weights of a policy's quantized layers, as :class:`ModelCost` takes them."""
    backbone = getattr(policy, "backbone", None)
    if not isinstance(backbone, AnyPrecisionBackbone):
        return {}
    size = frame_shape[1:] if policy.input_size is None else (policy.input_size,) * 2
    layers = count_model(backbone.net, (frame_shape[0], *size), backbone.report.converted)
    quantized = [layer for layer in layers if layer.quantized]
    return dict(
        policy_bits=backbone.switch.bits,
        policy_quantized_macs=sum(layer.macs for layer in quantized),
        policy_quantized_elements=sum(layer.weight_elements for layer in quantized),
    )


def _elements(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def attach_costs(
    samples: list[ActionDataSample], actions: Tensor, costs: Mapping[str, np.ndarray]
) -> list[ActionDataSample]:
    """Put on each sample its ``policy_actions``, of ``actions`` (N, ...), and its ``cost``, of ``costs`` (N,)."""
    for i, sample in enumerate(samples):
        sample.set_field(actions[i], "policy_actions")
        sample.set_field({name: float(values[i]) for name, values in costs.items()}, "cost")
    return samples


def count_float(
    backbone: torch.nn.Module, head: torch.nn.Module, clip_shape: tuple[int, int, int, int]
) -> ModelCost:
    """The cost of a float recognizer of MMAction2 on clips of (T, C, H, W).

    Operations of the head before its classifier form one more layer, whose MACs are spread over the frames.
    """
    frames, *frame_shape = clip_shape
    layers = count_model(backbone, tuple(frame_shape), (), getattr(backbone, "num_segments", None) or 1)
    classifier = head.fc_cls
    weight = classifier.weight
    features = torch.zeros(frames, head.in_channels, 1, 1, device=weight.device, dtype=weight.dtype)
    macs = max(0, count_macs(head, features, frames) - weight.numel())
    if macs:
        layers.append(
            LayerCost(
                name="(aggregation)",
                macs=macs // frames,
                weight_elements=_elements(head) - _elements(classifier),
                input_elements=head.in_channels,
                output_elements=0,
                quantized=False,
            )
        )
    return ModelCost(layers=layers, classifier_macs=weight.numel(), classifier_elements=_elements(classifier))
