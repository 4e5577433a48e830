"""What computes a bundle's graphs. Engines are interchangeable."""

from mmvideoiq.deploy.engines.base import Engine, EngineError, Runner
from mmvideoiq.deploy.engines.cpu import has_vnni
from mmvideoiq.deploy.engines.factory import ENGINES, open_engine

__all__ = ["ENGINES", "Engine", "EngineError", "Runner", "has_vnni", "open_engine"]
