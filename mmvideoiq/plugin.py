"""Registers every part of mmvideoiq with the host; configs name this module in ``custom_imports``."""

from mmvideoiq import compat

compat.apply()

from mmvideoiq import data, hooks, metrics, models

__all__ = ["data", "hooks", "metrics", "models"]
