"""Routes for whole videos: recognize one at once, or keep it and follow what is done with it frame by frame."""

from __future__ import annotations

import asyncio
import json
import math
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import suppress
from typing import Any

from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from mmvideoiq.deploy.budget import BudgetError, parse_budget
from mmvideoiq.service.serve.bodies import sent_video
from mmvideoiq.service.serve.metrics import Metrics
from mmvideoiq.service.serve.pool import Busy, Pool
from mmvideoiq.service.serve.recognition import Event, Recognition
from mmvideoiq.service.serve.settings import Limits
from mmvideoiq.service.serve.uploads import Uploads, Video

PULSE_S = 10.0  # between two signs of life in a stream of events


class Videos:
    """The routes."""

    def __init__(self, *, pool: Pool, uploads: Uploads, limits: Limits, metrics: Metrics) -> None:
        self._pool, self._uploads, self._limits, self._metrics = pool, uploads, limits, metrics

    def routes(self) -> list[Route]:
        return [
            Route("/v1/recognize", self.recognize, methods=["POST"]),
            Route("/v1/videos", self.keep, methods=["POST"]),
            Route("/v1/videos/{id}/events", self.events, methods=["GET"]),
            Route("/v1/videos/{id}", self.forget, methods=["DELETE"]),
        ]

    async def recognize(self, request: Request) -> Response:
        async with sent_video(request, self._limits) as (file, budget):
            check_budget(budget)
            video = await run_in_threadpool(self._uploads.add, file.file, held=True)  # it is removed below
        try:
            events = Events()
            task = self._task(video, budget, by_frame=False, tell=events.tell)
            self._submit(task)
            try:
                event = await events.next()
            except BaseException:
                self._cancel(task)
                raise
        finally:
            self._uploads.remove(video)
        self._count(event)
        if event.kind == "failed":
            return JSONResponse(dict(error=event.data["error"]), event.data["status"])
        return JSONResponse(event.data)

    async def keep(self, request: Request) -> Response:
        async with sent_video(request, self._limits) as (file, _):
            video = await run_in_threadpool(self._uploads.add, file.file)
        return JSONResponse(dict(id=video.id, kept_s=self._limits.kept_s), 201)

    async def forget(self, request: Request) -> Response:
        self._uploads.remove(self._find(request))
        return Response(status_code=204)

    async def events(self, request: Request) -> Response:
        video, budget = self._find(request), request.query_params.get("budget")
        check_budget(budget)
        events = Events()
        task = self._task(video, budget, by_frame=True, tell=events.tell)
        before = self._submit(task)

        async def lines() -> AsyncIterator[bytes]:
            try:
                yield server_sent(Event("queued", dict(before=before)))
                async for event in events:
                    if event is None:
                        yield b": working\n\n"
                        continue
                    if event.last:
                        self._count(event)
                    yield server_sent(event)
            finally:
                self._cancel(task)

        return event_stream(lines())

    def _submit(self, task: Recognition) -> int:
        try:
            return self._pool.submit(task)
        except Busy as busy:
            task.refuse(str(busy))
            raise

    def _cancel(self, task: Recognition) -> None:
        task.cancel()
        self._pool.withdraw(task)

    def _task(
        self, video: Video, budget: str | None, *, by_frame: bool, tell: Callable[[Event], None]
    ) -> Recognition:
        return Recognition(
            video, self._uploads, budget=budget, by_frame=by_frame, seconds=self._limits.video_s, tell=tell
        )

    def _find(self, request: Request) -> Video:
        video = self._uploads.get(request.path_params["id"])
        if video is None:
            raise HTTPException(404, "there is no such video, or its time is over: send it again")
        return video

    def _count(self, event: Event) -> None:
        if event.kind == "result":
            self._metrics.video(200, event.data)
        else:
            self._metrics.video(event.data["status"])


class Events:
    """From a worker's thread to the event loop; iterating ends after the last event, None is a pause.

    Args:
        most_frames: that wait for a client who reads slowly; further ones are left out.
    """

    def __init__(self, *, most_frames: float = math.inf) -> None:
        self._most_frames = most_frames
        self._loop = asyncio.get_running_loop()
        self._queue: asyncio.Queue[Event] = asyncio.Queue()

    def tell(self, event: Event) -> None:
        if event.kind == "frame" and self._queue.qsize() >= self._most_frames:
            return
        with suppress(RuntimeError):  # the loop is closed: nobody listens
            self._loop.call_soon_threadsafe(self._queue.put_nowait, event)

    async def next(self) -> Event:
        return await self._queue.get()

    async def __aiter__(self) -> AsyncIterator[Event | None]:
        while True:
            try:
                event = await asyncio.wait_for(self._queue.get(), PULSE_S)
            except TimeoutError:
                yield None
                continue
            yield event
            if event.last:
                return


def server_sent(event: Event) -> bytes:
    return f"event: {event.kind}\ndata: {to_json(event.data)}\n\n".encode()


def to_json(value: Mapping[str, Any]) -> str:
    return json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))


def event_stream(lines: AsyncIterator[bytes]) -> Response:
    return StreamingResponse(lines, media_type="text/event-stream", headers={"X-Accel-Buffering": "no"})


def check_budget(budget: str | None) -> None:
    """400 for what is no budget; whether it is within reach, the worker finds."""
    if budget is not None:
        try:
            parse_budget(budget)
        except BudgetError as error:
            raise HTTPException(400, str(error)) from None
