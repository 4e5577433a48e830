"""A recipe: the stages of one training, their order and the checkpoints they pass on, read from a file and checked.

A recipe is a Python config file:

    name = "demo"
    stages = [
        dict(name="float", config="../float/demo_float.py"),
        dict(name="policy", config="demo_videoiq.py", cfg_options=dict(load_from="{float}"), seeds=[0, 1, 2]),
    ]
    data = dict(function="mmvideoiq.data.synthetic.generate", kwargs=dict(root="{work_dir}/data"))  # optional
    evaluate = dict(float="float", videoiq="policy", engine="openvino")  # optional: evaluation.py
    fast = dict(cfg_options={"train_cfg.max_epochs": 1}, seeds=[0])  # optional, what --fast changes

``stages`` may be a dict by name instead, which recipes can inherit and change: ``dict(float=dict(config=...), ...)``.
``config`` is relative to the recipe. In any string of ``cfg_options``, ``{float}`` stands for the checkpoint
of the earlier stage ``float`` (its best one where there is one, else its last), and
``{work_dir}`` for the work directory. A stage with ``seeds`` is trained once per seed and passes nothing on.

With ``measure = dict(engine="openvino")`` a stage ``latency`` comes before the first whose model has actions: it
measures the milliseconds of each on this machine, which are the ``cost`` that this and later stages train against.

What follows from a recipe stands in ``plan.py``, what is checked before it runs in ``checks.py``.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from mmengine.config import Config

from mmvideoiq.recipes.placeholders import placeholders

EVALUATE = {"engine", "float", "kinds", "metric", "random_draws", "threads"}


class RecipeError(ValueError):
    """The recipe, one of its configs or the work directory is invalid; the message says what to do."""


@dataclass(frozen=True, kw_only=True)
class Stage:
    """One training: ``cfg_options`` are dotted keys merged into ``config``, as ``--cfg-options`` does.

    Args:
        measure: ``engine`` and ``threads``: no training, but a table of milliseconds.
    """

    name: str
    config: Path
    cfg_options: Mapping[str, Any] = field(default_factory=dict)
    seeds: tuple[int, ...] | None = None
    measure: Mapping[str, Any] | None = None


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """The content of a recipe file, ``--fast`` already applied."""

    name: str
    path: Path
    stages: tuple[Stage, ...]
    data: Mapping[str, Any] | None = None
    evaluate: Mapping[str, Any] | None = None
    measure: Mapping[str, Any] | None = None
    fast: bool = False


def read_recipe(path: str | Path, *, fast: bool = False) -> Recipe:
    """Read and check a recipe file; ``fast`` applies its ``fast`` section.

    Raises:
        RecipeError: no such file, no stages, a missing or unknown key, a repeated name, a missing config, a
            placeholder for what is not an earlier stage, or for a stage with several seeds.
    """
    path = Path(path).resolve()
    if not path.is_file():
        raise RecipeError(f"recipe {path}: no such file")
    try:
        content = Config.fromfile(path).to_dict()
    except Exception as error:
        raise RecipeError(f"recipe {path.name}: cannot be read: {type(error).__name__}: {error}") from error
    if "model" in content and "stages" not in content:
        raise RecipeError(f"recipe {path.name}: is the config of one model; tools/train.py trains it")
    content.pop("custom_imports", None)
    where = f"recipe {path.name}"
    _check_keys(where, content, {"name", "stages"}, {"data", "evaluate", "measure", "fast"})
    _check_settings(f"{where}, measure", content.get("measure"), {"engine"}, {"threads"})
    _check_settings(f"{where}, evaluate", content.get("evaluate"), {"videoiq"}, EVALUATE)
    if not isinstance(content["stages"], (list, tuple, Mapping)):
        raise RecipeError(f"{where}: 'stages' must be a list or a dict, got {content['stages']!r}")
    if not content["stages"]:
        raise RecipeError(f"{where}: 'stages' is empty")
    stages: list[Stage] = []
    for entry in _entries(content["stages"], where=where):
        stages.append(_read_stage(where, entry, path.parent, {earlier.name: earlier for earlier in stages}))
    recipe = Recipe(
        name=content["name"],
        path=path,
        stages=tuple(stages),
        data=content.get("data"),
        evaluate=content.get("evaluate"),
        measure=content.get("measure"),
    )
    return _make_fast(recipe, content.get("fast")) if fast else recipe


def _check_keys(where: str, given: Mapping, required: set[str], optional: set[str]) -> None:
    for missing in sorted(required - set(given)):
        raise RecipeError(f"{where}: '{missing}' is missing")
    for unknown in sorted(set(given) - required - optional):
        raise RecipeError(f"{where}: unknown key '{unknown}'; allowed: {sorted(required | optional)}")


def _check_settings(where: str, given: Mapping | None, required: set[str], optional: set[str]) -> None:
    if given is None:
        return
    _check_keys(where, given, required, optional)
    threads = given.get("threads")
    if threads is not None and (type(threads) is not int or threads < 1):
        raise RecipeError(f"{where}: threads={threads!r} must be an integer of at least 1")


def _entries(stages: Any, *, where: str) -> list[Mapping]:
    """The stages one by one, each with its name, from a list or a dict by name."""
    by_name = dict(stages) if isinstance(stages, Mapping) else dict(enumerate(stages))
    for name, entry in by_name.items():
        if not isinstance(entry, Mapping):
            raise RecipeError(f"{where}: stage {name!r} must be a dict, got {entry!r}")
    if isinstance(stages, Mapping):
        return [{"name": name, **entry} for name, entry in by_name.items()]
    return list(by_name.values())


def _read_stage(recipe: str, entry: Mapping, folder: Path, earlier: Mapping[str, Stage]) -> Stage:
    where = f"{recipe}, stage '{entry.get('name', '?')}'"
    _check_keys(where, entry, {"name", "config"}, {"cfg_options", "seeds"})
    config = (folder / entry["config"]).resolve()
    if not config.is_file():
        raise RecipeError(f"{where}: config {entry['config']} does not exist")
    seeds = entry.get("seeds")
    if seeds is not None and (not seeds or len(set(seeds)) != len(seeds)):
        raise RecipeError(f"{where}: seeds must be different integers, at least one, got {seeds}")
    stage = Stage(
        name=entry["name"],
        config=config,
        cfg_options=entry.get("cfg_options", {}),
        seeds=None if seeds is None else tuple(seeds),
    )
    _check_placeholders(where, stage, earlier)
    return stage


def _check_placeholders(where: str, stage: Stage, earlier: Mapping[str, Stage]) -> None:
    if not re.fullmatch(r"\w+", stage.name) or stage.name in {*earlier, "work_dir", "data", "evaluation"}:
        raise RecipeError(f"{where}: the name must be one word that no other stage or folder of the run has")
    for name in placeholders(stage.cfg_options):
        if name not in {*earlier, "work_dir"}:
            raise RecipeError(f"{where}: '{{{name}}}' is not an earlier stage; known: {sorted(earlier)}")
        if name in earlier and earlier[name].seeds is not None:
            raise RecipeError(f"{where}: '{{{name}}}' has several seeds, so no single checkpoint to pass on")


def _make_fast(recipe: Recipe, fast: Mapping[str, Any] | None) -> Recipe:
    if fast is None:
        raise RecipeError(f"recipe {recipe.path.name}: has no 'fast' section, --fast cannot be used")
    allowed = {"cfg_options", "stages", "seeds", "data", "evaluate"}
    _check_keys(f"recipe {recipe.path.name}, fast", fast, set(), allowed)
    per_stage = fast.get("stages", {})
    for name in set(per_stage) - {stage.name for stage in recipe.stages}:
        raise RecipeError(f"recipe {recipe.path.name}, fast: unknown stage '{name}'")
    stages = tuple(
        replace(
            stage,
            cfg_options={**stage.cfg_options, **fast.get("cfg_options", {}), **per_stage.get(stage.name, {})},
            seeds=None if stage.seeds is None else tuple(fast.get("seeds", stage.seeds)),
        )
        for stage in recipe.stages
    )
    data = recipe.data and {
        **recipe.data,
        "kwargs": {**recipe.data.get("kwargs", {}), **fast.get("data", {})},
    }
    evaluate = recipe.evaluate and {**recipe.evaluate, **fast.get("evaluate", {})}
    return replace(recipe, stages=stages, data=data, evaluate=evaluate, fast=True)
