"""Many clips, a long stream and a server under load: answers stay the same, memory and descriptors flat.

    python -m tests.trust.soak --clips 10000 --frames 90000 --serve-seconds 600 --clients 50 --judge-times

``clips``: ``mmvideoiq infer`` on so many files, of which one of five is no video. ``stream``: ``mmvideoiq infer
--stream`` on so many frames of one file; 90,000 are an hour at 25 a second. ``serve``: see ``load.py`` of
``tests/service/serve``. Exit code 1: another answer, memory that grew by more than 2 % (and 16 MB of an allocator's
habits) between the halves after the warm-up, descriptors that stay open; with --judge-times, a 99th percentile above
twice the median, for equal clips and for all that a server answers.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
from rich.console import Console
from rich.progress import Progress

from mmvideoiq.data.synthetic import make_clip, make_frame, write_lossless
from mmvideoiq.jobs.environment import child_environment
from mmvideoiq.jobs.signals import restore_signals
from tests.service.serve.load import DESCRIPTORS, footprint, growth, soak
from tests.trust.isolated import ROOT
from tests.trust.subjects import mmvideoiq
from tests.trust.table import Row, finish

BUNDLE = ROOT / "zoo/demo/demo_videoiq_bundle"
OF_CLIPS = ROOT / "zoo/gestures/gestures_videoiq_bundle"  # 224 pixels: the demo's clips take one millisecond
GOOD = 4  # of five clips
EVERY_S = 0.1  # a look at memory and descriptors
TAIL = 2.0  # the 99th percentile, as medians
MS = ("policy", "recognition")  # of an answer, what is judged


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--clips", type=int, default=10_000)
    parser.add_argument("--frames", type=int, default=90_000, help="of the stream")
    parser.add_argument("--serve-seconds", type=float, default=600.0, metavar="S")
    parser.add_argument("--clients", type=int, default=50)
    parser.add_argument("--only", action="append", choices=("clips", "stream", "serve"))
    parser.add_argument("--judge-times", action="store_true", help="on a machine with nothing else to do")
    parser.add_argument("--json", type=Path, metavar="F")
    return parser.parse_args(argv)


@dataclass
class Watched:
    """A command from its start to its end.

    Attributes:
        lines: of JSON, that it printed.
        seconds: that it took.
        samples: seconds since the start, MB of it and its children, its open descriptors.
    """

    code: int
    lines: list[dict[str, Any]]
    said: str
    seconds: float
    samples: list[tuple[float, float, int]] = field(default_factory=list)


def watch(argv: Sequence[str], tell: Any) -> Watched:
    """Run it; ``tell`` takes the number of lines so far.

    Its lines go to a file and are parsed at the end: a reader beside it would take its processor.
    """
    with tempfile.TemporaryFile("w+") as err, tempfile.NamedTemporaryFile("w+b") as out:
        process = subprocess.Popen(argv, stdout=out, stderr=err, cwd=ROOT, env=child_environment(threads=1))
        samples: list[tuple[float, float, int]] = []
        began, done = time.monotonic(), 0
        try:
            with open(out.name, "rb") as new:
                while process.poll() is None:
                    time.sleep(EVERY_S)
                    with suppress(OSError):  # it has just ended
                        samples.append((time.monotonic() - began, *footprint(process.pid)))
                    done += new.read().count(b"\n")
                    tell(done)
        finally:
            process.kill()
            code = process.wait()
        seconds = time.monotonic() - began
        out.seek(0)
        err.seek(0)
        return Watched(code, [json.loads(line) for line in out], err.read()[-500:], seconds, samples)


def flat(found: Watched) -> tuple[dict[str, Any], list[str]]:
    """Figures and problems of memory and descriptors; neither of a run too short to judge."""
    if len(found.samples) < 8:
        return {}, ["memory was not watched"] * (found.seconds > 20 * EVERY_S)
    before, after, problems = growth(found.samples, found.seconds)
    counts = [count for *_, count in found.samples]
    first, last = max(counts[: len(counts) // 2]), max(counts[len(counts) // 2 :])
    if last > first + DESCRIPTORS:
        problems.append(f"descriptors grew from {first} to {last}")
    return dict(mb_first=before, mb_second=after, descriptors=last), problems


def percentiles(times: Sequence[Sequence[float]], *, judge: bool) -> tuple[dict[str, float], list[str]]:
    """Of the clip, of those with so many copies each, whose times spread most."""
    each = [tuple(map(float, np.percentile(copies, [50, 99]))) for copies in times if len(copies)]
    p50, p99 = max(each, key=lambda pair: pair[1] / max(pair[0], 1e-9), default=(0.0, 0.0))
    slow = judge and p99 > TAIL * p50
    problem = f"the 99th percentile is {p99:.1f} ms, above {TAIL:g} medians of {p50:.1f} ms"
    return dict(p50_ms=p50, p99_ms=p99), [problem] * slow


# --- clips and a stream ---------------------------------------------------------------------------------------------


def write_clips(folder: Path, count: int) -> Path:
    """A folder of so many links to four clips and a file of noise."""
    rng, source = np.random.default_rng(0), folder / "clips"
    source.mkdir()
    for number in range(GOOD):
        clip, _ = make_clip(rng, label=number, kind="bold")
        write_lossless(folder / f"{number}.mkv", clip, rate=6)
    (folder / f"{GOOD}.mkv").write_bytes(rng.bytes(999))
    for number in range(count):
        os.link(folder / f"{number % (GOOD + 1)}.mkv", source / f"{number:06d}.mkv")
    return source


def same_answers(lines: list[dict[str, Any]], count: int) -> list[str]:
    """A problem unless each clip has one answer, that of all its copies."""
    problems = []
    if [Path(line["video"]).stem for line in lines] != [f"{number:06d}" for number in range(count)]:
        problems.append(f"{len(lines)} answers to {count} clips, or not in their order")
    kinds: dict[int, set[str]] = {}
    for number, line in enumerate(lines):
        fixed = {key: value for key, value in line.items() if key not in ("video", "ms")}
        kinds.setdefault(number % (GOOD + 1), set()).add(json.dumps(fixed, sort_keys=True))
    problems += [
        f"{len(kinds[kind])} answers to the same clip" for kind in sorted(kinds) if len(kinds[kind]) > 1
    ]
    wrong = sum(("error" in line) != (number % (GOOD + 1) == GOOD) for number, line in enumerate(lines))
    return problems + [f"{wrong} clips with an error, or bad ones without"] * bool(wrong)


def clips(args: argparse.Namespace, bar: Progress) -> Row:
    task = bar.add_task("clips", total=args.clips)
    with tempfile.TemporaryDirectory() as folder:
        source = write_clips(Path(folder), args.clips)
        argv = mmvideoiq("infer", OF_CLIPS, source, "--threads", 1, "--decoders", 1, "--json", "-")
        found = watch(argv, lambda done: bar.update(task, completed=done))
    figures, problems = flat(found)
    problems += same_answers(found.lines, args.clips)
    if found.code != 2:
        problems.append(f"exit code {found.code} in place of 2, for the bad clips: {found.said}")
    times: list[list[float]] = [[] for _ in range(GOOD)]
    for number, line in enumerate(found.lines):
        if "ms" in line:
            times[number % (GOOD + 1)].append(sum(line["ms"][part] for part in MS))
    more, slow = percentiles(times, judge=args.judge_times)
    return Row("clips", dict(done=len(found.lines), seconds=found.seconds) | figures | more, problems + slow)


def write_stream(path: Path, frames: int) -> None:
    """One file of so many frames, a second of pictures again and again."""
    rng = np.random.default_rng(0)
    pictures = [make_frame(rng, label=number % 8, kind="bold") for number in range(25)]
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=Fraction(25))
        stream.height, stream.width = pictures[0].shape[:2]
        stream.pix_fmt = "yuv420p"
        for number in range(frames):
            picture = av.VideoFrame.from_ndarray(pictures[number % len(pictures)], format="rgb24")
            container.mux(stream.encode(picture))
        container.mux(stream.encode(None))


def stream(args: argparse.Namespace, bar: Progress) -> Row:
    task = bar.add_task(f"stream of {args.frames} frames", total=None)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "stream.mp4"
        write_stream(path, args.frames)
        argv = mmvideoiq("infer", BUNDLE, path, "--stream", "--threads", 1, "--json", "-")
        found = watch(argv, lambda done: bar.update(task, completed=done))
    figures, problems = flat(found)
    frames = [line.get("frames") for line in found.lines]
    if found.code or frames != [args.frames]:
        problems.append(f"exit code {found.code}, {frames} frames of {args.frames}: {found.said}")
    return Row("stream", dict(done=args.frames, seconds=found.seconds) | figures, problems)


# --- a server -------------------------------------------------------------------------------------------------------


def serve(args: argparse.Namespace, bar: Progress) -> Row:
    bar.add_task(f"{args.clients} clients for {args.serve_seconds:g} s", total=None)
    found = soak(BUNDLE, clients=args.clients, seconds=args.serve_seconds)
    problems = [f"{problem} ({count} times)" for problem, count in found["problems"]]
    slow = args.judge_times and found["p99_ms"] > TAIL * found["p50_ms"]
    problems += [f"the 99th percentile is {found['p99_ms']:.0f} ms, above {TAIL:g} medians"] * slow
    memory, statuses = found["memory_mb"], Counter()
    for status, count in found["statuses"].items():
        statuses[status.split()[-1]] += count
    figures = dict(
        done=found["answered"],
        seconds=args.serve_seconds,
        mb_first=memory["first_half"],
        mb_second=memory["second_half"],
        descriptors=found["descriptors"]["at_rest"],
        p50_ms=found["p50_ms"],
        p99_ms=found["p99_ms"],
        statuses=", ".join(f"{status}: {count}" for status, count in sorted(statuses.items())),
    )
    return Row("serve", figures, problems)


WHAT = dict(clips=clips, stream=stream, serve=serve)


def main(argv: Sequence[str] | None = None) -> int:
    restore_signals()
    args = parse_args(argv)
    console, began = Console(stderr=True), time.monotonic()
    with Progress(console=console, disable=not console.is_terminal) as bar:
        rows = [WHAT[name](args, bar) for name in args.only or WHAT]
    return finish(rows, json_file=args.json, seconds=time.monotonic() - began)


if __name__ == "__main__":
    sys.exit(main())
