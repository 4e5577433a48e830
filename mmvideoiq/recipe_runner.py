"""Runs a recipe: each stage in its own process; finished ones are left alone, interrupted ones go on."""

from __future__ import annotations

import json
import os
import re
import shlex
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

import mmvideoiq
from mmvideoiq.recipe import (
    Recipe,
    RecipeError,
    Run,
    check_runs,
    check_work_dir,
    digests,
    fill,
    find_checkpoint,
    find_function,
    last_checkpoint,
    plan,
    read_json,
    write_json,
    write_stage_config,
)

LOG_LINES = 15


class StageFailed(RuntimeError):
    """A stage's process ended with an error; the message holds the end of its log and the log's path."""


class Interrupted(KeyboardInterrupt):
    """Ctrl-C; the message says where and how to go on."""


def run_recipe(
    recipe: Recipe, work_dir: Path, *, resume: bool = False, console: Console | None = None
) -> dict:
    """Prepare the data, train all stages in order, compare; returns the summary (see ``comparison.py``).

    Raises:
        RecipeError: before training, where recipe, configs or work directory cannot be used.
        StageFailed: a stage's process failed.
        Interrupted: Ctrl-C or SIGTERM.
    """
    console = console or Console()
    work_dir = work_dir.resolve()
    with locked(work_dir):
        runs = plan(recipe, work_dir)
        check_work_dir(recipe, runs, work_dir, resume=resume)
        return _run(recipe, runs, work_dir, console)


@contextmanager
def locked(work_dir: Path, error: type[ValueError] = RecipeError) -> Iterator[None]:
    """Keep other processes from ``work_dir``. The lock of a process that died is free.

    Raises:
        ``error``: another process has it; names that process.
    """
    work_dir.mkdir(parents=True, exist_ok=True)
    holder = work_dir / ".running.json"
    try:
        lock = FileLock(work_dir / ".lock", timeout=0)
        lock.acquire()
    except Timeout:
        try:
            known = read_json(holder, keys=("pid", "host")) or {}
        except RecipeError:
            known = {}
        who = f"process {known['pid']} on {known['host']}" if known else "another process"
        raise error(f"{work_dir} is in use by {who}: end it, or choose another --work-dir") from None
    try:
        write_json(holder, {"pid": os.getpid(), "host": socket.gethostname()})
        yield
    finally:
        holder.unlink(missing_ok=True)
        lock.release()


def _run(recipe: Recipe, runs: list[Run], work_dir: Path, console: Console) -> dict:
    go_on = f"{shlex.join(_command(recipe, work_dir))} --resume"
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
            "command": shlex.join(_command(recipe, work_dir)),
            "seeds": max(len(stage.seeds or (0,)) for stage in recipe.stages),
            "stages": [_stage_entry(run) for run in runs],
            "rows": [],
        }
        if recipe.evaluate:
            from mmvideoiq.recipe_evaluation import evaluate

            where = "the evaluation"
            summary |= evaluate(recipe, runs, work_dir, console)
    except KeyboardInterrupt as stop:
        raise Interrupted(f"Interrupted in {where}. Go on with: {go_on}") from stop
    return summary


def _command(recipe: Recipe, work_dir: Path) -> list[str]:
    paths = [os.path.relpath(path) for path in (recipe.path, work_dir)]
    command = ["python", "tools/train_stages.py", paths[0], "--work-dir", paths[1]]
    return command + ["--fast"] * recipe.fast


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
    find_function(data["function"])
    marker = work_dir / "data_state.json"
    done = read_json(marker, keys=("data",))
    if done and done["data"] == data:
        say(console, "[dim]data: made before[/]")
        return
    say(console, "[bold]data[/]  " + data["function"])
    started = time.monotonic()
    job = {"task": "call", "function": data["function"], "kwargs": data.get("kwargs", {})}
    run_process(job, work_dir / "data_log", console)
    write_json(marker, {"data": data, "seconds": time.monotonic() - started})
    finished(console, "data", time.monotonic() - started, "")


