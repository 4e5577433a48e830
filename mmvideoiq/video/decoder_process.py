"""Decoding in a child process: its crash is an error of one video. What it runs: ``decoder_worker.py``."""

from __future__ import annotations

import importlib.util
import io
import json
import math
import os
import subprocess
import sys
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any, NamedTuple

import numpy as np

from mmvideoiq.jobs.environment import child_environment
from mmvideoiq.video.errors import NoDecoder, VideoError
from mmvideoiq.video.network import Connection, is_address, to_stderr
from mmvideoiq.video.preprocessing import Preprocessing
from mmvideoiq.video.streams import check_pace

CLIP_TIMEOUT_S = 300.0  # for one clip
STREAM_TIMEOUT_S = 60.0  # between two frames of a stream, in addition to the requested interval
FRAMES_PER_S = 5.0  # that a stream is expected to give at least
START_TIMEOUT_S = 120.0  # for a process to load what it needs
START_ATTEMPTS, START_DELAY_S = 3, 0.5  # the delay doubles
#: Of a process's memory: FFmpeg keeps 0.1 to 3 KB of each clip, and the heap is fragmented.
CLIPS_BETWEEN_CHECKS = 250
MAX_GROWTH = 16 * 2**20  # bytes since the first check, after which a process is replaced
NEXT = "next"  # asks for a stream's next frame
PACKAGES = {"cv2": "opencv-python-headless"}  # whose name is not their module's
SERVE = "from mmvideoiq.video.decoder_worker import serve; serve()"  # what the process runs


class Decoded(NamedTuple):
    """A video's frames, uint8 (T, H, W, 3), how many of them were damaged, and the seconds it took."""

    frames: np.ndarray
    lost: int
    seconds: float


