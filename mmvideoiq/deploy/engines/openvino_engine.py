"""The OpenVINO engine: builds a bundle's graphs (:mod:`.openvino_model`), compiles them for the CPU, and runs them."""

from __future__ import annotations

import ctypes
import math
import os
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any

import numpy as np

from mmvideoiq.deploy.bundle.graph import Graph
from mmvideoiq.deploy.engines.base import EngineError
from mmvideoiq.deploy.engines.channel_permutation import probes
from mmvideoiq.deploy.engines.cpu import has_bf16, has_vnni
from mmvideoiq.deploy.engines.lowering import model_outputs, states
from mmvideoiq.deploy.engines.openvino_model import OpenVinoModel

if TYPE_CHECKING:
    from mmvideoiq.deploy.bundle.bundle import Bundle

#: Frames that one call takes, falling; the most, since a call's fixed cost is then shared and threads are busy.
BATCHES = {"recognition": (16, 4, 2, 1), "policy": (16, 8, 4, 1)}
#: The same of a small graph, of which a call costs as much as some frames.
SMALL_BATCHES = (16, *range(8, 0, -1))
SMALL = 2**17  # weights of its convolutions

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


def return_freed_memory() -> None:
    """Give the system back what building a model needed; the C library would keep it for the next one."""
    with suppress(OSError, AttributeError):  # of the GNU C library alone
        ctypes.CDLL(None).malloc_trim(0)


