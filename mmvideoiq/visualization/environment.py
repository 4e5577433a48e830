"""Where a report comes from: versions, and what the processor can do. Needs neither torch nor matplotlib."""

from __future__ import annotations

import platform
from collections.abc import Mapping
from contextlib import suppress
from importlib import metadata
from types import MappingProxyType

from mmvideoiq import __version__
from mmvideoiq.deploy.engines.cpu import cpu_flags, cpu_name, has_bf16, has_vnni
from mmvideoiq.jobs.environment import usable_cpus
from mmvideoiq.visualization.tables import html_table

PACKAGES = ("torch", "mmaction2", "mmengine", "mmcv-lite", "mmcv", "openvino", "onnxruntime", "av", "numpy")


def environment() -> dict[str, str]:
    """What to know of this machine, by name; nothing that names it, and only packages that are installed."""
    return {
        "mmvideoiq": __version__,
        "Python": platform.python_version(),
        "system": f"{platform.system()} {platform.machine()}",
        "CPU": cpu_name(),
        "CPU class": cpu_class(),
        "CPUs used": str(usable_cpus()),
    } | {name: found for name in PACKAGES if (found := _version(name))}


def cpu_class() -> str:
    """What decides how fast a CPU computes each precision: ``AVX-512, VNNI, bf16``."""
    flags = cpu_flags()
    vectors = next(
        (
            name
            for flag, name in (("avx512f", "AVX-512"), ("avx2", "AVX2"), ("asimd", "NEON"))
            if flag in flags
        ),
        "unknown",
    )
    found = {"VNNI": has_vnni(), "AMX": "amx_int8" in flags, "bf16": has_bf16()}
    lacks = ", ".join(name for name, there in found.items() if not there)
    return ", ".join([vectors, *(name for name, there in found.items() if there)]) + (
        f" (no {lacks})" if lacks else ""
    )


def environment_table(more: Mapping[str, str] = MappingProxyType({})) -> str:
    """The table of :func:`environment` for a page; ``more`` comes last."""
    found = environment() | dict(more)
    return html_table([["", *found], ["found", *found.values()]], wrapped=("found",), marked="")


def _version(package: str) -> str | None:
    with suppress(metadata.PackageNotFoundError):
        return metadata.version(package)
    return None
