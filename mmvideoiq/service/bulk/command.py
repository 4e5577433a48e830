"""The command: from the arguments to the shards and the summary."""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from mmvideoiq.deploy.bundle import Bundle
from mmvideoiq.deploy.session import VideoSession
from mmvideoiq.fileio import make_output_folder, unless_unused, write_json
from mmvideoiq.jobs.arguments import BAD, print_error
from mmvideoiq.jobs.environment import usable_cpus
from mmvideoiq.jobs.errors import RunStopped, disk_full, traceback_wanted, write_any_text
from mmvideoiq.jobs.lock import locked
from mmvideoiq.jobs.signals import exit_code
from mmvideoiq.service.bulk.arguments import parse_args
from mmvideoiq.service.sources import find_bundle
from mmvideoiq.video.errors import NoDecoder

if TYPE_CHECKING:
    import pyarrow as pa

    from mmvideoiq.service.bulk.plan import Plan, Settings
    from mmvideoiq.service.bulk.shards import Shards
    from mmvideoiq.service.bulk.starts import Starts
    from mmvideoiq.video.decoder_process import Decoder

STOPPED = 1  # exit code of a run that cannot go on, or that recognized nothing
ROUND = 20_000  # videos that Ray is given at a time
ATTEMPTS = 3  # of a video whose worker dies


class Voice:
    """Tells a run: a bar for people on a terminal, JSON lines for programs."""

    def __init__(self, *, json_lines: bool) -> None:
        self._json = json_lines
        self.bar = Progress(
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[speed]}"),
            TimeRemainingColumn(),
            console=Console(stderr=True),
            redirect_stdout=False,
            redirect_stderr=False,
            transient=True,
            disable=json_lines or not sys.stderr.isatty(),
        )

    def event(self, name: str, *, text: str | None = None, **fields: Any) -> None:
        if self._json:
            print(json.dumps(dict(event=name, **fields)), flush=True)
        elif text is not None:
            self.bar.console.print(text, highlight=False, markup=False, soft_wrap=True)

    def summary(self, summary: dict[str, Any], told: Sequence[str]) -> None:
        if self._json:
            self.event("summary", **summary)
        else:
            print("\n".join(told), flush=True)


def main(argv: Sequence[str] | None = None) -> int:
    write_any_text()
    try:
        args = parse_args(argv)
        out = Path(args.out)
        with unless_unused(out):
            make_output_folder("--out", out)
            with locked(out, ValueError, option="--out"):
                return run(args)
    except KeyboardInterrupt as stop:
        return exit_code(stop)
    except (ValueError, ImportError, OSError, RunStopped) as error:
        if traceback_wanted():
            raise
        print_error(error)
        return STOPPED if isinstance(error, RunStopped) or disk_full(error) else BAD


def run(args: argparse.Namespace) -> int:
    try:
        from mmvideoiq.service.bulk import plan as plans
        from mmvideoiq.service.bulk.shards import Shards
        from mmvideoiq.service.bulk.sources import find_all, is_list
        from mmvideoiq.service.bulk.stages import open_session
        from mmvideoiq.service.bulk.starts import Starts
        from mmvideoiq.service.bulk.summary import lines, nothing_recognized, summarize
    except ModuleNotFoundError as error:
        raise ImportError(f"{error}: pip install 'mmvideoiq[bulk]'") from None

    voice = Voice(json_lines=args.json)
    bundle = Bundle.open(find_bundle(args.bundle))
    settings = plans.Settings(
        bundle=bundle.manifest["digest"],
        engine=args.engine,
        float_precision=args.float_precision,
        budget=args.budget,
        sampling=args.sampling or bundle.preprocessing.sampling,
        reader=args.reader,
        shard_size=args.shard_size,
    )
    # here, where a mistake is one line, and not in a hundred workers
    session = open_session(bundle, settings, threads=args.threads)
    plan = plans.open_plan(
        Path(args.out),
        sources=args.sources,
        column=args.column,
        settings=settings,
        data_root=args.data_root,
        find=partial(find_all, column=args.column, data_root=args.data_root),
    )
    shards = Shards(plan, retry_errors=args.retry_errors)
    before = shards.videos_done
    voice.event(
        "plan",
        text=f"{len(plan)} videos" + f", {before} of them done before" * bool(before),
        videos=len(plan),
        done=before,
        shards=plan.shards,
    )
    starts, stopped = Starts(plan), None
    try:
        work(args, voice, plan, bundle, settings, session, shards, starts)
    except KeyboardInterrupt as stop:
        stopped = stop
    starts.record(shards.videos_done - before)
    summary = summarize(shards, starts, dearest=float(bundle.costs.max()))
    if stopped is None:
        write_json(plan.folder / "summary.json", summary)
    voice.summary(summary, lines(summary, shards.folder))
    if stopped is not None:
        voice.event("interrupted", text="interrupted: the same command goes on from the finished shards")
        return exit_code(stopped)
    failure = nothing_recognized(summary, of_lists=any(map(is_list, args.sources)))
    if failure is not None:
        print_error(failure)
        return STOPPED
    return 0


