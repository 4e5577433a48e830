"""Train all stages of a recipe in order, compare the result with fixed and random policies, write the report."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from rich.console import Console

from mmvideoiq import compat

compat.apply()

from mmvideoiq.evaluation.config import RowError
from mmvideoiq.fileio import DamagedFile
from mmvideoiq.jobs.arguments import Parser, print_error, prog
from mmvideoiq.jobs.errors import cannot_write, disk_full, traceback_wanted, write_any_text
from mmvideoiq.jobs.explained import explained
from mmvideoiq.jobs.process import StageFailed
from mmvideoiq.jobs.signals import exit_code
from mmvideoiq.recipes.config import RecipeError, read_recipe
from mmvideoiq.recipes.runner import Interrupted, run_recipe
from mmvideoiq.service.sources import complete_config, find_config
from mmvideoiq.visualization import recipe_report as report


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    parser = Parser(prog=prog(), description=__doc__)
    parser.example = "mmvideoiq recipe videoiq/demo_recipe --work-dir work_dirs/demo --fast"
    recipe = parser.add_argument(
        "recipe", help="path of the recipe, or the name of one of this package: videoiq/demo_recipe"
    )
    recipe.completer = complete_config
    parser.add_argument("--work-dir", type=Path, help="default: work_dirs/<name of the recipe>[_fast]")
    parser.add_argument("--resume", action="store_true", help="go on; finished stages are not repeated")
    parser.add_argument(
        "--fast", action="store_true", help="the recipe's smoke run: few clips, few epochs, one seed"
    )
    parser.add_argument(
        "--for-this-machine",
        action="store_true",
        help="measure what each action takes here on OpenVINO, and train the policy against these milliseconds",
    )
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> int:
    write_any_text()
    args = parse_args(argv)
    console = Console()
    try:
        recipe = read_recipe(find_config(args.recipe), fast=args.fast)
        if args.for_this_machine:
            recipe = replace(recipe, measure=dict(recipe.measure or {}, engine="openvino"))
        work_dir = args.work_dir or Path("work_dirs") / (recipe.name + "_fast" * args.fast)
        started = (
            ["mmvideoiq", "recipe"] if prog() == "mmvideoiq recipe" else ["python", "tools/train_stages.py"]
        )
        summary = run_recipe(recipe, work_dir, resume=args.resume, console=console, command=started)
        report.write_all(summary, work_dir, console=console)
    except (RecipeError, RowError, DamagedFile) as error:
        if traceback_wanted():
            raise
        print_error(error)
        return 2
    except StageFailed as error:
        print(explained(f"{prog()}: error: a stage failed, {error}"), file=sys.stderr)
        return 1
    except OSError as error:
        if traceback_wanted() or not cannot_write(error):
            raise
        what = "free some space, then go on with --resume"
        if not disk_full(error):
            what = "choose another --work-dir, or allow to write there"
        print_error(f"{error}: {what}")
        return 1 if disk_full(error) else 2
    except KeyboardInterrupt as stop:
        print(
            stop if isinstance(stop, Interrupted) else "Interrupted before the first stage.", file=sys.stderr
        )
        return exit_code(stop)
    return 0
