"""The doctor's checks of the machine: memory, threads, the disk of the cache."""

from __future__ import annotations

import math
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from mmvideoiq.jobs.environment import usable_cpus
from mmvideoiq.service.findings import Finding, State

CGROUP = Path("/sys/fs/cgroup")
NEEDED, COMFORTABLE = 0.25e9, 1e9  # bytes of memory; the shipped demo takes 0.13e9
ROOM = 1e9  # bytes of disk for downloads


def first_number(*paths: Path) -> float | None:
    """What the first of these files that exists begins with; None where none does, or it says ``max``."""
    for path in paths:
        try:
            word = path.read_text(encoding="utf-8").split()[0]
        except (OSError, IndexError):
            continue
        return None if word in ("max", "-1") else float(word)
    return None


def memory(cgroup: Path = CGROUP, meminfo: Path = Path("/proc/meminfo")) -> tuple[float, float] | None:
    """Bytes that there are, and that are free: of the machine, or of the container's limit where that is less."""
    try:
        rows = dict(line.split(":", 1) for line in meminfo.read_text(encoding="utf-8").splitlines())
        total, free = (1024.0 * float(rows[name].split()[0]) for name in ("MemTotal", "MemAvailable"))
    except (OSError, KeyError, ValueError):
        return None
    limit = first_number(cgroup / "memory.max", cgroup / "memory/memory.limit_in_bytes")
    used = first_number(cgroup / "memory.current", cgroup / "memory/memory.usage_in_bytes")
    if limit is not None and limit < total:
        total, free = limit, min(free, limit - (used or 0.0))
    return total, free


def cpu_quota(cgroup: Path = CGROUP) -> float | None:
    """CPUs whose time a container may take; None where it is not limited."""
    try:
        quota, period = (cgroup / "cpu.max").read_text(encoding="utf-8").split()
        return None if quota == "max" else float(quota) / float(period)
    except (OSError, ValueError):
        microseconds = first_number(cgroup / "cpu/cpu.cfs_quota_us")
        period_us = first_number(cgroup / "cpu/cpu.cfs_period_us")
    return microseconds / period_us if microseconds and period_us else None


def check_memory() -> Iterator[Finding]:
    found = memory()
    if found is None:
        yield Finding(name="memory", state="green", found="this system does not say")
        return
    total, free = found
    state: State = "red" if free < NEEDED else "yellow" if free < COMFORTABLE else "green"
    todo = "" if state == "green" else "end other programs, or give the container more"
    yield Finding(
        name="memory", state=state, found=f"{free / 1e9:.1f} of {total / 1e9:.1f} GB free", todo=todo
    )


def check_threads() -> Iterator[Finding]:
    usable, there, quota = usable_cpus(), os.cpu_count() or 1, cpu_quota()
    found = f"{usable} of {there} CPUs may be used, and as many threads are"
    if quota is not None and quota < usable:
        threads = max(1, math.floor(quota))
        found += f", but this container gets the time of {quota:g}"
        yield Finding(name="threads", state="yellow", found=found, todo=f"--threads {threads}")
    else:
        yield Finding(name="threads", state="green", found=found)


def check_cache() -> Iterator[Finding]:
    """The folder of downloads, or the nearest one above it that exists."""
    from mmvideoiq.zoo import store

    home = store.home()
    there = next(path for path in (home, *home.resolve().parents) if path.exists())
    free = shutil.disk_usage(there).free
    found = f"{home}: {free / 1e9:.1f} GB free"
    if not there.is_dir() or not os.access(there, os.W_OK):
        todo = "set MMVIDEOIQ_HOME to a folder that you may write to"
        yield Finding(name="cache", state="red", found=f"{home}: may not be written", todo=todo)
    elif free < ROOM:
        todo = "free some space, or set MMVIDEOIQ_HOME to another disk"
        yield Finding(name="cache", state="yellow", found=found, todo=todo)
    else:
        yield Finding(name="cache", state="green", found=found)
