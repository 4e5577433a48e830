"""Runs a recipe: each stage in its own process; finished ones are skipped, interrupted ones resumed."""

from __future__ import annotations

import os
import shlex
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import Console

from mmvideoiq.evaluation.summary_line import summary_line
from mmvideoiq.fileio import find_checkpoint, last_checkpoint, read_json, write_json
from mmvideoiq.jobs.cache import digests
from mmvideoiq.jobs.lock import locked
from mmvideoiq.jobs.process import finished, log, run_process
from mmvideoiq.jobs.worker import find_function
from mmvideoiq.recipes.checks import check_runs, check_work_dir
from mmvideoiq.recipes.config import Recipe, RecipeError
from mmvideoiq.recipes.placeholders import fill
from mmvideoiq.recipes.plan import Run, plan, write_stage_config

TRAIN = "mmvideoiq.recipes.train_stage.train"
MEASURE = "mmvideoiq.latency.table.measure_stage"


class Interrupted(KeyboardInterrupt):
    """Ctrl-C; the message says where and how to resume."""


def run_recipe(
    recipe: Recipe,
    work_dir: Path,
    *,
    resume: bool = False,
    console: Console | None = None,
    command: Sequence[str] = ("python", "tools/train_stages.py"),
) -> dict:
    """Prepare the data, train all stages in order, compare; returns the summary (see ``evaluation.py``).

    Args:
        command: what starts a recipe, for the summary and for the line that tells how to go on.

    Raises:
        RecipeError: before training, the recipe, a config or the work directory is invalid.
        StageFailed: a stage's process failed.
        Interrupted: Ctrl-C or SIGTERM.
    """
    console = console or Console()
    work_dir = work_dir.resolve()
    with locked(work_dir, RecipeError):
        runs = plan(recipe, work_dir)
        check_work_dir(recipe, runs, work_dir, resume=resume)
        return _run(recipe, runs, work_dir, console, [*command, *_arguments(recipe, work_dir)])


def _run(recipe: Recipe, runs: list[Run], work_dir: Path, console: Console, command: Sequence[str]) -> dict:
    resume = f"{shlex.join(command)} --resume"
    where = "the checks"
    try:
        if recipe.data:
            where = "the data"
            _prepare(recipe, work_dir, console)
            where = "the checks"
        check_runs(runs, work_dir)
        write_json(work_dir / "recipe.json", {"name": recipe.name, "fast": recipe.fast})
        for number, run in enumerate(runs, 1):
            where = f"stage '{run.name}'"
            _train(run, runs, work_dir, f"{number}/{len(runs)}", console)
        summary = {
            "recipe": recipe.name,
            "fast": recipe.fast,
            "command": shlex.join(command),
            "seeds": max(len(stage.seeds or (0,)) for stage in recipe.stages),
            "stages": [_stage_entry(run) for run in runs],
            "rows": [],
        }
        if recipe.evaluate:
            from mmvideoiq.recipes.evaluation import evaluate

            where = "the evaluation"
            summary |= evaluate(recipe, runs, work_dir, console)
    except KeyboardInterrupt as stop:
        raise Interrupted(f"Interrupted in {where}. Go on with: {resume}") from stop
    return summary


def _arguments(recipe: Recipe, work_dir: Path) -> list[str]:
    paths = [os.path.relpath(path) for path in (recipe.path, work_dir)]
    flags = ["--fast"] * recipe.fast + ["--for-this-machine"] * (recipe.measure is not None)
    return [paths[0], "--work-dir", paths[1], *flags]


def _stage_entry(run: Run) -> dict[str, Any]:
    state = run.state or {}
    metrics = state.get("metrics", {})
    top1 = next((value for key, value in metrics.items() if key.endswith("top1")), None)
    return {
        "name": run.name,
        "config": os.path.relpath(run.stage.config),
        "seconds": state.get("seconds"),
        "checkpoint": os.path.relpath(state["checkpoint"]) if state else None,
        "top1": top1,
        "metrics": metrics,
    }


def _prepare(recipe: Recipe, work_dir: Path, console: Console) -> None:
    data = fill(dict(recipe.data or {}), {"work_dir": str(work_dir)})
    try:
        find_function(data["function"])
    except ValueError as error:
        raise RecipeError(str(error)) from error
    marker = work_dir / "data_state.json"
    done = read_json(marker, keys=("data",))
    if done and done["data"] == data:
        log(console, "[dim]data: made before[/]")
        return
    log(console, "[bold]data[/]  " + data["function"])
    started = time.monotonic()
    run_process(data["function"], data.get("kwargs", {}), work_dir / "data_log", console, reports=False)
    write_json(marker, {"data": data, "seconds": time.monotonic() - started})
    finished(console, "data", time.monotonic() - started, "")


def _train(run: Run, runs: list[Run], work_dir: Path, count: str, console: Console) -> None:
    if run.state:
        log(console, f"[dim]{count} {run.name}: finished before[/]")
        return
    checkpoints = {other.stage.name: other.state["checkpoint"] for other in runs if other.state}
    before = run.started or {}
    write_json(
        run.folder / "state.json", {"hash": run.hash, "seed": run.seed, "seconds": before.get("seconds", 0.0)}
    )
    config = write_stage_config(run, checkpoints, work_dir)
    last = last_checkpoint(run.folder)
    resumed = f" (resumed from its last checkpoint, {last.name})" if last else ""
    log(console, f"[bold]{count} {run.name}[/]  {os.path.relpath(run.stage.config)}{resumed}")
    started = time.monotonic()
    table = run.folder / "latency.json"
    try:
        if run.stage.measure is None:
            metrics = run_process(TRAIN, {"config": str(config)}, run.folder, console, checks=True)
        else:
            job = dict(config=str(config), out=str(table), options=dict(run.stage.measure))
            metrics = run_process(MEASURE, job, run.folder, console, reports=False)
    finally:
        seconds = before.get("seconds", 0.0) + time.monotonic() - started
        state = {"hash": run.hash, "seed": run.seed, "seconds": seconds}
        write_json(run.folder / "state.json", state)
    try:
        checkpoint = find_checkpoint(run.folder) if run.stage.measure is None else table
    except FileNotFoundError as error:
        raise RecipeError(str(error)) from error
    state |= {"checkpoint": str(checkpoint), "metrics": metrics, "files": digests([checkpoint, config])}
    write_json(run.folder / "state.json", state)
    finished(console, run.name, seconds, summary_line(metrics))