def work(
    args: argparse.Namespace,
    voice: Voice,
    plan: Plan,
    bundle: Bundle,
    settings: Settings,
    session: VideoSession,
    shards: Shards,
    starts: Starts,
) -> None:
    """Do what is missing."""
    from mmvideoiq.service.bulk.fetch import open_decoder

    if next(shards.missing(), None) is None:
        return
    decoders, recognizers = (None if n == "auto" else n for n in (args.decoders, args.recognizers))
    preprocessing = session.preprocessing
    limits = dict(time_limit_s=args.time_limit, max_bytes=args.size_limit)
    open_one = partial(open_decoder, preprocessing, **limits)
    if args.address is None:
        check_decoding(open_one)
    if args.no_ray:
        from mmvideoiq.service.bulk.local import run_here

        places = list(shards.missing())
        tables = run_here(plan, places, session, open_decoder=open_one, decoders=decoders)
        follow(voice, shards, starts, tables)
        return
    from mmvideoiq.service.bulk import on_ray

    actors = 2 * usable_cpus() if None in (decoders, recognizers) else decoders + recognizers
    store = on_ray.store_bytes(preprocessing, actors)
    with on_ray.started(args.address, object_store_bytes=store):
        pipeline = on_ray.RayPipeline(
            plan,
            bundle,
            settings,
            preprocessing=preprocessing,
            decoders=decoders,
            recognizers=recognizers,
            threads=args.threads,
            **limits,
        )
        follow(voice, shards, starts, in_rounds(shards, pipeline.run))


def check_decoding(open_decoder: Callable[[], Decoder]) -> None:
    """Start a decoder, so that where this machine has none it is one line, and not an error in each row.

    Raises:
        RunStopped: it cannot be started.
    """
    decoder = open_decoder()
    try:
        decoder.start()
    except NoDecoder as error:
        raise RunStopped(error.reason) from None
    finally:
        decoder.close()


def in_rounds(shards: Shards, run: Callable[..., Iterator[pa.Table]]) -> Iterator[pa.Table]:
    """Results until no place is missing; one whose worker died each time becomes an error.

    Raises:
        RunStopped: nothing came of a whole round.
    """
    from mmvideoiq.service.bulk.shards import failed
    from mmvideoiq.service.bulk.stages import failed_row

    attempts: Counter[int] = Counter()
    while todo := list(islice(shards.missing(), ROUND)):
        came = 0
        fresh = [place for place in todo if not attempts[place]]
        for table in run(fresh, alone=[place for place in todo if attempts[place]]):
            came += len(table)
            yield table
        left = [place for place in todo if not shards.has(place)]
        if not came and fresh:
            raise RunStopped("Ray gave no result of any video: its logs say why")
        attempts.update(left)
        lost = [place for place in left if attempts[place] >= ATTEMPTS]
        if lost:
            yield failed([failed_row(place, f"ended its worker {ATTEMPTS} times") for place in lost])


def follow(voice: Voice, shards: Shards, starts: Starts, tables: Iterator[pa.Table]) -> None:
    """Let the shards take what comes, and tell it."""
    began, first, errors = time.perf_counter(), shards.videos_done, 0
    with voice.bar:
        task = voice.bar.add_task("", total=len(shards.plan), completed=first, speed="")
        for table in tables:
            errors += len(table) - table["error"].null_count
            written = shards.take(table)
            done = shards.videos_done
            speed = (done - first) / (time.perf_counter() - began)
            told = f"{speed:.1f} clips/s" + f", {errors} errors" * bool(errors)
            voice.bar.update(task, completed=done, speed=told)
            if written:
                starts.record(done - first)
            for shard in written:
                file = shards.file(shard).name
                voice.event("shard", shard=file, done=done, videos=len(shards.plan), clips_per_s=speed)
