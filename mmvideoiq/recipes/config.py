"""A recipe: the stages of one training, their order, the checkpoints they pass on, and how to resume.

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

Every stage is trained in a process of its own, from a config written to its folder (``runner.py``).
Its ``state.json`` records whether it has finished; the ``hash`` in it covers its config and the stages before it.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from mmengine.config import Config
from mmengine.registry import MODELS

from mmvideoiq.deploy.engines.cpu import cpu_name
from mmvideoiq.fileio import last_checkpoint, read_json
from mmvideoiq.jobs.cache import changed, hash_of

LATENCY = "latency"  # the stage that measures
EVALUATE = {"engine", "float", "kinds", "metric", "random_draws", "threads"}
NOT_LEARNED = ("work_dir", "vis_backends", "visualizer")  # keys that change nothing of what is trained
PLACEHOLDER = re.compile(r"\{(\w+)\}")
ENVIRONMENT = re.compile(r"\{\{['\"]?\s*\$(\w+)\s*:\s*(\S*?)\s*['\"]?\}\}")  # MMAction2's syntax


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


@dataclass(frozen=True, kw_only=True)
class Run:
    """One stage at one seed: what is trained, where, and the hash by which a finished run is recognized."""

    stage: Stage
    seed: int | None
    folder: Path
    config: Config
    hash: str

    @property
    def name(self) -> str:
        return self.stage.name if self.seed is None else f"{self.stage.name}/seed{self.seed}"

    @property
    def started(self) -> dict | None:
        """The record of a run that has begun; None where it has not."""
        return read_json(self.folder / "state.json", keys=("hash",))

    @property
    def state(self) -> dict | None:
        """The record of a finished run: checkpoint, seconds, metrics; None where it has not finished."""
        state = self.started
        return state if state and "checkpoint" in state else None


def _check_keys(where: str, given: Mapping, required: set[str], optional: set[str]) -> None:
    for missing in sorted(required - set(given)):
        raise RecipeError(f"{where}: '{missing}' is missing")
    for unknown in sorted(set(given) - required - optional):
        raise RecipeError(f"{where}: unknown key '{unknown}'; allowed: {sorted(required | optional)}")


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
    _check_keys(f"recipe {path.name}", content, {"name", "stages"}, {"data", "evaluate", "measure", "fast"})
    measure = content.get("measure")
    if measure is not None:
        _check_keys(f"recipe {path.name}, measure", measure, {"engine"}, {"threads"})
    evaluate = content.get("evaluate")
    if evaluate is not None:
        _check_keys(f"recipe {path.name}, evaluate", evaluate, {"videoiq"}, EVALUATE)
    for name, settings in (("measure", measure), ("evaluate", evaluate)):
        threads = (settings or {}).get("threads")
        if threads is not None and (type(threads) is not int or threads < 1):
            raise RecipeError(
                f"recipe {path.name}, {name}: threads={threads!r} must be an integer of at least 1"
            )
    if not content["stages"]:
        raise RecipeError(f"recipe {path.name}: 'stages' is empty")
    stages: list[Stage] = []
    for entry in _entries(content["stages"], where=f"recipe {path.name}"):
        where = f"recipe {path.name}, stage '{entry.get('name', '?')}'"
        _check_keys(where, entry, {"name", "config"}, {"cfg_options", "seeds"})
        config = (path.parent / entry["config"]).resolve()
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
        _check_placeholders(where, stage, {earlier.name: earlier for earlier in stages})
        stages.append(stage)
    recipe = Recipe(
        name=content["name"],
        path=path,
        stages=tuple(stages),
        data=content.get("data"),
        evaluate=evaluate,
        measure=measure,
    )
    return _make_fast(recipe, content.get("fast")) if fast else recipe


def _entries(stages: Any, *, where: str) -> list[Mapping]:
    """The stages one by one, each with its name, from a list or a dict by name."""
    if isinstance(stages, Mapping):
        wrong = next((name for name, entry in stages.items() if not isinstance(entry, Mapping)), None)
        if wrong is not None:
            raise RecipeError(f"{where}: stage '{wrong}' must be a dict, got {stages[wrong]!r}")
        return [{"name": name, **entry} for name, entry in stages.items()]
    return list(stages)


def _check_placeholders(where: str, stage: Stage, earlier: Mapping[str, Stage]) -> None:
    if not re.fullmatch(r"\w+", stage.name) or stage.name in {*earlier, "work_dir", "data", "evaluation"}:
        raise RecipeError(f"{where}: the name must be one word that no other stage or folder of the run has")
    for name in _placeholders(stage.cfg_options):
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


def _placeholders(value: Any) -> Iterator[str]:
    """The names in braces in all strings of a nested value."""
    if isinstance(value, str):
        yield from PLACEHOLDER.findall(value)
    elif isinstance(value, Mapping):
        for item in value.values():
            yield from _placeholders(item)
    elif isinstance(value, list | tuple):
        for item in value:
            yield from _placeholders(item)


def fill(value: Any, known: Mapping[str, str | None]) -> Any:
    """Replace ``{name}`` in all strings of a nested value; a string of a placeholder alone may become None."""
    if isinstance(value, str):
        alone = PLACEHOLDER.fullmatch(value)
        if alone and alone[1] in known:
            return known[alone[1]]
        return PLACEHOLDER.sub(lambda match: str(known.get(match[1], match[0])), value)
    if isinstance(value, Mapping):
        return {key: fill(item, known) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(fill(item, known) for item in value)
    return value


def _stage_config(stage: Stage, seed: int | None, folder: Path) -> Config:
    """The stage's own config with its options merged; placeholders are not filled yet."""
    try:
        config = Config.fromfile(stage.config)
        config.merge_from_dict(dict(stage.cfg_options))
    except Exception as error:
        reason = f"{type(error).__name__}: {error}"
        raise RecipeError(
            f"stage '{stage.name}': config {stage.config.name} cannot be read: {reason}"
        ) from error
    randomness = dict(config.get("randomness") or {})
    if seed is not None or randomness.get("seed") is None:
        randomness["seed"] = seed or 0
    config.merge_from_dict(dict(work_dir=str(folder), randomness=randomness))
    return config


