"""The frames of a video that a model sees, exactly as MMAction2's test pipeline makes them.

``DecordInit, SampleFrames(clip_len=1, num_clips=T, test_mode=True), DecordDecode, Resize((-1, short_side)),
CenterCrop(crop)`` are :func:`read_frames` here. A video with fewer than T frames repeats some, in order;
one with a display matrix is shown upright; frames are counted, so that a variable rate does not matter.

Axes: T frames, H W.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np

from mmvideoiq.video.errors import VideoError
from mmvideoiq.video.preprocessing import Preprocessing

CUT = "is damaged or cut off"
NARROW = "is too narrow: decord misreads some videos of 72 pixels and less"


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
        VideoError: missing, not a video, damaged, or without ``crop`` of another size than the model's.
    """
    with _VideoErrors(path):
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
        every: give every so many-th frame, >= 1.
        fps: instead, give so many per second, at most all; of a file by its mean rate, of a camera by the clock.

    Raises:
        VideoError: as :func:`read_frames`; a damaged file may give good frames before it.
    """
    frames = _camera(source, every, fps) if isinstance(source, int) else _file(source, every, fps)
    with _VideoErrors(source):
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
        raise ValueError("does not exist")
    if not file.is_file():
        raise ValueError("is a folder" if file.is_dir() else "is not a regular file")
    with file.open("rb") as stream:  # decord does not report the reason
        if not stream.read(1):
            raise ValueError("is empty")
    reader = decord.VideoReader(os.path.abspath(path), num_threads=1)
    if len(reader) == 0:
        raise ValueError("has no frames")
    return reader


def _fitting(frame: np.ndarray, preprocessing: Preprocessing) -> np.ndarray:
    if preprocessing.size is not None and frame.shape[:2] != tuple(preprocessing.size):
        (height, width), wanted = frame.shape[:2], preprocessing.size
        raise ValueError(f"its frames are {width}x{height}, the model takes {wanted[1]}x{wanted[0]}")
    return frame


class _VideoErrors:
    """Turns whatever the decoder raises into a VideoError."""

    def __init__(self, source: str | os.PathLike[str] | int) -> None:
        self.source = source

    def __enter__(self) -> None: ...

    def __exit__(self, kind: Any, error: BaseException | None, trace: Any) -> None:
        if isinstance(error, Exception):
            raise VideoError(self.source, reason_of(error)) from None


def reason_of(error: Exception) -> str:
    """An exception in one phrase; decord's own messages are source lines and stack traces."""
    if isinstance(error, UnicodeEncodeError):
        return "has a name that is not UTF-8; rename it"
    text = (str(error).splitlines() or [""])[0]
    if "cannot find video stream" in text:
        return "has no video stream that decord can decode: only sound, or a codec such as AV1"
    if text.startswith("Error reading") or isinstance(error, UnicodeDecodeError):
        return "is not a video, or is cut off"
    if "from_size == to_size" in text:
        return NARROW
    if type(error).__name__ == "DECORDError" and (not text or text.startswith("[")):  # a place in its sources
        return CUT
    return (error.strerror if isinstance(error, OSError) else None) or text or type(error).__name__
