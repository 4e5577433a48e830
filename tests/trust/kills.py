"""Kills at random moments, and the run after them compared with one that nobody disturbed."""

from __future__ import annotations

import random
import shutil
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil

from tests.trust.isolated import TRACEBACK
from tests.trust.subjects import Subject, differences, errors, start
from tests.trust.table import Row

PATIENCE_S = 900.0  # for a run
OUTLIVED_S = 60.0  # for the children of what was killed
SHOWN = 3  # differences of a run
ATTEMPTS = 5  # to kill a child before its parent is done


class Reference:
    """An undisturbed run: its content, and the seconds it took."""

    def __init__(self, subject: Subject, folder: Path) -> None:
        self.folder = folder
        shutil.rmtree(folder, ignore_errors=True)
        folder.parent.mkdir(parents=True, exist_ok=True)
        log, began = folder.with_suffix(".log"), time.monotonic()
        code = start(subject.argv(folder), log).wait(PATIENCE_S)
        if code:
            raise RuntimeError(f"the undisturbed run ended with code {code}: {errors(log)[-500:]}")
        self.seconds = time.monotonic() - began
        self.content = subject.content(folder)


def children(process: subprocess.Popen) -> list[psutil.Process]:
    try:
        return psutil.Process(process.pid).children(recursive=True)
    except psutil.NoSuchProcess:
        return []


def still_there(processes: list[psutil.Process]) -> list[psutil.Process]:
    """Those that have not ended within :data:`OUTLIVED_S`; nobody may have waited for the others."""
    due = time.monotonic() + OUTLIVED_S
    while (left := [each for each in processes if lives(each)]) and time.monotonic() < due:
        time.sleep(0.1)
    return left


def lives(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def compared(subject: Subject, folder: Path, reference: Any) -> list[str]:
    """A problem for each difference, of which few are shown."""
    found = differences(reference, subject.content(folder))
    return found[:SHOWN] + [f"and {len(found) - SHOWN} more differences"] * (len(found) > SHOWN)


def last_run(subject: Subject, folder: Path, reference: Any, *more: str) -> list[str]:
    """The run goes on undisturbed to its end; what is wrong with it."""
    log = folder.with_suffix(".log")
    try:
        code = start([*subject.argv(folder), *more], log).wait(PATIENCE_S)
    except subprocess.TimeoutExpired:
        return [f"hangs, see {log}"]
    if code:
        return [f"goes on and ends with code {code}: {errors(log).strip()[-300:]}"]
    return compared(subject, folder, reference)


def killed(
    subject: Subject,
    folder: Path,
    *,
    reference: Reference,
    kills: int,
    per_run: int,
    seed: int,
    until: float,
    tell: Callable[[str], None],
) -> Row:
    """Runs of which each is killed up to ``per_run`` times, started again at once, and compared at its end."""
    began, rng, row = time.monotonic(), random.Random(f"{seed}/{subject.name}"), Row(subject.name)
    done = identical = runs = 0
    while done < kills and time.monotonic() < until:
        out, here, left = folder / f"killed{runs}", 0, []
        shutil.rmtree(out, ignore_errors=True)
        runs += 1
        for turn in range(per_run):
            tell(f"{subject.name}: {done} kills, run {runs}")
            process = start(subject.argv(out), out.with_suffix(".log"))
            moment = rng.uniform(0, reference.seconds * (turn + 1) / per_run)
            try:
                process.wait(moment)
                break  # it was done before
            except subprocess.TimeoutExpired:
                left += children(process)
                process.kill()
                process.wait()
            here += 1
            if done + here == kills:
                break
        problems = last_run(subject, out, reference.content)
        problems += [f"process {each.pid} outlived its parent" for each in still_there(left)]
        row.problems += [f"run {runs} ({here} kills): {problem}" for problem in problems]
        done, identical = done + here, identical + here * (not problems)
        if not problems:
            shutil.rmtree(out)
    row.figures = dict(tried=done, held=identical, runs=runs, seconds=time.monotonic() - began)
    return row


def with_dead_children(
    subject: Subject,
    folder: Path,
    *,
    reference: Reference,
    kills: int,
    seed: int,
    named: str,
    more: tuple[str, ...],
    until: float,
    tell: Callable[[str], None],
) -> Row:
    """Runs in which a child process is killed: the command says so and ends in order, and goes on to the same result.

    Args:
        named: a part of the child's command line.
        more: options with which the run goes on.
    """
    began, rng = time.monotonic(), random.Random(f"{seed}/{subject.name}/children")
    row, held, tried = Row(f"{subject.name}, dead workers"), 0, 0
    while tried < kills and time.monotonic() < until:
        out = folder / f"dead{tried}"
        tell(f"{row.name}: {tried}")
        moment = rng.uniform(0.2, 0.7) * reference.seconds
        problems = ["was done before a worker could be killed"]
        for attempt in range(ATTEMPTS):  # a machine that was busy before may be fast now
            shutil.rmtree(out, ignore_errors=True)
            ended = kill_a_child(subject, out, moment / 2**attempt, named)
            if ended is not None:
                problems = ended
                break
        problems += last_run(subject, out, reference.content, *more)
        row.problems += [f"run {tried}: {problem}" for problem in problems]
        tried, held = tried + 1, held + (not problems)
    row.figures = dict(tried=tried, held=held, runs=tried, seconds=time.monotonic() - began)
    return row


def kill_a_child(subject: Subject, out: Path, moment: float, named: str) -> list[str] | None:
    """Kill a child after ``moment`` seconds; what is wrong with how the command ends. None: it was done before."""
    log = out.with_suffix(".log")
    process, due = start(subject.argv(out), log), time.monotonic() + moment
    victim = None
    while victim is None and process.poll() is None:
        time.sleep(0.05)
        if time.monotonic() > due:
            victim = next((each for each in children(process) if is_named(each, named)), None)
            if victim is not None:
                victim.kill()
    try:
        code, said = process.wait(PATIENCE_S), errors(log)
    except subprocess.TimeoutExpired:
        process.kill()
        return ["hangs"]
    if TRACEBACK in said or code not in (0, 1) or (code and "error: " not in said):
        return [f"ended with code {code}: {said.strip()[-300:]}"]
    return [] if victim is not None else None


def is_named(process: psutil.Process, part: str) -> bool:
    try:
        return part in " ".join(process.cmdline())
    except psutil.NoSuchProcess:
        return False
