"""The processes of contenders, which are started together and measured in turn."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from mmvideoiq.jobs.environment import child_environment


class Worker:
    """A contender's process, which does the tasks that :meth:`ask` sends."""

    def __init__(self, name: str, spec: Mapping[str, Any], folder: Path) -> None:
        self.name = name
        path, self.log = folder / f"{name}.json", folder / f"{name}.log"
        path.write_text(json.dumps(spec))
        with self.log.open("w") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "mmvideoiq.latency.contenders", str(path)],
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, text=True, bufsize=1,
                env=child_environment(threads=spec["threads"]),
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

    def seconds(self, task: str) -> float:
        """What the task took, by the contender's own clock."""
        return self.ask(task)["seconds"]

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
