"""Train all stages of a recipe in order, compare the result with fixed and random policies, write the report.

python tools/train_stages.py RECIPE [--work-dir D] [--resume] [--fast] [--for-this-machine]
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import replace
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from rich.console import Console

from mmvideoiq import compat

compat.apply()

from mmvideoiq.evaluation.config import RowError
from mmvideoiq.fileio import DamagedFile
from mmvideoiq.jobs.errors import disk_full, traceback_wanted, write_any_text
from mmvideoiq.jobs.process import StageFailed
from mmvideoiq.jobs.signals import exit_code, restore_signals
from mmvideoiq.recipes.config import RecipeError, read_recipe
from mmvideoiq.recipes.runner import Interrupted, run_recipe
from mmvideoiq.visualization import recipe_report as report


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("recipe", type=Path, help="recipe config, e.g. configs/videoiq/demo_recipe.py")
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
    return parser.parse_args()


def main() -> int:
    write_any_text()
    args = parse_args()
    console = Console()
    try:
        recipe = read_recipe(args.recipe, fast=args.fast)
        if args.for_this_machine:
            recipe = replace(recipe, measure=dict(recipe.measure or {}, engine="openvino"))
        work_dir = args.work_dir or Path("work_dirs") / (recipe.name + "_fast" * args.fast)
        summary = run_recipe(recipe, work_dir, resume=args.resume, console=console)
        report.write_all(summary, work_dir, console=console)
    except (RecipeError, RowError, DamagedFile) as error:
        if traceback_wanted():
            raise
        print(f"error: {error}", file=sys.stderr)
        return 2
    except StageFailed as error:
        print(f"error: a stage failed, {error}", file=sys.stderr)
        return 1
    except OSError as error:
        if not disk_full(error):
            raise
        print(f"error: {error}: free some space, then go on with --resume", file=sys.stderr)
        return 1
    except KeyboardInterrupt as stop:
        print(
            stop if isinstance(stop, Interrupted) else "Interrupted before the first stage.", file=sys.stderr
        )
        return exit_code(stop)
    return 0


if __name__ == "__main__":
    restore_signals()
    sys.exit(main())
