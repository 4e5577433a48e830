"""Recognize videos with an exported bundle: labels, what was done with each frame, where the time went.

Runs where the runtime alone is installed (pip install -e .[runtime]): no PyTorch, nothing of MMAction2.
"""

import argparse
import json
import os
import re
import sys
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NoReturn

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from rich.console import Console
from rich.live import Live
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TimeRemainingColumn
from rich.text import Text

from mmvideoiq import fileio as atomic
from mmvideoiq import zoo
from mmvideoiq.deploy.bundle import Bundle
from mmvideoiq.deploy.session import Result, VideoSession
from mmvideoiq.jobs.errors import traceback_wanted, write_any_text
from mmvideoiq.jobs.signals import exit_code, restore_signals
from mmvideoiq.video.av_reader import SAMPLING
from mmvideoiq.video.decoder_process import Decoder
from mmvideoiq.video.errors import VideoError, shown
from mmvideoiq.video.network import Connection, is_address
from mmvideoiq.video.preprocessing import READERS

VIDEOS = tuple(".3gp .asf .avi .flv .h264 .m4v .mkv .mov .mp4 .mpeg .mpg .ogv .ts .webm .wmv".split())
COLOURS = ("white on red", "black on yellow", "black on green", "white on blue", "white on magenta")
LIVE_LINES = 3  # of a running timeline
CLASSES_SHOWN = 3  # by name
BAD = 2
PATIENCE = Connection()


class Parser(argparse.ArgumentParser):
    """Says what is wrong in one line."""

    def error(self, message: str) -> NoReturn:
        self.exit(BAD, f"{self.prog}: error: {message}\n")