class OpenVinoEngine:
    """Builds and runs graphs with OpenVINO on the CPU.

    Args:
        threads: that share the work of one call, >= 1.
        vnni: whether the CPU adds products of uint8 and int8 in int32; None asks the CPU. Without it, a layer whose
            sums could saturate gets its channels in an order in which they do not; where there is none, it runs as
            two convolutions with smaller weights, which give the same.
        float_precision: 'f32', 'bf16' or 'auto': see :func:`.factory.open_engine`.

    Raises:
        EngineError: openvino is not installed, ``threads`` is below 1, bf16 is asked for and the CPU has none, or the
            process was forked after OpenVINO had started.
    """

    name = "openvino"

    def __init__(self, *, threads: int, vnni: bool | None = None, float_precision: str = "f32") -> None:
        if threads < 1:
            raise EngineError(f"threads={threads}: must be at least 1")
        if float_precision == "bf16" and not has_bf16():
            raise EngineError(
                "float_precision='bf16': this CPU has no AVX512_BF16 or AMX; use 'auto' or 'f32'"
            )
        try:
            import openvino  # noqa: F401
        except ImportError:
            raise EngineError("the engine 'openvino' is not installed: pip install openvino") from None
        check_not_forked()
        self.threads = threads
        self.vnni = has_vnni() if vnni is None else vnni
        self.float_precision = "bf16" if float_precision != "f32" and has_bf16() else "f32"
        self._policy_precision = "bf16" if float_precision == "bf16" else "f32"
        self._exact_kernels: frozenset[str] | None = None

    @np.errstate(over="ignore", invalid="ignore")  # sessions refuse results that are not finite
    def load(self, bundle: Bundle, part: str, bits: int) -> OpenVinoRunner:
        """Build ``part`` of the bundle at ``bits``.

        Raises:
            EngineError: OpenVINO refuses the model.
        """
        ordered = not self.vnni and bits <= 8
        with _one_line(f"openvino cannot build {part} at {bits} bits"):
            builder = OpenVinoModel(bundle, part, bits, self.vnni, ordered=ordered)
            requests: Mapping[int, Any] | None = None
            if builder.relies_on_pairs:
                if self.exact_kernels:
                    requests = self._requests(builder)
                    if not self.kernels(requests) <= self.exact_kernels:
                        requests = None
                if requests is None:
                    builder = OpenVinoModel(bundle, part, bits, self.vnni)
            if requests is None and not self._one_size_each(builder):
                requests = self._any_size(builder)
        graph, batches = builder.graph, self._batches(builder)
        if requests is None:
            del builder  # built again for each number of frames, in place of being kept

            @np.errstate(over="ignore", invalid="ignore")
            def compiled(frames: int) -> Any:
                with _one_line(f"openvino cannot build {part} at {bits} bits"):
                    return self._request(OpenVinoModel(bundle, part, bits, self.vnni), frames)

            return OpenVinoRunner(graph, batches, _WhenAsked(compiled))
        return OpenVinoRunner(graph, tuple(requests), requests)

    def _batches(self, builder: OpenVinoModel) -> tuple[int, ...]:
        """How many frames a call takes, falling; of whole clips no other number."""
        clip = tuple(node.attrs["frames"] for node in builder.graph if node.op == "shift")[:1]
        weights = sum(math.prod(node.attrs["shape"]) for node in builder.graph if node.op == "conv")
        if builder.part in BATCHES and weights <= SMALL:
            return clip or SMALL_BATCHES
        return clip or BATCHES.get(builder.part, BATCHES["recognition"])

    @staticmethod
    def _one_size_each(builder: OpenVinoModel) -> bool:
        """Whether each number of frames has a model of its own: of whole clips, and where the plugin is slower for not
        knowing the number, that is with sums of corrections and with the policy's small values."""
        clips = any(node.op == "shift" for node in builder.graph)
        return clips or builder.part == "policy" or builder.corrections

    def _requests(self, builder: OpenVinoModel) -> dict[int, Any]:
        """By number of frames, a model for each: their kernels can be asked for by name before they run."""
        return {frames: self._request(builder, frames) for frames in self._batches(builder)}

    def _any_size(self, builder: OpenVinoModel) -> dict[int, Any]:
        """By number of frames, one model for all."""
        from openvino import Dimension

        most = self._batches(builder)[0]
        return dict.fromkeys(range(most, 0, -1), self._request(builder, Dimension(1, most)))

    def _request(self, builder: OpenVinoModel, frames: Any) -> Any:
        shapes = [
            [frames if size == -1 else size for size in shape] for shape in builder.graph.inputs.values()
        ]
        builder.model.reshape(dict(enumerate(shapes)))
        request = self._compiled(builder).create_infer_request()
        return_freed_memory()
        return request

    @property
    def exact_kernels(self) -> frozenset[str]:
        """The plugin's int8 kernels that were seen to add up neighbouring channels alone: asked once, of the CPU."""
        if self._exact_kernels is None:
            names: frozenset[str] = frozenset()
            for probe in probes(frames=sum(BATCHES["recognition"])):  # one call of each size
                requests = self._requests(OpenVinoModel(probe, "probe", 8, self.vnni, ordered=True))
                run = OpenVinoRunner(probe.graph, tuple(requests), requests)
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
        core, precision = process_core(), "f32"  # of integer layers too: bf16 would round their scales
        if builder.bits > 8:
            precision = self._policy_precision if builder.part == "policy" else self.float_precision
        config = {
            "PERFORMANCE_HINT": "LATENCY",
            "INFERENCE_NUM_THREADS": self.threads,
            "INFERENCE_PRECISION_HINT": precision,
            "ENABLE_CPU_PINNING": False,  # others, such as a decoder, want their turn too
        }
        if not builder.corrections:
            with suppress(RuntimeError):  # it is an inner option, which a version may drop
                return core.compile_model(builder.model, "CPU", {**config, "SNIPPETS_MODE": "DISABLE"})
        return core.compile_model(builder.model, "CPU", config)


@contextmanager
def _one_line(what: str) -> Iterator[None]:
    """What OpenVINO refuses, as an EngineError of one line."""
    try:
        yield
    except RuntimeError as error:
        raise EngineError(f"{what}: {' '.join(str(error).split())}") from None


class _WhenAsked(dict[int, Any]):
    """Requests by number of frames, each made when it is first asked for."""

    def __init__(self, make: Callable[[int], Any]) -> None:
        super().__init__()
        self._make = make

    def __missing__(self, frames: int) -> Any:
        self[frames] = self._make(frames)
        return self[frames]


class OpenVinoRunner:
    """One part of a bundle at one precision, ready to run. Not for several threads at once.

    Args:
        batches: numbers of frames that one call takes, falling.
        requests: by these numbers.
    """

    def __init__(self, graph: Graph, batches: tuple[int, ...], requests: Mapping[int, Any]) -> None:
        self._graph, self._batches, self._requests = graph, batches, requests
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
            with _one_line("openvino cannot run the model"):
                request.infer(dict(enumerate(feed)), share_inputs=True)
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
        for batch in self._batches:
            yield from [batch] * (frames // batch)
            frames %= batch
        if frames:
            raise ValueError(f"{frames} frames are left over: this graph takes clips of {batch}")
