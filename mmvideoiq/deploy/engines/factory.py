"""Opens an engine by its name; none is imported before it is asked for."""

from __future__ import annotations

from mmvideoiq.deploy.engines.base import Engine, EngineError
from mmvideoiq.jobs.environment import usable_cpus

ENGINES = ("openvino", "onnxruntime")


def open_engine(name: str, *, threads: int | None = None) -> Engine:
    """The engine called ``name``: 'openvino' or 'onnxruntime'.

    Args:
        threads: that share the work of one call, at least 1; None takes one for each CPU that this process may use.

    Raises:
        EngineError: no such engine, or it is not installed.
    """
    threads = usable_cpus() if threads is None else threads
    if name == "openvino":
        from mmvideoiq.deploy.engines.openvino_engine import OpenVinoEngine

        return OpenVinoEngine(threads=threads)
    if name == "onnxruntime":
        from mmvideoiq.deploy.engines.onnxruntime_engine import OnnxRuntimeEngine

        return OnnxRuntimeEngine(threads=threads)
    raise EngineError(f"unknown engine {name!r}; choose one of {', '.join(ENGINES)}")
