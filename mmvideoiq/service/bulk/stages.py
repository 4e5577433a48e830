"""The two steps of a video, decoding and recognition, each from an Arrow table to an Arrow table.

Tables pass between the processes of a cluster. ``place`` is a video's place in the plan.
"""

from __future__ import annotations

import os
import time
from typing import Any

import numpy as np
import pyarrow as pa

from mmvideoiq.deploy.bundle import Bundle
from mmvideoiq.deploy.engines.factory import open_engine
from mmvideoiq.deploy.session import Result, VideoSession
from mmvideoiq.service.bulk.plan import Settings
from mmvideoiq.video.decoder_process import Decoder
from mmvideoiq.video.errors import VideoError

#: What recognition takes.
DECODED = pa.schema(
    {
        "place": pa.int64(),
        "frames": pa.binary(),  # uint8 (T, H, W, 3); null where there is an error
        "shape": pa.list_(pa.int32()),
        "lost": pa.int32(),
        "decode_ms": pa.float64(),
        "error": pa.string(),
    }
)
#: What it gives. In a shard ``path`` stands beside ``place``.
RESULT = pa.schema(
    {
        "place": pa.int64(),
        "label": pa.string(),
        "label_index": pa.int32(),
        "score": pa.float32(),
        "scores": pa.list_(pa.float32()),
        "actions": pa.list_(pa.string()),
        "cost": pa.float64(),
        "frames": pa.int32(),
        "lost": pa.int32(),
        "decode_ms": pa.float64(),
        "recognize_ms": pa.float64(),
        "float_precision": pa.string(),
        "error": pa.string(),
    }
)


def open_session(bundle: Bundle, settings: Settings, *, threads: int | None) -> VideoSession:
    engine = open_engine(settings.engine, threads=threads, float_precision=settings.float_precision)
    return VideoSession(
        bundle, engine, budget=settings.budget, sampling=settings.sampling, reader=settings.reader
    )


def decode(decoder: Decoder, videos: pa.Table) -> pa.Table:
    """``place`` and ``path`` (binary) -> :data:`DECODED`."""
    rows = []
    for place, path in zip(videos["place"].to_pylist(), videos["path"].to_pylist(), strict=True):
        try:
            clip = decoder.read(os.fsdecode(path))
        except VideoError as error:
            rows.append(dict(place=place, error=error.reason))
        else:
            rows.append(
                dict(
                    place=place,
                    frames=clip.frames.tobytes(),
                    shape=clip.frames.shape,
                    lost=clip.lost,
                    decode_ms=1e3 * clip.seconds,
                )
            )
    return pa.Table.from_pylist(rows, DECODED)


def recognized(session: VideoSession, decoded: pa.Table) -> pa.Table:
    """:data:`DECODED` -> :data:`RESULT`; errors pass through."""
    rows = []
    rest = decoded.drop_columns(["frames"]).to_pylist()
    for row, frames in zip(rest, decoded["frames"], strict=True):
        if row["error"] is None:
            clip = np.frombuffer(frames.as_buffer(), np.uint8).reshape(row["shape"])
            rows.append(recognized_row(session, row, clip))
        else:
            rows.append(failed_row(row["place"], row["error"]))
    return pa.Table.from_pylist(rows, RESULT)


def recognized_row(session: VideoSession, decoded: dict[str, Any], frames: np.ndarray) -> dict[str, Any]:
    """A row of :data:`RESULT`; what the engine refuses is an error of this video."""
    began = time.perf_counter()
    try:
        result = session.run(frames)
    except Exception as error:  # one video of a million does not end the others
        reason = f"cannot be recognized ({type(error).__name__}: {' '.join(str(error).split())})"
        return failed_row(decoded["place"], reason)
    return dict(
        _answer(session, result),
        place=decoded["place"],
        lost=decoded["lost"],
        decode_ms=decoded["decode_ms"],
        recognize_ms=1e3 * (time.perf_counter() - began),
    )


def failed_row(place: int, reason: str) -> dict[str, Any]:
    return dict(place=place, error=reason)


def _answer(session: VideoSession, result: Result) -> dict[str, Any]:
    return dict(
        label=result.name,
        label_index=result.label,
        score=result.score,
        scores=result.scores.tolist(),
        actions=[session.actions.names[action] for action in result.actions],
        cost=result.cost,
        frames=result.frames,
        float_precision=result.float_precision,
    )
