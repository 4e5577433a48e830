"""Measure mmvideoiq beside the plain float network it is made of, interleaved in one run.

python tools/benchmark.py train [--backbone resnet50] [--json out.json]

train: the any-precision training step and the policy training step against the plain float step of the same
backbone, and simulated dynamic evaluation against plain float evaluation of the same frames.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from mmvideoiq import cli
from mmvideoiq.benchmark import BACKBONES, RATIOS, TrainSettings, keep_freed_memory, measure_training
from mmvideoiq.recipe import write_json

TRAIN_FLAGS = {
    "size": "side of a frame",
    "frames": "frames of a clip in training",
    "eval_frames": "frames of a clip in evaluation",
    "clips": "clips at a time",
    "threads": "threads of torch",
    "repeats": "rounds of training steps measured; evaluation takes three times as many",
    "warmup": "rounds before these, not counted",
}


def train_settings(args: argparse.Namespace) -> TrainSettings:
    """What the flags of ``train`` ask for."""
    return TrainSettings(**{name: getattr(args, name) for name in ("backbone", "weight", *TRAIN_FLAGS)})


def run_train(settings: TrainSettings, console: Console) -> dict[str, Any]:
    """Measure training under a progress bar."""
    kept = keep_freed_memory()
    with Progress(console=console, transient=True) as progress:

        def begin(label: str, total: int) -> Callable[[], None]:
            task = progress.add_task(label, total=total)
            return lambda: progress.advance(task)

        return dict(measure_training(settings, begin=begin), freed_memory_kept=kept)


def show_train(result: Mapping[str, Any], console: Console) -> None:
    """The ratios as a table."""
    table = Table(
        title="{backbone}, {clips} x {frames} frames (evaluation: {eval_frames}) at {input_size}, {threads} threads: "
        "time over the float network's".format(**result)
    )
    for column in ("", "ratio", "quartiles", "range", "processor", "seconds", "float"):
        table.add_column(column, justify="right" if column else "left")
    for name, base in RATIOS.items():
        ratio = result["spread"][f"{name}_ratio"]
        spread = ["{:.2f} to {:.2f}".format(*ratio[key]) for key in ("quartiles", "range")]
        processor = f"{result['processor_time'][f'{name}_ratio']:.2f}"
        seconds = [f"{result['seconds'][key]:.3f}" for key in (name, base)]
        table.add_row(name.replace("_", " "), f"{ratio['median']:.2f}", *spread, processor, *seconds)
    console.print(table)
    console.print("ratio: by the clock; processor: the same of processor time")
    console.print(f"dynamic eval: {result['usage']['how']}")


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(dest="command", required=True)
    train = commands.add_parser("train", help="training and simulated evaluation against the float network")
    train.set_defaults(settings=train_settings, run=run_train, show=show_train)
    train.add_argument("--backbone", choices=sorted(BACKBONES), default=TrainSettings.backbone)
    train.add_argument(
        "--weight", default=TrainSettings.weight, help="weight quantizer: dorefa, lsq or nested"
    )
    for name, text in TRAIN_FLAGS.items():
        default = getattr(TrainSettings, name)
        train.add_argument(
            f"--{name.replace('_', '-')}", type=int, default=default, help=f"{text} (default {default})"
        )
    train.add_argument("--json", type=Path, metavar="F", help="write everything measured to this file")
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> None:
    args, console = parse_args(argv), Console()
    with cli.one_line_errors() as begun:
        settings = args.settings(args)
        begun.happened = True
        result = args.run(settings, console)
        args.show(result, console)
        if args.json is not None:
            write_json(args.json, result)
            console.print(f"written: {args.json}")


if __name__ == "__main__":
    main()
