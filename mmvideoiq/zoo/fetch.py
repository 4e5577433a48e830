"""One file over HTTP(S): goes on where it broke off, is checked, and appears whole or not at all.

The standard library's client is enough for this. Of libraries that keep downloads, pooch begins anew after each break,
and so does ``torch.hub``.
"""

from __future__ import annotations

import hashlib
import http.client
import re
import time
from pathlib import Path
from urllib.error import HTTPError, URLError
from urllib.parse import urlsplit
from urllib.request import HTTPRedirectHandler, Request, build_opener

from rich.console import Console
from rich.progress import (
    BarColumn,
    DownloadColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)

from mmvideoiq import __version__

CHUNK = 2**16  # bytes
TIMEOUT = 30.0  # seconds without a byte
ATTEMPTS = 4  # in a row that bring no byte
PAUSE = 0.5  # seconds between attempts, twice as many after each that brings no byte
TOTAL_TIME = 3600.0  # seconds for one file, with all attempts
MAX_SIZE = 2**31  # bytes of a file whose size the index does not give
TRY_AGAIN = (408, 425, 429, 500, 502, 503, 504)


class _Broken(OSError):
    """The connection ended before the file did."""


class _Refused(OSError):
    """The reply cannot be used, and another attempt would not help."""


class _HttpOnly(HTTPRedirectHandler):
    """Redirects lead to http and https alone."""

    def redirect_request(self, req, fp, code, msg, headers, newurl):
        if urlsplit(newurl).scheme not in ("http", "https"):
            raise _Refused(f"it redirects to {newurl}, which is neither http nor https")
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def _printable(text: object) -> str:
    """``text`` without the control characters that a server may have put into it."""
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in str(text))


def sha256_of(file: Path) -> str:
    digest = hashlib.sha256()
    with file.open("rb") as stream:
        while chunk := stream.read(2**20):
            digest.update(chunk)
    return digest.hexdigest()


def fetch(address: str, target: Path, *, sha256: str, size: int | None = None) -> None:
    """Fetch ``address`` to ``target``; a target that fits already is kept.

    What has come so far stands in ``<target>.part`` and is not asked for again. A file may have ``size`` bytes,
    or ``MAX_SIZE`` where that is not known, and take ``TOTAL_TIME`` seconds.

    Raises:
        ValueError: the file has another SHA-256; it was removed.
        OSError: it cannot be fetched; what has come is kept for the next call.
    """
    if target.is_file() and sha256_of(target) == sha256:
        return
    part = target.with_name(f"{target.name}.part")
    went_on = _size(part) > 0
    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn())
    with Progress(*columns, TimeRemainingColumn(), console=Console(stderr=True)) as progress:
        _persist(address, part, progress, MAX_SIZE if size is None else size)
    got = sha256_of(part)
    if got != sha256:
        part.unlink()
        if went_on:  # from something else, such as a login page: once more, from the beginning
            return fetch(address, target, sha256=sha256, size=size)
        raise ValueError(f"{address} has the SHA-256 {got}, expected {sha256}: removed, and not used")
    part.replace(target)


def _persist(address: str, part: Path, progress: Progress, limit: int) -> None:
    """Fetch the rest of ``part``, in as many attempts as it takes while each brings something."""
    task, idle = progress.add_task(address.rpartition("/")[2], total=None), 0
    deadline = time.monotonic() + TOTAL_TIME
    while True:
        before = _size(part)
        try:
            _fetch_rest(address, part, progress, task, limit=limit, deadline=deadline)
            return
        except HTTPError as error:
            if error.code == 416 and before:  # longer than the file, or another one
                part.unlink()
                continue
            why: Exception = error
            if error.code not in TRY_AGAIN:
                raise OSError(
                    f"{address} cannot be fetched: HTTP status {error.code} {_printable(error.reason)}"
                ) from None
        except _Refused as error:
            raise OSError(f"{address} cannot be fetched: {_printable(error)}") from None
        except (http.client.HTTPException, OSError, ValueError) as error:
            why = error
        idle = 0 if _size(part) > before else idle + 1
        if idle == ATTEMPTS:
            reason = why.reason if isinstance(why, URLError) else why
            raise OSError(
                f"{address} cannot be fetched ({_printable(reason)}); "
                f"{_size(part)} bytes of it are kept, run again to go on"
            ) from None
        time.sleep(PAUSE * 2 ** max(idle - 1, 0))


def _fetch_rest(
    address: str, part: Path, progress: Progress, task: TaskID, *, limit: int, deadline: float
) -> None:
    """Ask for what is missing of ``part`` and append it."""
    have = _size(part)
    headers = {"User-Agent": f"mmvideoiq/{__version__}"}
    if have:
        headers["Range"] = f"bytes={have}-"
    with build_opener(_HttpOnly).open(Request(address, headers=headers), timeout=TIMEOUT) as reply:
        start, total = _extent(reply, have)
        if total is not None and total > limit:
            raise _Refused(f"it has {total} bytes, at most {limit} are allowed")
        progress.update(task, completed=start, total=total)
        with part.open("r+b" if have else "wb") as file:
            file.truncate(start)
            file.seek(start)
            while chunk := reply.read1(CHUNK):
                if file.tell() + len(chunk) > limit:
                    file.truncate(0)
                    raise _Refused(f"it is longer than the {limit} bytes that are allowed")
                if time.monotonic() > deadline:
                    raise _Refused(f"it takes longer than {TOTAL_TIME:g} seconds; run again to go on")
                file.write(chunk)
                progress.advance(task, len(chunk))
    if total is not None and _size(part) < total:
        raise _Broken(f"the connection ended after {_size(part)} of {total} bytes")


def _extent(reply: http.client.HTTPResponse, have: int) -> tuple[int, int | None]:
    """Where in the file the reply begins, and the file's length if the server tells."""
    length = reply.headers.get("Content-Length")
    if reply.status != 206:  # the whole file: the server knows no ranges
        if length is not None and not re.fullmatch("[0-9]{1,18}", length):
            raise _Refused(f"its header Content-Length is {length[:80]!r}")
        return 0, None if length is None else int(length)
    found = re.fullmatch(r"bytes (\d+)-(\d+)/(\d+|\*)", reply.headers.get("Content-Range", ""))
    if found is None or int(found[1]) > have:
        raise _Broken(f"the server answered with another range than bytes={have}-")
    return int(found[1]), None if found[3] == "*" else int(found[3])


def _size(file: Path) -> int:
    return file.stat().st_size if file.exists() else 0
