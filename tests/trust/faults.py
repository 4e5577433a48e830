"""Kill, starve and disturb what runs for long: it goes on to the same result, bit for bit, or says in a line why not.

    python -m tests.trust.faults --kills 20 --seed 0
    python -m tests.trust.faults --only bulk --kills 20

``recipe`` (the demo's, --fast), ``bulk`` and ``ray`` (bulk on Ray): kill -9 at random moments. ``*-workers``: of their
child processes. ``*-disk``: no room, or no permission, to write; these mount disks of their own, as root. Exit code 1:
something was lost, doubled, changed or not explained.
"""

from __future__ import annotations

import argparse
import os
import shutil
import sys
import time
from collections.abc import Callable, Sequence
from glob import glob
from pathlib import Path

from rich.console import Console
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from mmvideoiq.jobs.signals import restore_signals
from tests.trust import disks
from tests.trust.isolated import ROOT
from tests.trust.kills import Reference, killed, with_dead_children
from tests.trust.subjects import Subject, bulk, recipe
from tests.trust.table import Row, finish, shown

#: What is done, a method of :class:`Faults`, and to what.
FAULTS = {
    "recipe": ("kills", "recipe"),
    "bulk": ("kills", "bulk"),
    "ray": ("kills", "ray"),
    "recipe-workers": ("workers", "recipe"),
    "bulk-workers": ("workers", "bulk"),
    "recipe-disk": ("disk", "recipe"),
    "bulk-disk": ("disk", "bulk"),
    "full-disk": ("commands", "full"),
    "read-only-disk": ("commands", "read-only"),
}
#: A part of the command line of a child process, and options with which the run goes on after its death.
CHILDREN: dict[str, tuple[str, tuple[str, ...]]] = {
    "recipe": ("mmvideoiq.jobs.worker", ()),
    "bulk": ("bulk.fetch", ("--retry-errors",)),
}
PER_RUN = dict(recipe=5, bulk=3, ray=2)  # kills
HERE = ("--no-ray", "--decoders", "1")
ON_RAY = ("--decoders", "2", "--recognizers", "2")
RAY_FOLDERS = "/tmp/mmvideoiq-bulk-*"  # of what is killed nobody removes it
COMMANDS = ("infer --json", "bulk", "zoo download", "export", "recipe")


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--kills", type=int, default=20, help="of each (default 20); a quarter of other faults"
    )
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--seconds", type=float, default=float("inf"), help="begin no fault after these")
    parser.add_argument("--only", action="append", choices=list(FAULTS), help="a fault; may be repeated")
    parser.add_argument("--videos", type=int, default=300, help="of bulk (default 300)")
    parser.add_argument("--epochs", type=int, default=3, help="of each stage (default 3)")
    parser.add_argument("--work-dir", type=Path, default=Path("work_dirs/faults"))
    parser.add_argument("--json", type=Path, metavar="F")
    return parser.parse_args(argv)


class Faults:
    """The faults by name, each a list of rows."""

    def __init__(self, args: argparse.Namespace, tell: Callable[[str], None]) -> None:
        self.args, self.tell = args, tell
        self.few = max(1, args.kills // 4)
        self.until = time.monotonic() + args.seconds
        self.folder = args.work_dir.resolve()
        self.references: dict[str, Reference] = {}

    def subject(self, name: str) -> Subject:
        if name == "recipe":
            return recipe(self.folder / "recipe", epochs=self.args.epochs)
        options = HERE if name == "bulk" else ON_RAY
        return bulk(self.folder / "videos", videos=self.args.videos, options=options)

    def reference(self, name: str) -> Reference:
        if name not in self.references:
            self.tell(f"{name}: undisturbed")
            self.references[name] = Reference(self.subject(name), self.folder / name / "undisturbed")
        return self.references[name]

    def kills(self, name: str) -> list[Row]:
        before = set(glob(RAY_FOLDERS))
        try:
            found = killed(
                self.subject(name),
                self.folder / name,
                reference=self.reference(name),
                kills=self.args.kills,
                per_run=PER_RUN[name],
                seed=self.args.seed,
                until=self.until,
                tell=self.tell,
            )
        finally:
            for left in set(glob(RAY_FOLDERS)) - before:
                shutil.rmtree(left, ignore_errors=True)
        return [found]

    def workers(self, name: str) -> list[Row]:
        named, more = CHILDREN[name]
        found = with_dead_children(
            self.subject(name),
            self.folder / name,
            reference=self.reference(name),
            kills=self.few,
            seed=self.args.seed,
            named=named,
            more=more,
            until=self.until,
            tell=self.tell,
        )
        return [found]

    def disk(self, name: str) -> list[Row]:
        found = disks.on_full_disks(
            self.subject(name),
            self.folder / name,
            reference=self.reference(name),
            tries=self.few,
            seed=self.args.seed,
            until=self.until,
            tell=self.tell,
        )
        return [found]

    def commands(self, how: str) -> list[Row]:
        return [disks.unwritable(self.folder / "disks", how=how, names=COMMANDS, tell=self.tell)]

    def run(self, fault: str) -> list[Row]:
        kind, *args = FAULTS[fault]
        try:
            return getattr(self, kind)(*args)
        except disks.Skipped as reason:
            return [Row(fault, skipped=str(reason))]
        except Exception as error:
            return [Row(fault, problems=[f"{type(error).__name__}: {error}"])]


def main(argv: Sequence[str] | None = None) -> int:
    restore_signals()
    args = parse_args(argv)
    os.chdir(ROOT)
    os.environ.pop("MMVIDEOIQ_TRACEBACK", None)
    console, began, rows = Console(stderr=True), time.monotonic(), []
    columns = (SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn())
    with Progress(*columns, console=console, disable=not console.is_terminal) as bar:
        task = bar.add_task("")
        faults = Faults(args, lambda text: bar.update(task, description=text))
        for name in args.only or FAULTS:
            for row in faults.run(name):
                rows.append(row)
                told = ", ".join(f"{key} {shown(value)}" for key, value in row.figures.items())
                console.print(f"{row.name}: {row.skipped or told}", highlight=False, markup=False)
    seconds = time.monotonic() - began
    code = finish(rows, json_file=args.json, seed=args.seed, seconds=seconds)
    print(f"{seconds:.0f} s, seed {args.seed}" + f"; see {faults.folder}" * code)
    return code


if __name__ == "__main__":
    sys.exit(main())
