"""Serve a page and a JSON API that recognize videos with an exported bundle."""

from __future__ import annotations

import argparse
import logging
import signal
import socket
import sys
import threading
from collections.abc import Sequence
from contextlib import closing
from functools import partial
from types import FrameType

import uvicorn
from starlette.applications import Starlette

from mmvideoiq.deploy.session import VideoSession
from mmvideoiq.jobs.arguments import BAD, Parser, count, count_or_none, print_error, prog, rate
from mmvideoiq.jobs.environment import usable_cpus
from mmvideoiq.jobs.errors import traceback_wanted, write_any_text
from mmvideoiq.jobs.signals import exit_code
from mmvideoiq.service.options import add_engine, add_sampling
from mmvideoiq.service.serve.app import Service
from mmvideoiq.service.serve.guard import names_of
from mmvideoiq.service.serve.pool import open_sessions
from mmvideoiq.service.serve.samples import add_samples
from mmvideoiq.service.serve.settings import MIB, STREAMS, Limits
from mmvideoiq.service.serve.uploads import Uploads
from mmvideoiq.service.sources import complete_bundle, find_bundle
from mmvideoiq.video.decoder_process import Decoder

MAX_WORKERS = 4  # unless more are asked for: each holds the networks of its own
DEFAULTS = Limits()
KEEP_ALIVE_S = 5


def port_number(text: str) -> int:
    if not text.isdecimal() or int(text) > 65535:
        raise argparse.ArgumentTypeError(f"{text!r} is no port: 0 (any free one) to 65535")
    return int(text)


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    parser = Parser(prog=prog(), description=__doc__)
    parser.example = "mmvideoiq serve zoo://demo_videoiq_bundle --port 8080"
    bundle = parser.add_argument("bundle", help="folder that mmvideoiq export wrote, or zoo://NAME")
    bundle.completer = complete_bundle
    parser.add_argument(
        "--host", default="127.0.0.1", help="address to listen on (default: this machine alone)"
    )
    parser.add_argument(
        "--port", type=port_number, default=8000, help="0 takes any that is free (default 8000)"
    )
    parser.add_argument(
        "--samples", metavar="DIR", help="videos to try; default: some that the demo's bundle knows"
    )
    model = parser.add_argument_group("the model")
    add_engine(model)
    model.add_argument(
        "--workers",
        type=count,
        metavar="N",
        help=f"videos at a time, each with networks of its own; default: one for each CPU, at most {MAX_WORKERS}",
    )
    model.add_argument(
        "--threads", type=count, metavar="N", help="of each worker's engine; default: the CPUs shared out"
    )
    add_sampling(model)
    bounds = parser.add_argument_group("bounds")
    bounds.add_argument(
        "--max-upload",
        type=rate,
        metavar="MIB",
        default=DEFAULTS.upload_bytes / MIB,
        help="size of a video (default %(default)g MiB)",
    )
    bounds.add_argument(
        "--time-limit",
        type=rate,
        metavar="S",
        default=DEFAULTS.video_s,
        help="for decoding a video, and again for recognizing it (default %(default)g s)",
    )
    bounds.add_argument(
        "--queue",
        type=count_or_none,
        metavar="N",
        default=DEFAULTS.waiting,
        help="videos that wait for a worker; more are answered 503 (default %(default)s)",
    )
    bounds.add_argument(
        "--per-client",
        type=count,
        metavar="N",
        default=DEFAULTS.per_client,
        help="requests of one address at a time; more are answered 429 (default %(default)s)",
    )
    bounds.add_argument(
        "--keep",
        type=rate,
        metavar="S",
        default=DEFAULTS.kept_s,
        help="for which an uploaded video can be run again (default %(default)g s)",
    )
    bounds.add_argument(
        "--live",
        type=count_or_none,
        metavar="N",
        default=DEFAULTS.live,
        help="cameras and streams at a time (default %(default)s)",
    )
    bounds.add_argument(
        "--streams",
        choices=STREAMS,
        default=DEFAULTS.streams,
        help="addresses that the server reads for clients: none, http(s) of public hosts, or any "
        "(default %(default)s)",
    )
    return parser.parse_args(argv)


