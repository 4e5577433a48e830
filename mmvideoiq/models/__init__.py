"""Registered models: importing this package registers them with the host."""

from mmvideoiq.models.any_precision_backbone import AnyPrecisionBackbone
from mmvideoiq.models.any_precision_recognizer import AnyPrecisionRecognizer
from mmvideoiq.models.heads import FrameAverageHead
from mmvideoiq.models.losses import DistillationLoss, EfficiencyLoss, PolicyEntropyLoss, UsageBalanceLoss
from mmvideoiq.models.policy import PolicyHead, PrecisionPolicy
from mmvideoiq.models.slim_resnet import SlimResNet
from mmvideoiq.models.videoiq_recognizer import VideoIQRecognizer

__all__ = [
    "AnyPrecisionBackbone",
    "AnyPrecisionRecognizer",
    "DistillationLoss",
    "EfficiencyLoss",
    "FrameAverageHead",
    "PolicyEntropyLoss",
    "PolicyHead",
    "PrecisionPolicy",
    "SlimResNet",
    "UsageBalanceLoss",
    "VideoIQRecognizer",
]
