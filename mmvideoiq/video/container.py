"""Containers: opening a file, the stream to show, its packets and pictures, and what FFmpeg says of errors."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

import numpy as np

from mmvideoiq.video.errors import VideoError


def open_video(path: str, threads: int) -> tuple[Any, Any]:
    """The container of a file and its stream to show (:func:`video_of`), which no packet was decoded of."""
    import av
    from av.error import FFmpegError

    av.logging.set_level(av.logging.PANIC)
    try:
        container = av.open(local_name(path), options={"fflags": "+genpts"})
    except (FFmpegError, ValueError, UnicodeError) as error:
        raise VideoError(path, f"is not a video, or cut off ({reason(error)})") from None
    stream = video_of(container, path)
    stream.codec_context.thread_count = threads
    stream.codec_context.thread_type = "AUTO" if threads > 1 else "NONE"
    return container, stream


def local_name(path: str) -> str:
    """A path that FFmpeg does not take for an address: of ``10:00.mp4`` the protocol would be ``10``."""
    return os.path.abspath(path) if ":" in path else path


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


def mean_rate(stream: Any) -> float:
    """Frames per second, 0 where it is not known."""
    return float(stream.average_rate or stream.guessed_rate or 0)


def demuxed(container: Any, stream: Any) -> Iterator[Any]:
    """Packets of the stream; PyAV stumbles over those of others that begin within the file, and goes on behind them."""
    while True:
        try:
            yield from container.demux(stream)
            return
        except IndexError:
            pass


def names_of(stream: Any) -> set[str]:
    """What a container says of a stream: 'default', 'attached_pic', ..."""
    return {flag.name for flag in type(stream.disposition) if flag and flag in stream.disposition}


def reason(error: BaseException) -> str:
    """FFmpeg's own words, without the path."""
    return str(getattr(error, "strerror", None) or error).splitlines()[0]


def upright(frame: Any, to_rgb: Any) -> np.ndarray:
    """RGB, turned as the container asks players to: uint8 (H, W, 3); ``to_rgb`` is a ``VideoReformatter``."""
    image = to_rgb.reformat(frame, format="rgb24").to_ndarray()
    turns = round((frame.rotation or 0) / 90) % 4
    return np.ascontiguousarray(np.rot90(image, turns)) if turns else image
