"""Check this installation and this machine: what works, what it means for speed, and what to do.

Green: nothing to do. Yellow: works, not as well as it could. Red: something does not work; the exit code is then 1.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from importlib.util import find_spec

from mmvideoiq.jobs.arguments import Parser, prog
from mmvideoiq.jobs.errors import one_line_errors
from mmvideoiq.service.findings import Check, Finding, findings
from mmvideoiq.service.installation import (
    check_cv2,
    check_engines,
    check_mmaction,
    check_packages,
    check_python,
    check_torch,
    check_zoo,
)
from mmvideoiq.service.machine import check_cache, check_memory, check_threads
from mmvideoiq.service.processor import check_processor


def check_codecs() -> Iterator[Finding]:
    if find_spec("av") is None:
        yield Finding(name="videos", state="red", found="PyAV is not installed", todo="pip install av")
        return
    from mmvideoiq.service import codecs

    yield from codecs.check_codecs()


GROUPS: dict[str, tuple[Check, ...]] = {
    "installation": (check_python, check_packages, check_torch, check_mmaction, check_cv2, check_zoo),
    "engines": (check_engines,),
    "processor": (check_processor,),
    "videos": (check_codecs,),
    "machine": (check_memory, check_threads, check_cache),
}


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    parser = Parser(prog=prog(), description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.example = "mmvideoiq doctor --json"
    parser.add_argument("--json", action="store_true", help="a line of JSON for each finding")
    return parser.parse_args(argv)


def examine() -> dict[str, list[Finding]]:
    """All findings, by group."""
    return {
        group: [finding for check in checks for finding in findings(check)]
        for group, checks in GROUPS.items()
    }


def show(found: dict[str, list[Finding]]) -> None:
    """A table, or without rich a line for each finding."""
    try:
        from rich.box import SIMPLE_HEAD
        from rich.console import Console
        from rich.table import Table
        from rich.text import Text
    except ImportError:
        for group in found.values():
            for each in group:
                print(f"{each.state:<7}{each.name}: {each.found}" + f"; {each.todo}" * bool(each.todo))
        return
    table = Table("", "", "found", "what to do", box=SIMPLE_HEAD, pad_edge=False)
    table.columns[1].no_wrap = True
    table.columns[2].overflow = "fold"  # a long path is folded, never cut
    for group in found.values():
        for each in group:
            table.add_row(Text(each.state, style=each.state), each.name, Text(each.found), Text(each.todo))
        table.add_section()
    console = Console(markup=False, emoji=False, highlight=False)
    if not console.is_terminal:
        console.width = 160
    console.print(table)


def verdict(found: dict[str, list[Finding]]) -> str:
    states = [each.state for group in found.values() for each in group]
    return ", ".join(f"{states.count(state)} {state}" for state in ("green", "yellow", "red"))


def main(argv: Sequence[str] | None = None) -> int:
    with one_line_errors():
        args = parse_args(argv)
        found = examine()
        if args.json:
            for group, members in found.items():
                for each in members:
                    print(json.dumps(dict(group=group, **asdict(each))))
        else:
            show(found)
            print(verdict(found))
    return int(any(each.state == "red" for members in found.values() for each in members))
