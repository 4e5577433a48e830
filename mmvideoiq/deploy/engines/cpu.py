"""What the CPU can do, and what follows for products of 8-bit integers."""

from __future__ import annotations

import os
import platform
from collections.abc import Collection
from functools import cache

import numpy as np

INT16_MAX = 2**15 - 1
ANY_VNNI = frozenset({"avx512_vnni", "avx_vnni"})


#: CPU flags of which one gives VNNI, by what ``ONEDNN_MAX_CPU_ISA`` says (an environment variable of oneDNN, which
#: OpenVINO computes with; ``DNNL_MAX_CPU_ISA`` is its old name).
VNNI_FLAGS = {
    **dict.fromkeys(("sse41", "avx", "avx2", "avx512_core"), frozenset[str]()),
    **dict.fromkeys(("avx2_vnni", "avx2_vnni_2"), frozenset({"avx_vnni"})),
    **dict.fromkeys(("avx512_core_vnni", "avx512_core_bf16"), frozenset({"avx512_vnni"})),
}


def has_vnni(flags: Collection[str] | None = None) -> bool:
    """Whether the CPU adds products of uint8 and int8 in int32. Others add them in pairs in int16, which saturates.

    Args:
        flags: of the CPU, as Linux lists them; None asks the running one. Where nobody tells, the answer is False,
            with which results are right on any CPU. So it is where ``ONEDNN_MAX_CPU_ISA`` rules VNNI out.

    >>> has_vnni(["avx2", "avx_vnni"]), has_vnni(["avx2"])
    (True, False)
    """
    allowed = VNNI_FLAGS.get(_isa_limit(), ANY_VNNI)
    return not allowed.isdisjoint(cpu_flags() if flags is None else flags)


def has_bf16(flags: Collection[str] | None = None) -> bool:
    """Whether the CPU multiplies bf16 faster than float32. ``flags``: as of :func:`has_vnni`.

    >>> has_bf16(["avx512_bf16"]), has_bf16(["avx512_vnni"])
    (True, False)
    """
    if _isa_limit() in VNNI_FLAGS.keys() - {"avx512_core_bf16"}:
        return False
    return not {"avx512_bf16", "amx_bf16"}.isdisjoint(cpu_flags() if flags is None else flags)


def _isa_limit() -> str:
    return (os.environ.get("ONEDNN_MAX_CPU_ISA") or os.environ.get("DNNL_MAX_CPU_ISA", "")).lower()


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


def cpu_name() -> str:
    """The processor's name as Linux gives it, else the architecture."""
    return _cpu_info("model name") or platform.machine()


def cpu_flags() -> frozenset[str]:
    """What the CPU can do, as Linux lists it; empty elsewhere."""
    return frozenset(_cpu_info("flags").split() or _cpu_info("Features").split())


@cache
def _cpu_info(field: str) -> str:
    """The first CPU's value of a field of ``/proc/cpuinfo``, '' where there is none."""
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as file:
            return next((line.split(":", 1)[1].strip() for line in file if line.startswith(field)), "")
    except OSError:
        return ""
