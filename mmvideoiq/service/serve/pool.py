"""Workers: a thread each with a session and a decoder process of its own, behind one bounded queue."""

from __future__ import annotations

import math
import os
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from mmvideoiq.deploy.session import VideoSession
from mmvideoiq.video.decoder_process import Decoder
from mmvideoiq.video.errors import VideoError

MEMORY = 0.8  # share of the mean time of a task that is the past's
LONGEST_WAIT_S = 60


class Busy(RuntimeError):
    """No place is left.

    Attributes:
        retry_after_s: when to ask again, a whole number of seconds.
    """

    def __init__(self, reason: str, retry_after_s: int = 1) -> None:
        super().__init__(reason)
        self.retry_after_s = retry_after_s


class Task(Protocol):
    """What a worker does; it raises nothing."""

    def run(self, worker: Worker) -> None: ...

    def refuse(self, reason: str) -> None:
        """It will not be run."""


@dataclass(frozen=True)
class Worker:
    session: VideoSession
    decoder: Decoder


class Pool:
    """Runs tasks in the order in which they come.

    Args:
        sessions: one for each worker.
        waiting: tasks that may wait while all workers are at work.
        video_s: time limit of a decoder.
    """

    def __init__(self, sessions: Sequence[VideoSession], *, waiting: int, video_s: float) -> None:
        self._limit = waiting
        self._workers = [
            Worker(session, Decoder(session.preprocessing, clip_timeout_s=video_s)) for session in sessions
        ]
        self._tasks: deque[Task] = deque()
        self._changed = threading.Condition()
        self._stopping, self._busy, self._mean_s = False, 0, 1.0
        self._ready = threading.Semaphore(0)  # a worker each
        self._threads = [
            threading.Thread(target=self._work, args=(worker,), daemon=True, name=f"worker {number}")
            for number, worker in enumerate(self._workers)
        ]
        for thread in self._threads:
            thread.start()

    @property
    def size(self) -> int:
        return len(self._workers)

    @property
    def waiting(self) -> int:
        return len(self._tasks)

    @property
    def busy(self) -> int:
        return self._busy

    def submit(self, task: Task) -> int:
        """Queue a task; how many are before it.

        Raises:
            Busy: the queue is full, or the server stops.
        """
        with self._changed:
            if self._stopping:
                raise Busy("the server is stopping", 5)
            idle = self.size - self._busy
            before = max(0, len(self._tasks) + 1 - idle)
            if before > self._limit:
                seconds = math.ceil(self._mean_s * (before + 1) / self.size)
                raise Busy(
                    f"all {self.size} workers are at work and {len(self._tasks)} videos wait: try again later",
                    min(max(1, seconds), LONGEST_WAIT_S),
                )
            self._tasks.append(task)
            self._changed.notify()
            return before

    def withdraw(self, task: Task) -> None:
        """Refuse a task that still waits, so that its place is free."""
        with self._changed:
            try:
                self._tasks.remove(task)
            except ValueError:  # it has begun, or ended
                return
        task.refuse("nobody waits for it")

    def _work(self, worker: Worker) -> None:
        with suppress(VideoError, OSError):  # starts the decoder process and imports what it needs
            worker.decoder.read(os.devnull)
        self._ready.release()
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._tasks or self._stopping)
                if not self._tasks:
                    return
                task = self._tasks.popleft()
                self._busy += 1
            began = time.perf_counter()
            task.run(worker)
            with self._changed:
                self._busy -= 1
                self._mean_s = MEMORY * self._mean_s + (1 - MEMORY) * (time.perf_counter() - began)

    def wait_ready(self) -> None:
        """Return when all decoder processes have started. To be called once."""
        for _ in self._workers:
            self._ready.acquire()

    def stop(self) -> None:
        """Take no more tasks; those that wait are still run."""
        with self._changed:
            self._stopping = True
            self._changed.notify_all()

    def close(self, *, wait_s: float) -> None:
        """Stop, give what has begun that time, and end the decoder processes."""
        self.stop()
        until = time.monotonic() + wait_s
        for thread in self._threads:
            thread.join(max(0.0, until - time.monotonic()))
        with self._changed:
            left = list(self._tasks)
            self._tasks.clear()
        for task in left:
            task.refuse("the server stopped")
        for worker in self._workers:
            worker.decoder.close()
            worker.session.close()


def open_sessions(open_one: Callable[[], VideoSession], count: int) -> list[VideoSession]:
    """Sessions whose networks are built, so that no client waits for them."""
    sessions = [open_one() for _ in range(count)]
    for session in sessions:
        warm(session)
    return sessions


def warm(session: VideoSession) -> None:
    """Build what clips of the bundle's length may need: every action, for any number of frames; and single frames."""
    frames = np.full((session.preprocessing.frames, *session.frame_shape), 128, np.uint8)
    session.run(frames)
    skips = np.array(session.actions.skip_mask)
    for action in np.flatnonzero(~skips):
        for count in (len(frames),) if not takes_streams(session) else range(1, len(frames) + 1):
            session.run(frames[:count], actions=np.full(count, action))
    if takes_streams(session):
        session.push(frames[0])
        session.reset()


def takes_streams(session: VideoSession) -> bool:
    """Whether frames may come one by one: not where features are shifted between them."""
    return all(node.op != "shift" for node in session.bundle.graphs["recognition"])
