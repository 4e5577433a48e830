"""A server on this machine, in this process."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import requests
import uvicorn

from mmvideoiq.deploy.session import VideoSession
from mmvideoiq.service.serve.app import Service
from mmvideoiq.service.serve.command import listen, server_config
from mmvideoiq.service.serve.guard import names_of
from mmvideoiq.service.serve.samples import add_samples
from mmvideoiq.service.serve.settings import Limits
from mmvideoiq.service.serve.uploads import Uploads

PATIENCE_S = 60.0


class Client:
    """Requests to a server; answers are of the package ``requests``."""

    def __init__(self, address: str, service: Service) -> None:
        self.address, self.service = address, service

    def get(self, path: str, **more: Any) -> requests.Response:
        return requests.get(self.address + path, timeout=PATIENCE_S, **more)

    def post(self, path: str, **more: Any) -> requests.Response:
        return requests.post(self.address + path, timeout=PATIENCE_S, **more)

    def delete(self, path: str) -> requests.Response:
        return requests.delete(self.address + path, timeout=PATIENCE_S)

    def send(self, path: str, file: Path | bytes, **fields: str) -> requests.Response:
        content = file if isinstance(file, bytes) else file.read_bytes()
        return self.post(path, files={"file": ("clip.mp4", content)}, data=fields)

    def events(self, path: str) -> list[tuple[str, dict[str, Any]]]:
        return parsed(self.get(path).text)


def parsed(text: str) -> list[tuple[str, dict[str, Any]]]:
    """Server-sent events: kinds and data."""
    found = []
    for block in text.strip().split("\n\n"):
        fields = dict(line.split(": ", 1) for line in block.split("\n"))
        if "event" in fields:
            found.append((fields["event"], json.loads(fields["data"])))
    return found


@contextmanager
def serving(bundle: Path, *, workers: int = 1, **limits: Any) -> Iterator[Client]:
    """Within the block the server runs; it has ended in order afterwards.

    Args:
        limits: of :class:`Limits`.
    """

    def open_one() -> VideoSession:
        return VideoSession.open(bundle, threads=1)

    bounds = Limits(**limits)
    uploads = Uploads(kept_s=bounds.kept_s, kept_bytes=bounds.kept_bytes)
    sessions = [open_one() for _ in range(workers)]
    service = Service(
        sessions=sessions,
        open_live=open_one,
        uploads=uploads,
        samples=add_samples(uploads, sessions[0].bundle, None),
        limits=bounds,
        hosts=names_of("127.0.0.1"),
    )
    socket = listen("127.0.0.1", 0)
    server = uvicorn.Server(server_config(service.app, bounds))
    thread = threading.Thread(target=server.run, kwargs=dict(sockets=[socket]))
    thread.start()
    try:
        until = time.monotonic() + PATIENCE_S
        while not server.started:
            assert time.monotonic() < until and thread.is_alive()
            time.sleep(0.01)
        yield Client(f"http://127.0.0.1:{socket.getsockname()[1]}", service)
    finally:
        service.stop()
        server.should_exit = True
        thread.join()
