"""One file over HTTP(S): resumed where it broke off, checked, and complete or absent.

The standard library's client is enough for this. Of libraries that keep downloads, pooch begins anew after each break,
and so does ``torch.hub``.
"""

from __future__ import annotations

import http.client
import io
import re
import socket
import time
from dataclasses import dataclass
from pathlib import Path
from urllib.error import HTTPError, URLError
from urllib.parse import urlsplit
from urllib.request import (
    HTTPHandler,
    HTTPRedirectHandler,
    HTTPSHandler,
    OpenerDirector,
    Request,
    build_opener,
)

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
from mmvideoiq.fileio import sha256_of

CHUNK = 2**16  # bytes
TRY_AGAIN = (408, 425, 429, 500, 502, 503, 504)


@dataclass(frozen=True, kw_only=True)
class Limits:
    """What one download may take.

    Attributes:
        silence: seconds without a byte that end an attempt.
        total: seconds for the file, with all attempts.
        attempts: in a row that bring no byte.
        pause: seconds between attempts, twice as many after each that brings no byte.
    """

    silence: float = 30.0
    total: float = 3600.0
    attempts: int = 4
    pause: float = 0.5


class _Broken(OSError):
    """The connection ended before the file did."""


class _Refused(OSError):
    """The reply cannot be used, and another attempt would not help."""


class _Clock:
    """How long the next blocking call may take."""

    def __init__(self, limits: Limits) -> None:
        self.limits, self.end = limits, time.monotonic() + limits.total

    def remaining(self, at_most: float) -> float:
        """Seconds, no more than ``at_most``; raises _Refused when the total is used up."""
        left = self.end - time.monotonic()
        if left <= 0:
            raise _Refused(f"it takes longer than {self.limits.total:g} seconds; run again to go on")
        return min(at_most, left)


def _opener(clock: _Clock) -> OpenerDirector:
    """An opener for http and https whose every read, of headers too, is timed by ``clock``."""

    class Stream(io.RawIOBase):
        def __init__(self, sock: socket.socket) -> None:
            self.sock, self.raw = sock, sock.makefile("rb", buffering=0)

        def readable(self) -> bool:
            return True

        def readinto(self, buffer) -> int | None:
            self.sock.settimeout(clock.remaining(clock.limits.silence))
            return self.raw.readinto(buffer)

        def close(self) -> None:
            self.raw.close()
            super().close()

    class Response(http.client.HTTPResponse):
        def __init__(self, sock: socket.socket, *args, **kwargs) -> None:
            super().__init__(sock, *args, **kwargs)
            self.fp.close()
            self.fp = io.BufferedReader(Stream(sock))

    class Connection(http.client.HTTPConnection):
        response_class = Response

    class SecureConnection(http.client.HTTPSConnection):
        response_class = Response

    class Http(HTTPHandler):
        def http_open(self, request):
            return self.do_open(Connection, request)

    class Https(HTTPSHandler):
        def https_open(self, request):
            return self.do_open(SecureConnection, request)

    class Redirects(HTTPRedirectHandler):
        def redirect_request(self, req, fp, code, msg, headers, newurl):
            fp.close()  # urllib would read its body, which may be endless
            if urlsplit(newurl).scheme not in ("http", "https"):
                raise _Refused(f"it redirects to {newurl}, which is neither http nor https")
            return super().redirect_request(req, fp, code, msg, headers, newurl)

    return build_opener(Http, Https, Redirects)


def _printable(text: object) -> str:
    """``text`` without the control characters that a server may have put into it."""
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in str(text))


def fetch(address: str, target: Path, *, sha256: str, size: int, limits: Limits = Limits()) -> None:
    """Fetch ``address``, a file of ``size`` bytes, to ``target``; a target that is right already is kept.

    What has come so far is kept in ``<target>.part`` and is not asked for again.

    Raises:
        ValueError: the file has another SHA-256; it was removed.
        OSError: it cannot be fetched; what has come is kept for the next call.
    """
    if target.is_file() and sha256_of(target) == sha256:
        return
    part = target.with_name(f"{target.name}.part")
    resumed = _size(part) > 0
    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn())
    with Progress(*columns, TimeRemainingColumn(), console=Console(stderr=True)) as progress:
        _retry(address, part, progress, size, _Clock(limits))
    got = sha256_of(part)
    if got != sha256:
        part.unlink()
        if resumed:  # from something else, such as a login page: once more, from the beginning
            return fetch(address, target, sha256=sha256, size=size, limits=limits)
        raise ValueError(f"{address} has the SHA-256 {got}, expected {sha256}: removed, and not used")
    part.replace(target)


def _retry(address: str, part: Path, progress: Progress, size: int, clock: _Clock) -> None:
    """Fetch the rest of ``part``, in as many attempts as it takes while each brings something."""
    task, idle, limits = progress.add_task(address.rpartition("/")[2], total=size), 0, clock.limits
    while True:
        before = _size(part)
        try:
            _fetch_rest(address, part, progress, task, size=size, clock=clock)
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
        if idle == limits.attempts:
            reason = why.reason if isinstance(why, URLError) else why
            raise OSError(
                f"{address} cannot be fetched ({_printable(reason)}); "
                f"{_size(part)} bytes of it are kept, run again to go on"
            ) from None
        time.sleep(min(limits.pause * 2 ** max(idle - 1, 0), max(clock.end - time.monotonic(), 0)))


def _fetch_rest(
    address: str, part: Path, progress: Progress, task: TaskID, *, size: int, clock: _Clock
) -> None:
    """Ask for what is missing of ``part`` and append it."""
    have = _size(part)
    headers = {"User-Agent": f"mmvideoiq/{__version__}"}
    if have:
        headers["Range"] = f"bytes={have}-"
    connect = clock.remaining(clock.limits.silence)
    with _opener(clock).open(Request(address, headers=headers), timeout=connect) as reply:
        start, total = _extent(reply, have)
        if total is not None and total > size:
            raise _Refused(f"it has {total} bytes, expected {size}")
        progress.update(task, completed=start)
        with part.open("r+b" if have else "wb") as file:
            file.truncate(start)
            file.seek(start)
            while chunk := reply.read1(CHUNK):
                if file.tell() + len(chunk) > size:
                    file.truncate(0)
                    raise _Refused(f"it is longer than the expected {size} bytes")
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
