"""What stands before every request: the log, the headers, other sites kept out, a share for each client.

Plain ASGI, so that answers that come event by event are neither collected nor delayed.
"""

from __future__ import annotations

import ipaddress
import logging
import time
from collections import Counter
from urllib.parse import quote

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from mmvideoiq.service.serve.metrics import Metrics

log = logging.getLogger("mmvideoiq.serve")
HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data: blob:; media-src 'self' blob:; "
        "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(self), microphone=(), geolocation=()",
}
CHEAP = ("/v1/model", "/v1/openapi.json")
ALLOWED_SITES = (None, "same-origin", "none")  # of Sec-Fetch-Site; None: no browser, or an old one


def client_of(scope: Scope) -> str:
    return scope["client"][0] if scope.get("client") else "-"


class RequestLog:
    """A line for each request when it has ended, and a count."""

    def __init__(self, app: ASGIApp, *, metrics: Metrics) -> None:
        self._app, self._metrics = app, metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        began, status = time.perf_counter(), 499  # the client went away

        async def noting(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await self._app(scope, receive, noting)
        except Exception:
            status = 500
            raise
        finally:
            ms = 1e3 * (time.perf_counter() - began)
            path = quote(scope["path"], safe="/:@-._~")
            log.info("%s %s %s %d %.0f ms", client_of(scope), scope["method"], path, status, ms)
            route = getattr(scope.get("route"), "path", "other")
            self._metrics.request(method=known(scope["method"]), route=route, status=status)


def known(method: str) -> str:
    return method if method in ("GET", "HEAD", "POST", "DELETE") else "other"


class SecurityHeaders:
    """:data:`HEADERS` on every answer, and nothing of the API in a cache."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def adding(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in HEADERS.items():
                    headers[name] = value
                headers.setdefault("Cache-Control", "no-store")
            await send(message)

        await self._app(scope, receive, adding if scope["type"] == "http" else send)


class SameSite:
    """Refuses what a page of another site asks for in a visitor's browser.

    Args:
        hosts: names by which the server may be called; None allows any. A server on loopback checks them: another site
            whose name leads to 127.0.0.1 is another site all the same.
    """

    def __init__(self, app: ASGIApp, *, hosts: frozenset[str] | None) -> None:
        self._app, self._hosts = app, hosts

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            headers = Headers(scope=scope)
            host = headers.get("host", "")
            if self._hosts is not None and without_port(host) not in self._hosts:
                refusal = f"this server is not called {host!r}: use {', '.join(sorted(self._hosts))}"
                await JSONResponse(dict(error=refusal), 421)(scope, receive, send)
                return
            origin = headers.get("origin")
            foreign = origin is not None and origin.partition("://")[2] != host
            if scope["path"].startswith("/v1/") and (
                foreign or headers.get("sec-fetch-site") not in ALLOWED_SITES
            ):
                refusal = "pages of other sites may not use this server"
                await JSONResponse(dict(error=refusal), 403)(scope, receive, send)
                return
        await self._app(scope, receive, send)


def without_port(host: str) -> str:
    return host.partition("]")[0] + "]" if host.startswith("[") else host.partition(":")[0]


def names_of(host: str) -> frozenset[str] | None:
    """By which names a server that listens on ``host`` may be called; None: any, it is open to the network."""
    try:
        loopback = ipaddress.ip_address(host).is_loopback
    except ValueError:
        loopback = host == "localhost"
    if not loopback:
        return None
    return frozenset({"localhost", "127.0.0.1", "[::1]", f"[{host}]" if ":" in host else host})


class ClientShare:
    """At most ``limit`` requests of an address at a time; one more is answered 429."""

    def __init__(self, app: ASGIApp, *, limit: int) -> None:
        self._app, self._limit = app, limit
        self._now: Counter[str] = Counter()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        counted = scope["type"] == "http" and scope["path"].startswith("/v1/") and scope["path"] not in CHEAP
        if not counted:
            await self._app(scope, receive, send)
            return
        client = client_of(scope)
        if self._now[client] >= self._limit:
            refusal = f"{self._limit} requests of yours are being answered: wait for one to end"
            await JSONResponse(dict(error=refusal), 429, {"Retry-After": "1"})(scope, receive, send)
            return
        self._now[client] += 1
        try:
            await self._app(scope, receive, send)
        finally:
            self._now[client] -= 1
            if not self._now[client]:
                del self._now[client]
