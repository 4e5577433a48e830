"""Videos one after the other: while one is recognized, processes decode those that follow."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping

from mmvideoiq.deploy.result import Result
from mmvideoiq.video.decode_ahead import decode_ahead, decoders_for
from mmvideoiq.video.decoder_process import Decoded, Decoder
from mmvideoiq.video.errors import VideoError

MEASURED = 5  # videos before the number of decoders is chosen


class DecoderCount:
    """How many decoders are to work: asked before each video.

    Args:
        wanted: as many; None begins with one, and takes as many as keep up with recognition (:func:`decoders_for`)
            once the first videos were timed.
    """

    def __init__(self, wanted: int | None) -> None:
        self.wanted = wanted
        self._times: list[Mapping[str, float]] = []

    def add(self, times: Mapping[str, float]) -> None:
        """Seconds for ``decode``, ``policy`` and ``recognition`` of a video."""
        if len(self._times) < MEASURED:
            self._times.append(times)

    def __call__(self) -> int:
        if self.wanted is not None:
            return self.wanted
        return decoders_for(self._times) if len(self._times) == MEASURED else 1


def recognize_ahead(
    paths: Iterator[str | os.PathLike[str]],
    recognize: Callable[[Decoded], Result],
    *,
    open_decoder: Callable[[], Decoder],
    decoders: int | None,
) -> Iterator[Result | VideoError]:
    """What ``recognize`` says of each video, in order; in place of a bad one its error.

    Args:
        paths: read as far as needed, so that they may be endless.
        open_decoder: makes one.
        decoders: processes; None as :class:`DecoderCount`.
    """
    count = DecoderCount(decoders)
    for decoded in decode_ahead(paths, open_decoder, count):
        if isinstance(decoded, VideoError):
            yield decoded
            continue
        result = recognize(decoded)
        count.add(result.times)
        yield result
