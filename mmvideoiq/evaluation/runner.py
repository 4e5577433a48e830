"""Runs a comparison: tests the rows that have no result yet, then measures milliseconds; see ``config.py``."""

from __future__ import annotations

import os
import re
import time
from pathlib import Path
from typing import Any

from rich.console import Console

from mmvideoiq.data.frame_kinds import load_frame_kinds
from mmvideoiq.evaluation.advice import correct_clips, gains
from mmvideoiq.evaluation.bundle_match import check_bundles
from mmvideoiq.evaluation.config import Comparison, Row, RowError, check_rows, read_config
from mmvideoiq.fileio import read_json
from mmvideoiq.jobs import cache
from mmvideoiq.jobs.lock import locked
from mmvideoiq.jobs.process import finished, log, run_process

VERSION = 2
"""Goes up when the same row would be tested in another way, or written with more."""
TIMING_VERSION = 2
"""Goes up when the same row would be timed in another way."""
TEST, TIME = "mmvideoiq.evaluation.evaluator.test_rows", "mmvideoiq.latency.rows.time_rows"


def run_comparison(
    comparison: Comparison, work_dir: Path, *, timed: bool, console: Console
) -> dict[str, Any]:
    """Check, test and time the rows; finished ones are read from ``work_dir``.

    Returns: ``name``, ``metric`` ``rows`` and ``source`` of :class:`Evaluation`.

    Raises:
        RowError: before anything is tested, also where another process has ``work_dir``.
        StageFailed: the process that tests or measures ended with an error.
    """
    with locked(work_dir, RowError):
        check_bundles(comparison.rows)
        evaluation = Evaluation(comparison, work_dir, console=console)
        evaluation.test()
        if timed and any(row.bundle for row in comparison.rows):
            evaluation.time()
        evaluation.advise()
    rows = [found | {"curve": row.curve} for found, row in zip(evaluation.rows, comparison.rows, strict=True)]
    return dict(name=comparison.name, metric=comparison.metric, rows=rows, source=evaluation.source)