class Decoder:
    """Reads videos in a child process: its crash is an error of one video, and its memory is freed with it.

    The process starts at the first video and is replaced when it has grown by :data:`MAX_GROWTH`. One thread at a time.
    One that cannot be started, :data:`START_ATTEMPTS` times, is a ``NoDecoder``, a ``VideoError`` too.

    Args:
        threads: that decode a video, >= 1.
        clip_timeout_s: for one clip; None takes :data:`CLIP_TIMEOUT_S`.
        program: what the process runs: ``decoder_worker.serve``, or one that reads otherwise.

    Attributes:
        live, dropped: of the last stream, as ``FrameStream`` has them.

    Raises:
        ValueError: a preprocessing that cannot be.
        ImportError: PyAV (or decord) or OpenCV is not installed.
    """

    def __init__(
        self,
        preprocessing: Preprocessing,
        *,
        threads: int = 1,
        clip_timeout_s: float | None = None,
        program: str = SERVE,
    ) -> None:
        for module in (preprocessing.checked().reader, "cv2"):
            if importlib.util.find_spec(module) is None:
                package = PACKAGES.get(module, module)
                raise ImportError(f"reading videos needs {package}: pip install {package}")
        self.preprocessing, self.threads, self._clip_timeout_s = preprocessing, threads, clip_timeout_s
        self._program = program
        self.live, self.dropped = False, 0
        self._process: subprocess.Popen[bytes] | None = None
        self._answering = False  # whether the process still owes an answer to the last request
        self._clips, self._resident = 0, 0

    @property
    def pid(self) -> int | None:
        """Of the process, if one runs."""
        return None if self._process is None else self._process.pid

    def read(self, path: str | os.PathLike[str]) -> Decoded:
        """``reader.read_clip``, and the seconds it took."""
        process = self._request(path, threads=self.threads)
        seconds = CLIP_TIMEOUT_S if self._clip_timeout_s is None else self._clip_timeout_s
        with _TimeLimit(process, seconds) as limit:
            try:
                header, frames = self._answer(path, process)
            except VideoError:
                if limit.exceeded:
                    raise VideoError(path, f"took more than {seconds:g} seconds to read") from None
                raise
        self._answering = False
        self._clips += 1
        if self._clips % CLIPS_BETWEEN_CHECKS == 0 and self._has_grown(process):
            self.close()
        assert frames is not None
        return Decoded(frames, header["lost"], header["seconds"])

    def stream(
        self,
        source: str | os.PathLike[str] | int,
        *,
        every: int = 1,
        fps: float | None = None,
        connection: Connection = Connection(),  # noqa: B008
        notify: Callable[[str], None] = to_stderr,
    ) -> Iterator[np.ndarray]:
        """``streams.FrameStream``; of what is recorded the next frame is read ahead. Another request ends it.

        Args:
            notify: takes a line for each attempt to reconnect.

        Raises:
            VideoError: also if no frame comes within :data:`STREAM_TIMEOUT_S`, and the time between two frames.
        """
        check_pace(every, fps)
        pace = dict(every=every, fps=fps, connection=connection)
        process, finished = self._request(source, stream=pace), False
        seconds = STREAM_TIMEOUT_S + connection.timeout_s + (every / FRAMES_PER_S if fps is None else 1 / fps)
        self.live, self.dropped = False, 0
        try:
            with _TimeLimit(process, seconds) as limit:
                try:
                    self._send(process, NEXT)
                    while True:
                        header, frame = self._answer(source, process)
                        if "notice" in header:
                            limit.start()
                            notify(header["notice"])
                            continue
                        self.live, self.dropped = header["live"], header["dropped"]
                        if frame is None:
                            break
                        if not self.live:
                            self._send(process, NEXT)
                        limit.pause()
                        yield frame
                        limit.start()
                        if self.live:
                            self._send(process, NEXT)
                except VideoError:
                    if limit.exceeded:
                        raise VideoError(source, f"gave no frame within {seconds:g} seconds") from None
                    raise
            finished, self._answering = True, False
        finally:
            if not finished and self._process is process:
                self.close()

    def start(self, source: str | os.PathLike[str] | int = "decoder") -> None:
        """Start the process in place of one that runs, and wait until it can decode.

        Args:
            source: that is named in errors.

        Raises:
            NoDecoder: it cannot, and why.
        """
        for attempt in range(START_ATTEMPTS):
            self.close()
            time.sleep(attempt and START_DELAY_S * 2 ** (attempt - 1))
            try:
                self._start(source)
            except OSError as error:
                why = error.strerror or str(error)
            except VideoError as error:
                why = error.reason
                if self._process is not None:  # it runs, and says that something does not load
                    self.close()
                    raise NoDecoder(source, f"no decoder can be started: {why}") from None
            else:
                return
        raise NoDecoder(source, f"no decoder can be started: {why}; free memory, or use fewer processes")

    def close(self) -> None:
        """End the process; the next video starts another."""
        if self._process is not None:
            self._end()
            self._process = None
        self._answering = False

    def _request(self, source: str | os.PathLike[str] | int, **how: Any) -> subprocess.Popen[bytes]:
        if self._answering or self._process is None or self._process.poll() is not None:
            self.start(
                source
            )  # what an interrupted request asked for is not taken for the answer to this one
        name = source if isinstance(source, int) or is_address(source) else os.path.abspath(source)
        assert self._process
        self._answering = True
        self._send(self._process, dict(how, source=name, preprocessing=self.preprocessing._asdict()))
        return self._process

    def _send(self, process: subprocess.Popen[bytes], request: Any) -> None:
        assert process.stdin
        if process.stdin.closed:
            return  # the process was replaced: as below
        try:
            process.stdin.write(json.dumps(request).encode() + b"\n")
            process.stdin.flush()
        except BrokenPipeError:
            pass  # it has just ended: reading the answer reports it

    def _answer(
        self, source: str | os.PathLike[str] | int, process: subprocess.Popen[bytes]
    ) -> tuple[dict[str, Any], np.ndarray | None]:
        """What is said, and the frames that follow it if any do."""
        if self._process is not process:
            raise VideoError(source, "was left for another video")
        assert isinstance(process.stdout, io.BufferedReader)
        line = process.stdout.readline()
        if line.endswith(b"\n"):
            header = json.loads(line)
            if "error" in header:
                self._answering = False
                raise VideoError(source, header["error"])
            if "shape" not in header:
                return header, None
            frames = np.empty(header["shape"], np.uint8)
            if process.stdout.readinto(frames.reshape(-1).data) == frames.size:
                return header, frames
        with suppress(subprocess.TimeoutExpired):
            process.wait(1)  # how it ended by itself says more than that it was killed
        self.close()
        code = process.wait()
        how = f"by signal {-code}" if code < 0 else f"with code {code}"
        raise VideoError(source, f"the decoder crashed ({how})")

    def _has_grown(self, process: subprocess.Popen[bytes]) -> bool:
        """Whether it holds more memory than at the first check; True where systems do not say."""
        try:
            with open(f"/proc/{process.pid}/statm") as file:
                resident = int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
        except OSError:
            return True
        self._resident = self._resident or resident
        return resident > self._resident + MAX_GROWTH

    def _start(self, source: str | os.PathLike[str] | int) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-c", self._program],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,  # where FFmpeg reports each damaged frame
            env=child_environment(),
        )
        self._clips, self._resident = 0, 0
        self._end = weakref.finalize(self, _end, self._process)
        self._answering = True
        with _TimeLimit(self._process, START_TIMEOUT_S):
            self._send(self._process, dict(load=self.preprocessing.reader))
            self._answer(source, self._process)
        self._answering = False


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
