"""List or download the published models; print where the configs, tools and shipped weights lie."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from mmvideoiq import zoo
from mmvideoiq.jobs.arguments import Parser, prog
from mmvideoiq.jobs.errors import traceback_wanted, unread, write_any_text
from mmvideoiq.jobs.signals import exit_code, restore_signals
from mmvideoiq.zoo import index, store


def name() -> str:
    """Of the command, as it was called."""
    return "python -m mmvideoiq.zoo" if prog() == Path(__file__).name else prog()


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    parser = Parser(prog=name(), description=__doc__)
    parser.example = "mmvideoiq zoo list '*demo*'"
    commands = parser.add_subparsers(dest="command", required=True, metavar="list | download | root")
    listing = commands.add_parser("list", help="names, what was measured, and where the weights are")
    listing.add_argument("pattern", nargs="?", default="*", help="names to list, e.g. '*demo*'")
    listing.add_argument("--all", action="store_true", help="also the configs without published weights")
    listing.add_argument("--json", action="store_true", help="a line of JSON for each model")
    fetching = commands.add_parser("download", help="into the cache; prints the paths")
    names = fetching.add_argument("names", nargs="+", metavar="NAME")
    names.completer = complete
    commands.add_parser(
        "root", help="the folder of configs, tools and shipped weights, of a clone or a wheel"
    )
    return parser.parse_args(argv)


def complete(prefix: str, **_: Any) -> list[str]:
    """For a shell: the models with published weights."""
    return [model.name for model in matching(f"{prefix}*")[0]]


def matching(pattern: str) -> tuple[list[index.ZooModel], list[index.ZooModel]]:
    """The models whose names match: those with published weights, and the others."""
    models = index.read()
    found = [models[name] for name in zoo.list_models(pattern)]
    return [model for model in found if model.weights], [model for model in found if not model.weights]


def table(pattern: str, *, unpublished: bool = False) -> Table:
    """The models that match ``pattern``: those with weights, then with ``unpublished`` the others."""
    chosen, hidden = matching(pattern)
    shown = Table("name", "kind", "measured", "weights", box=None, pad_edge=False)
    shown.columns[0].no_wrap = True
    for model in chosen + (hidden if unpublished else []):
        shown.add_row(model.name, kind(model), measured(model), store.state(model))
    if hidden and not unpublished:
        shown.caption = f"{len(hidden)} without published weights: add --all"
        shown.caption_justify = "left"
    return shown


def lines(pattern: str, *, unpublished: bool = False) -> Iterator[str]:
    """The same as JSON: ``name``, ``kind``, ``state``, ``config``, ``size`` (bytes, see ``store``), ``results``."""
    chosen, hidden = matching(pattern)
    for model in chosen + (hidden if unpublished else []):
        row = dict(name=model.name, kind=kind(model), state=store.state(model), config=model.config)
        yield json.dumps(row | dict(size=store.size(model), results=model.results))


def kind(model: index.ZooModel) -> str:
    return "bundle" if model.is_bundle else "checkpoint"


def measured(model: index.ZooModel) -> str:
    """The results of a model, one dataset a line."""
    rows = [
        f"{row['Dataset']}: " + ", ".join(f"{key} {value}" for key, value in row["Metrics"].items())
        for row in model.results
    ]
    return "\n".join(rows) or "nothing yet"


def main(argv: Sequence[str] | None = None) -> int:
    write_any_text()
    args = parse_args(argv)
    try:
        if args.command == "root":
            print(index.root())
            return 0
        if args.command == "list":
            if not zoo.list_models(args.pattern):
                raise ValueError(
                    f"no model matches {args.pattern!r}: mmvideoiq zoo list --all shows all names"
                )
            if args.json:
                print(*lines(args.pattern, unpublished=args.all), sep="\n")
                return 0
            width = None if sys.stdout.isatty() else 200
            Console(width=width).print(table(args.pattern, unpublished=args.all))
            return 0
        for model in args.names:
            index.find(model)  # before anything is downloaded
        for model in args.names:
            print(zoo.download(model), flush=True)
    except (OSError, ValueError) as error:
        if traceback_wanted():
            raise
        if not unread(error):
            print(f"{name()}: error: {' '.join(str(error).split())}", file=sys.stderr)
        return 2
    except KeyboardInterrupt as stop:
        print(f"{name()}: stopped; what was downloaded is kept, run again to go on", file=sys.stderr)
        return exit_code(stop)
    return 0


if __name__ == "__main__":
    restore_signals()
    raise SystemExit(main())
