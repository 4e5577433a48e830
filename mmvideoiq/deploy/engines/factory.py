"""Opens an engine by its name; none is imported before it is asked for."""

from __future__ import annotations

from mmvideoiq.deploy.engines.base import Engine, EngineError
from mmvideoiq.jobs.environment import usable_cpus

ENGINES = ("openvino", "onnxruntime")
FLOAT_PRECISIONS = ("auto", "f32", "bf16")


def open_engine(name: str, *, threads: int | None = None, float_precision: str = "f32") -> Engine:
    """The engine called ``name``: 'openvino' or 'onnxruntime'.

    Args:
        threads: that share the work of one call, at least 1; None takes one for each CPU that this process may use.
        float_precision: of recognition above 8 bits: 'f32', 'bf16', or 'auto', which is 'bf16' where the CPU multiplies
            it (AVX512_BF16, AMX) and the engine can. Policies follow 'bf16' alone: under 'auto' they decide as in
            float32. Integer layers are exact in any case.

    Raises:
        EngineError: no such engine, it is not installed, or it or the CPU has no bf16.
    """
    if float_precision not in FLOAT_PRECISIONS:
        raise EngineError(
            f"unknown float_precision {float_precision!r}; choose one of {', '.join(FLOAT_PRECISIONS)}"
        )
    threads = usable_cpus() if threads is None else threads
    if name == "openvino":
        from mmvideoiq.deploy.engines.openvino_engine import OpenVinoEngine

        return OpenVinoEngine(threads=threads, float_precision=float_precision)
    if name == "onnxruntime":
        if float_precision == "bf16":
            raise EngineError(
                "float_precision='bf16': the engine 'onnxruntime' has float32 alone; use 'auto', 'f32', or 'openvino'"
            )
        from mmvideoiq.deploy.engines.onnxruntime_engine import OnnxRuntimeEngine

        return OnnxRuntimeEngine(threads=threads)
    raise EngineError(f"unknown engine {name!r}; choose one of {', '.join(ENGINES)}")
