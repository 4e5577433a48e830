"""The doctor's checks of what is installed: Python, packages, PyTorch and MMAction2, engines, the zoo."""

from __future__ import annotations

import platform
import sys
import warnings
from collections.abc import Iterator
from contextlib import suppress
from importlib import metadata
from importlib.util import find_spec

import numpy as np

from mmvideoiq import __version__
from mmvideoiq.deploy.engines.factory import ENGINES
from mmvideoiq.service.findings import Finding, State
from mmvideoiq.service.main import COMMANDS, EXTRAS, how_to_install, missing

OLDEST = (3, 11)
DEMO = "demo_videoiq_bundle"
MMCV = ("mmcv-lite", "mmcv")
RUNTIME_PACKAGES = ("av", "opencv-python-headless", "opencv-python", "safetensors", "jsonschema", "rich")


def version(package: str) -> str | None:
    with suppress(metadata.PackageNotFoundError):
        return metadata.version(package)
    return None


def versions(*packages: str) -> str:
    """``name version`` of those that are installed."""
    return ", ".join(f"{name} {found}" for name in packages if (found := version(name)))


def check_python() -> Iterator[Finding]:
    found = f"{platform.python_version()}, {platform.system()} {platform.machine()}"
    old = sys.version_info < OLDEST
    todo = f"install Python {'.'.join(map(str, OLDEST))} or later" if old else ""
    yield Finding(name="Python", state="red" if old else "green", found=found, todo=todo)


def check_packages() -> Iterator[Finding]:
    lacking = missing("runtime")
    found = f"mmvideoiq {__version__}, {versions('numpy', *RUNTIME_PACKAGES)}"
    if lacking:
        found += f"; {', '.join(lacking)} not installed"
    yield Finding(
        name="packages",
        state="red" if lacking else "green",
        found=found,
        todo=how_to_install("runtime") if lacking else "",
    )
    for extra in EXTRAS:
        names = ", ".join(name for name, command in COMMANDS.items() if command.extra == extra)
        if extra not in ("", "runtime") and names:
            lacking = missing(extra)
            ready = f"not installed ({', '.join(lacking)} missing); it is for {names}"
            yield Finding(
                name=f"[{extra}]",
                state="green",
                found=ready if lacking else f"{names}: ready",
                todo=f"{how_to_install(extra)}, if you want {names}" if lacking else "",
            )


def check_torch() -> Iterator[Finding]:
    if find_spec("torch") is None:
        yield Finding(name="PyTorch", state="green", found="not installed; bundles run without it")
        return
    import torch

    devices = torch.cuda.device_count()
    there = f"{devices} GPU{'s' * (devices > 1)}" if devices else "no GPU, so training runs on the CPU"
    found = f"{torch.__version__}, {torch.backends.cpu.get_cpu_capability()}, {there}"
    yield Finding(name="PyTorch", state="green", found=found)


def check_mmaction() -> Iterator[Finding]:
    """MMAction2 with its patches; nothing where PyTorch is not installed, for then nobody trains."""
    if find_spec("torch") is None:
        return
    if find_spec("mmaction") is None:
        found = "not installed, so nothing can be trained or exported"
        yield Finding(name="MMAction2", state="yellow", found=found, todo=how_to_install("train"))
        return
    from mmvideoiq import compat

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            applied = compat.apply()
            import mmaction.models  # noqa: F401
        except (ImportError, AssertionError) as error:
            found = f"{versions('mmaction2', 'mmengine', *MMCV)}: {error}"
            todo = "docs/troubleshooting.md, Installation and MMAction2"
            yield Finding(name="MMAction2", state="red", found=found, todo=todo)
            return
    yield Finding(name="MMAction2", state="green", found=versions("mmaction2", "mmengine", *MMCV))
    for name, wanted in (("patches active", True), ("patches not needed", False)):
        listed = ", ".join(patch for patch, active in applied.items() if active is wanted)
        yield Finding(name=name, state="green", found=listed or "none")


def check_cv2() -> Iterator[Finding]:
    from mmvideoiq.compat import CV2_PACKAGES, cv2_owners

    owners = cv2_owners()
    found = ", ".join(f"{name} {found}" for name, found in owners.items())
    if len(set(owners.values())) > 1:
        todo = f"pip uninstall -y {' '.join(owners)}, then pip install --no-deps {CV2_PACKAGES[-1]}"
        found += ": of different versions, which overwrite each other"
        yield Finding(name="cv2", state="yellow", found=found, todo=todo)
    elif owners:
        yield Finding(name="cv2", state="green", found=found)


def check_engines() -> Iterator[Finding]:
    """Each runs the bundle that is shipped."""
    outcomes = {engine: runs(engine) for engine in ENGINES}
    works = [engine for engine, why in outcomes.items() if not why]
    bad: State = "yellow" if works else "red"
    for engine, why in outcomes.items():
        if why:
            todo = (
                f"--engine {works[0]}, or {how_to_install('runtime')}" if works else how_to_install("runtime")
            )
            yield Finding(name=engine, state=bad, found=why, todo=todo)
        else:
            yield Finding(name=engine, state="green", found=f"{version(engine)}, runs the shipped bundle")


def runs(engine: str) -> str:
    """'' where an engine recognizes a clip of noise, else why not."""
    if find_spec(engine) is None:
        return "not installed"
    from mmvideoiq import zoo
    from mmvideoiq.deploy.session import VideoSession

    try:
        with VideoSession.open(zoo.download(DEMO), engine=engine, threads=1) as session:
            steps = session.preprocessing
            noise = np.random.default_rng(0).integers(0, 256, (steps.frames, *steps.size, 3), dtype=np.uint8)
            result = session.run(noise)
    except (ImportError, OSError, RuntimeError, ValueError) as error:
        return f"{version(engine)}, does not run: {' '.join(str(error).split())}"
    return "" if np.isfinite(result.scores).all() else f"{version(engine)}, gives numbers that are not finite"


def check_zoo() -> Iterator[Finding]:
    from mmvideoiq.zoo import index, store

    try:
        models = index.read()
    except (OSError, ValueError) as error:
        yield Finding(name="zoo", state="red", found=str(error), todo="install mmvideoiq anew")
        return
    states = [store.state(model) for model in models.values()]
    found = f"{len(states)} configs, {states.count('shipped')} models shipped, {states.count('cached')} in the cache"
    if store.offline():
        found += "; MMVIDEOIQ_OFFLINE forbids downloads"
    yield Finding(name="zoo", state="green", found=f"{found}; {index.root()}")