def count(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number of at least 1")
    return int(text)


def count_or_auto(text: str) -> int | str:
    return text if text == "auto" else count(text)


def count_or_none(text: str) -> int:
    return 0 if text == "0" else count(text)


def rate(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value < float("inf"):
        raise argparse.ArgumentTypeError(f"{text!r} is not a number above 0")
    return value


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    parser = Parser(description=__doc__)
    parser.add_argument("bundle", help="folder that tools/export.py wrote, or zoo://NAME")
    parser.add_argument("videos", nargs="+", metavar="VIDEO", help="file, or folder of videos")
    parser.add_argument("--engine", default="openvino", help="openvino (default) or onnxruntime")
    parser.add_argument("--threads", type=count, metavar="N", help="of the engine; default: one for each CPU")
    parser.add_argument(
        "--float-precision",
        default="auto",
        metavar="P",
        help="of what runs in floats: f32, bf16, or auto (default): bf16 where the CPU has it, policies aside",
    )
    parser.add_argument("--budget", metavar="B", help="mean cost of a frame (0.4), or time of a clip (30ms)")
    parser.add_argument("--top", type=count, default=1, metavar="K", help="labels to show (default 1)")
    parser.add_argument("--json", metavar="F", help="also write a list with an entry for each video")
    parser.add_argument("--sampling", choices=SAMPLING, help="of frames; default: the bundle's")
    parser.add_argument("--reader", choices=READERS, default="av", help="av (PyAV, default) or decord")
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
    if args.json is not None and not Path(args.json).resolve().parent.is_dir():
        parser.error(f"--json {args.json}: there is no folder {Path(args.json).parent}")
    return args


def find_videos(given: Sequence[str]) -> list[str]:
    """Files as they are; in place of a folder the videos in it, by name."""
    found = []
    for path in given:
        inside = [path]
        if os.path.isdir(path):
            inside = sorted(str(file) for file in Path(path).iterdir() if file.suffix.lower() in VIDEOS)
            if not inside:
                raise ValueError(f"{path}: this folder holds no videos ({', '.join(VIDEOS)})")
        found += inside
    return found


def find_bundle(given: str) -> str:
    """The bundle's folder; a published one is fetched where it is not on this machine."""
    if given.startswith(zoo.SCHEME):
        return str(zoo.bundle_folder(given.removeprefix(zoo.SCHEME)))
    if os.path.isfile(given):
        raise ValueError(
            f"{given} is a file; a bundle is a folder, which tools/export.py makes of a checkpoint"
        )
    return given


def write_json(path: str, entries: list[dict[str, Any]]) -> None:
    text = json.dumps(entries, indent=1, ensure_ascii=False) + "\n"
    # names of files that are not UTF-8 hold lone surrogates, which JSON can only escape
    atomic.write_text(Path(path), re.sub("[\ud800-\udfff]", lambda found: f"\\u{ord(found[0]):04x}", text))


def knowledge(bundle: Bundle) -> str:
    """One line: the number of classes of the bundle, and the first of them."""
    classes = bundle.manifest["classes"]
    more = ", ..." if len(classes) > CLASSES_SHOWN else ""
    name = bundle.path.resolve().name
    return f"{name} knows {len(classes)} classes: {', '.join(classes[:CLASSES_SHOWN])}{more}"


class Report:
    """Tells answers on stdout and errors on stderr, and keeps them for ``--json``.

    Attributes:
        entries: a video each: ``video``; ``label``, ``name``, ``score``, ``top`` [{label, name, score}], ``cost``,
            ``frames``, ``actions`` (a name for each frame; of a stream the last 1024), ``ms`` {decode, policy,
            recognition}, ``lost`` (frames that were damaged, their neighbours having been taken); of a live stream
            ``dropped`` (frames that came faster than they were recognized); ``error`` if it is bad, after these if a
            stream broke.
    """

    def __init__(self, session: VideoSession, *, top: int) -> None:
        self.entries: list[dict[str, Any]] = []
        self.console = Console(highlight=False, markup=False, emoji=False)
        self._session, self._top = session, top
        marks = ["." * action.skip if action.is_skip else action.name for action in session.actions]
        self._width = max(map(len, marks))
        self._cells = [
            (mark.rjust(self._width), "dim" if action.is_skip else COLOURS[place % len(COLOURS)])
            for place, (mark, action) in enumerate(zip(marks, session.actions, strict=True))
        ]

    @property
    def failed(self) -> bool:
        return any("error" in entry for entry in self.entries)

    def legend(self) -> None:
        self._say(knowledge(self._session.bundle))
        text = Text("frames:")
        for cell, action in zip(self._cells, self._session.actions, strict=True):
            skipped = " skipped" if action.skip == 1 else f" {action.skip} skipped"
            processed = " bits" if action.size is None else " bits@size"
            text.append("  ").append(*cell).append(skipped if action.is_skip else processed)
        self._say(text)

    def answer(self, video: str, result: Result, **more: int) -> None:
        entry = self._entry(video, result) | more
        self.entries.append(entry)
        text = Text.assemble((video, "bold"), "  ", (result.name, "bold green"), f"  {result.score:.3f}\n")
        for row in entry["top"][1:]:
            text.append(f"  {row['name']}  {row['score']:.3f}\n")
        parts = ", ".join(f"{part} {ms:.1f}" for part, ms in entry["ms"].items())
        text.append_text(self.timeline(result.actions))
        text.append(f"\n  cost {result.cost:.3f}; ms: {parts}")
        for count, what in ((result.lost, "damaged"), (more.get("dropped", 0), "dropped")):
            text.append(f"; {count} frames {what}" * bool(count))
        self._say(text)

    def error(self, video: str, error: VideoError, *, answered: bool = False) -> None:
        entry = self.entries.pop() if answered else dict(video=video)
        self.entries.append(dict(entry, error=error.reason))
        print_error(error)

    def running(self, result: Result) -> Text:
        """A stream so far."""
        head = Text.assemble(
            (result.name, "bold green"), f"  {result.score:.3f}  after {result.frames} frames\n"
        )
        return head.append_text(self.timeline(result.actions, LIVE_LINES))

    def step(self, result: Result) -> None:
        """A stream's newest frame, on a line of its own."""
        action = self._session.actions.names[result.actions[-1]]
        self._say(f"frame {result.frames}: {action}, {result.name} {result.score:.3f}")

    def timeline(self, actions: Iterable[int], lines: int | None = None) -> Text:
        """A cell for each frame, as many in a line as the terminal is wide; the last ``lines``."""
        each = max(1, (self.console.width - 2) // (self._width + 1))
        cells = [self._cells[action] for action in actions]
        rows = [cells[start : start + each] for start in range(0, len(cells), each)]
        return Text("\n").join(
            Text(" ").join([Text(" "), *(Text(*cell) for cell in row)])
            for row in rows[-(lines or len(rows)) :]
        )

    def _entry(self, video: str, result: Result) -> dict[str, Any]:
        classes = self._session.bundle.manifest["classes"]
        order = (-result.scores).argsort(kind="stable")[: self._top].tolist()
        return dict(
            video=video,
            label=result.label,
            name=result.name,
            score=result.score,
            top=[dict(label=k, name=classes[k], score=float(result.scores[k])) for k in order],
            cost=result.cost,
            frames=result.frames,
            actions=[self._session.actions.names[action] for action in result.actions],
            ms={part: 1e3 * seconds for part, seconds in result.times.items()},
            lost=result.lost,
            float_precision=result.float_precision,
        )

    def _say(self, text: Text | str) -> None:
        self.console.print(text, soft_wrap=True)


def print_error(error: BaseException | str) -> None:
    print(f"{Path(sys.argv[0]).name}: error: {' '.join(str(error).split())}", file=sys.stderr, flush=True)


def print_warning(line: str) -> None:
    print(f"{Path(sys.argv[0]).name}: warning: {line}", file=sys.stderr, flush=True)


def run_clips(
    session: VideoSession, videos: Sequence[str], report: Report, *, decoders: int | str = "auto"
) -> None:
    screen = report.console if report.console.is_terminal else Console(stderr=True)
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
    if len(videos) > 1:
        seconds = time.perf_counter() - began
        bad = sum("error" in entry for entry in report.entries)
        print(f"{len(videos)} videos in {seconds:.1f} s" + f", {bad} of them bad" * bool(bad))


def run_stream(session: VideoSession, args: argparse.Namespace, report: Report) -> None:
    """Until the source ends; a broken or interrupted stream answers too."""
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
                seen += 1
                if report.console.is_terminal:
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
    elif ended:
        raise ended


def main(argv: list[str] | None = None) -> None:
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
            report = Report(session, top=args.top)
            report.legend()
            try:
                if args.stream:
                    run_stream(session, args, report)
                else:
                    run_clips(session, videos, report, decoders=args.decoders or "auto")
            except KeyboardInterrupt as stop:
                code = exit_code(stop)
            if args.json is not None:
                write_json(args.json, report.entries)
        code = code or (BAD if report.failed else 0)
    except KeyboardInterrupt as stop:
        code = exit_code(stop)
    except (ValueError, ImportError, OSError) as error:
        if traceback_wanted():
            raise
        print_error(error)
        code = BAD
    sys.exit(code)


if __name__ == "__main__":
    restore_signals()
    main()
