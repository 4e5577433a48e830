"""The ONNX Runtime engine: builds a bundle's graphs (:mod:`.onnx_model`) and runs them on the CPU."""

from __future__ import annotations

from collections.abc import Mapping
from math import lcm
from typing import TYPE_CHECKING, Any

import numpy as np

from mmvideoiq.deploy.bundle.graph import Graph
from mmvideoiq.deploy.engines.base import EngineError
from mmvideoiq.deploy.engines.cpu import has_vnni
from mmvideoiq.deploy.engines.onnx_model import build_model

if TYPE_CHECKING:
    from mmvideoiq.deploy.bundle.bundle import Bundle

AT_ONCE = 2  # frames: their values stay in the cache, and memory does not grow with N


class OnnxRuntimeEngine:
    """Builds and runs graphs with ONNX Runtime on the CPU.

    Args:
        threads: that share one operator, >= 1.
        vnni: whether the CPU adds u8 x s8 products in int32; None asks it. Without, it adds them two by two in
            int16, and layers that could overflow there take uint8 weights: exact, and slower.

    Raises:
        EngineError: onnxruntime or onnx is not installed, or ``threads`` is below 1.
    """

    name = "onnxruntime"
    float_precision = "f32"

    def __init__(self, *, threads: int, vnni: bool | None = None) -> None:
        if threads < 1:
            raise EngineError(f"threads={threads}: must be at least 1")
        try:
            import onnx  # noqa: F401
            import onnxruntime
        except ImportError as error:
            raise EngineError(
                f"engine 'onnxruntime': {error.name} is not installed; pip install onnx onnxruntime"
            ) from None
        onnxruntime.disable_telemetry_events()
        self.threads = threads
        self.vnni = has_vnni() if vnni is None else vnni

    @np.errstate(over="ignore", invalid="ignore")  # sessions refuse results that are not finite
    def load(self, bundle: Bundle, part: str, bits: int) -> OnnxRuntimeRunner:
        """Build ``part`` of the bundle at ``bits``.

        Raises:
            EngineError: ONNX Runtime refuses the model.
        """
        import onnxruntime as ort

        options = ort.SessionOptions()
        options.intra_op_num_threads = self.threads
        options.inter_op_num_threads = 1
        options.execution_mode = ort.ExecutionMode.ORT_SEQUENTIAL
        options.log_severity_level = 3  # errors
        options.add_session_config_entry("session.disable_quant_qdq", "1")  # integers are where we put them
        options.add_session_config_entry("session.force_spinning_stop", "1")  # other models get the cores
        model = build_model(bundle, part, bits, vnni=self.vnni)
        try:
            session = ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])
        except Exception as error:  # its errors have no class in common
            reason = " ".join(str(error).split())
            raise EngineError(f"engine 'onnxruntime' cannot build {part} at {bits} bits: {reason}") from None
        return OnnxRuntimeRunner(session, at_once=frames_at_once(bundle.graphs[part]))


class OnnxRuntimeRunner:
    """One part of a bundle at one precision, ready to run.

    Args:
        session: of ONNX Runtime.
        at_once: how many rows of the inputs it gets in one call; None: all.
    """

    def __init__(self, session: Any, *, at_once: int | None) -> None:
        self._session, self._at_once = session, at_once
        self._outputs = [output.name for output in session.get_outputs()]

    def __call__(self, inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """The graph's outputs by name, float32. ``inputs``: by name, any N."""
        count = max(1, *map(len, inputs.values()))
        step = self._at_once or count
        try:
            pieces = [
                self._session.run(
                    self._outputs, {name: array[i : i + step] for name, array in inputs.items()}
                )
                for i in range(0, count, step)
            ]
        except Exception as error:  # its errors have no class in common
            reason = " ".join(str(error).split())
            raise EngineError(f"engine 'onnxruntime' cannot run the model: {reason}") from None
        whole = pieces[0] if len(pieces) == 1 else map(np.concatenate, zip(*pieces, strict=True))
        return dict(zip(self._outputs, whole, strict=True))


def frames_at_once(graph: Graph) -> int | None:
    """How many frames to run in one call: few; whole clips where frames shift; None, all, where order matters."""
    if any(node.op == "lstm" for node in graph):
        return None
    return max(AT_ONCE, lcm(*(node.attrs["frames"] for node in graph if node.op == "shift")))
