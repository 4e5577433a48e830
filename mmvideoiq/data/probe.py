"""Finds videos that cannot be read, in worker processes: a crash or hang of the decoder is an error of one file."""

from __future__ import annotations

import faulthandler
import json
import multiprocessing
import os
import signal
import time
from collections.abc import Generator, Iterable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, wait
from concurrent.futures.process import BrokenProcessPool
from importlib import import_module
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from pebble import ProcessExpired, ProcessFuture, ProcessPool

from mmvideoiq.fileio import write_text
from mmvideoiq.jobs.environment import usable_cpus
from mmvideoiq.video.av_reader import AvReader
from mmvideoiq.video.decord_reader import DecordReader, reason_of
from mmvideoiq.video.errors import VideoError

READERS: dict[str, Any] = {"av": AvReader, "decord": DecordReader}
VERSION = 1  # goes up when the same file would be judged differently
FRAMES = 16  # decoded of each video, evenly spread from the first to the last
TIMEOUT_S = 60.0  # for one video
MAX_CLIPS_PER_WORKER = 500  # videos after which a worker process is replaced
SAVE_EVERY_S = 60.0
CONTEXT: Any = multiprocessing.get_context(
    "fork" if "fork" in multiprocessing.get_all_start_methods() else "spawn"
)


def probe(path: str, *, frames: int = FRAMES, reader: str = "av") -> dict[str, Any]:
    """``{"frames": count}`` of a video, or ``{"reason": why it cannot be read}``; in this process.

    ``lost`` is there where some of the decoded frames are damaged, but not too many to use the video.

    Args:
        frames: how many to decode, evenly spread, the first and the last included; 0 opens only, which reads each
            packet without decoding: enough to find files of another kind and to count frames.
        reader: 'av', of ``VideoInit``, or 'decord', of MMAction2's ``DecordInit``.
    """
    try:
        video = READERS[reader](path)
        if frames:
            video.read(np.unique(np.linspace(0, len(video) - 1, frames).round().astype(int)))
        lost = getattr(video, "lost", 0)
        return {"frames": len(video), **({"lost": lost} if lost else {})}
    except VideoError as error:
        return {"reason": error.reason}
    except Exception as error:  # nothing that one file does ends a check
        return {"reason": f"{type(error).__name__}: {reason_of(error)}"}


def state_of(reader: str) -> str:
    """What a finding depends on beside the file; another state makes it void."""
    return f"{reader} {import_module(reader).__version__}, {VERSION}"


def probe_all(
    paths: Sequence[str],
    *,
    frames: int = FRAMES,
    reader: str = "av",
    workers: int | None = None,
    timeout: float = TIMEOUT_S,
) -> Generator[tuple[int, dict[str, Any]], None, None]:
    """:func:`probe` in worker processes; yields positions and findings as they come.

    A crash, and no answer within ``timeout`` seconds, are findings with a ``reason``. Workers are replaced after
    :data:`MAX_CLIPS_PER_WORKER` videos.

    Args:
        workers: processes; default: one for each CPU.
    """
    workers = min(usable_cpus() if workers is None else workers, len(paths))
    jobs: Iterator[int] = iter(range(len(paths)))
    retried: set[int] = set()
    while workers and (first := next(jobs, None)) is not None:
        pool = ProcessPool(
            workers, max_tasks=MAX_CLIPS_PER_WORKER, initializer=_prepare_worker, context=CONTEXT
        )
        running: dict[ProcessFuture, int] = {}

        down, again = False, []

        def start(positions: Iterable[int], pool=pool, running=running, again=again) -> None:
            for i in positions:
                try:
                    options = dict(frames=frames, reader=reader)
                    running[pool.schedule(probe, (paths[i],), options, timeout=timeout)] = i
                except RuntimeError:  # the pool broke just now
                    again.append(i)

        try:
            start([first, *islice(jobs, workers - 1)])
            while running:
                done = wait(running, timeout=1.0, return_when=FIRST_COMPLETED).done
                if not done and not pool.active:  # it broke before it took these files up
                    done = set(running)
                for future in done:
                    position = running.pop(future)
                    try:
                        finding = future.result(timeout=0)
                    except ProcessExpired as error:
                        finding = {"reason": f"the decoder crashed ({_exit(error.exitcode)})"}
                    except BrokenProcessPool:
                        finding = None
                    except TimeoutError:
                        late = f"no answer within {timeout:g} seconds"
                        finding = {"reason": late} if future.done() else None
                    if finding is None:  # a worker died before the pool knew of which file: another try
                        down = True
                        if position not in retried:
                            retried.add(position)
                            again.append(position)
                            continue
                        finding = {"reason": "the decoder crashed"}
                    if not down:
                        start(islice(jobs, 1))
                    yield position, finding
        finally:
            pool.stop()
            pool.join()
        jobs = iter([*again, *jobs])


