"""Run one function in a process of its own, its output in a log, its progress on the terminal."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from mmvideoiq.fileio import read_json, write_json
from mmvideoiq.jobs.environment import child_environment

LOG_LINES = 15
LINE_SECONDS = 20.0  # between lines, where an epoch takes that long
BAR = 24


class StageFailed(RuntimeError):
    """A stage's process ended with an error; the message holds the end of its log and the log's path."""


def log(console: Console, text: str) -> None:
    console.print(text, highlight=False, soft_wrap=True)


def finished(console: Console, name: str, seconds: float, figures: str) -> None:
    log(console, f"  [green]done[/] {name} in {seconds // 60:.0f}:{seconds % 60:02.0f}  {figures}")


def run_process(
    function: str,
    kwargs: Mapping[str, Any],
    folder: Path,
    console: Console,
    *,
    reports: bool = True,
    checks: bool = False,
) -> Any:
    """Call ``function`` in a process of its own (``jobs/worker.py``), its output in ``folder/log.txt``.

    Args:
        function: its dotted name.
        kwargs: its arguments, which JSON can hold.
        reports: it also takes ``progress``, a :class:`mmvideoiq.jobs.worker.Progress`.
        checks: it begins with checks of what the user gave, and calls ``progress.begin()`` after them.

    Returns: its result, if that is a dict or a list.

    Raises:
        StageFailed: the process ended with an error.
    """
    folder.mkdir(parents=True, exist_ok=True)
    paths = {key: folder / name for key, name in (("progress", "progress.jsonl"), ("result", "result.json"))}
    for path in paths.values():
        path.unlink(missing_ok=True)
    job = dict(function=function, kwargs=kwargs, reports=reports, checks=checks)
    write_json(folder / "job.json", job | {key: str(path) for key, path in paths.items()})
    log_file = folder / "log.txt"
    ends, held = os.pipe()  # the process ends when this one, which holds the other end, has ended
    command = [sys.executable, "-m", "mmvideoiq.jobs.worker", str(folder / "job.json"), str(ends)]
    try:
        with log_file.open("a") as output:
            process = subprocess.Popen(
                command, stdout=output, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL, env=child_environment(),
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
        raise StageFailed(_end_of(log_file, process.returncode))
    return read_json(paths["result"])


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
    """Show a process's progress until it ends: a moving bar on a terminal, else lines, of long epochs one each."""
    columns = (
        TextColumn("  "),
        BarColumn(bar_width=BAR),
        TextColumn("{task.description}"),
        TimeElapsedColumn(),
    )
    started = said = time.monotonic()
    read, quarter = 0, 0
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task("starting", total=1.0)
        while process.poll() is None:
            time.sleep(0.2)
            text = path.read_text() if path.is_file() else ""
            lines = text[: text.rfind("\n") + 1].splitlines()
            for line in lines[read:]:
                entry = json.loads(line)
                done, now = entry["done"] or 0.0, time.monotonic()
                bar.update(task, description=_cut(entry["text"], console.width - BAR - 14), completed=done)
                if console.is_terminal or not entry["log"] or not done:
                    continue
                if int(4 * done) > quarter or now - said >= LINE_SECONDS:
                    quarter, said = int(4 * done), now
                    log(console, f"  {entry['text']}  ({now - started:.0f} s)")
            read = len(lines)


def _cut(text: str, width: int) -> str:
    return text if len(text) <= width else f"{text[: max(width - 1, 0)]}\u2026"


def _end_of(log: Path, code: int) -> str:
    """The last output of a process: its one-line error, or the end of its log."""
    lines = log.read_text(errors="replace").splitlines()
    error = re.fullmatch(r"\S+: error: (.*)", lines[-1]) if lines else None
    if error:
        return f"{error[1]} ({os.path.relpath(log)})"
    tail = "\n".join("  " + line for line in lines[-LOG_LINES:])
    return f"exit code {code}; the end of {os.path.relpath(log)}:\n{tail}"
