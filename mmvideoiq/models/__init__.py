"""Registered models: importing this package registers them with MMAction2."""

from mmvideoiq.models.any_precision_backbone import AnyPrecisionBackbone
from mmvideoiq.models.any_precision_recognizer import AnyPrecisionRecognizer, AnyPrecisionRecognizer3D
from mmvideoiq.models.early_exit import EarlyExitRecognizer
from mmvideoiq.models.heads import FrameAverageHead
from mmvideoiq.models.losses import DistillationLoss, EfficiencyLoss, PolicyEntropyLoss, UsageBalanceLoss
from mmvideoiq.models.lstm_head import LSTMHead
from mmvideoiq.models.policy import PolicyHead, PrecisionPolicy
from mmvideoiq.models.random_frames import RandomFramesPreprocessor
from mmvideoiq.models.slim_resnet import SlimResNet
from mmvideoiq.models.static_recognizer import StaticInt8Recognizer
from mmvideoiq.models.uniform_recognizer import (
    FixedPrecisionRecognizer,
    PrecisionEnsemble,
    UniformRecognizer,
)
from mmvideoiq.models.videoiq_recognizer import VideoIQRecognizer

__all__ = [
    "AnyPrecisionBackbone",
    "AnyPrecisionRecognizer",
    "AnyPrecisionRecognizer3D",
    "DistillationLoss",
    "EarlyExitRecognizer",
    "EfficiencyLoss",
    "FixedPrecisionRecognizer",
    "FrameAverageHead",
    "LSTMHead",
    "PolicyEntropyLoss",
    "PolicyHead",
    "PrecisionEnsemble",
    "PrecisionPolicy",
    "RandomFramesPreprocessor",
    "SlimResNet",
    "StaticInt8Recognizer",
    "UniformRecognizer",
    "UsageBalanceLoss",
    "VideoIQRecognizer",
]
