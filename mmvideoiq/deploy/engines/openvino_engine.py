"""The OpenVINO engine: builds a bundle's graphs (:mod:`.openvino_model`), compiles them for the CPU, and runs them."""

from __future__ import annotations

import ctypes
import os
import threading
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from mmvideoiq.deploy.bundle.graph import Graph
from mmvideoiq.deploy.engines.base import EngineError
from mmvideoiq.deploy.engines.channel_permutation import probes
from mmvideoiq.deploy.engines.cpu import has_vnni
from mmvideoiq.deploy.engines.lowering import model_outputs, states
from mmvideoiq.deploy.engines.openvino_model import OpenVinoModel

if TYPE_CHECKING:
    from mmvideoiq.deploy.bundle.bundle import Bundle

#: Frames that one call takes. Of more, the larger values of the recognition part leave the caches; the policy's are
#: small, and its weights, the LSTM's above all, are read once for all frames of a call.
BATCHES = {"recognition": (4, 2, 1), "policy": (16, 4, 1)}

_lock = threading.Lock()
_core: Any = None
_forked = False


def process_core() -> Any:
    """The one ``openvino.Core`` of this process, made when first asked for and never destroyed.

    Each CPU plugin gives the thread an alternate signal stack, and puts the previous one back when it is destroyed. Of
    two plugins that end in another order or thread, a stack without memory can remain, where the next signal that
    Python handles is a segmentation violation. So there is one, which outlives the interpreter.

    Raises:
        EngineError: this process was forked from one that had a core. OpenVINO's threads do not exist in the child,
            which would wait for them forever.
    """
    global _core
    check_not_forked()
    with _lock:
        if _core is None:
            import openvino

            core = openvino.Core()
            ctypes.pythonapi.Py_IncRef(ctypes.py_object(core))
            _core = core
        return _core


def check_not_forked() -> None:
    """EngineError in a process that was forked after OpenVINO had started."""
    if _forked:
        raise EngineError(
            "the engine 'openvino' does not work in a process forked after it was used: "
            "start processes with the method 'spawn', or open no OpenVINO session before the fork"
        )


def _after_fork_in_child() -> None:
    global _forked, _lock
    _forked, _lock = _forked or _core is not None, threading.Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork_in_child)


