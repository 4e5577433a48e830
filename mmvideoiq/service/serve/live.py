"""Routes for what goes on: a camera of the client, whose frames it posts, or a stream that the server reads."""

from __future__ import annotations

import asyncio
import secrets
import threading
import time
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from typing import Any

import numpy as np
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from mmvideoiq.deploy.budget import BudgetError
from mmvideoiq.deploy.engines.base import EngineError
from mmvideoiq.deploy.session import VideoSession
from mmvideoiq.service.serve.bodies import bounded, sent_bytes
from mmvideoiq.service.serve.model import Work
from mmvideoiq.service.serve.pool import Busy
from mmvideoiq.service.serve.recognition import SERVER_ERROR, Event, failed, log, newest, thumbnail
from mmvideoiq.service.serve.settings import Limits
from mmvideoiq.service.serve.sources import check_source
from mmvideoiq.service.serve.videos import Events, check_budget, event_stream, server_sent
from mmvideoiq.video.decoder_process import Decoder
from mmvideoiq.video.errors import NoDecoder, VideoError
from mmvideoiq.video.network import Connection

PATIENCE = Connection(timeout_s=5.0, retries=2)
REQUEST_BYTES = 4096  # of a JSON body
MAX_FPS = 60.0
MOST_FRAMES = 120  # of a stream, that wait for a client who reads slowly


class Sessions:
    """Sessions for what is live, apart from the workers': each keeps its own running average.

    They are opened when they are first needed, and used again.

    Args:
        open_one: opens a session.
        limit: how many at a time.
    """

    def __init__(self, open_one: Callable[[], VideoSession], *, limit: int) -> None:
        self._open_one, self._limit = open_one, limit
        self._free: list[VideoSession] = []
        self._taken = 0
        self._lock = threading.Lock()

    @property
    def taken(self) -> int:
        return self._taken

    def take(self) -> VideoSession:
        """A session at the beginning of a stream.

        Raises:
            Busy: all are taken.
        """
        with self._lock:
            if self._taken >= self._limit:
                raise Busy(
                    f"{self._taken} cameras and streams are live, which is the limit: try again later", 5
                )
            self._taken += 1
            session = self._free.pop() if self._free else None
        try:
            session = session or self._open_one()
            session.reset()
        except BaseException:
            with self._lock:
                self._taken -= 1
            raise
        return session

    def give_back(self, session: VideoSession) -> None:
        with self._lock:
            self._taken -= 1
            self._free.append(session)


class Camera:
    """A client's camera: a session, used by one request at a time, until no frame has come for a while."""

    def __init__(self, session: VideoSession, work: Work) -> None:
        self.session, self._work = session, work
        self.lock = asyncio.Lock()
        self.seen = time.monotonic()
        self.gone = False

    def push(self, pixels: bytes, budget: str | None) -> dict[str, Any]:
        frame = np.frombuffer(pixels, np.uint8).reshape(self.session.frame_shape)
        action = self.session.push(frame, budget=budget)
        return newest(self.session, self._work, self.session.result(), action)


