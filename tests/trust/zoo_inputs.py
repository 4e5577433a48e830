"""Answers of a server, and metafiles, for ``mmvideoiq zoo``."""

from __future__ import annotations

import os
import random
import socket
from functools import partial
from pathlib import Path
from threading import Thread

import yaml

from mmvideoiq.zoo import index, store
from mmvideoiq.zoo.fetch import Limits, fetch
from tests.deploy.toy_bundle import make_toy_bundle
from tests.trust.kinds import Kind
from tests.trust.mutations import change_bytes, change_text, change_tree
from tests.zoo.server import DATA, entry

LIMITS = Limits(silence=1.0, total=5.0, attempts=2, pause=0.01)
METAFILE = "configs/toy/metafile.yml"
HEADERS = (
    *(
        "Content-Length: -1",
        "Content-Length: 99999999999999999999",
        "Content-Length: many",
        "Content-Length: 1",
    ),
    *("Content-Length: 4321\r\nContent-Length: 7", "Transfer-Encoding: chunked", "Content-Encoding: gzip"),
    *(
        "Location: /toy.pth",
        "Location: //",
        "Location: http://[::1",
        "Location: \x00",
        "no colon",
        ": nothing",
    ),
    *(
        "X: " + "x" * 70_000,
        "Content-Range: bytes 0-0/1",
        "Content-Range: bytes 9-1/*",
        " folded",
        "\x1b[31m: red",
    ),
)
STATUSES = (
    *(
        "HTTP/1.1 206 Partial",
        "HTTP/1.1 301 Moved",
        "HTTP/1.1 302 Found",
        "HTTP/1.1 304 Same",
        "HTTP/1.1 100 Go on",
    ),
    *(
        "HTTP/1.1 416 Range",
        "HTTP/1.1 429 Many",
        "HTTP/1.1 500 \x1b[31m",
        "HTTP/1.1 999 ?",
        "HTTP/1.1 abc",
        "ICY 200",
    ),
    *("HTTP/1.1 -1 x", "HTTP/9.9 200 OK", "200 OK", "", "HTTP/1.1 204 None", "HTTP/1.1 401 Who"),
)


class Raw:
    """Answers each request with the bytes of its path, whatever they are, and closes the connection."""

    def __init__(self) -> None:
        self.answers: dict[str, bytes] = {}
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.address = f"http://127.0.0.1:{self._listening.getsockname()[1]}"
        Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        while True:
            connection, _ = self._listening.accept()
            with connection:
                try:
                    asked = connection.recv(2**16).split(b" ")
                    path = asked[1].decode() if len(asked) > 1 else ""
                    connection.sendall(self.answers.get(path, b"HTTP/1.1 404 Not Found\r\n\r\n"))
                except OSError:
                    pass  # the client hung up


def answer(data: bytes, *, status: str = "HTTP/1.1 200 OK", headers: tuple[str, ...] = ()) -> bytes:
    lines = [status, *(headers or (f"Content-Length: {len(data)}",))]
    return "\r\n".join([*lines, "", ""]).encode("utf-8", "surrogateescape") + data


def change_answer(data: bytes, rng: random.Random) -> tuple[str, bytes]:
    match rng.randrange(5):
        case 0:
            status = rng.choice(STATUSES)
            return f"status {status!r}", answer(data, status=status)
        case 1:
            headers = tuple(rng.sample(HEADERS, rng.choice((1, 2))))
            return f"headers {headers!r:.60}", answer(data, headers=headers)
        case 2:
            status, header = rng.choice(STATUSES), rng.choice(HEADERS)
            return f"{status!r}, {header!r:.40}", answer(data, status=status, headers=(header,))
        case 3:
            what, changed = change_bytes(data, rng)
            return f"the body: {what}", answer(changed)
        case _:
            what, changed = change_bytes(answer(data), rng)
            return f"the answer: {what}", changed


def change_zoo(originals: Path, folder: Path, rng: random.Random) -> tuple[str, list[str]]:
    """A zoo of a checkpoint and a bundle, of which an answer, a file or the metafile is changed."""
    server = Raw()
    files = {path.name: path.read_bytes() for path in sorted((originals / "toy_bundle").iterdir())}
    way, manifest = (
        rng.choice(("checkpoint", "bundle", "manifest", "metafile", "index")),
        files["manifest.json"],
    )
    what = ""
    if way == "manifest":  # published as it is, under a checksum that fits
        what, manifest = change_text(manifest.decode(), rng)
        files["manifest.json"] = manifest
    served = {f"/toy_bundle/{name}": data for name, data in files.items()} | {"/toy.pth": DATA}
    server.answers = {path: answer(data) for path, data in served.items()}
    if way in ("checkpoint", "bundle"):
        path = "/toy.pth" if way == "checkpoint" else f"/toy_bundle/{rng.choice(sorted(files))}"
        what, server.answers[path] = change_answer(served[path], rng)
        what = f"{path}: {what}"
    models = [entry("toy", "toy.pth"), entry("toy_bundle", "toy_bundle/manifest.json", manifest)]
    content = dict(Collections=[dict(Name="Toys")], Models=models)
    if way == "metafile" and rng.random() < 0.6:
        what = change_tree(content, rng)
    text = yaml.safe_dump(content, sort_keys=False, allow_unicode=True)
    data = text.encode()
    if way == "metafile" and not what:
        what, data = change_text(text, rng)
    root = folder / "root"
    (root / "configs/toy").mkdir(parents=True)
    (root / METAFILE).write_bytes(data)
    (root / "configs/toy/toy.py").touch()
    list_of_all = f"Import:\n- {METAFILE}\n".encode()
    if way == "index":
        what, list_of_all = change_text(list_of_all.decode(), rng)
    (root / index.INDEX).write_bytes(list_of_all)
    index.root = lambda: root
    store.fetch = partial(fetch, limits=LIMITS)
    os.environ["MMVIDEOIQ_ZOO"] = server.address
    asked = ["list", "--all"] if way in ("metafile", "index") and rng.random() < 0.5 else ["download"]
    if asked == ["download"]:
        asked.append("toy" if way in ("checkpoint", "metafile", "index") else "toy_bundle")
    return f"{way}: {what}", ["mmvideoiq", "zoo", *asked]


def write_bundle(folder: Path) -> None:
    make_toy_bundle(folder / "toy_bundle")


KINDS = {"zoo": Kind(write_bundle, change_zoo)}
