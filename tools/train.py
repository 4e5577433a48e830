"""Train a model from a config of MMAction2 or of mmvideoiq, with the flags of MMAction2's own tool."""

import argparse
import os
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from mmvideoiq.jobs.arguments import Parser
from mmvideoiq.jobs.errors import one_line_errors
from mmvideoiq.jobs.signals import restore_signals
from mmvideoiq.service.main import imports_of

with imports_of("train"):
    from mmengine.config import Config

    from mmvideoiq import cli


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    parser = Parser(description=__doc__)
    parser.add_argument("config", help="path of the config")
    parser.add_argument("--work-dir", help="folder for logs and checkpoints")
    parser.add_argument(
        "--resume",
        nargs="?",
        const="auto",
        help="a checkpoint to resume from; without a value, the latest one in the work dir",
    )
    parser.add_argument("--amp", action="store_true", help="train with automatic mixed precision")
    parser.add_argument("--no-validate", action="store_true", help="do not evaluate during training")
    parser.add_argument(
        "--auto-scale-lr",
        action="store_true",
        help="scale the learning rate by the actual over the original batch size",
    )
    parser.add_argument("--seed", type=int, help="random seed; wins over the config's")
    parser.add_argument("--diff-rank-seed", action="store_true", help="a different seed for each rank")
    parser.add_argument("--deterministic", action="store_true", help="choose deterministic kernels")
    parser.add_argument(
        "--cfg-options",
        nargs="+",
        action=cli.Settings,
        help='settings that win over the config, as key=value; lists as key="[a,b]" or key=a,b',
    )
    parser.add_argument(
        "--launcher", choices=["none", "pytorch", "slurm", "mpi"], default="none", help="job launcher"
    )
    parser.add_argument("--local_rank", "--local-rank", type=int, default=0)
    args = parser.parse_args(argv)
    os.environ.setdefault("LOCAL_RANK", str(args.local_rank))
    return args


def apply_flags(config: Config, args: argparse.Namespace) -> None:
    """Lay the flags over the config, in place."""
    if args.no_validate:
        config.val_cfg = config.val_dataloader = config.val_evaluator = None
    if args.amp:
        wrapper = config.optim_wrapper.get("type", "OptimWrapper")
        if wrapper not in ("OptimWrapper", "AmpOptimWrapper"):
            raise ValueError(f"--amp needs optim_wrapper type OptimWrapper or AmpOptimWrapper, not {wrapper}")
        config.optim_wrapper.type = "AmpOptimWrapper"
        config.optim_wrapper.setdefault("loss_scale", "dynamic")
    if args.resume is not None:
        config.resume = True
        config.load_from = None if args.resume == "auto" else args.resume
    if config.get("load_from"):
        cli.need_file(config.load_from, "checkpoint")
    if args.auto_scale_lr:
        if "auto_scale_lr" not in config:
            raise ValueError("--auto-scale-lr needs auto_scale_lr = dict(base_batch_size=...) in the config")
        config.auto_scale_lr.enable = True
    randomness = dict(seed=None, diff_rank_seed=False, deterministic=False)
    randomness.update(config.get("randomness") or {})
    given = {key: getattr(args, key) for key in ("seed", "diff_rank_seed", "deterministic")}
    randomness.update(
        {key: value for key, value in given.items() if value is not None and value is not False}
    )
    config.randomness = randomness


def main(argv: list[str] | None = None) -> None:
    with one_line_errors() as begun:
        args = parse_args(argv)
        config = cli.read_config(
            args.config, options=args.cfg_options, work_dir=args.work_dir, launcher=args.launcher
        )
        apply_flags(config, args)
        cli.build_runner(config, begun).train()


if __name__ == "__main__":
    restore_signals()
    main()
