"""Frames one by one: of files, cameras and network streams.

A recorded source gives each of its frames. Of a live one a thread keeps the newest frame, so that none is ever late;
those that nobody has taken by then are dropped and counted.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Generator, Iterator
from contextlib import closing
from functools import partial
from itertools import count, islice
from typing import Any

import numpy as np

from mmvideoiq.video.container import mean_rate, open_video, reason, upright
from mmvideoiq.video.decord_reader import DecordReader
from mmvideoiq.video.errors import VideoError, check_file
from mmvideoiq.video.network import Connection, NetworkVideo, decoded, is_address, to_stderr
from mmvideoiq.video.preprocessing import Preprocessing
from mmvideoiq.video.reader import prepare

Picture = Callable[[], np.ndarray]  # gives a frame when it is wanted: uint8 (h, w, 3), RGB


class FrameStream:
    """Iterator over the frames of a source: uint8 (H, W, 3), RGB.

    Args:
        source: a file's path, a camera's index, or an address (:class:`~mmvideoiq.video.network.NetworkVideo`).
        every: give every so many-th frame, >= 1.
        fps: instead, give so many per second, at most all; of what is recorded by its mean rate, else by the clock.
        connection: for addresses.
        notify: takes a line for each attempt to reconnect, maybe in another thread.

    Attributes:
        live: whether the source is.
        dropped: frames that were due, and replaced by a newer one before they were taken.

    Raises:
        VideoError: the source cannot be read or, from the iterator, no longer; frames of another size than the model's.
    """

    def __init__(
        self,
        source: str | os.PathLike[str] | int,
        preprocessing: Preprocessing,
        *,
        every: int = 1,
        fps: float | None = None,
        connection: Connection = Connection(),  # noqa: B008
        notify: Callable[[str], None] = to_stderr,
    ) -> None:
        check_pace(every, fps)
        self.source, self.preprocessing = source, preprocessing.checked()
        self.live = isinstance(source, int)
        if isinstance(source, int):
            pictures, rate = _camera(source), 0.0
        elif is_address(source):
            video = NetworkVideo(str(source), connection=connection, notify=notify)
            pictures, rate, self.live = _pictures(video.frames()), video.rate, video.live
        elif preprocessing.reader == "decord":
            old = DecordReader(source)
            pictures, rate = (partial(np.asarray, frame) for frame in old.frames()), old.rate
        else:
            pictures, rate = _file(os.fspath(source))
        if self.live:
            self._newest = _Newest(_by_the_clock(pictures, every, fps))
            self._pictures: Iterator[Picture] = self._newest
        elif fps is not None and not rate:
            raise VideoError(source, "does not say how many frames a second it has: set the pace with every")
        else:
            self._pictures = _one_of(pictures, every if fps is None else max(1.0, rate / fps))

    @property
    def dropped(self) -> int:
        return self._newest.dropped if self.live else 0

    def close(self) -> None:
        """Leave the source."""
        if isinstance(self._pictures, (_Newest, Generator)):
            self._pictures.close()

    def __iter__(self) -> FrameStream:
        return self

    def __next__(self) -> np.ndarray:
        picture = next(self._pictures)
        try:
            return prepare(picture(), self.preprocessing)
        except ValueError as error:
            raise VideoError(self.source, str(error)) from None


def check_pace(every: int, fps: float | None) -> None:
    if every < 1 or (fps is not None and not fps > 0):
        raise ValueError(f"every={every} must be at least 1, fps={fps} above 0")


class _Newest:
    """The newest picture of a live source, which a thread reads.

    Attributes:
        dropped: older ones that were not taken.
    """

    def __init__(self, pictures: Iterator[Picture]) -> None:
        self.dropped = 0
        self._changed = threading.Condition()
        self._picture: Picture | None = None
        self._end: BaseException | None = None
        self._closed = False
        threading.Thread(target=self._read, args=(pictures,), daemon=True, name="live source").start()

    def _read(self, pictures: Iterator[Picture]) -> None:
        end: BaseException = StopIteration()
        try:
            for picture in pictures:
                if self._closed:
                    break
                with self._changed:
                    self.dropped += self._picture is not None
                    self._picture = picture
                    self._changed.notify()
        except Exception as error:  # it belongs to whoever asks for frames
            end = error
        with self._changed:
            self._end = end
            self._changed.notify()

    def close(self) -> None:
        """Leave the source, when its next picture comes."""
        self._closed = True

    def __iter__(self) -> _Newest:
        return self

    def __next__(self) -> Picture:
        with self._changed:
            self._changed.wait_for(lambda: self._picture is not None or self._end is not None)
            picture, self._picture = self._picture, None
            if picture is None:
                assert self._end is not None
                raise self._end
            return picture


def _pictures(frames: Iterator[Any]) -> Iterator[Picture]:
    from av.video.reformatter import VideoReformatter

    to_rgb = VideoReformatter()
    return (partial(upright, frame, to_rgb) for frame in frames)


def _file(path: str) -> tuple[Iterator[Picture], float]:
    """Pictures, and their mean rate per second, 0 where the file does not say."""
    from av.error import FFmpegError

    check_file(path)
    container, stream = open_video(path, threads=1)

    def frames() -> Iterator[Any]:
        given = 0
        with closing(container):
            try:
                for frame in decoded(container, stream):
                    given += 1
                    yield frame
            except FFmpegError as error:
                raise VideoError(
                    path, f"is damaged or cut off after frame {given} ({reason(error)})"
                ) from None
        if not given:
            raise VideoError(path, "holds no frames that can be decoded")

    return _pictures(frames()), mean_rate(stream)


def _camera(index: int) -> Iterator[Picture]:
    import cv2

    camera = cv2.VideoCapture(index)
    if not camera.isOpened():
        raise VideoError(index, "cannot be opened; check its index, and that nothing else uses it")

    def pictures() -> Iterator[Picture]:
        while camera.grab():
            yield partial(cv2.cvtColor, camera.retrieve()[1], cv2.COLOR_BGR2RGB)
        raise VideoError(index, "stopped giving frames")

    return pictures()


def _one_of(pictures: Iterator[Picture], step: float) -> Iterator[Picture]:
    """Those with the numbers ``int(0 * step), int(1 * step), ...``."""
    wanted = count()
    due = int(next(wanted) * step)
    for number, picture in enumerate(pictures):
        if number == due:
            yield picture
            due = int(next(wanted) * step)


def _by_the_clock(pictures: Iterator[Picture], every: int, fps: float | None) -> Iterator[Picture]:
    """One of ``every``, or at most ``fps`` in a second."""
    if fps is None:
        yield from islice(pictures, None, None, every)
        return
    due = time.perf_counter()
    for picture in pictures:
        now = time.perf_counter()
        if now >= due:
            yield picture
            due = max(due + 1 / fps, now)