class OpenVinoEngine:
    """Builds and runs graphs with OpenVINO on the CPU.

    Args:
        threads: that share the work of one call, >= 1.
        vnni: whether the CPU adds products of uint8 and int8 in int32; None asks the CPU. Without it, a layer whose
            sums could saturate gets its channels in an order in which they do not; where there is none, it runs as
            two convolutions with smaller weights, which give the same.

    Raises:
        EngineError: openvino is not installed, ``threads`` is below 1, or the process was forked after OpenVINO
            had started.
    """

    name = "openvino"

    def __init__(self, *, threads: int, vnni: bool | None = None) -> None:
        if threads < 1:
            raise EngineError(f"threads={threads}: must be at least 1")
        try:
            import openvino  # noqa: F401
        except ImportError:
            raise EngineError("the engine 'openvino' is not installed: pip install openvino") from None
        check_not_forked()
        self.threads = threads
        self.vnni = has_vnni() if vnni is None else vnni
        self._exact_kernels: frozenset[str] | None = None

    @np.errstate(over="ignore", invalid="ignore")  # sessions refuse results that are not finite
    def load(self, bundle: Bundle, part: str, bits: int) -> OpenVinoRunner:
        """Build ``part`` of the bundle at ``bits``.

        Raises:
            EngineError: OpenVINO refuses the model.
        """
        graph = bundle.graphs[part]
        try:
            ordered = not self.vnni and bits <= 8
            builder = OpenVinoModel(bundle, part, bits, self.vnni, ordered=ordered)
            if ordered and builder.relies_on_pairs and not self.exact_kernels:
                builder = OpenVinoModel(bundle, part, bits, self.vnni)
            requests = self._requests(builder)
            if builder.relies_on_pairs and not self.kernels(requests) <= self.exact_kernels:
                requests = self._requests(OpenVinoModel(bundle, part, bits, self.vnni))
        except RuntimeError as error:
            message = " ".join(str(error).split())
            raise EngineError(f"openvino cannot build {part} at {bits} bits: {message}") from None
        return OpenVinoRunner(graph, requests)

    def _requests(self, builder: OpenVinoModel) -> dict[int, Any]:
        """By number of frames, falling. One model for all, except where the number has to be known: of whole clips, of
        kernels that are to be asked for by name before they run, and where the plugin is slower for not knowing it,
        that is with sums of corrections and with the policy's small values."""
        from openvino import Dimension

        graph = builder.graph

        def request(batch: Any) -> Any:
            shapes = [[batch if size == -1 else size for size in shape] for shape in graph.inputs.values()]
            builder.model.reshape(dict(enumerate(shapes)))
            return self._compiled(builder).create_infer_request()

        clip = [node.attrs["frames"] for node in graph if node.op == "shift"][:1]
        batches = clip or BATCHES.get(builder.part, BATCHES["recognition"])
        if clip or builder.part == "policy" or builder.corrections or builder.relies_on_pairs:
            return {batch: request(batch) for batch in batches}
        any_number = request(Dimension(1, batches[0]))
        return dict.fromkeys(range(batches[0], 0, -1), any_number)

    @property
    def exact_kernels(self) -> frozenset[str]:
        """The plugin's int8 kernels that were seen to add up neighbouring channels alone: asked once, of the CPU."""
        if self._exact_kernels is None:
            names: frozenset[str] = frozenset()
            for probe in probes(frames=sum(BATCHES["recognition"])):  # one call of each size
                requests = self._requests(OpenVinoModel(probe, "probe", 8, self.vnni, ordered=True))
                run = OpenVinoRunner(probe.graph, requests)
                if all(np.array_equal(got, probe.expected[name]) for name, got in run(probe.inputs).items()):
                    names |= self.kernels(requests)
                else:
                    names = frozenset()
                    break
            self._exact_kernels = names
        return self._exact_kernels

    @staticmethod
    def kernels(requests: Mapping[int, Any]) -> frozenset[str]:
        """Names of the kernels of int8 convolutions, but for those with groups: these never rely on pairs."""
        found = set()
        for request in requests.values():
            for step in request.get_compiled_model().get_runtime_model().get_ops():
                info = {key: value.astype(str) for key, value in step.get_rt_info().items()}
                fused = info[
                    "originalLayersNames"
                ]  # a convolution with groups may be part of the one before it
                grouped = fused.startswith("GroupConvolution") and ",Convolution" not in fused
                if (
                    info["layerType"] == "Convolution"
                    and info["primitiveType"].endswith("I8")
                    and not grouped
                ):
                    found.add(info["primitiveType"])
        return frozenset(found)

    def _compiled(self, builder: OpenVinoModel) -> Any:
        core = process_core()
        config = {
            "PERFORMANCE_HINT": "LATENCY",
            "INFERENCE_NUM_THREADS": self.threads,
            "INFERENCE_PRECISION_HINT": "f32",
            "ENABLE_CPU_PINNING": False,  # others, such as a decoder, want their turn too
        }
        if not builder.corrections:
            try:
                return core.compile_model(builder.model, "CPU", {**config, "SNIPPETS_MODE": "DISABLE"})
            except RuntimeError:  # it is an inner option, which a version may drop
                pass
        return core.compile_model(builder.model, "CPU", config)


class OpenVinoRunner:
    """One part of a bundle at one precision, ready to run. Not for several threads at once."""

    def __init__(self, graph: Graph, requests: Mapping[int, Any]) -> None:
        self._graph = graph
        self._requests = requests  # by number of frames, falling
        self._states = {state: output for output, state in states(graph).items()}

    def __call__(self, inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """The graph's outputs by name, float32.

        Args:
            inputs: by name, any N >= 1; whole clips where the graph shifts features between frames.
        """
        check_not_forked()
        given = dict(inputs)
        outputs: dict[str, list[np.ndarray]] = {name: [] for name in model_outputs(self._graph)}
        start = 0
        for batch in self._cut(len(inputs["frames"])):
            feed = [
                given[name][start : start + batch] if shape[0] == -1 else given[name]
                for name, shape in self._graph.inputs.items()
            ]
            request = self._requests[batch]
            try:
                request.infer(dict(enumerate(feed)), share_inputs=True)
            except RuntimeError as error:
                raise EngineError(f"openvino cannot run the model: {' '.join(str(error).split())}") from None
            for i, values in enumerate(outputs.values()):
                values.append(request.get_output_tensor(i).data.copy())
            given.update({state: outputs[output][-1] for state, output in self._states.items()})
            start += batch
        held = set(self._states.values())
        return {
            name: outputs[name][-1] if name in held else np.concatenate(outputs[name])
            for name in self._graph.outputs
        }

    def _cut(self, frames: int) -> Iterator[int]:
        for batch in self._requests:
            yield from [batch] * (frames // batch)
            frames %= batch
        if frames:
            raise ValueError(f"{frames} frames are left over: this graph takes clips of {batch}")