class Live:
    """The routes."""

    def __init__(self, *, sessions: Sessions, shape: tuple[int, ...], limits: Limits, streams: bool) -> None:
        self._sessions, self._limits = sessions, limits
        self._bytes, self._streams = int(np.prod(shape)), streams
        self._cameras: dict[str, Camera] = {}
        self.stopping = threading.Event()

    def routes(self) -> list[Route]:
        return [
            Route("/v1/cameras", self.begin, methods=["POST"]),
            Route("/v1/cameras/{id}", self.push, methods=["POST"]),
            Route("/v1/cameras/{id}", self.end, methods=["DELETE"]),
            Route("/v1/streams", self.stream, methods=["POST"]),
        ]

    # --- cameras of clients -----------------------------------------------------------------------------------------

    async def begin(self, request: Request) -> Response:
        session = await self._take()
        name = secrets.token_urlsafe(16)
        self._cameras[name] = Camera(session, Work(session.bundle))
        height, width, _ = session.frame_shape
        return JSONResponse(dict(id=name, height=height, width=width), 201)

    async def push(self, request: Request) -> Response:
        budget = request.query_params.get("budget")
        check_budget(budget)
        camera = self._find(request)
        pixels = await sent_bytes(request, self._bytes, seconds=self._limits.live_idle_s)
        async with camera.lock:
            if camera.gone:
                raise HTTPException(404, "this camera was given up: begin anew")
            camera.seen = time.monotonic()
            try:
                return JSONResponse(await run_in_threadpool(camera.push, pixels, budget))
            except BudgetError as error:
                raise HTTPException(400, str(error)) from None
            except EngineError as error:
                raise HTTPException(500, str(error)) from None

    async def end(self, request: Request) -> Response:
        self._find(request)
        await self._give_up(request.path_params["id"])
        return Response(status_code=204)

    async def sweep(self) -> None:
        """Give up cameras without frames; runs as long as the server."""
        while True:
            await asyncio.sleep(1)
            late = time.monotonic() - self._limits.live_idle_s
            for name in [name for name, camera in self._cameras.items() if camera.seen < late]:
                await self._give_up(name)

    async def _give_up(self, name: str) -> None:
        camera = self._cameras.pop(name, None)
        if camera is not None:
            async with camera.lock:
                camera.gone = True
                self._sessions.give_back(camera.session)

    def _find(self, request: Request) -> Camera:
        camera = self._cameras.get(request.path_params["id"])
        if camera is None:
            raise HTTPException(404, "there is no such camera, or it was given up: begin anew")
        return camera

    async def _take(self) -> VideoSession:
        if not self._streams:
            raise HTTPException(409, "this bundle computes whole clips and takes no streams")
        if self.stopping.is_set():
            raise Busy("the server is stopping", 5)
        return await run_in_threadpool(self._sessions.take)

    # --- streams that the server reads ------------------------------------------------------------------------------

    async def stream(self, request: Request) -> Response:
        source, fps, budget = await wanted_stream(request, seconds=self._limits.live_idle_s)
        check_budget(budget)
        await run_in_threadpool(check_source, source, self._limits.streams)
        session = await self._take()
        events, gone = Events(most_frames=MOST_FRAMES), threading.Event()

        def read() -> None:
            try:
                events.tell(self._follow(session, source, fps, budget, events.tell, gone))
            finally:
                self._sessions.give_back(session)

        threading.Thread(target=read, daemon=True, name="stream").start()

        async def lines() -> AsyncIterator[bytes]:
            try:
                async for event in events:
                    yield b": waiting\n\n" if event is None else server_sent(event)
            finally:
                gone.set()

        return event_stream(lines())

    def _follow(
        self,
        session: VideoSession,
        source: str,
        fps: float,
        budget: str | None,
        tell: Callable[[Event], None],
        gone: threading.Event,
    ) -> Event:
        """Tell of each frame until the stream ends or nobody listens; the last event."""
        decoder, work, last = Decoder(session.preprocessing), Work(session.bundle), None
        try:
            for frame in decoder.stream(
                source,
                fps=fps,
                connection=PATIENCE,
                notify=lambda line: tell(Event("notice", dict(text=line))),
            ):
                if gone.is_set() or self.stopping.is_set():
                    break
                action = session.push(frame, budget=budget)
                last = newest(session, work, session.result(), action)
                dropped = decoder.dropped if decoder.live else 0
                tell(Event("frame", dict(last, dropped=dropped, picture=thumbnail(frame))))
        except NoDecoder as error:
            log.error("decoder: %s", error.reason)
            return failed(500, SERVER_ERROR)
        except VideoError as error:
            return failed(422, error.reason)
        except (BudgetError, EngineError) as error:
            return failed(400, str(error))
        except Exception:  # else the client would wait for ever
            log.exception("a stream could not be followed")
            return failed(500, SERVER_ERROR)
        finally:
            decoder.close()
        return Event("result", last) if last else failed(422, "the stream gave no frames")


async def wanted_stream(request: Request, *, seconds: float) -> tuple[str, float, str | None]:
    """What a request for a stream asks for: the address, frames per second, the budget.

    Raises:
        HTTPException: 415 no JSON, 400 other fields than these, 408 too slow.
    """
    if request.headers.get("content-type", "").partition(";")[0].strip() != "application/json":
        raise HTTPException(415, "send application/json: {'source': address, 'fps': 5}")
    error = HTTPException(413, f"more than {REQUEST_BYTES} bytes")
    body: Any = None
    try:
        with suppress(ValueError, RecursionError):
            async with asyncio.timeout(seconds):
                body = await Request(request.scope, bounded(request.receive, REQUEST_BYTES, error)).json()
    except TimeoutError:
        raise HTTPException(408, f"the request did not arrive within {seconds:g} seconds") from None
    if not isinstance(body, dict) or not isinstance(body.get("source"), str):
        raise HTTPException(400, "send a JSON object with a string 'source', the address of the stream")
    fps, budget = body.get("fps", 5), body.get("budget")
    if isinstance(fps, bool) or not isinstance(fps, int | float) or not 0 < fps <= MAX_FPS:
        raise HTTPException(400, f"fps={fps!r} must be a number above 0, at most {MAX_FPS:g}")
    if budget is not None and not isinstance(budget, str | int | float):
        raise HTTPException(400, "budget must be a number or a string such as '30ms'")
    return body["source"], float(fps), None if budget is None else str(budget)