def find_unreadable(
    paths: Sequence[str | Path],
    *,
    reader: str = "av",
    cache: Path | None = None,
    workers: int | None = None,
    timeout: float = TIMEOUT_S,
    progress: bool = False,
) -> dict[int, str]:
    """Positions of the videos that cannot be read, with the reason.

    Args:
        reader: as for :func:`probe`.
        cache: JSON file of earlier findings with the same version of the reader; files of unchanged size and time
            are not tried again. Updated each minute and at the end; a cache that cannot be read or written is ignored.
        workers: processes; default: one for each CPU.
        timeout: seconds that a video may take.
        progress: show a bar on stderr.
    """
    names = [os.path.abspath(path) for path in paths]
    known = _read_cache(cache, reader)
    found: dict[int, str | None] = {}
    identities = [identity(Path(name)) for name in names]
    for i, (name, there) in enumerate(zip(names, identities, strict=True)):
        if there is None:
            found[i] = "does not exist"
        elif (entry := known.get(name)) and tuple(entry[:2]) == there:
            found[i] = entry[2]
    todo = [i for i in range(len(names)) if i not in found]
    findings = probe_all([names[i] for i in todo], reader=reader, workers=workers, timeout=timeout)
    saved = time.monotonic()
    try:
        for k, finding in with_bar(findings, done=len(found), total=len(names), show=progress and bool(todo)):
            i = todo[k]
            found[i] = finding.get("reason")
            known[names[i]] = [*(identities[i] or ()), found[i]]
            if time.monotonic() - saved > SAVE_EVERY_S:
                _write_cache(cache, reader, known)
                saved = time.monotonic()
    finally:
        findings.close()
        if todo:
            _write_cache(cache, reader, known)
    return {i: reason for i, reason in sorted(found.items()) if reason is not None}


def identity(path: Path) -> tuple[int, int] | None:
    """Size and time of a file; None if there is none."""
    try:
        stat = path.stat()
    except OSError:
        return None
    return (stat.st_size, stat.st_mtime_ns) if path.is_file() else None


def with_bar(
    found: Iterator[tuple[int, dict]], *, done: int, total: int, show: bool
) -> Iterator[tuple[int, dict]]:
    """Pass on what is found, with a bar on stderr if ``show``."""
    if not show:
        yield from found
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TimeRemainingColumn

    columns = ("checking videos", BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    # drawn from here: a drawing thread and processes that fork do not go together
    with Progress(*columns, console=Console(stderr=True), transient=True, auto_refresh=False) as bar:
        task = bar.add_task("", total=total, completed=done)
        drawn = 0.0
        for item in found:
            bar.advance(task)
            if time.monotonic() - drawn > 0.2:
                bar.refresh()
                drawn = time.monotonic()
            yield item


def _prepare_worker() -> None:
    signal.signal(signal.SIGTERM, signal.SIG_DFL)  # ends a decoder that holds the interpreter, too
    faulthandler.disable()
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)  # decoders write about each bad file


def _exit(code: int | None) -> str:
    return signal.Signals(-code).name if code is not None and code < 0 else f"exit code {code}"


def _read_cache(cache: Path | None, reader: str) -> dict[str, list]:
    try:
        found = json.loads(cache.read_text(encoding="utf-8")) if cache else {}
        videos = found["videos"] if found["reader"] == state_of(reader) else {}
        return {name: [size, time, reason] for name, (size, time, reason) in videos.items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return {}


def _write_cache(cache: Path | None, reader: str, known: dict[str, list]) -> None:
    if cache is not None:
        try:
            write_text(cache, json.dumps({"reader": state_of(reader), "videos": known}, indent=0) + "\n")
        except OSError:
            pass  # a folder that cannot be written: tried again next time
