"""What a process may use, and the environment of those it starts. Needs the standard library alone."""

from __future__ import annotations

import os
from pathlib import Path


def usable_cpus() -> int:
    """CPUs that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def thread_limits(threads: int) -> dict[str, str]:
    """Environment variables that limit the threads of numerical libraries."""
    return dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS"), str(threads))


def child_environment(*, threads: int | None = None) -> dict[str, str]:
    """This process's environment, in which a child finds this copy of the package.

    Args:
        threads: limit of the child's numerical libraries; None leaves them as they are.
    """
    root = str(Path(__file__).resolve().parents[2])
    path = os.pathsep.join(filter(None, [root, os.environ.get("PYTHONPATH")]))
    return os.environ | {"PYTHONPATH": path} | (thread_limits(threads) if threads else {})
