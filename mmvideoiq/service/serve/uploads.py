"""Videos that clients sent: files in a temporary folder, for a bounded time, under names of our own."""

from __future__ import annotations

import logging
import math
import secrets
import shutil
import threading
import time
from collections.abc import Callable
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

import numpy as np

from mmvideoiq.jobs.temporary import temporary_folder
from mmvideoiq.video.decoder_process import Decoded, Decoder
from mmvideoiq.video.errors import VideoError

MOST = 1000  # videos that are kept
HEAD = 2048  # bytes by which a file is known as text
#: Text that FFmpeg takes for a list of other files and addresses.
LISTS = (b"#EXTM3U", b"ffconcat", b"v=0", b"<?xml", b"<MPD")
log = logging.getLogger("mmvideoiq.serve")


class VideoGone(VideoError):
    """A video was given up before it was recognized."""


@dataclass(eq=False)
class Video:
    """A video, and once it was decoded the frames of it that are recognized.

    Attributes:
        id: what clients call it; it cannot be guessed.
        path: of its file, which is removed once the frames are there.
        until: when it is given up, on the clock of :class:`Uploads`; infinity for a sample.
        users: who recognize it now, or wait for a worker.
        gone: it was given up.
    """

    id: str
    path: Path
    until: float
    users: int = 0
    gone: bool = False
    lost: int = 0
    seconds: float = 0.0
    _decoding: threading.Lock = field(default_factory=threading.Lock)

    @property
    def frames_path(self) -> Path:
        return self.path.with_suffix(".npy")

    def decoded(self, decoder: Decoder) -> Decoded:
        """Its frames, read by ``decoder`` the first time; each time where the disk has no room to keep them.

        Raises:
            VideoGone: it was given up.
            VideoError: it cannot be read.
        """
        with self._decoding:
            try:
                if self.frames_path.exists():
                    return Decoded(np.load(self.frames_path), self.lost, self.seconds)
                refuse_lists(self.path)
            except FileNotFoundError:
                raise VideoGone(self.path, "there is no such video any longer: send it again") from None
            decoded = decoder.read(self.path)
            self.lost, self.seconds = decoded.lost, decoded.seconds
            self._keep(decoded.frames)
            if self.gone:
                self.frames_path.unlink(missing_ok=True)
            return decoded

    def _keep(self, frames: np.ndarray) -> None:
        """Keep the frames in place of the file; on a full disk the file stays, and is decoded again."""
        left = self.frames_path
        try:
            np.save(self.frames_path, frames)
            left = self.path
        except OSError as error:  # numpy's have no number
            log.warning("frames cannot be kept in %s (%s)", self.path.parent, error.strerror or error)
        finally:
            left.unlink(missing_ok=True)

    def bytes(self) -> int:
        total = 0
        for path in (self.path, self.frames_path):
            with suppress(FileNotFoundError):  # a worker may just have removed it
                total += path.stat().st_size
        return total


def refuse_lists(path: Path) -> None:
    """VideoError for text: FFmpeg would follow a playlist to other files and addresses."""
    with path.open("rb") as file:
        head = file.read(HEAD)
    if head and (head.lstrip(b"\xef\xbb\xbf \t\r\n").startswith(LISTS) or is_text(head)):
        raise VideoError(path, "is text, not a video")


def is_text(head: bytes) -> bool:
    return not head.startswith(b"YUV4MPEG2") and all(byte >= 32 or byte in b"\t\n\r" for byte in head)


class Uploads:
    """The folder, without what killed servers left of theirs. Any thread may use it.

    Args:
        kept_s: for which a video is kept.
        kept_bytes: of all of them, at most :data:`MOST`; the oldest that nobody uses goes first.
        clock: seconds.
    """

    def __init__(
        self, *, kept_s: float, kept_bytes: int, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._open = ExitStack()
        self.folder = self._open.enter_context(temporary_folder("mmvideoiq-serve-"))
        self._kept_s, self._kept_bytes, self._clock = kept_s, kept_bytes, clock
        self._videos: dict[str, Video] = {}
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return sum(video.until < math.inf for video in self._videos.values())

    def add(self, content: BinaryIO, *, held: bool = False) -> Video:
        """Keep a copy of an open file; ``held`` as by :meth:`hold`."""
        video = self._new(secrets.token_urlsafe(16), self._clock() + self._kept_s)
        video.users = int(held)
        try:
            with video.path.open("wb") as file:
                shutil.copyfileobj(content, file, 2**20)
        except BaseException:  # a full disk
            video.path.unlink(missing_ok=True)
            raise
        with self._lock:
            self._videos[video.id] = video
        self.sweep()
        return video

    def add_sample(self, name: str, write: Callable[[Path], None]) -> Video:
        """Keep what ``write`` writes for as long as the server runs, under a name of ours."""
        video = self._new(name, math.inf)
        write(video.path)
        with self._lock:
            self._videos[video.id] = video
        return video

    def _new(self, name: str, until: float) -> Video:
        return Video(name, self.folder / f"{name}.video", until)

    def get(self, name: str) -> Video | None:
        """None where there is no such video, or no longer."""
        self.sweep()
        with self._lock:
            return self._videos.get(name)

    def hold(self, video: Video) -> None:
        """Do not give the video up before it is released."""
        with self._lock:
            video.users += 1

    def release(self, video: Video) -> None:
        """End a :meth:`hold`; the video's time starts anew."""
        with self._lock:
            video.users -= 1
            video.until = max(video.until, self._clock() + self._kept_s)

    def remove(self, video: Video) -> None:
        with self._lock:
            self._videos.pop(video.id, None)
        video.gone = True
        for path in (video.path, video.frames_path):
            path.unlink(missing_ok=True)

    def sweep(self) -> None:
        """Give up what is old or too much."""
        with self._lock:
            idle = [video for video in self._videos.values() if not video.users and video.until < math.inf]
            total = sum(video.bytes() for video in self._videos.values())
            gone, now, surplus = [], self._clock(), len(self._videos) - MOST
            for video in sorted(idle, key=lambda video: video.until):
                if video.until > now and total <= self._kept_bytes and len(gone) >= surplus:
                    break
                total -= video.bytes()
                gone.append(video)
        for video in gone:
            self.remove(video)

    def close(self) -> None:
        self._open.close()
