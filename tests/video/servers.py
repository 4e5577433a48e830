"""A server of videos on this machine: files by range, live streams that break, playlists."""

import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import av

from tests.video.odd import HEIGHT, RATE, WIDTH, picture

Route = Callable[[BaseHTTPRequestHandler], None]


def encode(path: Path, numbers: Iterable[int], *, container: str | None = None, **muxer: str) -> Path:
    """H.264 with a key frame each second, of pictures that show these numbers."""
    with av.open(str(path), "w", format=container, options=muxer) as file:
        stream = file.add_stream("libx264", rate=RATE, options={"g": str(RATE), "tune": "zerolatency"})
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        for number in numbers:
            file.mux(stream.encode(av.VideoFrame.from_ndarray(picture(number), format="rgb24")))
        file.mux(stream.encode(None))
    return path


def by_range(path: Path, *, cuts: int = 0) -> Route:
    """A file; its first ``cuts`` answers break off halfway."""
    left = [cuts]

    def answer(handler: BaseHTTPRequestHandler) -> None:
        data = path.read_bytes()
        asked = handler.headers.get("Range", "bytes=0-").removeprefix("bytes=").split("-")
        start = int(asked[0])
        stop = int(asked[1]) + 1 if asked[1] else len(data)
        part = data[start:stop]
        handler.send_response(206 if "Range" in handler.headers else 200)
        handler.send_header("Accept-Ranges", "bytes")
        handler.send_header("Content-Range", f"bytes {start}-{start + len(part) - 1}/{len(data)}")
        handler.send_header("Content-Length", str(len(part)))
        handler.end_headers()
        if left[0] > 0:
            left[0] -= 1
            part = part[: len(part) // 2]
            handler.close_connection = True
        handler.wfile.write(part)

    return answer


def live(parts: Sequence[bytes], *, then: Callable[[], object] = lambda: None) -> Route:
    """Chunks without an end: each connection gets the next part and is closed after ``then()``; at last 404."""
    left = list(parts)

    def answer(handler: BaseHTTPRequestHandler) -> None:
        if not left:
            handler.send_error(404)
            return
        part = left.pop(0)
        handler.send_response(200)
        handler.send_header("Content-Type", "video/mp2t")
        handler.send_header("Transfer-Encoding", "chunked")
        handler.end_headers()
        for start in range(0, len(part), 4096):
            chunk = part[start : start + 4096]
            handler.wfile.write(b"%x\r\n%s\r\n" % (len(chunk), chunk))
        handler.wfile.flush()
        then()
        handler.close_connection = True

    return answer


@contextmanager
def serving(folder: Path, routes: dict[str, Route] | None = None) -> Iterator[str]:
    """The address of a server of the folder's files, and of routes by name."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            name = self.path.lstrip("/")
            route = (routes or {}).get(name)
            if route is None and (folder / name).is_file():
                route = by_range(folder / name)
            try:
                if route is None:
                    self.send_error(404)
                else:
                    route(self)
            except (BrokenPipeError, ConnectionResetError):
                pass  # whoever asked has left

        def log_message(self, *_: object) -> None:
            pass

    class Server(ThreadingHTTPServer):
        def handle_error(self, *_: object) -> None:
            pass  # whoever asked has left

    server = Server(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join(30)
