"""Contenders' processes, started together and asked in turn."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import mmvideoiq


class Worker:
    """A contender's process: :meth:`ask` it to do a task, it answers."""

    def __init__(self, name: str, spec: Mapping[str, Any], folder: Path) -> None:
        self.name = name
        path, self.log = folder / f"{name}.json", folder / f"{name}.log"
        path.write_text(json.dumps(spec))
        root = str(Path(mmvideoiq.__file__).parents[1])
        threads = str(spec["threads"])
        environment = os.environ | {
            "PYTHONPATH": os.pathsep.join(filter(None, [root, os.environ.get("PYTHONPATH")])),
            "OMP_NUM_THREADS": threads,
            "MKL_NUM_THREADS": threads,
        }
        with self.log.open("w") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "mmvideoiq.latency.contenders", str(path)],
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, env=environment, text=True, bufsize=1,
            )  # fmt: skip

    def answer(self) -> Any:
        line = self.process.stdout.readline()  # type: ignore[union-attr]
        if not line:
            self.process.wait()
            tail = self.log.read_text(errors="replace").strip().splitlines()[-1:]
            raise RuntimeError(f"{self.name} ended: {''.join(tail)} (log: {self.log})")
        return json.loads(line)

    def ask(self, task: str) -> Any:
        self.process.stdin.write(task + "\n")  # type: ignore[union-attr]
        return self.answer()

    def close(self) -> None:
        self.process.stdin.close()  # type: ignore[union-attr]
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


@contextmanager
def started(
    specs: Mapping[str, Mapping[str, Any]], folder: Path, advance: Callable[[], None] = lambda: None
) -> Iterator[dict[str, Worker]]:
    """One worker per spec, ready; they end with the block."""
    with ExitStack() as stack:
        workers = {}
        for name, spec in specs.items():
            workers[name] = Worker(name, spec, folder)
            stack.callback(workers[name].close)
            workers[name].answer()
            advance()
        yield workers


def interleave(
    workers: Mapping[str, Worker],
    task: str,
    *,
    warmup: int,
    repeats: int,
    advance: Callable[[], None] = lambda: None,
) -> dict[str, list[float]]:
    """Seconds of ``task`` in each round; every other round goes backwards."""
    seconds: dict[str, list[float]] = {name: [] for name in workers}
    for turn in range(warmup + repeats):
        for name in list(workers)[:: 1 if turn % 2 == 0 else -1]:
            found = workers[name].ask(task)["seconds"]
            if turn >= warmup:
                seconds[name].append(found)
            advance()
    return seconds
