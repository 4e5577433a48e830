"""From a video to the frames that a model sees, exactly as the host's test pipeline makes them; in a process apart.

``DecordInit, SampleFrames(clip_len=1, num_clips=T, test_mode=True), DecordDecode, Resize((-1, short_side)),
CenterCrop(crop)`` of MMAction2 are :func:`read_frames` here. A video with fewer than T frames repeats some, in order;
one with a display matrix is shown upright; frames are counted, so that a variable rate does not matter.

Axes: T frames, H W.
"""

from __future__ import annotations

import importlib.util
import io
import json
import os
import signal
import subprocess
import sys
import threading
import time
import weakref
from collections.abc import Iterator
from itertools import count
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import numpy as np

PATIENCE = 300.0  # seconds for one clip
RENEW = 500  # clips after which a decoder process is replaced
CUT = "is damaged or cut off"
NARROW = "is too narrow: decord misreads some videos of 72 pixels and less"


class VideoError(ValueError):
    """A video or camera gives no frames; one line: which one, and why."""

    def __init__(self, source: str | os.PathLike[str] | int, reason: str) -> None:
        self.source, self.reason = source, reason
        super().__init__(f"{f'camera {source}' if isinstance(source, int) else os.fspath(source)}: {reason}")


class Preprocessing(NamedTuple):
    """From a video to frames.

    frames: T, at the middles of T equal parts of the video.
    short_side: to which frames are resized; None leaves them.
    crop: side of the square cut from the middle; None takes all.
    size: (H, W) that the model sees.
    """

    frames: int
    short_side: int | None
    crop: int | None
    size: tuple[int, int]


def sample_indices(total: int, frames: int) -> np.ndarray:
    """Indices of T frames among ``total``; int32."""
    part = total / float(frames)
    return (np.arange(frames) * part + part / 2.0).astype(np.int32)


