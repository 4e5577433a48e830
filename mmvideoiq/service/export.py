"""Export a trained model as a bundle, a folder that ``mmvideoiq infer`` runs without PyTorch."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from rich.progress import track

from mmvideoiq import cli
from mmvideoiq.deploy.bundle.bundle import Bundle
from mmvideoiq.deploy.engines.factory import open_engine
from mmvideoiq.deploy.export.from_config import export_from_config
from mmvideoiq.jobs.arguments import Parser, prog
from mmvideoiq.jobs.errors import one_line_errors
from mmvideoiq.service.sources import complete_config, find_config


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    parser = Parser(prog=prog(), description=__doc__)
    parser.example = "mmvideoiq export videoiq/demo_videoiq policy.pth bundles/demo --no-calibration"
    config = parser.add_argument(
        "config", help="path of the config, or the name of one of this package: videoiq/demo_videoiq"
    )
    config.completer = complete_config
    parser.add_argument("checkpoint", help="path or address of the checkpoint")
    parser.add_argument("out", help="folder to write; an existing bundle is replaced")
    parser.add_argument("--classes", metavar="FILE", help="names of the classes, one a line")
    parser.add_argument(
        "--calibrate-with",
        choices=["val", "test"],
        default="val",
        help="the clips on which the budget curve is measured",
    )
    parser.add_argument("--no-calibration", action="store_true", help="write no budget curve; needs no clips")
    parser.add_argument(
        "--time-on",
        metavar="ENGINE",
        help="also store what a frame takes here on openvino or onnxruntime, for budgets in milliseconds",
    )
    parser.add_argument("--threads", type=int, metavar="N", help="of --time-on; default: one for each CPU")
    parser.add_argument(
        "--cfg-options",
        nargs="+",
        action=cli.Settings,
        help='settings that win over the config, as key=value; lists as key="[a,b]" or key=a,b',
    )
    args = parser.parse_args(argv)
    if args.threads is not None and args.time_on is None:
        parser.error("--threads requires --time-on")
    return args


def describe(bundle: Bundle) -> str:
    """One line: what was written."""
    files = bundle.file_bytes()
    sizes = ", ".join(f"{part} {files[f'{part}.safetensors'] / 1e6:.2f} MB" for part in bundle.graphs)
    curve = bundle.manifest["budget"]
    reach = f"mean cost {curve[-1]['cost']:.3g} to {curve[0]['cost']:.3g}" if curve else "no budget curve"
    return f"{bundle.path}: actions {', '.join(bundle.actions.names)}; {reach}; {sizes}"


def main(argv: Sequence[str] | None = None) -> int:
    with one_line_errors():
        args = parse_args(argv)
        cli.need_file(args.checkpoint, "checkpoint")
        if args.classes is not None:
            cli.need_file(args.classes, "list of classes")
        engine = args.time_on and open_engine(args.time_on, threads=args.threads, float_precision="auto")
        config = cli.read_config(
            find_config(args.config), options=args.cfg_options, work_dir=None, launcher="none"
        )
        export_from_config(
            config,
            args.checkpoint,
            args.out,
            classes=args.classes,
            calibrate_with=None if args.no_calibration else args.calibrate_with,
            time_on=engine or None,
            progress=lambda batches: track(batches, description="budget curve"),
        )
        print(describe(Bundle.open(args.out)))
    return 0
