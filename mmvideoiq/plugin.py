"""Registers every part of mmvideoiq with MMAction2; configs list this module in ``custom_imports``."""

from mmvideoiq import compat

compat.apply()

from mmvideoiq import hooks, models
from mmvideoiq.data import dataset, rawframes, video_transforms
from mmvideoiq.evaluation import metrics
from mmvideoiq.visualization import policy_view
from mmvideoiq.zoo import host

__all__ = ["dataset", "hooks", "host", "metrics", "models", "policy_view", "rawframes", "video_transforms"]
