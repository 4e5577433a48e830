"""Videos read with decord: a choice for comparison with models that were trained through ``DecordInit``."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from mmvideoiq.video.container import video_of
from mmvideoiq.video.errors import VideoError, check_file

CUT = "is damaged or cut off"
NARROW = "is too narrow: decord misreads some videos of 72 pixels and less"
NO_VIDEO = "cannot find video stream"  # decord's words


class DecordReader:
    """:class:`~mmvideoiq.video.av_reader.AvReader` with decord, for exact frames.

    Args:
        path: of the file.
        threads: of the decoder, >= 1.

    Attributes:
        rate: mean frames per second.

    Raises:
        VideoError: the file cannot be read, here or in a method.
    """

    def __init__(self, path: str | os.PathLike[str], *, threads: int = 1) -> None:
        import decord

        decord.logging.set_level(decord.logging.QUIET)
        self.path = os.fspath(path)
        check_file(self.path)  # decord does not say what is wrong with it
        with _Errors(self.path):
            self._reader = decord.VideoReader(os.path.abspath(path), num_threads=threads)
            if len(self._reader) == 0:
                raise ValueError("has no frames")
        self.rate = float(self._reader.get_avg_fps())

    def __len__(self) -> int:
        return len(self._reader)

    def read(self, places: Sequence[int]) -> list[np.ndarray]:
        """The frames at ``places``, uint8 (H, W, 3), RGB."""
        with _Errors(self.path):
            return list(self._reader.get_batch(places).asnumpy())

    def frames(self) -> Iterator[np.ndarray]:
        """All of them, in order."""
        with _Errors(self.path):
            for _ in range(len(self)):
                try:
                    frame = self._reader.next()
                except StopIteration:
                    raise ValueError(CUT) from None
                if frame.shape[2] != 3:
                    raise ValueError(NARROW)
                yield frame.asnumpy()


class _Errors:
    """Turns whatever decord raises into a VideoError."""

    def __init__(self, path: str) -> None:
        self.path = path

    def __enter__(self) -> None: ...

    def __exit__(self, kind: Any, error: BaseException | None, trace: Any) -> None:
        if isinstance(error, Exception):
            codec = codec_of(self.path) if NO_VIDEO in str(error) else None
            reason = f"{codec} needs PyAV: decord does not decode it" if codec else reason_of(error)
            raise VideoError(self.path, reason) from None


def codec_of(path: str) -> str | None:
    """'AV1', 'H264', ... as PyAV says; None where it finds no video either."""
    import av
    from av.error import FFmpegError

    try:
        with av.open(path) as container:
            return str(video_of(container, path).codec_context.codec.canonical_name).upper()
    except (FFmpegError, ValueError):
        return None


def reason_of(error: Exception) -> str:
    """An exception in one phrase; decord's own messages are source lines and stack traces."""
    if isinstance(error, VideoError):
        return error.reason
    if isinstance(error, UnicodeEncodeError):
        return "has a name that is not UTF-8; rename it"
    text = (str(error).splitlines() or [""])[0]
    if NO_VIDEO in text:
        return "holds no video that decord can decode: sound alone, or a codec such as AV1, which PyAV reads"
    if text.startswith("Error reading") or isinstance(error, UnicodeDecodeError):
        return "is not a video, or is cut off"
    if "from_size == to_size" in text:
        return NARROW
    if type(error).__name__ == "DECORDError" and (not text or text.startswith("[")):  # a place in its sources
        return CUT
    return (error.strerror if isinstance(error, OSError) else None) or text or type(error).__name__
