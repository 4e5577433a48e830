"""The ASGI application: routes, guards, and what lives as long as they do."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, suppress

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from mmvideoiq.deploy.session import VideoSession
from mmvideoiq.service.serve import pages
from mmvideoiq.service.serve.bodies import busy_error, client_gone, http_error
from mmvideoiq.service.serve.guard import ClientShare, RequestLog, SameSite, SecurityHeaders
from mmvideoiq.service.serve.live import Live, Sessions
from mmvideoiq.service.serve.metrics import CONTENT_TYPE, Metrics
from mmvideoiq.service.serve.model import description
from mmvideoiq.service.serve.openapi import document
from mmvideoiq.service.serve.pool import Busy, Pool, takes_streams
from mmvideoiq.service.serve.samples import Sample
from mmvideoiq.service.serve.settings import Limits
from mmvideoiq.service.serve.uploads import Uploads
from mmvideoiq.service.serve.videos import Videos

SWEEP_S = 5.0


class Service:
    """What answers: the workers, the videos, what is live, the figures.

    Args:
        sessions: one for each worker, opened.
        open_live: opens a session for a camera or a stream.
        uploads: closed with the service.
        samples: videos in it.
        hosts: names by which clients may call the server; None allows any.

    Attributes:
        app: the ASGI application.
    """

    def __init__(
        self,
        *,
        sessions: Sequence[VideoSession],
        open_live: Callable[[], VideoSession],
        uploads: Uploads,
        samples: Sequence[Sample] = (),
        limits: Limits,
        hosts: frozenset[str] | None,
    ) -> None:
        first = sessions[0]
        self._limits, self._uploads = limits, uploads
        self._pool = Pool(sessions, waiting=limits.waiting, video_s=limits.video_s)
        live_sessions = Sessions(open_live, limit=limits.live)
        self._metrics = Metrics(
            {
                "waiting": ("Videos that wait for a worker.", lambda: self._pool.waiting),
                "busy_workers": ("Workers at work.", lambda: self._pool.busy),
                "workers": ("Workers.", lambda: self._pool.size),
                "kept_videos": ("Uploaded videos that are kept.", lambda: len(uploads)),
                "live": ("Cameras and streams.", lambda: live_sessions.taken),
            }
        )
        streams = takes_streams(first)
        videos = Videos(pool=self._pool, uploads=uploads, limits=limits, metrics=self._metrics)
        self._live = Live(sessions=live_sessions, shape=first.frame_shape, limits=limits, streams=streams)
        self._model = dict(
            description(first.bundle, engine=first.engine.name),
            samples=[sample._asdict() for sample in samples],
            limits=dict(
                upload_bytes=limits.upload_bytes,
                kept_s=limits.kept_s,
                live=limits.live if streams else 0,
                streams=limits.streams if streams else "off",
            ),
        )
        self._document = document(limits)
        self.app = Starlette(
            routes=[
                *pages.routes(),
                Route("/healthz", self._health, methods=["GET"]),
                Route("/metrics", self._figures, methods=["GET"]),
                Route("/v1/openapi.json", self._openapi, methods=["GET"]),
                Route("/v1/model", self._describe, methods=["GET"]),
                *videos.routes(),
                *self._live.routes(),
            ],
            middleware=[
                Middleware(RequestLog, metrics=self._metrics),
                Middleware(SecurityHeaders),
                Middleware(SameSite, hosts=hosts),
                Middleware(ClientShare, limit=limits.per_client),
            ],
            exception_handlers={
                HTTPException: http_error,
                Busy: busy_error,
                ClientDisconnect: client_gone,
                Exception: server_error,
            },
            lifespan=self._lifespan,
        )

    def stop(self) -> None:
        """Take nothing new; what has begun is finished. Safe in a signal handler's thread."""
        self._live.stopping.set()
        self._pool.stop()

    @asynccontextmanager
    async def _lifespan(self, _: Starlette) -> AsyncIterator[None]:
        await run_in_threadpool(self._pool.wait_ready)
        tasks = [asyncio.create_task(self._live.sweep()), asyncio.create_task(self._sweep())]
        try:
            yield
        finally:
            self.stop()
            for task in tasks:
                task.cancel()
                with suppress(asyncio.CancelledError):
                    await task
            await run_in_threadpool(self._pool.close, wait_s=self._limits.drain_s)
            self._uploads.close()

    async def _sweep(self) -> None:
        while True:
            await asyncio.sleep(SWEEP_S)
            await run_in_threadpool(self._uploads.sweep)

    async def _health(self, _: Request) -> Response:
        stopping = self._live.stopping.is_set()
        state = dict(
            status="stopping" if stopping else "ok", workers=self._pool.size, waiting=self._pool.waiting
        )
        return JSONResponse(state, 503 if stopping else 200)

    async def _figures(self, _: Request) -> Response:
        return Response(self._metrics.text(), media_type=CONTENT_TYPE)

    async def _describe(self, _: Request) -> Response:
        return JSONResponse(self._model)

    async def _openapi(self, _: Request) -> Response:
        return JSONResponse(self._document)


async def server_error(_: Request, __: Exception) -> Response:
    return JSONResponse(dict(error="an error of the server, which its log shows"), 500)
