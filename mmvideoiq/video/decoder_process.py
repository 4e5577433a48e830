"""Decoding in child processes: a crash of the decoder is an error of one video, and the next is read ahead."""

from __future__ import annotations

import importlib.util
import io
import json
import math
import os
import signal
import subprocess
import sys
import threading
import time
import weakref
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from queue import SimpleQueue
from typing import Any, BinaryIO

import numpy as np

from mmvideoiq.jobs.environment import child_environment
from mmvideoiq.video.reader import Preprocessing, VideoError, read_frames, stream_frames

CLIP_TIMEOUT_S = 300.0  # for one clip
STREAM_TIMEOUT_S = 60.0  # between two frames of a stream, in addition to the requested interval
FRAMES_PER_S = 5.0  # that a stream is expected to give at least
MAX_CLIPS_PER_WORKER = 500  # clips after which a decoder process is replaced


class Decoder:
    """Reads videos in a child process: its crash is an error of one video, and its memory is freed with it.

    The process starts at the first video and is replaced after ``renew`` clips. For one thread at a time.

    Raises:
        ImportError: decord or OpenCV is not installed.
    """

    def __init__(self, preprocessing: Preprocessing, *, renew: int = MAX_CLIPS_PER_WORKER) -> None:
        for module, package in (("decord", "decord"), ("cv2", "opencv-python-headless")):
            if importlib.util.find_spec(module) is None:
                raise ImportError(f"reading videos needs {package}: pip install {package}")
        self.preprocessing, self.renew = preprocessing, renew
        self._process: subprocess.Popen[bytes] | None = None
        self._clips = 0

    @property
    def pid(self) -> int | None:
        """Of the process, if one runs."""
        return None if self._process is None else self._process.pid

    def read(self, path: str | os.PathLike[str]) -> tuple[np.ndarray, float]:
        """:func:`read_frames`, and the seconds it took."""
        process = self._request(path)
        with _TimeLimit(process, CLIP_TIMEOUT_S) as limit:
            try:
                answer = self._answer(path, process)
            except VideoError:
                if limit.exceeded:
                    raise VideoError(path, f"took more than {CLIP_TIMEOUT_S:g} seconds to read") from None
                raise
        self._clips += 1
        if self._clips >= self.renew:
            self.close()
        assert answer is not None
        return answer

    def stream(
        self, source: str | os.PathLike[str] | int, *, every: int = 1, fps: float | None = None
    ) -> Iterator[np.ndarray]:
        """:func:`stream_frames`; the process works a little ahead.

        Raises:
            VideoError: also if no frame comes within :data:`STREAM_TIMEOUT_S`, and the time between two frames.
        """
        if every < 1 or (fps is not None and not fps > 0):
            raise ValueError(f"every={every} must be at least 1, fps={fps} above 0")
        process, finished = self._request(source, every=every, fps=fps), False
        seconds = STREAM_TIMEOUT_S + (every / FRAMES_PER_S if fps is None else 1 / fps)
        try:
            with _TimeLimit(process, seconds) as limit:
                try:
                    while (answer := self._answer(source, process)) is not None:
                        limit.pause()
                        yield answer[0]
                        limit.start()
                except VideoError:
                    if limit.exceeded:
                        raise VideoError(source, f"gave no frame within {seconds:g} seconds") from None
                    raise
            finished = True
        finally:
            if not finished:
                self.close()

    def close(self) -> None:
        """End the process; the next video starts another."""
        if self._process is not None:
            self._end()
            self._process = None

    def _request(self, source: str | os.PathLike[str] | int, **stream: Any) -> subprocess.Popen[bytes]:
        if self._process is None or self._process.poll() is not None:
            self.close()
            self._start()
        name = source if isinstance(source, int) else os.path.abspath(source)
        request = dict(source=name, preprocessing=self.preprocessing._asdict(), stream=stream or None)
        assert self._process and self._process.stdin
        try:
            self._process.stdin.write(json.dumps(request).encode() + b"\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            pass  # it has just ended: reading the answer reports it
        return self._process

    def _answer(
        self, source: str | os.PathLike[str] | int, process: subprocess.Popen[bytes]
    ) -> tuple[np.ndarray, float] | None:
        """Frames and seconds; None at a stream's end."""
        assert isinstance(process.stdout, io.BufferedReader)
        header = process.stdout.readline()
        if header.endswith(b"\n"):
            answer = json.loads(header)
            if "error" in answer:
                raise VideoError(source, answer["error"])
            if "shape" not in answer:
                return None
            frames = np.empty(answer["shape"], np.uint8)
            if process.stdout.readinto(frames.reshape(-1).data) == frames.size:
                return frames, answer["seconds"]
        self.close()
        code = process.returncode
        how = f"by signal {-code}" if code < 0 else f"with code {code}"
        raise VideoError(source, f"the decoder crashed ({how})")

    def _start(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-c", "from mmvideoiq.video.decoder_process import serve; serve()"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,  # where FFmpeg reports each damaged frame
            env=child_environment(),
        )
        self._clips = 0
        self._end = weakref.finalize(self, _end, self._process)


class _TimeLimit:
    """Kills a process that works longer than ``seconds`` and sets ``exceeded``. Begins at once, anew by ``start``."""

    def __init__(self, process: subprocess.Popen[bytes], seconds: float) -> None:
        self.exceeded = False
        self._process, self._seconds = process, seconds
        self._left = threading.Event()
        self.start()
        threading.Thread(target=self._watch, daemon=True, name="time limit").start()

    def start(self) -> None:
        self._due = time.monotonic() + self._seconds

    def pause(self) -> None:
        self._due = math.inf

    def _watch(self) -> None:
        while not self._left.wait(min(1.0, self._seconds / 4)):
            if time.monotonic() > self._due:
                self.exceeded = True
                self._process.kill()
                return

    def __enter__(self) -> _TimeLimit:
        return self

    def __exit__(self, *_: object) -> None:
        self._left.set()


def _end(process: subprocess.Popen[bytes]) -> None:
    if process.poll() is None:
        process.kill()
    process.wait()
    for pipe in (process.stdin, process.stdout):
        try:
            if pipe:
                pipe.close()
        except BrokenPipeError:
            pass  # a request that was never read


def decode_ahead(
    paths: Iterator[str | os.PathLike[str]], preprocessing: Preprocessing, decoders: int
) -> Iterator[tuple[np.ndarray, float] | VideoError]:
    """:meth:`Decoder.read` of each path, in order, while the next ones are read; for a bad one its error.

    Args:
        paths: read as far as needed, so that they may be endless.
        decoders: processes, >= 1; each is a video ahead.
    """
    owned = [Decoder(preprocessing) for _ in range(decoders)]
    free: SimpleQueue[Decoder] = SimpleQueue()
    for decoder in owned:
        free.put(decoder)

    def read(path: str | os.PathLike[str]) -> tuple[np.ndarray, float] | VideoError:
        decoder = free.get()
        try:
            return decoder.read(path)
        except VideoError as error:
            return error
        finally:
            free.put(decoder)

    pool = ThreadPoolExecutor(decoders, thread_name_prefix="decoder")
    try:
        waiting: deque[Future] = deque(pool.submit(read, path) for path in islice(paths, decoders))
        while waiting:
            waiting.extend(pool.submit(read, path) for path in islice(paths, 1))
            yield waiting.popleft().result()
    finally:
        pool.shutdown(wait=False, cancel_futures=True)
        for decoder in owned:
            decoder.close()


def serve() -> None:
    """The decoder process: answers requests on stdin, one JSON line each, until it closes.

    An answer is a JSON line, followed by the bytes of the frames where it has their ``shape``.
    """
    import cv2

    signal.signal(signal.SIGINT, signal.SIG_IGN)  # its parent ends it
    cv2.setNumThreads(1)
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # keeps what libraries print out of the answers
    for line in sys.stdin.buffer:
        request = json.loads(line)
        preprocessing = Preprocessing(**request["preprocessing"])
        try:
            began = time.perf_counter()
            if request["stream"] is None:
                frames = read_frames(request["source"], preprocessing)
                _send(answers, frames, seconds=time.perf_counter() - began)
            else:
                for frame in stream_frames(request["source"], preprocessing, **request["stream"]):
                    _send(answers, frame, seconds=0.0)
                _send(answers)
        except VideoError as error:
            _send(answers, error=error.reason)


def _send(answers: BinaryIO, frames: np.ndarray | None = None, **header: Any) -> None:
    if frames is not None:
        header["shape"] = frames.shape
    answers.write(json.dumps(header).encode() + b"\n")
    if frames is not None:
        answers.write(np.ascontiguousarray(frames).data)
    answers.flush()
