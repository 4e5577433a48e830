"""Frames of a video file by their place in presentation order, read with PyAV (FFmpeg).

The packets of a file are listed first, without decoding them: their timestamps, sorted, are the order in which frames
are shown, whatever the container promises. A frame is then found by its timestamp, from the key frame before it.
Files without usable timestamps are decoded from the beginning and their frames counted.
"""

from __future__ import annotations

import os
import time
from bisect import bisect_left, bisect_right
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np

from mmvideoiq.video.errors import VideoError

SAMPLING = ("exact", "nearby", "keyframe")
#: Containers in which a key frame is found again by its timestamp, as FFmpeg names them.
SEEKABLE = ("mov,mp4,m4a,3gp,3g2,mj2", "matroska,webm", "avi", "flv", "asf", "mpegts")
MIN_LEAP = 8  # frames that a seek has to spare
MAX_LOST = 0.5  # share of the wanted frames that may be damaged


@dataclass(frozen=True)
class Listing:
    """The frames of a file in the order in which they are shown.

    Attributes:
        times: timestamp of each frame, rising, in units of ``time_base`` seconds; None where the file has none, so
            that frames are known by their number alone.
        keys: timestamps of the key frames, rising, and ``seek``, what to seek to for each.
        count: of frames.
    """

    times: list[int] | None
    keys: list[int]
    seek: list[int]
    count: int


