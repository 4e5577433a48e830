"""The pages: files of this package, served under their own names alone."""

from __future__ import annotations

import hashlib
from pathlib import Path

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

FOLDER = Path(__file__).parent / "static"
PAGES = {"/": "index.html", "/live": "live.html", "/docs": "docs.html"}
TYPES = {".html": "text/html", ".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml"}


def routes() -> list[Route]:
    """A route for each page and for each file that they load."""
    files = {
        f"/static/{path.name}": path.name
        for path in FOLDER.iterdir()
        if path.suffix in (".css", ".js", ".svg")
    }
    return [_route(path, FOLDER / name) for path, name in (PAGES | files).items()]


def _route(path: str, file: Path) -> Route:
    content = file.read_bytes()
    tag = f'"{hashlib.sha256(content).hexdigest()[:16]}"'
    headers = {"ETag": tag, "Cache-Control": "no-cache"}

    async def get(request: Request) -> Response:
        if request.headers.get("if-none-match") == tag:
            return Response(status_code=304, headers=headers)
        return Response(content, media_type=TYPES[file.suffix], headers=headers)

    return Route(path, get, methods=["GET"])
