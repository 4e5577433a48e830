"""Test a checkpoint with a config of MMAction2 or of mmvideoiq, with the flags of MMAction2's own tool."""

import argparse
import os
import shlex
import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from mmvideoiq.jobs.arguments import Parser
from mmvideoiq.jobs.errors import one_line_errors
from mmvideoiq.jobs.signals import restore_signals
from mmvideoiq.service.main import imports_of

with imports_of("train"):
    import torch
    from mmengine.config import Config
    from mmengine.dist import is_main_process
    from mmengine.model import is_model_wrapper
    from torch import nn

    from mmvideoiq import cli
    from mmvideoiq.deploy.export.budget_curve import set_budget
    from mmvideoiq.evaluation.clip_records import ClipRecords, class_names, indices_of, network_frames
    from mmvideoiq.fileio import check_output
    from mmvideoiq.visualization.evaluation_report import write_evaluation


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    parser = Parser(description=__doc__)
    parser.add_argument("config", help="path of the config")
    parser.add_argument("checkpoint", help="path or address of the checkpoint")
    parser.add_argument("--work-dir", help="folder for the log and the metrics")
    parser.add_argument("--dump", help="write the predictions to this pickle file (.pkl, .pickle)")
    choice = parser.add_mutually_exclusive_group()
    choice.add_argument(
        "--precision",
        type=mode,
        metavar="BITS",
        help="run every frame at this precision, or in a mode: 8@112",
    )
    choice.add_argument(
        "--budget",
        metavar="COST",
        help="mean cost per frame to aim at, e.g. 0.4; measured on the val list first",
    )
    parser.add_argument(
        "--cfg-options",
        nargs="+",
        action=cli.Settings,
        help='settings that win over the config, as key=value; lists as key="[a,b]" or key=a,b',
    )
    parser.add_argument(
        "--report",
        type=Path,
        metavar="FILE",
        help="also write a page (.html): figures, confusion matrix, easiest and hardest clips, training curves",
    )
    parser.add_argument("--show-dir", help="folder for images of the predictions")
    parser.add_argument("--show", action="store_true", help="show the predictions in a window")
    parser.add_argument("--interval", type=int, default=1, help="show one of this many samples")
    parser.add_argument("--wait-time", type=float, default=2, help="seconds that a window stays")
    parser.add_argument(
        "--launcher", choices=["none", "pytorch", "slurm", "mpi"], default="none", help="job launcher"
    )
    parser.add_argument("--local_rank", "--local-rank", type=int, default=0)
    args = parser.parse_args(argv)
    args.given = sys.argv[1:] if argv is None else argv
    os.environ.setdefault("LOCAL_RANK", str(args.local_rank))
    return args


def apply_flags(config: Config, args: argparse.Namespace) -> None:
    """Lay the flags over the config, in place."""
    cli.need_file(args.checkpoint, "checkpoint")
    if args.report is not None:
        check_output("--report", args.report)
    config.load_from = args.checkpoint
    if args.show or args.show_dir is not None:
        if "visualization" not in config.get("default_hooks", {}):
            raise ValueError(
                '--show and --show-dir need visualization = dict(type="VisualizationHook") in default_hooks'
            )
        config.default_hooks.visualization.update(
            enable=True,
            show=args.show,
            wait_time=args.wait_time,
            out_dir=args.show_dir,
            interval=args.interval,
        )
    if args.dump is not None:
        if not args.dump.endswith((".pkl", ".pickle")):
            raise ValueError(f"--dump must end in .pkl or .pickle, got {args.dump}")
        evaluator = config.test_evaluator
        evaluators = list(evaluator) if isinstance(evaluator, (list, tuple)) else [evaluator]
        config.test_evaluator = [*evaluators, dict(type="DumpResults", out_file_path=args.dump)]


def mode(text: str) -> int | str:
    """The bits of a precision, or the name of a mode with a size."""
    return int(text) if "@" not in text else text


def fix_precision(model: nn.Module, bits: int | str) -> None:
    """Make ``model`` run every frame at ``bits``, or in that mode.

    Raises:
        ValueError: a model without precisions, or without this one.
    """
    model = model.module if is_model_wrapper(model) else model
    if not hasattr(model, "set_fixed_action"):
        raise ValueError(f"--precision {bits}: {type(model).__name__} has no precisions to choose from")
    model.set_fixed_action(bits=bits)


def write_report(args: argparse.Namespace, runner: Any, metrics: dict[str, Any], clips: list[dict]) -> None:
    """The page of ``--report``."""
    model = runner.model.module if is_model_wrapper(runner.model) else runner.model
    dataset = runner.test_dataloader.dataset
    indices = indices_of(dataset, clips)
    write_evaluation(
        args.report,
        name=Path(args.config).stem,
        checkpoint=args.checkpoint,
        metrics=metrics,
        clips=clips,
        classes=class_names(dataset),
        names=model.actions.names if hasattr(model, "actions") else (),
        frames_of=lambda place: network_frames(dataset, indices[place]),
        command=shlex.join(["python", "tools/test.py", *args.given]),
        machine={
            "device": str(next(model.parameters()).device),
            "threads of torch": str(torch.get_num_threads()),
        },
    )


def main(argv: list[str] | None = None) -> None:
    with one_line_errors() as begun:
        args = parse_args(argv)
        config = cli.read_config(
            args.config, options=args.cfg_options, work_dir=args.work_dir, launcher=args.launcher
        )
        apply_flags(config, args)
        runner = cli.build_runner(config, begun)
        if args.precision is not None:
            fix_precision(runner.model, args.precision)
        if args.budget is not None:
            runner.load_or_resume()
            multiplier = set_budget(
                runner.model.eval(), args.budget, runner.build_dataloader(config.val_dataloader)
            )
            runner.logger.info(f"budget {args.budget}: the costs count {multiplier:.4g} times")
        records = ClipRecords()
        if args.report is not None:
            runner.register_hook(records)
        metrics = runner.test()
        if args.report is not None and is_main_process():
            write_report(args, runner, metrics, records.clips)


if __name__ == "__main__":
    restore_signals()
    main()