class AvReader:
    """A file of which frames are wanted.

    Args:
        path: of the file.
        threads: of the decoder, >= 1.
        time_limit_s: for listing and for each :meth:`read`; None sets no limit. It is looked at between frames: to be
            safe from a decoder that hangs, read in a process that can be killed (``decoder_process.py``).

    Attributes:
        rate: mean frames per second, 0 where the file does not say.
        lost: frames of the last :meth:`read` that could not be decoded, their neighbours having been taken.

    Raises:
        VideoError: no such file, no video in it, a codec that cannot be decoded here, or nothing but damage.
    """

    def __init__(
        self, path: str | os.PathLike[str], *, threads: int = 1, time_limit_s: float | None = None
    ) -> None:
        if threads < 1:
            raise ValueError(f"threads={threads} must be at least 1")
        self.path, self.threads, self.time_limit_s = os.fspath(path), threads, time_limit_s
        self.lost = 0
        self._check_file()
        self._deadline = self._start()
        with self._opened() as (container, stream):
            self.rate = float(stream.average_rate or stream.guessed_rate or 0)
            self.time_base = float(stream.time_base or 0)
            self.listing = self._list(container, stream)
        if self.listing.count == 0:
            raise VideoError(self.path, "holds no frames that can be decoded")

    def __len__(self) -> int:
        return self.listing.count

    def read(
        self, places: Sequence[int], *, sampling: str = "exact", tolerance_s: float = 1.0
    ) -> list[np.ndarray]:
        """The frames at ``places``, upright, uint8 (H, W, 3), RGB.

        Args:
            places: indices in presentation order, in [0, len(self)); in any order, also repeated.
            sampling: 'exact'; 'nearby', the nearest frame that others refer to, the rest not being decoded;
                'keyframe', the nearest key frame, and where there is none within ``tolerance_s``, as 'nearby'.

        Raises:
            VideoError: more than half of the frames are damaged, or the time limit has passed.
        """
        if sampling not in SAMPLING:
            raise ValueError(f"sampling={sampling!r} must be one of {SAMPLING}")
        wanted = sorted({int(place) for place in places})
        if not wanted or wanted[0] < 0 or wanted[-1] >= len(self):
            raise ValueError(f"places must lie in 0..{len(self) - 1}, got {list(places)}")
        self._deadline = self._start()
        times = self.listing.times
        if times is None:
            found = self._count(wanted)
        else:
            targets, skip = [times[place] for place in wanted], "NONREF" if sampling != "exact" else "DEFAULT"
            near = self._near_keys(targets, tolerance_s) if sampling == "keyframe" else {}
            others = sorted({target for target in targets if target not in near})
            frames = self._find(sorted(set(near.values())), "NONKEY") if near else {}
            if others:
                frames |= self._find(others, skip)
            found = {
                place: frames[near.get(target, target)] for place, target in zip(wanted, targets, strict=True)
            }
        self.lost = sum(lost for _, lost in found.values()) if sampling == "exact" else 0
        if self.lost > MAX_LOST * len(wanted):
            raise VideoError(self.path, f"is damaged: {self.lost} of {len(wanted)} frames cannot be decoded")
        return [found[int(place)][0] for place in places]

    # --- the list of frames -----------------------------------------------------------------------------------------

    def _list(self, container: Any, stream: Any) -> Listing:
        packets: list[
            tuple[int, int, bool, bool]
        ] = []  # pts, dts, whether it is a key frame, whether it is shown
        known = True
        for packet in self._packets(container, stream):
            if packet.pts is None:
                known = False
                break
            dts = packet.pts if packet.dts is None else packet.dts
            packets.append((packet.pts, dts, packet.is_keyframe, not packet.is_discard))
        first = next((number for number, (_, _, key, _) in enumerate(packets) if key), None)
        if known and first is not None:
            start = packets[first][0]  # what refers to frames before it cannot be decoded
            packets = [packet for packet in packets[first:] if packet[0] >= start]
            times = sorted(pts for pts, _, _, shown in packets if shown)
            if times and len(set(times)) == len(times):
                keys = sorted((pts, dts) for pts, dts, key, _ in packets if key)
                return Listing(times, [pts for pts, _ in keys], [dts for _, dts in keys], len(times))
        with self._opened() as (again, video):
            return Listing(None, [], [], sum(1 for _ in self._frames(again, video)))

    def _near_keys(self, targets: Sequence[int], tolerance_s: float) -> dict[int, int]:
        """Timestamp -> the nearest key frame's, for those that have one within the tolerance."""
        keys, reach = self.listing.keys, tolerance_s / self.time_base if self.time_base else 0
        near = {}
        for target in targets:
            place = bisect_left(keys, target)
            key = min(keys[max(0, place - 1) : place + 1], key=lambda pts: abs(pts - target))
            if abs(key - target) <= reach:
                near[target] = key
        return near

    # --- decoding ---------------------------------------------------------------------------------------------------

    def _find(self, targets: Sequence[int], skip: str) -> dict[int, tuple[np.ndarray, bool]]:
        """Timestamp -> its frame, or the nearest one that was decoded, and whether it is another one."""
        found: dict[int, tuple[np.ndarray, bool]] = {}
        left = deque(targets)
        with self._opened(skip) as (container, stream):
            while left:
                start, before = self._seek(container, stream, left[0]), None
                for frame in self._frames(container, stream):
                    if frame.pts is None or frame.pts < start:
                        continue
                    while left and frame.pts >= left[0]:
                        target = left.popleft()
                        nearer = before is not None and target - before.pts < frame.pts - target
                        chosen = before if nearer else frame
                        found[target] = (upright(chosen), chosen.pts != target)
                    before = frame
                    if not left or self._pays_to_seek(container, frame.pts, left[0]):
                        break
                else:  # the end of what can be decoded
                    if before is None and not found:
                        raise VideoError(self.path, "is damaged: no frame can be decoded")
                    last = next(reversed(found.values()))[0] if before is None else upright(before)
                    found |= dict.fromkeys(left, (last, True))
                    left.clear()
        return found

    def _pays_to_seek(self, container: Any, now: int, target: int) -> bool:
        """Whether the key frame that ``target`` starts from is far enough ahead of the frame at ``now``."""
        keys, times = self.listing.keys, self.listing.times
        key = keys[max(0, bisect_right(keys, target) - 1)]
        if times is None or key <= now or container.format.name not in SEEKABLE:
            return False
        return bisect_left(times, key) - bisect_right(times, now) >= MIN_LEAP

    def _seek(self, container: Any, stream: Any, target: int) -> int:
        """Go to the key frame from which ``target`` can be decoded; its timestamp."""
        place = max(0, bisect_right(self.listing.keys, target) - 1)
        if container.format.name not in SEEKABLE:
            return self.listing.keys[0]
        container.seek(self.listing.seek[place], stream=stream, backward=True, any_frame=False)
        return self.listing.keys[place]

    def _count(self, wanted: Sequence[int]) -> dict[int, tuple[np.ndarray, bool]]:
        """Place -> its frame, counted from the beginning."""
        found: dict[int, tuple[np.ndarray, bool]] = {}
        needed = set(wanted)
        with self._opened() as (container, stream):
            last = None
            for number, frame in enumerate(self._frames(container, stream)):
                last = frame
                if number in needed:
                    found[number] = (upright(frame), False)
                if number >= wanted[-1]:
                    break
            for place in needed - set(found):
                if last is None:
                    raise VideoError(self.path, "is damaged: no frame can be decoded")
                found[place] = (upright(last), True)
        return found

    def _frames(self, container: Any, stream: Any) -> Iterator[Any]:
        """Decoded frames in presentation order; what cannot be decoded is left out."""
        from av.error import EOFError, FFmpegError

        for packet in chain(self._packets(container, stream), [None]):  # None: what the decoder still holds
            try:
                frames = stream.codec_context.decode(packet)
            except EOFError:
                return
            except FFmpegError:
                continue
            yield from frames

    def _packets(self, container: Any, stream: Any) -> Iterator[Any]:
        from av.error import FFmpegError

        packets = container.demux(stream)
        while True:
            self._check_time()
            try:
                packet = next(packets)
            except (StopIteration, FFmpegError, IndexError):  # what follows damage cannot be found
                return
            if packet.size:
                yield packet

    # --- opening ----------------------------------------------------------------------------------------------------

    def _check_file(self) -> None:
        file = Path(self.path)
        if not file.exists():
            raise VideoError(self.path, "there is no such file")
        if not file.is_file():
            raise VideoError(self.path, "is a folder" if file.is_dir() else "is not a regular file")
        if file.stat().st_size == 0:
            raise VideoError(self.path, "is empty")

    def _opened(self, skip: str = "DEFAULT") -> _Opened:
        return _Opened(self.path, self.threads, skip)

    def _start(self) -> float:
        return float("inf") if self.time_limit_s is None else time.monotonic() + self.time_limit_s

    def _check_time(self) -> None:
        if time.monotonic() > self._deadline:
            raise VideoError(self.path, f"took more than {self.time_limit_s:g} seconds to read")


