"""Looking at videos in processes of their own: a decoder that crashes or hangs costs its video, not the run."""

from __future__ import annotations

import multiprocessing
import os
import re
import signal
import time
from collections.abc import Generator, Sequence
from contextlib import suppress
from itertools import islice
from multiprocessing.connection import Connection, wait
from typing import Any

import decord

CONTEXT: Any = multiprocessing.get_context(
    "fork" if "fork" in multiprocessing.get_all_start_methods() else "spawn"
)


def look(path: str, *, decode: bool) -> dict[str, Any]:
    """``{"frames": count}`` of a video, or ``{"reason": why it cannot be read}``.

    Opening reads each packet, without decoding one: enough to find foreign and cut files and to count frames.

    Args:
        decode: decode the first and the last frame too.
    """
    try:
        reader = decord.VideoReader(path, num_threads=1)
        frames = len(reader)
        if decode and frames:
            reader.get_batch(sorted({0, frames - 1}))
    except Exception as error:  # decord raises DECORDError, RuntimeError and more; each means the same here
        return {"reason": _reason(error)}
    return {"frames": frames} if frames else {"reason": "it has no frames"}


def look_at(
    paths: Sequence[str], *, decode: bool, workers: int, timeout: float
) -> Generator[tuple[int, dict[str, Any]], None, None]:
    """:func:`look` at videos in other processes; gives positions and findings as they come."""
    jobs = iter(enumerate(paths))
    lookers: dict[Connection, _Looker] = {}
    try:
        for job in islice(jobs, workers):
            looker = _Looker(decode)
            lookers[looker.pipe] = looker
            looker.begin(job, timeout)
        while lookers:
            deadline = min(looker.deadline for looker in lookers.values())
            ready = wait(list(lookers), timeout=max(0.0, deadline - time.monotonic()))
            for pipe, looker in list(lookers.items()):
                if pipe in ready:
                    finding = looker.finding()
                elif time.monotonic() > looker.deadline:
                    looker.stop()
                    finding = {"reason": f"no answer within {timeout:g} seconds"}
                else:
                    continue
                position = looker.position
                following = next(jobs, None)
                if following is None or not looker.process.is_alive():
                    looker.stop()
                    del lookers[pipe]
                    looker = looker if following is None else _Looker(decode)
                if following is not None:
                    lookers[looker.pipe] = looker
                    looker.begin(following, timeout)
                yield position, finding
    finally:
        for looker in lookers.values():
            looker.stop()


class _Looker:
    """A process that looks at one video after another."""

    def __init__(self, decode: bool) -> None:
        self.pipe, theirs = CONTEXT.Pipe()
        self.process = CONTEXT.Process(target=_serve, args=(theirs, decode, os.getpid()), daemon=True)
        self.process.start()
        theirs.close()
        self.position, self.deadline = -1, 0.0

    def begin(self, job: tuple[int, str], timeout: float) -> None:
        self.position, path = job
        self.deadline = time.monotonic() + timeout
        with suppress(OSError):  # it died meanwhile, which finding() will tell
            self.pipe.send(path)

    def finding(self) -> dict[str, Any]:
        try:
            return self.pipe.recv()
        except (EOFError, OSError):
            self.process.join()
            code = self.process.exitcode or 0
            how = signal.Signals(-code).name if code < 0 else f"exit code {code}"
            return {"reason": f"the decoder crashed ({how})"}

    def stop(self) -> None:
        self.process.kill()
        self.process.join()
        self.pipe.close()


def _serve(pipe: Connection, decode: bool, parent: int) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent ends us
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)  # decord and ffmpeg write about each bad file
    while os.getppid() == parent:
        if pipe.poll(2.0):
            pipe.send(look(pipe.recv(), decode=decode))


def _reason(error: Exception) -> str:
    """Decord's message in one line: without time and place in its source, and in words where it is known."""
    if isinstance(error, UnicodeDecodeError):
        return "no video that decord knows"
    text = re.sub(r"\[[\d:]+\] \S+?:\d+: ", "", str(error).strip().splitlines()[0] if str(error) else "")
    known = {
        "Error reading": "no video that decord knows",
        "cannot find video stream": "no video stream that decord can decode: only sound, or a codec such as AV1",
        "av_read_frame failed": "cut off or damaged",
        "Error sending packet": "damaged: a frame does not decode",
    }
    return next(
        (words for key, words in known.items() if key in text), f"{type(error).__name__}: {text[:160]}"
    )
