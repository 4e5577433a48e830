"""Engines: what computes a bundle's graphs. They are interchangeable, and none is imported before it is asked for."""

from __future__ import annotations

import os
from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING, Protocol

import numpy as np

if TYPE_CHECKING:
    from mmvideoiq.deploy.bundle import Bundle

ENGINES = ("openvino", "onnxruntime")
INT16_MAX = 2**15 - 1
#: CPU flags of which one gives VNNI, by what ``ONEDNN_MAX_CPU_ISA`` says (an environment variable of oneDNN, which
#: OpenVINO computes with; ``DNNL_MAX_CPU_ISA`` is its old name).
VNNI_FLAGS = {
    **dict.fromkeys(("sse41", "avx", "avx2", "avx512_core"), frozenset[str]()),
    **dict.fromkeys(("avx2_vnni", "avx2_vnni_2"), frozenset({"avx_vnni"})),
    **dict.fromkeys(("avx512_core_vnni", "avx512_core_bf16"), frozenset({"avx512_vnni"})),
}
ANY_VNNI = frozenset({"avx512_vnni", "avx_vnni"})


class EngineError(ValueError):
    """An engine is unknown, not installed, or cannot build a graph: one line that says what to do."""


class Runner(Protocol):
    """One part of a bundle at one precision, ready to run."""

    def __call__(self, inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """The graph's outputs by name, float32. ``inputs``: by name, shaped as the graph says, any N."""


class Engine(Protocol):
    """Attributes: ``name``, and ``threads`` that share the work of one call."""

    name: str
    threads: int

    def load(self, bundle: Bundle, part: str, bits: int) -> Runner:
        """Build ``part`` of ``bundle`` at ``bits``. EngineError where that cannot be done."""


def open_engine(name: str, *, threads: int | None = None) -> Engine:
    """The engine called ``name``: 'openvino' or 'onnxruntime'.

    Args:
        threads: that share the work of one call, at least 1; None takes one for each CPU that this process may use.

    Raises:
        EngineError: no such engine, or it is not installed.
    """
    threads = _usable_cpus() if threads is None else threads
    if name == "openvino":
        from mmvideoiq.deploy.openvino_engine import OpenVinoEngine

        return OpenVinoEngine(threads=threads)
    if name == "onnxruntime":
        from mmvideoiq.deploy.onnxruntime_engine import OnnxRuntimeEngine

        return OnnxRuntimeEngine(threads=threads)
    raise EngineError(f"unknown engine {name!r}; choose one of {', '.join(ENGINES)}")


def has_vnni(flags: Collection[str] | None = None) -> bool:
    """Whether the CPU adds products of uint8 and int8 in int32. Others add them in pairs in int16, which saturates.

    Args:
        flags: of the CPU, as Linux lists them; None asks the running one. Where nobody tells, the answer is False,
            with which results are right on any CPU. So it is where ``ONEDNN_MAX_CPU_ISA`` rules VNNI out.

    >>> has_vnni(["avx2", "avx_vnni"]), has_vnni(["avx2"])
    (True, False)
    """
    limit = os.environ.get("ONEDNN_MAX_CPU_ISA") or os.environ.get("DNNL_MAX_CPU_ISA", "")
    allowed = VNNI_FLAGS.get(limit.lower(), ANY_VNNI)
    return not allowed.isdisjoint(_cpu_flags() if flags is None else flags)


def may_saturate(codes: np.ndarray, high: int) -> bool:
    """Whether two products of an activation and a weight can leave int16 when added.

    Which two are paired is the kernel's business: the bound is that of the two largest weights of a channel,
    ``high * (|q1| + |q2|) > 32767``. It holds for no weights of 7 bits or less with activations of as many bits.

    Args:
        codes: int8, (O, ...), weights.
        high: largest activation, at most 255.

    >>> may_saturate(np.int8([[127, -1, 0]]), 255), may_saturate(np.int8([[127, -2, 0]]), 255)
    (False, True)
    """
    magnitudes = np.abs(codes.astype(np.int64)).reshape(len(codes), -1)
    largest = np.partition(magnitudes, -2, axis=1)[:, -2:] if magnitudes.shape[1] > 1 else magnitudes
    return bool(high * largest.sum(axis=1).max() > INT16_MAX)


def _usable_cpus() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _cpu_flags() -> set[str]:
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as file:
            return next((set(line.split()) for line in file if line.startswith("flags")), set())
    except OSError:
        return set()