class Server(uvicorn.Server):
    """Says when it listens, and lets the service refuse new work from the first signal on.

    Attributes:
        signals: those that it got.
    """

    def __init__(self, config: uvicorn.Config, service: Service, address: str) -> None:
        super().__init__(config)
        self._service, self._address = service, address
        self.signals: list[int] = []

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        print(f"{prog()}: {self._address} (Ctrl-C ends)", flush=True)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        self.signals.append(sig)
        threading.Thread(target=self._service.stop, daemon=True).start()  # it takes locks: not in a handler
        super().handle_exit(sig, frame)


def listen(host: str, port: int) -> socket.socket:
    """A socket that is bound.

    Raises:
        OSError: with a message that says what to do.
    """
    try:
        family, *_, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        listening = socket.socket(family, socket.SOCK_STREAM)
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind(address)
    except OSError as error:
        raise OSError(
            f"cannot listen on {host} port {port} ({error.strerror}): choose others with --host and --port"
        ) from None
    return listening


def server_config(app: Starlette, limits: Limits) -> uvicorn.Config:
    """Of a server that logs by itself, trusts no header about who asks, and does not say what it is."""
    return uvicorn.Config(
        app,
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        lifespan="on",
        timeout_keep_alive=KEEP_ALIVE_S,
        timeout_graceful_shutdown=round(limits.drain_s),
    )


def serve(args: argparse.Namespace) -> int:
    limits = Limits(
        upload_bytes=round(args.max_upload * MIB),
        waiting=args.queue,
        per_client=args.per_client,
        video_s=args.time_limit,
        kept_s=args.keep,
        kept_bytes=max(DEFAULTS.kept_bytes, 4 * round(args.max_upload * MIB)),
        live=args.live,
        streams=args.streams,
    )
    listening = listen(args.host, args.port)
    workers = args.workers or min(usable_cpus(), MAX_WORKERS)
    open_one = partial(
        VideoSession.open,
        find_bundle(args.bundle),
        engine=args.engine,
        threads=args.threads or max(1, usable_cpus() // workers),
        float_precision=args.float_precision,
        sampling=args.sampling,
    )
    sessions = open_sessions(open_one, workers)
    with closing(Decoder(sessions[0].preprocessing)) as decoder:
        decoder.start("videos")  # where this machine has none it is one line, and not an error of each video
    uploads = Uploads(kept_s=limits.kept_s, kept_bytes=limits.kept_bytes)
    try:
        service = Service(
            sessions=sessions,
            open_live=open_one,
            uploads=uploads,
            samples=add_samples(uploads, sessions[0].bundle, args.samples),
            limits=limits,
            hosts=names_of(args.host),
        )
        shown = f"[{args.host}]" if ":" in args.host else args.host
        server = Server(
            server_config(service.app, limits), service, f"http://{shown}:{listening.getsockname()[1]}"
        )
        log_to_stderr()
        try:
            server.run(sockets=[listening])
        except KeyboardInterrupt as stop:  # uvicorn raises what it got again, when it has ended in order
            return exit_code(stop) if signal.SIGINT in server.signals else 0
        return 0
    finally:
        uploads.close()


def log_to_stderr() -> None:
    """A line for each request, and what goes wrong."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter("%(asctime)s %(message)s", "%Y-%m-%dT%H:%M:%S"))
    for name, level in (("mmvideoiq.serve", logging.INFO), ("uvicorn", logging.WARNING)):
        logger = logging.getLogger(name)
        logger.handlers, logger.propagate = [handler], False
        logger.setLevel(level)


def main(argv: Sequence[str] | None = None) -> int:
    write_any_text()
    args = parse_args(argv)
    try:
        return serve(args)
    except KeyboardInterrupt as stop:
        return exit_code(stop)
    except (ValueError, ImportError, OSError) as error:
        if traceback_wanted():
            raise
        print_error(error)
        return BAD
