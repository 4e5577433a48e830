"""Test trained models beside one another: one table, accuracy against cost, and against milliseconds.

    python tools/compare.py configs/baselines/demo_compare.py
    python tools/compare.py --row float FLOAT.py work_dirs/float --row ours VIDEOIQ.py work_dirs/policy/epoch_30.pth

The file of rows is described in mmvideoiq/evaluation/config.py. Finished rows are not repeated; after an interruption
the same command goes on.
"""

import argparse
import sys
from dataclasses import replace
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from mmvideoiq.jobs.arguments import Parser
from mmvideoiq.jobs.errors import print_error, traceback_wanted, write_any_text
from mmvideoiq.jobs.signals import exit_code, restore_signals
from mmvideoiq.service.main import imports_of

with imports_of("train"):
    from rich.console import Console

    from mmvideoiq import compat

    compat.apply()

    from mmvideoiq.evaluation.config import Comparison, RowError, make_rows, read_comparison
    from mmvideoiq.evaluation.runner import run_comparison
    from mmvideoiq.jobs.process import StageFailed
    from mmvideoiq.visualization.comparison_report import write_comparison


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    parser = Parser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("rows", nargs="?", type=Path, help="config that describes the rows")
    parser.add_argument(
        "--row",
        nargs=3,
        action="append",
        default=[],
        metavar=("NAME", "CONFIG", "CHECKPOINT"),
        help="one more row; may be given several times",
    )
    parser.add_argument("--only", nargs="+", metavar="NAME", help="these rows alone")
    parser.add_argument("--work-dir", type=Path, help="default: work_dirs/compare/<name of the comparison>")
    parser.add_argument("--metric", help="figure of MMAction2's evaluator, e.g. acc/mean_average_precision")
    parser.add_argument("--no-timing", action="store_true", help="measure no milliseconds")
    return parser.parse_args(argv)


def read_rows(args: argparse.Namespace) -> Comparison:
    """The comparison that the command line means."""
    given = [dict(zip(("name", "config", "checkpoint"), row, strict=True)) for row in args.row]
    if args.rows is None:
        comparison = Comparison(name="rows", rows=make_rows(given, folder=Path()))
    else:
        comparison = read_comparison(args.rows, only=args.only)
        comparison = comparison.with_rows(make_rows(given, folder=Path())) if given else comparison
    comparison = comparison.only(args.only) if args.only else comparison
    return replace(comparison, metric=args.metric) if args.metric else comparison


def main(argv: list[str] | None = None) -> int:
    write_any_text()
    args = parse_args(argv)
    console = Console(width=None if sys.stdout.isatty() else 120)  # a log has room for all columns
    try:
        comparison = read_rows(args)
        work_dir = args.work_dir or Path("work_dirs") / "compare" / comparison.name
        for name, each in comparison.each_dataset():
            folder = work_dir / name.replace(" ", "_")
            summary = run_comparison(each, folder, timed=not args.no_timing, console=console)
            write_comparison(summary, folder, console=console)
    except RowError as error:
        if traceback_wanted():
            raise
        print_error(error, "compare.py")
        return 2
    except StageFailed as error:
        print(f"compare.py: error: a row failed, {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt as stop:
        print("Interrupted; the same command goes on where it stopped.", file=sys.stderr)
        return exit_code(stop)
    return 0


if __name__ == "__main__":
    restore_signals()
    sys.exit(main())
