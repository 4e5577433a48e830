"""What is killed and goes on: a recipe and ``bulk``, as commands, and what of their results must be the same."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from mmvideoiq.data.synthetic import write_lossless
from mmvideoiq.jobs.environment import child_environment
from tests.deploy.toy_bundle import make_toy_bundle
from tests.service.bulk.runs import rows
from tests.trust.isolated import ROOT

#: Of a summary and of rows, what no two runs share; the advice names milliseconds.
MEASURED = {"seconds", "command", "ms_per_clip", "advice", "decode_ms", "recognize_ms"}
STAGES = {
    "float": "float/demo_float",
    "any_precision": "any_precision/demo_any_precision",
    "policy_backbone": "policy_backbone/demo_policy_backbone",
    "policy": "videoiq/demo_videoiq",
}
EPOCHS = 3  # of a stage, so that it can be resumed within


@dataclass(frozen=True)
class Subject:
    """A command that goes on when it is started again.

    Attributes:
        argv: of the folder that it writes into.
        content: of that folder, what must be the same whatever happened; nested dicts, lists, arrays and tensors.
    """

    name: str
    argv: Callable[[Path], list[str]]
    content: Callable[[Path], Any]


def start(argv: Sequence[str], log: Path, **environment: str) -> subprocess.Popen:
    """Its output goes to ``log``, its errors to a file beside it."""
    with log.open("ab") as out, log.with_suffix(".err").open("wb") as err:
        return subprocess.Popen(
            argv,
            stdout=out,
            stderr=err,
            stdin=subprocess.DEVNULL,
            cwd=ROOT,
            env=child_environment(threads=1) | environment,
        )


def errors(log: Path) -> str:
    """What the last start of ``log`` said on stderr."""
    return log.with_suffix(".err").read_text(errors="replace")


def mmvideoiq(*words: object) -> list[str]:
    return [sys.executable, "-m", "mmvideoiq", *map(str, words)]


# --- a recipe -------------------------------------------------------------------------------------------------------


def recipe(folder: Path, *, epochs: int = EPOCHS) -> Subject:
    """The demo's recipe with ``--fast``, of some epochs a stage; the file is written into ``folder``."""
    configs = ROOT / "configs"
    stages = {name: dict(config=str(configs / f"{config}.py")) for name, config in STAGES.items()}
    path = folder / "demo.py"
    folder.mkdir(parents=True, exist_ok=True)
    path.write_text(
        f"_base_ = [{str(configs / 'videoiq/demo_recipe.py')!r}]\nstages = {stages!r}\n"
        f"fast = dict(cfg_options={{'train_cfg.max_epochs': {epochs}}})\n"
    )
    return Subject(
        "recipe",
        lambda out: mmvideoiq("recipe", path, "--fast", "--resume", "--work-dir", out),
        trained,
    )


def trained(folder: Path) -> Any:
    """The weights of each stage, its optimizer's state, the summary, the bundle."""
    import torch

    from mmvideoiq import compat

    compat.apply()  # checkpoints hold objects of MMEngine
    found: dict[str, Any] = dict(summary=unmeasured(summary_of(folder)))
    for stage in STAGES:
        below = next((folder / stage).glob("seed*"), folder / stage)
        path = Path(json.loads((below / "state.json").read_text())["checkpoint"])
        saved = torch.load(path, map_location="cpu", weights_only=False)  # of this run itself
        found[stage] = dict(file=path.name, weights=saved["state_dict"], optimizer=saved.get("optimizer"))
    files = sorted(path for path in (folder / "bundle").rglob("*") if path.is_file())
    return found | dict(bundle={path.name: path.read_bytes() for path in files})


def summary_of(folder: Path) -> Any:
    text = (folder / "summary.json").read_text()
    return json.loads(text.replace(os.path.relpath(folder, ROOT), "."))


def unmeasured(value: Any) -> Any:
    """Without times."""
    if isinstance(value, dict):
        return {name: unmeasured(item) for name, item in value.items() if name not in MEASURED}
    return [unmeasured(item) for item in value] if isinstance(value, list) else value


# --- bulk -----------------------------------------------------------------------------------------------------------


def bulk(folder: Path, *, videos: int, options: Sequence[str]) -> Subject:
    """A toy bundle on ``videos`` files, which are links to three; both are made in ``folder``."""
    folder.mkdir(parents=True, exist_ok=True)
    bundle, source = folder / "toy", folder / "videos"
    if not source.is_dir():
        make_toy_bundle(bundle, frames=6, size=32)
        rng = np.random.default_rng(0)
        for number in range(3):
            clip = rng.integers(0, 256, (9, 40, 48, 3), dtype=np.uint8)
            write_lossless(folder / f"{number}.mkv", clip, rate=6)
        source.mkdir()
        for number in range(videos):
            os.link(folder / f"{number % 3}.mkv", source / f"{number:05d}.mkv")
    fixed = ["--threads", "1", "--shard-size", "10", *options]
    return Subject(
        "ray" if "--no-ray" not in options else "bulk",
        lambda out: mmvideoiq("bulk", bundle, source, "--out", out, *fixed),
        lambda out: unmeasured(rows(out)),
    )


# --- equal ----------------------------------------------------------------------------------------------------------


def differences(one: Any, two: Any, where: str = "") -> list[str]:
    """Where two nested values differ; tensors and arrays bit by bit."""
    if type(one) is not type(two):
        return [f"{where}: {type(one).__name__} and {type(two).__name__}"]
    if isinstance(one, dict):
        found = [f"{where}/{name}: only in one" for name in one.keys() ^ two.keys()]
        both = [differences(one[name], two[name], f"{where}/{name}") for name in one if name in two]
        return found + [line for lines in both for line in lines]
    if isinstance(one, (list, tuple)):
        if len(one) != len(two):
            return [f"{where}: {len(one)} and {len(two)} items"]
        pairs = enumerate(zip(one, two, strict=True))
        return [line for number, pair in pairs for line in differences(*pair, f"{where}/{number}")]
    if hasattr(one, "numpy"):
        import torch

        return [] if one.dtype == two.dtype and torch.equal(one, two) else [f"{where}: other values"]
    same = one == two or (one != one and two != two)
    return [] if same else [f"{where}: {str(one)[:60]} and {str(two)[:60]}"]
