"""A file server on the loopback interface that misbehaves on request, and entries of metafiles."""

import hashlib
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import repeat
from pathlib import Path

DATA = bytes(i * i % 251 for i in range(4321))


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def entry(name: str, weights: str | None = None, data: bytes = DATA, **changes) -> dict:
    """A model of the metafile, with ``weights`` the place of ``data``; None in ``changes`` leaves a key out."""
    model = {"Name": name, "In Collection": "Toys", "Config": "configs/toy/toy.py"}
    if weights is not None:
        model |= {"Weights": weights, "Metadata": {"SHA256": sha256(data), "Size": len(data)}}
    model |= {key.replace("_", " "): value for key, value in changes.items()}
    return {key: value for key, value in model.items() if value is not None}


def files(folder: Path) -> list[str]:
    """All files below a folder but the locks."""
    return sorted(path.name for path in folder.rglob("*") if path.is_file() and path.suffix != ".lock")


class Server(ThreadingHTTPServer):
    """Serves ``files`` (path -> bytes); ``asked`` holds (path, Range header) of each request.

    ``tempers`` holds how each request is answered, the last for all that follow:

    - ``ranges`` as it should be, ``whole`` without ranges, ``early`` with a range that begins 10 bytes too early;
    - ``breaks`` ends after 1000 bytes, ``slow`` sends 150 bytes every 20 ms, ``endless`` never ends;
    - ``hangs`` sends nothing, ``drips`` sends a header byte by byte, ``many`` says so of the length;
    - ``busy`` is status 503, ``missing`` 404, ``colours`` 404 with control characters;
    - an address is where it redirects to, with a body that never ends.
    """

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.address = f"http://127.0.0.1:{self.server_port}"
        self.reset()

    def reset(self) -> None:
        self.files: dict[str, bytes] = {}
        self.asked: list[tuple[str, str | None]] = []
        self.tempers = ["ranges"]

    def handle_error(self, *_) -> None:  # clients hang up; it is what is tested
        pass


class Handler(BaseHTTPRequestHandler):
    server: Server

    def log_message(self, *_) -> None:
        pass

    def start(self, status: int, reason: str | None = None, **headers: object) -> None:
        self.send_response(status, reason)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), str(value))
        self.end_headers()

    def send(self, chunks, pause: float = 0.0) -> None:
        for chunk in chunks:
            self.wfile.write(chunk)
            time.sleep(pause)

    def do_GET(self) -> None:
        server, asked = self.server, self.headers.get("Range")
        server.asked.append((self.path, asked))
        temper = server.tempers.pop(0) if len(server.tempers) > 1 else server.tempers[0]
        if "://" in temper:
            self.start(302, Location=temper)
            return self.send(repeat(bytes(2**16)))
        match temper:
            case "busy":
                return self.send_error(503)
            case "colours":
                return self.start(404, "\x1b[31mred\x07")
            case "many":
                return self.start(200, Content_Length="many")
            case "endless":
                self.start(200)
                return self.send(repeat(bytes(2**16)))
            case "hangs":
                return time.sleep(1)
            case "drips":
                return self.send((b"%c" % byte for byte in b"HTTP/1.1 200 OK\r\nX: " + b"x" * 80), 0.02)
        if temper == "missing" or self.path not in server.files:
            return self.send_error(404)
        data, first = server.files[self.path], 0
        if asked is None or temper == "whole":
            self.start(200, Content_Length=len(data))
        else:
            first = int(asked.removeprefix("bytes=").removesuffix("-"))
            if first >= len(data):
                return self.send_error(416)
            first -= 10 if temper == "early" else 0
            span = f"bytes {first}-{len(data) - 1}/{len(data)}"
            self.start(206, Content_Length=len(data) - first, Content_Range=span)
        if temper == "slow":
            return self.send((data[i : i + 150] for i in range(first, len(data), 150)), 0.02)
        self.wfile.write(data[first : first + 1000] if temper == "breaks" else data[first:])