def _train(run: Run, runs: list[Run], work_dir: Path, count: str, console: Console) -> None:
    if run.state:
        say(console, f"[dim]{count} {run.name}: finished before[/]")
        return
    checkpoints = {other.stage.name: other.state["checkpoint"] for other in runs if other.state}
    before = run.started or {}
    write_json(
        run.folder / "state.json", {"hash": run.hash, "seed": run.seed, "seconds": before.get("seconds", 0.0)}
    )
    config = write_stage_config(run, checkpoints, work_dir)
    last = last_checkpoint(run.folder)
    going_on = f" (going on from its last checkpoint, {last.name})" if last else ""
    say(console, f"[bold]{count} {run.name}[/]  {os.path.relpath(run.stage.config)}{going_on}")
    started = time.monotonic()
    try:
        metrics = run_process({"task": "train", "config": str(config)}, run.folder, console)
    finally:
        seconds = before.get("seconds", 0.0) + time.monotonic() - started
        state = {"hash": run.hash, "seed": run.seed, "seconds": seconds}
        write_json(run.folder / "state.json", state)
    checkpoint = find_checkpoint(run.folder)
    state |= {"checkpoint": str(checkpoint), "metrics": metrics, "files": digests([checkpoint, config])}
    write_json(run.folder / "state.json", state)
    figures = "  ".join(f"{key.rpartition('/')[2]} {value:.4g}" for key, value in list(metrics.items())[:2])
    finished(console, run.name, seconds, figures)


def say(console: Console, text: str) -> None:
    console.print(text, highlight=False, soft_wrap=True)


def finished(console: Console, name: str, seconds: float, figures: str) -> None:
    say(console, f"  [green]done[/] {name} in {seconds // 60:.0f}:{seconds % 60:02.0f}  {figures}")


def run_process(job: dict[str, Any], folder: Path, console: Console) -> Any:
    """Run a job of ``stage_process.py``, its output in ``folder/log.txt``; returns its result."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = {key: folder / name for key, name in (("progress", "progress.jsonl"), ("result", "result.json"))}
    for path in paths.values():
        path.unlink(missing_ok=True)
    write_json(folder / "job.json", job | {key: str(path) for key, path in paths.items()})
    log = folder / "log.txt"
    root = str(Path(mmvideoiq.__file__).parents[1])
    environment = os.environ | {
        "PYTHONPATH": os.pathsep.join(filter(None, [root, os.environ.get("PYTHONPATH")]))
    }
    ends, held = os.pipe()  # the process ends when this one is gone and with it the end that it holds
    command = [sys.executable, "-m", "mmvideoiq.stage_process", str(folder / "job.json"), str(ends)]
    try:
        with log.open("a") as output:
            process = subprocess.Popen(
                command, stdout=output, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL, env=environment,
                start_new_session=True, pass_fds=[ends],
            )  # fmt: skip
        try:
            _follow(process, paths["progress"], console)
        finally:
            _stop(process)
    finally:
        os.close(ends)
        os.close(held)
    if process.returncode == os.EX_IOERR:
        raise StageFailed(f"no space left for {os.path.relpath(folder)}: free some, then go on with --resume")
    if process.returncode:
        raise StageFailed(_end_of(log, process.returncode))
    return read_json(paths["result"])


def _end_of(log: Path, code: int) -> str:
    """What a process said last: its one-line error, or the end of its log."""
    lines = log.read_text(errors="replace").splitlines()
    said = re.fullmatch(r"stage_process\.py: error: (.*)", lines[-1]) if lines else None
    if said:
        return f"{said[1]} ({os.path.relpath(log)})"
    tail = "\n".join("  " + line for line in lines[-LOG_LINES:])
    return f"exit code {code}; the end of {os.path.relpath(log)}:\n{tail}"


def _stop(process: subprocess.Popen) -> None:
    """End the process and its loader workers, if it still runs."""
    if process.poll() is not None:
        return
    try:
        os.killpg(process.pid, signal.SIGTERM)
    except ProcessLookupError:
        return
    try:
        process.wait(10)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def _follow(process: subprocess.Popen, path: Path, console: Console) -> None:
    """Show a process's progress until it ends: a moving bar on a terminal, else a line per quarter or epoch."""
    columns = (
        TextColumn("  "),
        BarColumn(bar_width=24),
        TextColumn("{task.description}"),
        TimeElapsedColumn(),
    )
    started, read, quarter = time.monotonic(), 0, 0
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task("starting", total=1.0)
        while process.poll() is None:
            time.sleep(0.2)
            text = path.read_text() if path.is_file() else ""
            lines = text[: text.rfind("\n") + 1].splitlines()
            for line in lines[read:]:
                entry = json.loads(line)
                bar.update(task, description=entry["text"], completed=entry["done"] or 0.0)
                if not console.is_terminal and entry["log"] and int(4 * (entry["done"] or 0.0)) > quarter:
                    quarter = int(4 * entry["done"])
                    say(console, f"  {entry['text']}  ({time.monotonic() - started:.0f} s)")
            read = len(lines)