def prepare(frame: np.ndarray, preprocessing: Preprocessing) -> np.ndarray:
    """Resize the short side (bilinear) and cut out the middle. uint8 (h, w, 3) -> (H, W, 3)."""
    if preprocessing.short_side is not None:
        import cv2

        height, width = frame.shape[:2]
        scale = preprocessing.short_side / min(height, width)
        frame = cv2.resize(frame, (int(width * scale + 0.5), int(height * scale + 0.5)))
    if preprocessing.crop is not None:
        side = preprocessing.crop
        top, left = (max(0, edge - side) // 2 for edge in frame.shape[:2])
        frame = frame[top : top + side, left : left + side]
    return frame


def read_frames(path: str | os.PathLike[str], preprocessing: Preprocessing) -> np.ndarray:
    """The T frames of a video that are tested: uint8 (T, H, W, 3), RGB.

    Raises:
        VideoError: no such file, no video, damaged, or without ``crop`` of another size than the model's.
    """
    with _Faults(path):
        reader = _open(path)
        frames = reader.get_batch(sample_indices(len(reader), preprocessing.frames)).asnumpy()
        return np.stack([_fitting(prepare(frame, preprocessing), preprocessing) for frame in frames])


def stream_frames(
    source: str | os.PathLike[str] | int,
    preprocessing: Preprocessing,
    *,
    every: int = 1,
    fps: float | None = None,
) -> Iterator[np.ndarray]:
    """The frames of a file, or of a camera (by its index), one by one: uint8 (H, W, 3), RGB.

    Args:
        every: give one of so many frames, >= 1.
        fps: instead, give so many per second, at most all; of a file by its mean rate, of a camera by the clock.

    Raises:
        VideoError: as :func:`read_frames`; a damaged file may give good frames before it.
    """
    frames = _camera(source, every, fps) if isinstance(source, int) else _file(source, every, fps)
    with _Faults(source):
        for frame in frames:
            yield _fitting(prepare(frame, preprocessing), preprocessing)


def _file(path: str | os.PathLike[str], every: int, fps: float | None) -> Iterator[np.ndarray]:
    reader = _open(path)
    step = float(every) if fps is None else max(1.0, reader.get_avg_fps() / fps)
    place, total = 0, len(reader)
    for number in count():
        wanted = int(number * step)
        if wanted >= total:
            return
        if wanted > place:
            reader.skip_frames(wanted - place)
        try:
            frame = reader.next()
        except StopIteration:
            raise ValueError(CUT) from None
        if frame.shape[2] != 3:
            raise ValueError(NARROW)
        yield frame.asnumpy()
        place = wanted + 1


def _camera(index: int, every: int, fps: float | None) -> Iterator[np.ndarray]:
    import cv2

    camera = cv2.VideoCapture(index)
    if not camera.isOpened():
        raise ValueError("cannot be opened")
    due = time.perf_counter()
    for number in count():
        if not camera.grab():
            raise ValueError("stopped giving frames")
        if fps is None:
            wanted = number % every == 0
        else:
            now = time.perf_counter()
            wanted = now >= due
            if wanted:
                due = max(due + 1 / fps, now)
        if wanted:
            yield cv2.cvtColor(camera.retrieve()[1], cv2.COLOR_BGR2RGB)


def _open(path: str | os.PathLike[str]) -> Any:
    import decord

    decord.logging.set_level(decord.logging.QUIET)
    file = Path(path)
    if not file.exists():
        raise ValueError("there is no such file")
    if not file.is_file():
        raise ValueError("is a folder" if file.is_dir() else "is no regular file")
    with file.open("rb") as stream:  # decord does not say why it cannot
        if not stream.read(1):
            raise ValueError("is empty")
    reader = decord.VideoReader(os.path.abspath(path), num_threads=1)
    if len(reader) == 0:
        raise ValueError("holds no frames")
    return reader


def _fitting(frame: np.ndarray, preprocessing: Preprocessing) -> np.ndarray:
    if frame.shape[:2] != tuple(preprocessing.size):
        (height, width), wanted = frame.shape[:2], preprocessing.size
        raise ValueError(f"its frames are {width}x{height}, the model takes {wanted[1]}x{wanted[0]}")
    return frame


class _Faults:
    """Turns whatever the decoder raises into a VideoError."""

    def __init__(self, source: str | os.PathLike[str] | int) -> None:
        self.source = source

    def __enter__(self) -> None: ...

    def __exit__(self, kind: Any, error: BaseException | None, trace: Any) -> None:
        if isinstance(error, Exception):
            raise VideoError(self.source, _reason(error)) from None


def _reason(error: Exception) -> str:
    """An exception in words; decord's own are places in its sources and stack traces."""
    text = (str(error).splitlines() or [""])[0]
    if "cannot find video stream" in text:
        return "holds no video, sound perhaps"
    if text.startswith("Error reading") or isinstance(error, UnicodeDecodeError):
        return "is no video, or cut off"
    if "from_size == to_size" in text:
        return NARROW
    if type(error).__name__ == "DECORDError":
        return CUT
    return (error.strerror if isinstance(error, OSError) else None) or text or type(error).__name__


# --- the decoder process --------------------------------------------------------------------------------------------


class Decoder:
    """Reads videos in a process of its own: its crash is one video's error, and the memory it keeps ends with it.

    The process starts at the first video and is replaced after ``renew`` clips. For one thread at a time.

    Raises:
        ImportError: decord or OpenCV is not installed.
    """

    def __init__(self, preprocessing: Preprocessing, *, renew: int = RENEW) -> None:
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
        timer = threading.Timer(PATIENCE, process.kill)
        timer.daemon = True
        timer.start()
        began = time.perf_counter()
        try:
            answer = self._answer(path, process)
        except VideoError:
            if time.perf_counter() - began >= PATIENCE:
                raise VideoError(path, f"took more than {PATIENCE:g} seconds to read") from None
            raise
        finally:
            timer.cancel()
        self._clips += 1
        if self._clips >= self.renew:
            self.close()
        assert answer is not None
        return answer

    def stream(
        self, source: str | os.PathLike[str] | int, *, every: int = 1, fps: float | None = None
    ) -> Iterator[np.ndarray]:
        """:func:`stream_frames`; the process works a little ahead."""
        if every < 1 or (fps is not None and not fps > 0):
            raise ValueError(f"every={every} must be at least 1, fps={fps} above 0")
        process, finished = self._request(source, every=every, fps=fps), False
        try:
            while (answer := self._answer(source, process)) is not None:
                yield answer[0]
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
            pass  # it ended just now: the answer says so
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
        raise VideoError(source, f"the decoder died of it ({how})")

    def _start(self) -> None:
        root = str(Path(__file__).resolve().parents[2])
        paths = [root, *filter(None, [os.environ.get("PYTHONPATH")])]
        self._process = subprocess.Popen(
            [sys.executable, "-c", "from mmvideoiq.deploy.video import serve; serve()"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,  # FFmpeg speaks its mind there
            env={**os.environ, "PYTHONPATH": os.pathsep.join(paths)},
        )
        self._clips = 0
        self._end = weakref.finalize(self, _end, self._process)


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


def serve() -> None:
    """What the decoder process does: answer requests on stdin, one JSON line each, until it closes.

    An answer is a JSON line, followed by the bytes of the frames where it has their ``shape``.
    """
    import cv2

    signal.signal(signal.SIGINT, signal.SIG_IGN)  # its parent decides
    cv2.setNumThreads(1)
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what libraries print does not belong among the answers
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