class Evaluation:
    """Rows that are tested, then timed, each result kept in ``work_dir`` and used again while nothing changed.

    Attributes:
        rows: as in ``summary.json``, after :meth:`test`; :meth:`time` adds ``ms_per_clip`` and ``ms_of`` ('engine' or
            'PyTorch') to those that can be timed, :meth:`advise` ``against`` and ``advice`` to policies.
        source: versions and counts.
        traces: by row, files with the action of each frame, one per run.

    Raises:
        RowError: a row is invalid.
    """

    def __init__(self, comparison: Comparison, work_dir: Path, *, console: Console) -> None:
        self.comparison, self.work_dir, self.console = comparison, work_dir.resolve(), console
        self._jobs = _write_jobs(comparison, self.work_dir)
        self.rows: list[dict[str, Any]] = []
        self.source: dict[str, Any] = {}
        self.traces: dict[str, list[str]] = {name: job["traces"] for name, job in self._jobs.items()}

    def test(self) -> None:
        """Test the rows that have no result."""
        pending = []
        for name, job in self._jobs.items():
            if cache.load(Path(job["out"]), job["hash"]) and all(map(os.path.isfile, job["traces"])):
                log(self.console, f"[dim]{name}: finished before[/]")
            else:
                pending.append(job)
        for job in pending:
            if job["override"] == "usage_of" and all(other["name"] != job["value"] for other in pending):
                job["usage"] = self._result(job["value"])["usages"]
        if pending:
            log(self.console, f"[bold]testing[/]  {', '.join(job['name'] for job in pending)}")
            job = dict(
                rows=pending,
                metric=self.comparison.metric,
                kinds=self.comparison.kinds,
                folder=str(self.work_dir / "logs"),
            )
            began = time.monotonic()
            run_process(TEST, {"job": job}, self.work_dir / "testing", self.console)
            finished(self.console, f"{len(pending)} rows", time.monotonic() - began, "")
        self.rows = [self._result(row.name)["row"] for row in self.comparison.rows]
        self.source = self._result(self.comparison.rows[0].name)["source"]

    def time(self) -> None:
        """Measure the milliseconds of the rows that have a bundle or a float network, in turn on the same clips."""
        contenders = {row.name: self._contender(row) for row in self.comparison.rows}
        task = dict(
            rows={name: contender for name, contender in contenders.items() if contender},
            config=self._jobs[self.comparison.rows[0].name]["config"],
            engine=self.comparison.engine,
            clips=self.comparison.timed_clips,
            threads=self.comparison.threads or self.source["threads"],
            folder=str(self.work_dir / "timing"),
        )
        stamps = [_stamp(str(row.bundle / "manifest.json")) for row in self.comparison.rows if row.bundle]
        hash = cache.hash_of(TIMING_VERSION, task, stamps, [job["hash"] for job in self._jobs.values()])
        file = self.work_dir / "timing" / "state.json"
        if state := cache.load(file, hash):
            log(self.console, "[dim]milliseconds: measured before[/]")
        else:
            log(self.console, f"[bold]milliseconds[/]  {', '.join(task['rows'])}")
            began = time.monotonic()
            ms = run_process(TIME, {"job": task}, self.work_dir / "timing", self.console)
            state = cache.store(file, hash, ms_per_clip=ms)
            finished(self.console, "milliseconds", time.monotonic() - began, "")
        self.source["timed_threads"] = task["threads"]
        for row in self.rows:
            if row["name"] in state["ms_per_clip"]:
                row["ms_per_clip"] = state["ms_per_clip"][row["name"]]
                row["ms_of"] = "PyTorch" if "checkpoint" in task["rows"][row["name"]] else "engine"

    def advise(self) -> None:
        """Say of each policy as trained what it gains over the rows that need none, and what to use.

        Nothing is said where another figure than top-1 is compared.
        """
        if self.comparison.metric != "acc/top1":
            return
        correct = {
            name: correct_clips([read_json(Path(file)) for file in files])
            for name, files in self.traces.items()
        }
        for row, given in zip(self.rows, self.comparison.rows, strict=True):
            if row["role"] == "policy" and given.override is None:
                random = [
                    each.name
                    for each in self.comparison.rows
                    if (each.override, each.value) == ("usage_of", given.name)
                ]
                row |= gains(row, self.rows, correct, random=random[:1])

    def _result(self, name: str) -> dict[str, Any]:
        return read_json(Path(self._jobs[name]["out"]))

    def _contender(self, row: Row) -> dict[str, Any] | None:
        """What is timed: the row's bundle, a quantized network, or a float one in MMAction2; None for a simulated one.

        Actions that no session would choose by itself are those of the row's first run.
        """
        if row.override == "static_int8":
            network = Path(self._jobs[row.name]["out"]).with_name("network_0.xml")
            return dict(network=str(network), frames=row.value.get("frames"))
        if row.bundle is None:
            config = read_config(row)
            if "AnyPrecision" in config.model.backbone.type:
                return None
            if row.override == "threshold":
                config.model.threshold = row.value
            path = Path(self._jobs[row.name]["config"]).with_name("timed_config.py")
            config.dump(path)
            return dict(config=str(path), checkpoint=row.checkpoints[0])
        spec: dict[str, Any] = dict(bundle=str(row.bundle))
        if row.override == "precision":
            spec["usage"] = {str(row.value): 1.0}
        elif row.override == "difference":
            spec["gate"] = self._result(row.name)["row"]["gate"]
        elif row.override in ("usage_of", "frames", "oracle", "multiplier"):
            spec |= dict(trace=self.traces[row.name][0], policy=row.override == "multiplier")
        elif row.override == "budget":
            spec["budget"] = f"{row.value:g}"
        return spec


def _write_jobs(comparison: Comparison, work_dir: Path) -> dict[str, dict[str, Any]]:
    """The testing process's input for each row, by name; its config is written to the row's folder."""
    configs = check_rows(comparison.rows)
    kinds = None if comparison.kinds is None else cache.hash_of(load_frame_kinds(comparison.kinds))
    jobs: dict[str, dict[str, Any]] = {}
    for row in sorted(comparison.rows, key=lambda row: row.override == "usage_of"):
        folder = work_dir / "rows" / re.sub(r"[^\w.@-]+", "_", row.name)
        folder.mkdir(parents=True, exist_ok=True)
        config = folder / "config.py"
        configs[row.name].dump(config)
        job = dict(
            name=row.name,
            config=str(config),
            checkpoints=list(row.checkpoints),
            override=row.override,
            value=row.value,
            draws=row.draws,
            traces=[str(folder / f"trace_{run}.json") for run in range(len(row.checkpoints) * row.draws)],
            out=str(folder / "result.json"),
        )
        borrowed = jobs[row.value]["hash"] if row.override == "usage_of" else kinds
        known = [VERSION, config.read_text(), row.override, row.value, row.draws, comparison.metric, borrowed]
        job["hash"] = cache.hash_of(known, [_stamp(path) for path in row.checkpoints])
        jobs[row.name] = job
    return jobs


def _stamp(path: str) -> list[Any]:
    """What changes with the content of a file."""
    if "://" in path:
        return [path]
    facts = Path(path).stat()
    return [path, facts.st_size, facts.st_mtime_ns]
