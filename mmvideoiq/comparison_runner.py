"""Runs a comparison: tests the rows that have no result yet, then measures milliseconds; see ``rows.py``."""

from __future__ import annotations

import hashlib
import json
import re
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mmengine.config import Config
from rich.console import Console

from mmvideoiq.recipe import read_json, write_json
from mmvideoiq.recipe_runner import finished, run_process, say
from mmvideoiq.rows import Comparison, Row, check_rows


def run_comparison(
    comparison: Comparison, work_dir: Path, *, timed: bool, console: Console
) -> dict[str, Any]:
    """Check, test and time the rows; finished ones are taken from ``work_dir`` as they are.

    Returns: ``name``, ``rows`` (as in ``summary.json``, with ``curve`` and, where measured, ``ms_per_clip`` and
        ``ms_of``: 'bundle' or 'PyTorch'), ``metric`` and ``source`` (versions and counts).

    Raises:
        RowError: before anything is tested.
        StageFailed: the process that tests or measures ended with an error.
    """
    work_dir = work_dir.resolve()
    jobs = _write_jobs(comparison, work_dir)
    _test(comparison, jobs, work_dir, console)
    done = {name: read_json(Path(job["out"])) for name, job in jobs.items()}
    rows = [done[row.name]["row"] | {"curve": row.curve} for row in comparison.rows]
    if timed and any(row.bundle for row in comparison.rows):
        _time(comparison, jobs, done, rows, work_dir, console)
    source = done[comparison.rows[0].name]["source"]
    return {"name": comparison.name, "rows": rows, "metric": comparison.metric, "source": source}


def _write_jobs(comparison: Comparison, work_dir: Path) -> dict[str, dict[str, Any]]:
    """What the testing process is told of each row, by name; its config is written to the row's folder."""
    configs = check_rows(comparison.rows)
    jobs: dict[str, dict[str, Any]] = {}
    for row in sorted(comparison.rows, key=lambda row: row.way == "usage_of"):
        folder = work_dir / "rows" / re.sub(r"[^\w.@-]+", "_", row.name)
        folder.mkdir(parents=True, exist_ok=True)
        config = folder / "config.py"
        configs[row.name].dump(config)
        job = dict(
            name=row.name,
            config=str(config),
            checkpoints=list(row.checkpoints),
            way=row.way,
            value=row.value,
            draws=row.draws,
            out=str(folder / "result.json"),
        )
        borrowed = jobs[row.value]["hash"] if row.way == "usage_of" else None
        known = [config.read_text(), row.way, row.value, row.draws, comparison.metric, borrowed]
        job["hash"] = _hash(known, [_stamp(path) for path in row.checkpoints])
        jobs[row.name] = job
    return jobs


def _hash(*parts: Any) -> str:
    return hashlib.sha256(json.dumps(parts, default=str).encode()).hexdigest()[:16]


def _stamp(path: str) -> list[Any]:
    """What tells one version of a file from the next."""
    if "://" in path:
        return [path]
    facts = Path(path).stat()
    return [path, facts.st_size, facts.st_mtime_ns]


def _test(
    comparison: Comparison, jobs: Mapping[str, dict[str, Any]], work_dir: Path, console: Console
) -> None:
    left = []
    for name, job in jobs.items():
        before = read_json(Path(job["out"]))
        if before and before["hash"] == job["hash"]:
            say(console, f"[dim]{name}: finished before[/]")
        else:
            left.append(job)
    if not left:
        return
    for job in left:
        if job["way"] == "usage_of" and all(other["name"] != job["value"] for other in left):
            job["usage"] = read_json(Path(jobs[job["value"]]["out"]))["usages"]
    say(console, f"[bold]testing[/]  {', '.join(job['name'] for job in left)}")
    began = time.monotonic()
    task = {"task": "test_rows", "rows": left, "metric": comparison.metric, "folder": str(work_dir / "logs")}
    run_process(task, work_dir / "testing", console)
    finished(console, f"{len(left)} rows", time.monotonic() - began, "")


def _time(
    comparison: Comparison,
    jobs: Mapping[str, dict[str, Any]],
    done: Mapping[str, dict[str, Any]],
    rows: list[dict[str, Any]],
    work_dir: Path,
    console: Console,
) -> None:
    """Measure, or take what was measured before, and put it into ``rows``."""
    task = dict(
        task="time_rows",
        rows={row.name: _timed(row, jobs[row.name], done) for row in comparison.rows},
        config=jobs[comparison.rows[0].name]["config"],
        engine=comparison.engine,
        clips=comparison.timed_clips,
        folder=str(work_dir / "timing"),
    )
    task["rows"] = {name: spec for name, spec in task["rows"].items() if spec}
    stamps = [_stamp(str(row.bundle / "manifest.json")) for row in comparison.rows if row.bundle]
    known = _hash(task, stamps, [job["hash"] for job in jobs.values()])
    state = read_json(work_dir / "timing" / "state.json")
    if state and state["hash"] == known:
        say(console, "[dim]milliseconds: measured before[/]")
    else:
        say(console, f"[bold]milliseconds[/]  {', '.join(task['rows'])}")
        began = time.monotonic()
        state = {"hash": known, "ms_per_clip": run_process(task, work_dir / "timing", console)}
        write_json(work_dir / "timing" / "state.json", state)
        finished(console, "milliseconds", time.monotonic() - began, "")
    for row in rows:
        if row["name"] in state["ms_per_clip"]:
            row["ms_per_clip"] = state["ms_per_clip"][row["name"]]
            row["ms_of"] = "bundle" if "bundle" in task["rows"][row["name"]] else "PyTorch"


def _timed(row: Row, job: Mapping[str, Any], done: Mapping[str, dict[str, Any]]) -> dict[str, Any] | None:
    """How the row runs for real: its bundle; or a float network as the host runs it; None for a simulated one."""
    if row.bundle is None:
        backbone = Config.fromfile(job["config"]).model.backbone.type
        if "AnyPrecision" in backbone:
            return None
        return dict(config=job["config"], checkpoint=row.checkpoints[0])
    spec: dict[str, Any] = dict(bundle=str(row.bundle))
    if row.way == "precision":
        spec["usage"] = {str(row.value): 1.0}
    elif row.way == "usage_of":
        spec["usage"] = done[row.value]["row"]["usage"]
    elif row.way == "budget":
        spec["budget"] = f"{row.value:g}"
    return spec