class _Opened:
    """A container and its video stream, open within a ``with`` block."""

    def __init__(self, path: str, threads: int, skip: str) -> None:
        self.path, self.threads, self.skip = path, threads, skip

    def __enter__(self) -> tuple[Any, Any]:
        import av
        from av.error import FFmpegError

        av.logging.set_level(av.logging.PANIC)
        try:
            self._container = av.open(self.path, options={"fflags": "+genpts"})
        except (FFmpegError, ValueError, UnicodeError) as error:
            raise VideoError(self.path, f"is not a video, or cut off ({reason(error)})") from None
        stream = video_of(self._container, self.path)
        stream.codec_context.thread_count = self.threads
        stream.codec_context.thread_type = "AUTO" if self.threads > 1 else "NONE"
        stream.codec_context.skip_frame = self.skip
        return self._container, stream

    def __exit__(self, *_: object) -> None:
        self._container.close()


def video_of(container: Any, source: str) -> Any:
    """The stream to show: no cover picture, and one that can be decoded. Closes the container where there is none."""
    pictures = [stream for stream in container.streams.video if "attached_pic" not in names_of(stream)]
    if not pictures:
        container.close()
        raise VideoError(source, "holds no video, sound perhaps")
    best = max(pictures, key=lambda stream: ("default" in names_of(stream), -stream.index))
    if best.codec_context is None:
        container.close()
        raise VideoError(source, "holds video of a codec that this FFmpeg does not know")
    return best


def names_of(stream: Any) -> set[str]:
    """What a container says of a stream: 'default', 'attached_pic', ..."""
    return {flag.name for flag in type(stream.disposition) if flag and flag in stream.disposition}


def reason(error: BaseException) -> str:
    """FFmpeg's own words, without the path."""
    return str(getattr(error, "strerror", None) or error).splitlines()[0]


def upright(frame: Any) -> np.ndarray:
    """RGB, turned as the container asks players to: uint8 (H, W, 3)."""
    image = frame.to_ndarray(format="rgb24")
    turns = round((frame.rotation or 0) / 90) % 4
    return np.ascontiguousarray(np.rot90(image, turns)) if turns else image
