"""The machine on which something was measured."""

from __future__ import annotations

import platform
from importlib.metadata import version
from typing import Any

import torch

from mmvideoiq.deploy.engines.cpu import cpu_flags
from mmvideoiq.jobs.environment import usable_cpus

CPU_FLAGS = (
    *("avx2", "fma", "avx512f", "avx512_vnni", "avx_vnni", "avx512_bf16", "amx_int8"),
    *("asimd", "asimddp"),
)


def describe_environment() -> dict[str, Any]:
    """Kind of processor and versions; nothing that names the machine."""
    found = cpu_flags()
    return dict(
        cpu=dict(
            architecture=platform.machine(),
            cores=usable_cpus(),
            torch_capability=torch.backends.cpu.get_cpu_capability(),
            flags=[flag for flag in CPU_FLAGS if flag in found],
        ),
        versions=dict(
            python=platform.python_version(),
            **{name: version(name) for name in ("torch", "mmaction2", "mmengine", "numpy")},
        ),
    )
