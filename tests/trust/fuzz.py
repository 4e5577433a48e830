"""Give mutated inputs to the commands: each must work, or be refused in one line.

    python -m tests.trust.fuzz --inputs 1100 --seed 0 --seconds 1200
    python -m tests.trust.fuzz --replay bundles/17

Each input is made and run in a process of its own, with limits on time and memory. The same seed and number make the
same input. Inputs of other ends, tracebacks, signals and hangs, are kept. Exit code 1: there was one.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import shutil
import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, wait
from itertools import islice
from pathlib import Path
from typing import Any

from pebble import ProcessExpired, concurrent
from rich.console import Console
from rich.progress import Progress

from mmvideoiq.jobs.environment import thread_limits, usable_cpus
from mmvideoiq.jobs.signals import restore_signals
from tests.trust.isolated import HANG, REFUSED, ROOT, UNEXPLAINED, WORKED
from tests.trust.kinds import PRELOADED, SHARES, feed, in_turn, prepare
from tests.trust.table import Row, finish

CONTEXT: Any = multiprocessing.get_context("forkserver")  # one that has imported everything, and no threads
PREPARATION_S = 300.0


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--inputs", type=int, default=1100, help="of all kinds together (default 1100)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--seconds", type=float, default=float("inf"), help="begin no input after these")
    parser.add_argument("--only", action="append", choices=list(SHARES), help="a kind; may be repeated")
    parser.add_argument("--replay", metavar="KIND/NUMBER", help="one input again; it is kept")
    parser.add_argument("--workers", type=int, default=usable_cpus(), help="inputs at a time")
    parser.add_argument("--limit", type=float, default=60.0, metavar="S", help="of one input (default 60 s)")
    parser.add_argument(
        "--keep", type=Path, default=Path("work_dirs/fuzz"), help="folder of inputs that are kept"
    )
    parser.add_argument("--json", type=Path, metavar="F")
    return parser.parse_args(argv)


def outcomes(
    jobs: Iterator[tuple[str, int]], args: argparse.Namespace, until: float
) -> Iterator[tuple[str, int, str, str, float]]:
    """Kind, number, end, a line, and seconds of each input, as they come."""
    limited = concurrent.process(timeout=args.limit, context=CONTEXT, daemon=False)(feed)
    running: dict[Any, tuple[str, int, float]] = {}

    def start(count: int) -> None:
        for kind, number in islice(jobs, count if time.monotonic() < until else 0):
            folder = args.keep / f"{kind}-{number}"
            given = (kind, args.seed, number, str(args.keep / "originals" / kind), str(folder))
            running[limited(*given)] = (kind, number, time.monotonic())

    start(args.workers)
    while running:
        done = wait(running, return_when=FIRST_COMPLETED).done
        for future in done:
            kind, number, began = running.pop(future)
            try:
                what, end, line = future.result()
                told = f"{what}: {line}"
            except TimeoutError:
                end, told = HANG, f"not done after {args.limit:g} s"
            except ProcessExpired as error:
                end, told = UNEXPLAINED, f"its process ended with code {error.exitcode}"
            except Exception as error:  # the mutation itself
                end, told = UNEXPLAINED, f"{type(error).__name__}: {error}"
            if end in (WORKED, REFUSED) and not args.replay:
                shutil.rmtree(args.keep / f"{kind}-{number}", ignore_errors=True)
            yield kind, number, end, told, time.monotonic() - began
        start(len(done))


def main(argv: Sequence[str] | None = None) -> int:
    restore_signals()
    args = parse_args(argv)
    args.keep = args.keep.resolve()
    os.chdir(ROOT)
    os.environ.update(thread_limits(1), MMVIDEOIQ_OFFLINE="0")
    os.environ.pop("MMVIDEOIQ_TRACEBACK", None)
    names = args.only or list(SHARES)
    jobs: Iterator[tuple[str, int]] = islice(in_turn(names), args.inputs)
    planned = args.inputs
    if args.replay:
        kind, _, number = args.replay.partition("/")
        names, jobs, planned = [kind], iter([(kind, int(number))]), 1
    CONTEXT.set_forkserver_preload(list(PRELOADED))
    console = Console(stderr=True)
    began = time.monotonic()
    ends: Counter[tuple[str, str]] = Counter()
    spent: Counter[str] = Counter()
    rows = {name: Row(name) for name in names}
    with Progress(console=console, disable=not console.is_terminal) as bar:
        task = bar.add_task("originals", total=planned)
        shutil.rmtree(args.keep / "originals", ignore_errors=True)  # those of a run that did not end
        ready = concurrent.process(timeout=PREPARATION_S, context=CONTEXT, daemon=False)(prepare)
        for future in [ready(name, str(args.keep / "originals" / name)) for name in names]:
            future.result()
        for kind, number, end, told, seconds in outcomes(jobs, args, began + args.seconds):
            ends[kind, end] += 1
            spent[kind] += seconds
            if end not in (WORKED, REFUSED):
                again = f"--seed {args.seed} --replay {kind}/{number}"
                rows[kind].problems.append(f"{end}, number {number} ({again}): {told}")
                console.print(f"{kind}: {rows[kind].problems[-1]}", highlight=False, markup=False)
            elif args.replay:
                console.print(f"{end}: {told}", highlight=False, markup=False)
            bad = sum(count for (_, name), count in ends.items() if name in (UNEXPLAINED, HANG))
            bar.update(task, advance=1, description=f"{kind}, {bad} bad")
    for name, row in rows.items():
        row.figures = dict(inputs=sum(ends[name, end] for end in (WORKED, REFUSED, UNEXPLAINED, HANG)))
        row.figures |= {end: ends[name, end] for end in (WORKED, REFUSED, UNEXPLAINED, HANG)}
        row.figures["seconds"] = spent[name]
    done, seconds = ends.total(), time.monotonic() - began
    code = finish(
        list(rows.values()),
        json_file=args.json,
        seed=args.seed,
        inputs=done,
        seconds=seconds,
    )
    if not code and not args.replay:
        shutil.rmtree(args.keep / "originals")
    print(
        f"{done} of {planned} inputs in {seconds:.0f} s, seed {args.seed}" + f"; kept in {args.keep}" * code
    )
    return code


if __name__ == "__main__":
    sys.exit(main())