def plan(recipe: Recipe, work_dir: Path) -> list[Run]:
    """All trainings of the recipe in order. Parses every config; nothing is built or written.

    Raises:
        RecipeError: a config that cannot be parsed or merged.
    """
    runs: list[Run] = []
    hashes: dict[str, str] = {}
    measured = False
    for stage in recipe.stages:
        for seed in stage.seeds or (None,):
            folder = work_dir / stage.name if seed is None else work_dir / stage.name / f"seed{seed}"
            config = _stage_config(stage, seed, folder)
            if recipe.measure is not None and "actions" in config.model:
                if not measured:
                    first = Stage(name=LATENCY, config=stage.config, measure=recipe.measure)
                    runs.append(_run(first, None, work_dir / LATENCY, config, recipe, hashes))
                    measured = True
                config = Config(with_cost(config.to_dict(), f"{{{LATENCY}}}"))
            runs.append(_run(stage, seed, folder, config, recipe, hashes))
    if recipe.measure is not None and not measured:
        raise RecipeError(f"recipe {recipe.path.name}: there is no stage whose model has actions to measure")
    return runs


def _run(
    stage: Stage, seed: int | None, folder: Path, config: Config, recipe: Recipe, hashes: dict[str, str]
) -> Run:
    """The run, its hash noted in ``hashes``, where those of earlier stages are."""
    content = {key: value for key, value in config.to_dict().items() if key not in NOT_LEARNED}
    needs = sorted(set(_placeholders(content)) & set(hashes)) if stage.measure is None else []
    measure = [stage.measure] if stage.measure is not None else []
    hashes[stage.name] = hash_of(content, [hashes[name] for name in needs], recipe.data, *measure)
    return Run(stage=stage, seed=seed, folder=folder, config=config, hash=hashes[stage.name])


def with_cost(value: Any, cost: str) -> Any:
    """A nested value in which every action space, under the key ``actions``, has this cost."""
    if isinstance(value, list | tuple):
        return type(value)(with_cost(item, cost) for item in value)
    if not isinstance(value, Mapping):
        return value
    found = {key: with_cost(item, cost) for key, item in value.items() if key != "actions"}
    if "actions" in value:
        space = value["actions"]
        found["actions"] = dict(space if isinstance(space, Mapping) else dict(actions=space), cost=cost)
    return found


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


def write_stage_config(run: Run, checkpoints: Mapping[str, str], work_dir: Path) -> Path:
    """Write the config that a stage's process runs: placeholders filled, resumed where there is a checkpoint."""
    config = Config(fill(run.config.to_dict(), {**checkpoints, "work_dir": str(work_dir)}))
    last = last_checkpoint(run.folder)
    if last is not None:
        config.merge_from_dict(dict(resume=True, load_from=str(last)))
    path = run.folder / "stage_config.py"
    run.folder.mkdir(parents=True, exist_ok=True)
    config.dump(path)
    return path
