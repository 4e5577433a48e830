"""The pages, all in one frame, and the files that they load, served under their own names alone."""

from __future__ import annotations

import hashlib
from pathlib import Path
from string import Template
from typing import NamedTuple

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

FOLDER = Path(__file__).parent / "static"
TYPES = {".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml"}


class Page(NamedTuple):
    """What ``frame.html`` is filled with: the text of links to it, its title, and files of its own."""

    link: str
    title: str
    main: str
    script: str


PAGES = {
    "/": Page("Recognize", "Recognize a video", "index.html", "recognize.js"),
    "/live": Page("Live", "Live", "live.html", "live.js"),
    "/docs": Page("API", "API", "docs.html", "docs.js"),
}


def routes() -> list[Route]:
    """A route for each page and for each file that they load."""
    files = [path for path in FOLDER.iterdir() if path.suffix in TYPES]
    return [_route(path, whole(path).encode(), "text/html") for path in PAGES] + [
        _route(f"/static/{file.name}", file.read_bytes(), TYPES[file.suffix]) for file in files
    ]


def whole(path: str) -> str:
    """The page at a path, in its frame."""
    here = {path: ' aria-current="page"'}
    links = [f'<a href="{each}"{here.get(each, "")}>{page.link}</a>' for each, page in PAGES.items()]
    page = PAGES[path]
    main, frame = (FOLDER.joinpath(name).read_text(encoding="utf-8") for name in (page.main, "frame.html"))
    return Template(frame).substitute(title=page.title, script=page.script, links="".join(links), main=main)


def _route(path: str, content: bytes, kind: str) -> Route:
    tag = f'"{hashlib.sha256(content).hexdigest()[:16]}"'
    headers = {"ETag": tag, "Cache-Control": "no-cache"}

    async def get(request: Request) -> Response:
        if request.headers.get("if-none-match") == tag:
            return Response(status_code=304, headers=headers)
        return Response(content, media_type=kind, headers=headers)

    return Route(path, get, methods=["GET"])
