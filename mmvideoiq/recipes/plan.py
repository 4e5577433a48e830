"""The trainings that follow from a recipe: the config, the folder and the hash of each.

Every one runs in a process of its own, from a config written to its folder (``runner.py``). Its ``state.json`` records
whether it has finished; the ``hash`` in it covers its config and the stages before it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mmengine.config import Config

from mmvideoiq.fileio import last_checkpoint, read_json
from mmvideoiq.jobs.cache import hash_of
from mmvideoiq.recipes.config import Recipe, RecipeError, Stage
from mmvideoiq.recipes.placeholders import fill, placeholders

LATENCY = "latency"  # the stage that measures
NOT_LEARNED = ("work_dir", "vis_backends", "visualizer")  # keys that change nothing of what is trained


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
    needs = sorted(set(placeholders(content)) & set(hashes)) if stage.measure is None else []
    measure = [stage.measure] if stage.measure is not None else []
    hashes[stage.name] = hash_of(content, [hashes[name] for name in needs], recipe.data, *measure)
    return Run(stage=stage, seed=seed, folder=folder, config=config, hash=hashes[stage.name])


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
