"""Recognize videos with an exported bundle: labels, what was done with each frame, where the time went.

Runs where the runtime alone is installed (pip install mmvideoiq[runtime]): no PyTorch, nothing of MMAction2.
"""

from __future__ import annotations

import argparse
import os
import shlex
import sys
import time
from collections import deque
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.live import Live
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TimeRemainingColumn

from mmvideoiq.deploy.session import VideoSession
from mmvideoiq.fileio import check_output
from mmvideoiq.jobs.arguments import (
    BAD,
    Parser,
    count,
    count_or_auto,
    count_or_none,
    print_error,
    print_warning,
    prog,
    rate,
)
from mmvideoiq.jobs.errors import traceback_wanted, write_any_text
from mmvideoiq.jobs.signals import exit_code
from mmvideoiq.service.answers import Report, knowledge, write_json
from mmvideoiq.service.options import add_engine, add_reader, add_sampling
from mmvideoiq.service.sources import complete_bundle, find_bundle, find_videos
from mmvideoiq.video.decoder_process import Decoder
from mmvideoiq.video.errors import VideoError, shown
from mmvideoiq.video.network import Connection, is_address

PATIENCE = Connection()
LINES = "-"  # in place of a file for --json
LAST_FRAMES = 16  # of a stream, in a report


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    parser = Parser(prog=prog(), description=__doc__)
    parser.example = "mmvideoiq infer zoo://demo_videoiq_bundle videos/ --budget 0.3 --json answers.json"
    bundle = parser.add_argument("bundle", help="folder that mmvideoiq export wrote, or zoo://NAME")
    bundle.completer = complete_bundle
    parser.add_argument("videos", nargs="+", metavar="VIDEO", help="file, or folder of videos")
    add_engine(parser)
    parser.add_argument("--threads", type=count, metavar="N", help="of the engine; default: one for each CPU")
    parser.add_argument("--budget", metavar="B", help="mean cost of a frame (0.4), or time of a clip (30ms)")
    parser.add_argument("--top", type=count, default=1, metavar="K", help="labels to show (default 1)")
    parser.add_argument(
        "--json",
        metavar="F",
        help="also write a list with an entry for each video; -: a line each on stdout instead",
    )
    parser.add_argument(
        "--report",
        type=Path,
        metavar="F",
        help="also write a page (.html): a filmstrip with the actions, cost and times of each video",
    )
    add_sampling(parser)
    add_reader(parser)
    parser.add_argument(
        "--decoders",
        type=count_or_auto,
        metavar="N",
        help="processes that decode; default: auto, as many as keep up with recognition",
    )
    parser.add_argument(
        "--stream",
        action="store_true",
        help="VIDEO frame by frame: a file, a camera's index, an http(s) (also HLS) or rtsp(s) address",
    )
    pace = parser.add_mutually_exclusive_group()
    pace.add_argument("--every", type=count, metavar="K", help="with --stream: one of K frames")
    pace.add_argument("--fps", type=rate, metavar="F", help="with --stream: at most F frames per second")
    network = parser.add_argument_group("with --stream, of an address")
    network.add_argument(
        "--timeout", type=rate, metavar="S", help=f"for an answer (default {PATIENCE.timeout_s:g} s)"
    )
    network.add_argument(
        "--retries",
        type=count_or_none,
        metavar="N",
        help=f"attempts to reconnect a live one that broke, each after twice the time (default {PATIENCE.retries})",
    )
    args = parser.parse_args(argv)
    if not args.stream and (args.every or args.fps):
        parser.error("--every and --fps set the pace of --stream: give it too")
    if not args.stream and (args.timeout is not None or args.retries is not None):
        parser.error("--timeout and --retries are for --stream: give it too")
    if args.stream and (args.sampling or args.decoders):
        parser.error("--stream takes each frame, one by one: leave out --sampling and --decoders")
    if args.stream and len(args.videos) > 1:
        parser.error(f"--stream takes one file or camera, got {len(args.videos)}")
    if (args.timeout is not None or args.retries is not None) and not is_address(args.videos[0]):
        parser.error("--timeout and --retries are for addresses: leave them out")
    for video in args.videos:
        if not args.stream and video.isdecimal() and not os.path.exists(video):
            parser.error(f"{video}: there is no such file; a camera needs --stream")
    try:
        if args.json not in (None, LINES):
            check_output("--json", Path(args.json))
        if args.report is not None:
            check_output("--report", args.report)
    except OSError as error:
        parser.error(str(error))
    args.given = sys.argv[1:] if argv is None else list(argv)
    return args


