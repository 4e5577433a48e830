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
from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from itertools import chain
from math import inf
from typing import Any

import numpy as np

from mmvideoiq.video.container import demuxed, mean_rate, open_video, reason, upright
from mmvideoiq.video.errors import VideoError, check_file

SAMPLING = ("exact", "nearby", "keyframe")
#: Containers in which a key frame is found again, as FFmpeg names them, and by which of its timestamps.
SEEKABLE = {
    "mov,mp4,m4a,3gp,3g2,mj2": "pts",
    "matroska,webm": "pts",
    "avi": "dts",
    "flv": "dts",
    "asf": "dts",
    "mpegts": "dts",
}
MIN_LEAP = 8  # frames that a seek has to spare
MAX_LOST = 0.5  # share of the wanted frames that may be missing
HARMLESS = (
    "mmco: unref short failure"  # a frame that is not held need not be let go, after a seek to an open GOP
)

Found = tuple[
    np.ndarray, bool, bool
]  # a frame, whether it is not the one of this place, whether it is damaged


@dataclass(frozen=True)
class Listing:
    """The frames of a file in the order in which they are shown.

    Attributes:
        times: timestamp of each frame, rising, in units of ``time_base`` seconds; None where the file has none, so
            that frames are known by their number alone.
        keys: timestamps of the key frames, rising, and ``seek``, what to seek to for each, where the container can.
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
        lost: frames of the last :meth:`read` that are damaged: those that cannot be decoded, their neighbours having
            been taken, and those from an error that FFmpeg reports up to the next key frame. Damage that leaves a valid
            stream, such as a bit flipped in VP9's entropy code, no decoder notices.

    Raises:
        VideoError: no such file, no video in it, a codec that cannot be decoded here, or nothing but damage.
    """

    def __init__(
        self, path: str | os.PathLike[str], *, threads: int = 1, time_limit_s: float | None = None
    ) -> None:
        from av.video.reformatter import VideoReformatter

        if threads < 1:
            raise ValueError(f"threads={threads} must be at least 1")
        self.path, self.threads, self.time_limit_s = os.fspath(path), threads, time_limit_s
        self.lost = 0
        check_file(self.path)
        self._to_rgb = VideoReformatter()  # keeps what it computes for one size of frames
        self._deadline = self._start()
        self._damage: list[tuple[float, float]] = []  # from, to: timestamps of what an error may have spoiled
        self._left_open: tuple[Any, Any] | None = None
        container, stream = open_video(self.path, self.threads)
        self.rate = mean_rate(stream)
        self.time_base = float(stream.time_base or 0)
        try:
            self.listing = Listing(None, [], [], 0)
            self.listing = self._list(container, stream)
        except BaseException:
            container.close()
            raise
        if self.listing.times is not None and container.format.name in SEEKABLE:
            self._left_open = container, stream
        else:
            container.close()
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
            VideoError: more than half of the frames cannot be decoded, or the time limit has passed.
        """
        if sampling not in SAMPLING:
            raise ValueError(f"sampling={sampling!r} must be one of {SAMPLING}")
        wanted = sorted({int(place) for place in places})
        if not wanted or wanted[0] < 0 or wanted[-1] >= len(self):
            raise ValueError(f"places must lie in 0..{len(self) - 1}, got {list(places)}")
        self._deadline, self._damage = self._start(), []
        times = self.listing.times
        if times is None:
            found = self._count(wanted)
        else:
            targets = [times[place] for place in wanted]
            near = self._near_keys(targets, tolerance_s) if sampling == "keyframe" else {}
            targets = [near.get(target, target) for target in targets]
            alone = len(near) == len(wanted)  # no frame but key frames
            find = self._find_keys if alone else partial(self._find, exact=sampling == "exact")
            frames = find(sorted(set(targets)))
            found = {place: frames[target] for place, target in zip(wanted, targets, strict=True)}
        missing = sum(other for _, other, _ in found.values()) if sampling == "exact" else 0
        if missing > MAX_LOST * len(wanted):
            raise VideoError(self.path, f"is damaged: {missing} of {len(wanted)} frames cannot be decoded")
        self.lost = sum((other and sampling == "exact") or damaged for _, other, damaged in found.values())
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
                by_pts = SEEKABLE.get(container.format.name) == "pts"
                seek = [pts if by_pts else dts for pts, dts in keys]
                return Listing(times, [pts for pts, _ in keys], seek, len(times))
        with self._opened() as (again, video):
            return Listing(None, [], [], sum(1 for _ in self._frames(video, self._packets(again, video))))

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

    def _find(self, targets: Sequence[int], *, exact: bool) -> dict[int, Found]:
        """Timestamp -> its frame, or the nearest one that was decoded, and whether it is another one.

        Frames that no other refers to are decoded only if they are wanted themselves, and not at all unless ``exact``.
        """
        nearest: dict[int, Any] = {}
        with self._opened("DEFAULT" if exact else "NONREF") as (container, stream):
            for start, section in self._sections(container, targets):
                self._seek(container, stream, start)
                packets, wanted = self._packets(container, stream), set(section) if exact else None
                left, before = deque(section), None
                for frame in self._frames(
                    stream, self._until(packets, wanted) if wanted else packets, wanted
                ):
                    if frame.pts is None or frame.pts < self.listing.keys[start]:
                        continue
                    while left and frame.pts >= left[0]:
                        target = left.popleft()
                        nearer = before is not None and target - before.pts < frame.pts - target
                        nearest[target] = before if nearer else frame
                    before = frame
                    if not left:
                        break
                if before is not None:
                    nearest |= dict.fromkeys(left, before)
            return self._images(nearest, targets)

    def _find_keys(self, keys: Sequence[int]) -> dict[int, Found]:
        """Timestamp of a key frame -> the frame; no packet but the key frames' is decoded."""
        with self._opened() as (container, stream):
            packets = []
            for start, section in self._sections(container, keys):
                self._seek(container, stream, start)
                until = self._until(self._packets(container, stream), set(section))
                packets += [packet for packet in until if packet.is_keyframe and packet.pts in section]
            frames = [frame for frame in self._frames(stream, packets) if frame.pts is not None]
            return self._images(
                {key: min(frames, key=lambda frame: abs(frame.pts - key)) for key in keys if frames}, keys
            )

    def _images(self, nearest: dict[int, Any], targets: Sequence[int]) -> dict[int, Found]:
        """The frames as images; what has none takes its neighbour's."""
        if not nearest:
            raise VideoError(self.path, "is damaged: no frame can be decoded")
        known = sorted(nearest)
        found = {}
        for target in targets:
            frame = nearest.get(target) or nearest[min(known, key=lambda other: abs(other - target))]
            damaged = any(low <= pts < high for low, high in self._damage for pts in (frame.pts, target))
            found[target] = (self._upright(frame), frame.pts != target, damaged)
        return found

    def _sections(self, container: Any, targets: Sequence[int]) -> Iterator[tuple[int, list[int]]]:
        """The targets in parts that are decoded without a break, each with the place of the key frame it starts from.

        A new part starts where that spares :data:`MIN_LEAP` frames.
        """
        keys, times = self.listing.keys, self.listing.times
        assert times is not None
        if container.format.name not in SEEKABLE:
            yield 0, list(targets)
            return
        start, section = max(0, bisect_right(keys, targets[0]) - 1), [targets[0]]
        for target in targets[1:]:
            place = max(0, bisect_right(keys, target) - 1)
            if bisect_left(times, keys[place]) - bisect_right(times, section[-1]) >= MIN_LEAP:
                yield start, section
                start, section = place, []
            section.append(target)
        yield start, section

    def _seek(self, container: Any, stream: Any, place: int) -> None:
        """Go to the key frame of that place in the list, where the container can."""
        if container.format.name in SEEKABLE:
            container.seek(self.listing.seek[place], stream=stream, backward=True, any_frame=False)

    @staticmethod
    def _until(packets: Iterator[Any], wanted: set[int]) -> Iterator[Any]:
        """The packets up to the last of the wanted timestamps: what a frame refers to comes before it."""
        left, last = set(wanted), max(wanted)
        for packet in packets:
            yield packet
            left.discard(packet.pts)
            if not left or (packet.pts if packet.dts is None else packet.dts) > last:
                return

    def _count(self, wanted: Sequence[int]) -> dict[int, Found]:
        """Place -> its frame, counted from the beginning."""
        found: dict[int, Found] = {}
        needed = set(wanted)
        with self._opened() as (container, stream):
            last = None
            for number, frame in enumerate(self._frames(stream, self._packets(container, stream))):
                last = frame
                if number in needed:
                    found[number] = (self._upright(frame), False, bool(self._damage))
                if number >= wanted[-1]:
                    break
            if last is None:
                raise VideoError(self.path, "is damaged: no frame can be decoded")
            for place in needed - set(found):
                found[place] = (self._upright(last), True, True)
        return found

    def _frames(self, stream: Any, packets: Iterable[Any], wanted: set[int] | None = None) -> Iterator[Any]:
        """Decoded frames in presentation order; what cannot be decoded is left out.

        Args:
            wanted: of frames that no other refers to, only those of these timestamps; None leaves it to the decoder.
        """
        from av.error import EOFError, FFmpegError
        from av.logging import get_last_error

        codec = stream.codec_context
        codec.open(strict=False)
        decoding: deque[Any] = deque(maxlen=self.threads)  # packets
        for packet in chain(packets, [None]):  # None: what the decoder still holds
            if packet is not None:
                decoding.append(packet)
                if wanted is not None:
                    codec.skip_frame = "DEFAULT" if packet.pts in wanted else "NONREF"
            before, _ = get_last_error()  # how many FFmpeg has logged in this process
            try:
                frames = codec.decode(packet)
            except EOFError:
                return
            except FFmpegError:
                frames = []
                self._spoil(decoding)
            count, last = get_last_error()
            logged = count > before and not last[2].startswith(HARMLESS)
            if logged or (packet is not None and packet.is_corrupt):
                self._spoil(decoding)
            for frame in frames:
                if frame.is_corrupt:
                    self._spoil([frame])
                yield frame

    def _spoil(self, damaged: Collection[Any]) -> None:
        """Note what may refer to damaged packets or frames: what is decoded after them, up to the next key frame."""
        times = [time for item in damaged for time in (item.pts, item.dts) if time is not None]
        if self.listing.times is None or not times:
            self._damage.append((-inf, inf))
        else:
            key = bisect_right(self.listing.keys, max(times))
            self._damage.append((min(times), self.listing.keys[key] if key < len(self.listing.keys) else inf))

    def _packets(self, container: Any, stream: Any) -> Iterator[Any]:
        from av.error import FFmpegError

        packets = demuxed(container, stream)
        while True:
            self._check_time()
            try:
                packet = next(packets)
            except (StopIteration, FFmpegError):  # what follows damage cannot be found
                return
            if packet.size:
                yield packet

    def _upright(self, frame: Any) -> np.ndarray:
        return upright(frame, self._to_rgb)

    # --- opening ----------------------------------------------------------------------------------------------------

    @contextmanager
    def _opened(self, skip: str = "DEFAULT") -> Iterator[tuple[Any, Any]]:
        """The container and its video stream: those left open by the listing, or open them again."""
        from av.error import FFmpegError

        container, stream = self._left_open or open_video(self.path, self.threads)
        self._left_open = None
        stream.codec_context.skip_frame = skip
        with container:
            try:
                yield container, stream
            except FFmpegError as error:  # from opening the decoder, or seeking
                raise VideoError(self.path, f"is damaged ({reason(error)})") from None
            finally:  # PyAV frees a decoder holding the interpreter, for which its threads may wait to log an error
                stream.codec_context.flush_buffers()

    def _start(self) -> float:
        return float("inf") if self.time_limit_s is None else time.monotonic() + self.time_limit_s

    def _check_time(self) -> None:
        if time.monotonic() > self._deadline:
            raise VideoError(self.path, f"took more than {self.time_limit_s:g} seconds to read")
