"""What is checked before anything is trained: the work directory, and each stage's model and files."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from mmengine.config import Config
from mmengine.registry import MODELS

from mmvideoiq.deploy.engines.cpu import cpu_name
from mmvideoiq.fileio import read_json
from mmvideoiq.jobs.cache import changed
from mmvideoiq.recipes.config import Recipe, RecipeError
from mmvideoiq.recipes.placeholders import fill
from mmvideoiq.recipes.plan import Run

ENVIRONMENT = re.compile(r"\{\{['\"]?\s*\$(\w+)\s*:\s*(\S*?)\s*['\"]?\}\}")  # MMAction2's syntax


def check_work_dir(recipe: Recipe, runs: list[Run], work_dir: Path, *, resume: bool) -> None:
    """Refuse to mix trainings in one folder.

    Raises:
        RecipeError: the folder holds a training that has begun and ``resume`` is False, or it holds another one; or
            a file of a finished stage is missing or has changed.
    """
    marker = read_json(work_dir / "recipe.json", keys=("name", "fast"))
    held = "stages of an unknown recipe"
    if marker is not None:
        held = f"recipe '{marker['name']}'" + (" with --fast" if marker["fast"] else "")
        if marker != {"name": recipe.name, "fast": recipe.fast}:
            raise RecipeError(f"{work_dir} holds {held}: choose another --work-dir or delete that folder")
    if any(run.started for run in runs) and not resume:
        done = sum(run.state is not None for run in runs)
        raise RecipeError(
            f"{work_dir} holds {held}, {done} of {len(runs)} trainings finished: go on with --resume, "
            "choose another --work-dir, or delete that folder"
        )
    for run in runs:
        if run.started and run.started["hash"] != run.hash:
            raise RecipeError(
                f"stage '{run.name}' in {run.folder} was trained from another config or other data than the "
                "recipe's: choose another --work-dir or delete that folder"
            )
        if run.state and (name := changed(run.state.get("files", {}))):
            what = "has changed" if Path(name).is_file() else "is missing"
            raise RecipeError(
                f"stage '{run.name}' has finished, but its {Path(name).name} {what}: put it back, or delete "
                f"{run.folder} to train the stage again"
            )
        if (
            run.state
            and run.stage.measure
            and (cpu := read_json(Path(run.state["checkpoint"]))["cpu"]) != cpu_name()
        ):
            raise RecipeError(
                f"stage '{run.name}' was measured on {cpu}, this machine has {cpu_name()}: go on there, or delete "
                f"{run.folder} and what was trained with it"
            )


def check_runs(runs: list[Run], work_dir: Path) -> None:
    """Build every stage's model and check that its files exist before anything is trained.

    Raises:
        RecipeError: names the stage, and the file or the model's own message.
    """
    names = {run.stage.name: "paper" if run.stage.measure else None for run in runs}
    names["work_dir"] = str(work_dir)
    seen: set[str] = set()
    for run in runs:
        if run.stage.name in seen:
            continue
        seen.add(run.stage.name)
        config = Config(fill(run.config.to_dict(), names))
        for key, path in _weight_files(config.to_dict()):
            if "://" not in path and not Path(path).is_file():
                raise _missing(run, key, path)
        for key in ("train_dataloader", "val_dataloader", "test_dataloader"):
            if path := _missing_list(config.get(key)):
                raise _missing(run, f"{key}.dataset.ann_file", path)
        try:
            with MODELS.switch_scope_and_registry(config.get("default_scope", "mmaction")) as registry:
                registry.build(config.model)
        except Exception as error:
            reason = f"{type(error).__name__}: {error}"
            raise RecipeError(f"stage '{run.name}': the model cannot be built: {reason}") from error


def _weight_files(value: Any) -> Iterator[tuple[str, str]]:
    """Name and path of every file of weights in a config."""
    for key, item in value.items() if isinstance(value, Mapping) else enumerate(value):
        if key in ("load_from", "checkpoint", "pretrained") and isinstance(item, str):
            yield key, item
        elif isinstance(item, Mapping | list | tuple):
            yield from _weight_files(item)


def _missing_list(loader: Mapping | None) -> str | None:
    """The path of a loader's list, if it does not exist."""
    dataset = (loader or {}).get("dataset", {})
    while "dataset" in dataset:  # a wrapper such as RepeatDataset
        dataset = dataset["dataset"]
    path = dataset.get("ann_file")
    full = os.path.join(dataset.get("data_root") or "", path or "")
    return full if path and not os.path.isfile(path) and not os.path.isfile(full) else None


def _missing(run: Run, key: str, path: str) -> RecipeError:
    """The error for a missing file, with the environment variable that sets it, found in the config's text."""
    for name, default in ENVIRONMENT.findall(run.config.text):
        value = os.environ.get(name, default)
        if value and path.startswith(value):
            return RecipeError(
                f"stage '{run.name}': {key} {path} does not exist; set {name}, from which it comes"
            )
    return RecipeError(f"stage '{run.name}': {key} {path} does not exist")
