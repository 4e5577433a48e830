"""Registers every part of mmvideoiq with the host: ``custom_imports = dict(imports=["mmvideoiq.plugin"])``."""

from mmvideoiq import compat

compat.apply()

from mmvideoiq import data, hooks, metrics, models  # noqa: E402

__all__ = ["data", "hooks", "metrics", "models"]
