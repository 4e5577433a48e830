"""The stages in this process: child processes decode ahead, as ``mmvideoiq infer`` does it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import pyarrow as pa

from mmvideoiq.deploy.session import VideoSession
from mmvideoiq.deploy.videos import DecoderCount
from mmvideoiq.service.bulk.plan import Plan
from mmvideoiq.service.bulk.stages import RESULT, failed_row, recognized_row
from mmvideoiq.video.decode_ahead import decode_ahead
from mmvideoiq.video.decoder_process import Decoder
from mmvideoiq.video.errors import VideoError


def run_here(
    plan: Plan,
    places: Sequence[int],
    session: VideoSession,
    *,
    open_decoder: Callable[[], Decoder],
    decoders: int | None,
) -> Iterator[pa.Table]:
    """A table of :data:`RESULT` for each place, in order.

    Args:
        decoders: processes; None measures the first videos, and takes as many as keep up with recognition.
    """
    count = DecoderCount(decoders)
    paths = (plan.path(place) for place in places)
    for place, decoded in zip(places, decode_ahead(paths, open_decoder, count), strict=True):
        if isinstance(decoded, VideoError):
            row = failed_row(place, decoded.reason)
        else:
            known = dict(place=place, lost=decoded.lost, decode_ms=1e3 * decoded.seconds)
            row = recognized_row(session, known, decoded.frames)
            if "error" not in row:
                recognition = 1e-3 * row["recognize_ms"]
                count.add(dict(decode=decoded.seconds, policy=0.0, recognition=recognition))
        yield pa.Table.from_pylist([row], RESULT)
