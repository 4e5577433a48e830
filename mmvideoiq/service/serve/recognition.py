"""One video on a worker: what happens is told as events, the last of which is ``result`` or ``failed``."""

from __future__ import annotations

import logging
import threading
import time
from base64 import b64encode
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any, NamedTuple

import cv2  # here, so that a server whose decoders could not load it does not start
import numpy as np

from mmvideoiq.deploy.budget import BudgetError
from mmvideoiq.deploy.engines.base import EngineError
from mmvideoiq.deploy.session import Result, VideoSession
from mmvideoiq.service.serve.model import Work, answer
from mmvideoiq.service.serve.pool import Worker, takes_streams
from mmvideoiq.service.serve.uploads import Uploads, Video, VideoGone
from mmvideoiq.video.errors import NoDecoder, VideoError

THUMBNAIL = 96  # pixels of its longer side, at most
QUALITY = 80  # of its JPEG
SERVER_ERROR = "an error of the server, which its log shows"
log = logging.getLogger("mmvideoiq.serve")


class Event(NamedTuple):
    """``kind``: clip, frame, result or failed; ``data`` is for JSON."""

    kind: str
    data: dict[str, Any]

    @property
    def last(self) -> bool:
        return self.kind in ("result", "failed")


def failed(status: int, reason: str) -> Event:
    return Event("failed", dict(status=status, error=" ".join(reason.split())))


class OutOfTime(Exception):
    """Recognition took too long."""


class Recognition:
    """A task of the pool: decode, recognize, tell. It holds its video from the beginning to its end.

    Args:
        by_frame: tell of each frame as it is processed, with pictures; else the result alone, which is faster.
        seconds: for recognition.
        tell: takes the events, in the worker's thread.
    """

    def __init__(
        self,
        video: Video,
        uploads: Uploads,
        *,
        budget: str | None,
        by_frame: bool,
        seconds: float,
        tell: Callable[[Event], None],
    ) -> None:
        self._video, self._uploads, self._budget = video, uploads, budget
        self._by_frame, self._seconds, self._tell = by_frame, seconds, tell
        self._cancelled = threading.Event()
        uploads.hold(video)

    def cancel(self) -> None:
        """Nobody listens any more: it ends after the frame that it is at."""
        self._cancelled.set()

    def refuse(self, reason: str) -> None:
        self._uploads.release(self._video)
        self._tell(failed(503, reason))

    def run(self, worker: Worker) -> None:
        try:
            if not self._cancelled.is_set():
                self._tell(self._outcome(worker))
        finally:
            self._uploads.release(self._video)

    def _outcome(self, worker: Worker) -> Event:
        try:
            return Event("result", self._recognize(worker))
        except VideoGone as error:
            return failed(404, error.reason)
        except NoDecoder as error:
            log.error("decoder: %s", error.reason)
            return failed(500, SERVER_ERROR)
        except VideoError as error:
            return failed(422, error.reason)
        except BudgetError as error:
            return failed(400, str(error))
        except OutOfTime:
            return failed(504, f"recognition took more than {self._seconds:g} seconds")
        except EngineError as error:
            log.error("engine: %s", error)
            return failed(500, str(error))
        except Exception:
            log.exception("a video could not be recognized")
            return failed(500, SERVER_ERROR)

    def _recognize(self, worker: Worker) -> dict[str, Any]:
        session = worker.session
        work = Work(session.bundle)
        decoded = self._video.decoded(worker.decoder)
        began = time.monotonic()
        if not self._by_frame:
            result = session.run(decoded.frames, budget=self._budget)
        else:
            self._tell(
                Event(
                    "clip",
                    dict(
                        frames=len(decoded.frames),
                        lost=decoded.lost,
                        decode_ms=1e3 * decoded.seconds,
                        pictures=[thumbnail(frame) for frame in decoded.frames],
                    ),
                )
            )
            for result, action in self._one_by_one(session, decoded.frames):
                if time.monotonic() > began + self._seconds:
                    raise OutOfTime
                if self._cancelled.is_set():
                    break
                index = result.frames - 1
                self._tell(Event("frame", dict(newest(session, work, result, action), index=index)))
        times = dict(result.times, decode=decoded.seconds)
        return answer(replace(result, lost=decoded.lost, times=times), session.bundle, work)

    def _one_by_one(self, session: VideoSession, frames: np.ndarray) -> Iterator[tuple[Result, int]]:
        """What the clip is after each frame, and what was done with it; at once where features are shifted."""
        if not takes_streams(session):
            result = session.run(frames, budget=self._budget)
            yield result, int(result.actions[-1])
            return
        session.reset()
        for frame in frames:
            action = session.push(frame, budget=self._budget)
            yield session.result(), action


def thumbnail(frame: np.ndarray) -> str:
    """A frame (H, W, 3), RGB, as the address of a small JPEG."""
    scale = min(1.0, THUMBNAIL / max(frame.shape[:2]))
    if scale < 1:
        frame = cv2.resize(frame, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
    jpeg = cv2.imencode(".jpg", cv2.cvtColor(frame, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, QUALITY])[
        1
    ]
    return f"data:image/jpeg;base64,{b64encode(jpeg.tobytes()).decode()}"


def newest(session: VideoSession, work: Work, result: Result, action: int) -> dict[str, Any]:
    """A stream so far, as JSON: ``action`` is what was done with its newest frame."""
    so_far = answer(result, session.bundle, work)
    del so_far["actions"]
    return dict(so_far, action=session.actions.names[action])
