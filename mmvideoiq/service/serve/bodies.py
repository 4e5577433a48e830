"""Bodies of requests, bounded in size and time, and the errors that clients are told."""

from __future__ import annotations

import asyncio
import logging
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager

from starlette.datastructures import UploadFile
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.types import Message, Receive

from mmvideoiq.jobs.errors import disk_full
from mmvideoiq.service.serve.pool import Busy
from mmvideoiq.service.serve.settings import MIB, Limits

AROUND = 64 * 1024  # bytes of a multipart body that are not the file's
FIELDS = 4
FIELD_BYTES = 4096
log = logging.getLogger("mmvideoiq.serve")


def too_large(limit: int) -> HTTPException:
    return HTTPException(413, f"more than {limit / MIB:g} MiB: send a shorter or smaller video")


def bounded(receive: Receive, limit: int, error: HTTPException) -> Receive:
    """``receive``, which raises ``error`` after ``limit`` bytes of body."""
    seen = 0

    async def counting() -> Message:
        nonlocal seen
        message = await receive()
        seen += len(message.get("body", b""))
        if seen > limit:
            raise error
        return message

    return counting


@contextmanager
def full_disk_told() -> Iterator[None]:
    """HTTPException 507 in place of the error of a full disk; the log says where it is."""
    try:
        yield
    except OSError as error:
        if not disk_full(error):
            raise
        log.error("no room for a video in %s (%s)", tempfile.gettempdir(), error.strerror)
        raise HTTPException(507, "the server has no room for the video: try again later") from None


@asynccontextmanager
async def sent_video(request: Request, limits: Limits) -> AsyncIterator[tuple[UploadFile, str | None]]:
    """The part ``file`` of a multipart body, open, and the field ``budget``.

    Raises:
        HTTPException: 400 no such part, 408 too slow, 413 too large, 415 no multipart body; 507 a full disk, also
            where the block copies the file.
    """
    if not request.headers.get("content-type", "").startswith("multipart/form-data"):
        raise HTTPException(415, "send multipart/form-data with the video in the part 'file'")
    error = too_large(limits.upload_bytes)
    if int_or_0(request.headers.get("content-length")) > limits.upload_bytes + AROUND:
        raise error
    counted = Request(request.scope, bounded(request.receive, limits.upload_bytes + AROUND, error))
    try:
        with full_disk_told():
            async with asyncio.timeout(limits.upload_s):
                form = await counted.form(max_files=1, max_fields=FIELDS, max_part_size=FIELD_BYTES)
    except TimeoutError:
        raise HTTPException(408, f"the video did not arrive within {limits.upload_s:g} seconds") from None
    try:
        file, budget = form.get("file"), form.get("budget")
        if not isinstance(file, UploadFile):
            raise HTTPException(400, "there is no part 'file' with a file name: send the video in it")
        if (file.size or 0) > limits.upload_bytes:
            raise error
        if isinstance(budget, UploadFile):
            raise HTTPException(400, "'budget' must be a field, not a file")
        with full_disk_told():
            yield file, budget or None
    finally:
        await form.close()


async def sent_bytes(request: Request, length: int, *, seconds: float) -> bytes:
    """A body of exactly ``length`` bytes.

    Raises:
        HTTPException: 400 another length, 408 too slow.
    """
    error = HTTPException(400, f"the body must be {length} bytes, it is longer")
    counted = Request(request.scope, bounded(request.receive, length, error))
    try:
        async with asyncio.timeout(seconds):
            body = await counted.body()
    except TimeoutError:
        raise HTTPException(408, f"the frame did not arrive within {seconds:g} seconds") from None
    if len(body) != length:
        raise HTTPException(400, f"the body must be {length} bytes, got {len(body)}")
    return body


def int_or_0(text: str | None) -> int:
    return int(text) if text is not None and text.isdecimal() else 0


async def http_error(_: Request, error: Exception) -> Response:
    """``{"error": one line}`` with the status."""
    assert isinstance(error, HTTPException)
    return JSONResponse(dict(error=error.detail), error.status_code, error.headers)


async def busy_error(_: Request, error: Exception) -> Response:
    assert isinstance(error, Busy)
    return JSONResponse(dict(error=str(error)), 503, {"Retry-After": str(error.retry_after_s)})


async def client_gone(_: Request, error: Exception) -> Response:
    return Response(status_code=499)