def run_clips(
    session: VideoSession, videos: Sequence[str], report: Report, *, decoders: int | str = "auto"
) -> None:
    screen = report.console if report.console.is_terminal and not report.lines else Console(stderr=True)
    bar = Progress(
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        console=screen,
        redirect_stdout=False,  # answers go where they belong
        redirect_stderr=sys.stderr.isatty(),
        transient=True,
        disable=len(videos) == 1 or not screen.is_terminal,
    )
    began = time.perf_counter()
    with bar:
        outcomes = session.run_many(videos, decoders=decoders)
        for video, outcome in zip(videos, bar.track(outcomes, total=len(videos)), strict=True):
            if isinstance(outcome, VideoError):
                report.error(shown(video), outcome)
            else:
                report.answer(shown(video), outcome)
            report.end()
    if len(videos) > 1 and not report.lines:
        seconds = time.perf_counter() - began
        bad = sum("error" in entry for entry in report.entries)
        print(f"{len(videos)} videos in {seconds:.1f} s" + f", {bad} of them bad" * bool(bad))


def run_stream(
    session: VideoSession, args: argparse.Namespace, report: Report, last: deque[np.ndarray]
) -> None:
    """Until the source ends; a broken or interrupted stream answers too. ``last`` gets its frames."""
    (source,) = args.videos
    video = shown(source)
    if source.isdecimal() and not os.path.exists(source):
        source = int(source)
    connection = Connection(
        timeout_s=PATIENCE.timeout_s if args.timeout is None else args.timeout,
        retries=PATIENCE.retries if args.retries is None else args.retries,
    )
    decoder, seen, waited = Decoder(session.preprocessing), 0, 0.0
    ended: VideoError | KeyboardInterrupt | None = None
    try:
        with Live(console=report.console, auto_refresh=False, transient=True) as live:
            asked = time.perf_counter()
            for frame in decoder.stream(
                source, every=args.every or 1, fps=args.fps, connection=connection, notify=print_warning
            ):
                waited += time.perf_counter() - asked
                session.push(frame)
                last.append(frame)
                seen += 1
                if report.console.is_terminal and not report.lines:
                    live.update(report.running(session.result()), refresh=True)
                else:
                    report.step(session.result())
                asked = time.perf_counter()
    except (VideoError, KeyboardInterrupt) as error:
        ended = error
    finally:
        decoder.close()
    if seen:
        result = session.result()
        result.times["decode"] = waited
        report.answer(video, result, **({"dropped": decoder.dropped} if decoder.live else {}))
    if isinstance(ended, VideoError):
        report.error(video, ended, answered=seen > 0)
    if seen or isinstance(ended, VideoError):
        report.end()
    if isinstance(ended, KeyboardInterrupt):
        raise ended


def write_report(
    session: VideoSession,
    args: argparse.Namespace,
    report: Report,
    videos: Sequence[str],
    last: Sequence[np.ndarray],
) -> None:
    """The page of ``--report``. The videos that it shows are read once more; of a stream it shows the last frames."""
    from mmvideoiq.visualization.answers_report import write_answers

    decoder = Decoder(session.preprocessing)

    def frames_of(place: int) -> np.ndarray | None:
        if args.stream:
            return np.stack(last) if last else None
        try:
            return decoder.read(videos[place]).frames
        except VideoError:  # it has changed since
            return None

    try:
        write_answers(
            args.report,
            report.entries,
            bundle=session.bundle.path.resolve().name,
            knowledge=knowledge(session.bundle),
            names=session.actions.names,
            frames_of=frames_of,
            command=shlex.join([*prog().split(), *args.given]),
            machine={"engine": f"{session.engine.name}, {session.engine.float_precision} at 32 bits"},
        )
    finally:
        decoder.close()


def main(argv: Sequence[str] | None = None) -> int:
    code = 0
    write_any_text()
    try:
        args = parse_args(argv)
        videos = args.videos if args.stream else find_videos(args.videos)
        with VideoSession.open(
            find_bundle(args.bundle),
            engine=args.engine,
            threads=args.threads,
            float_precision=args.float_precision,
            budget=args.budget,
            sampling=args.sampling,
            reader=args.reader,
        ) as session:
            report = Report(session, top=args.top, lines=args.json == LINES)
            last: deque[np.ndarray] = deque(maxlen=LAST_FRAMES if args.report else 0)
            report.legend()
            try:
                if args.stream:
                    run_stream(session, args, report, last)
                else:
                    run_clips(session, videos, report, decoders=args.decoders or "auto")
            except KeyboardInterrupt as stop:
                code = exit_code(stop)
            if args.json not in (None, LINES):
                write_json(args.json, report.entries)
            if args.report is not None:
                write_report(session, args, report, videos, last)
        code = code or (BAD if report.failed else 0)
    except KeyboardInterrupt as stop:
        code = exit_code(stop)
    except (ValueError, ImportError, OSError) as error:
        if traceback_wanted():
            raise
        print_error(error)
        code = BAD
    return code
