"""Measure what our parts cost: every contender in turn, in one run.

    python tools/benchmark.py train --json train.json
    python tools/benchmark.py infer --json infer.json
    python tools/benchmark.py infer --bundle BUNDLE --list LIST --data-root FOLDER --plot accuracy.png
    python tools/benchmark.py decode --json decode.json
    python tools/benchmark.py bulk BUNDLE --json bulk.json
    python tools/benchmark.py latency BUNDLE_OR_CONFIG --json latency.json

Nothing else should run beside it.
"""

import argparse
import sys
import tempfile
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from mmvideoiq.jobs.arguments import Parser
from mmvideoiq.jobs.errors import one_line_errors
from mmvideoiq.jobs.signals import restore_signals
from mmvideoiq.service.main import imports_of

with imports_of("train"):
    from rich.console import Console
    from rich.progress import Progress, TimeElapsedColumn

    from mmvideoiq import cli
    from mmvideoiq.benchmark import tables
    from mmvideoiq.benchmark.bulk import BulkSettings, measure_bulk
    from mmvideoiq.benchmark.decoding import DecodeSettings, make_films, measure_decoding
    from mmvideoiq.benchmark.inference import measure_inference, measure_trained
    from mmvideoiq.benchmark.inference_settings import MIXES, PEERS, POLICIES, InferSettings
    from mmvideoiq.benchmark.training import BACKBONES, TrainSettings, keep_freed_memory, measure_training
    from mmvideoiq.fileio import write_json
    from mmvideoiq.latency.table import measure_config, measure_table
    from mmvideoiq.service.sources import find_bundle
    from mmvideoiq.video.av_reader import SAMPLING

TRAIN_FLAGS = {
    "size": "side of a frame",
    "frames": "frames of a clip in training",
    "eval_frames": "frames of a clip in evaluation",
    "clips": "clips at a time",
    "threads": "threads of torch",
    "repeats": "rounds of training steps measured; evaluation takes three times as many",
    "warmup": "rounds before these, not counted",
}
INFER_FLAGS = {
    "depth": "depth of the ResNet",
    "size": "side of a frame",
    "frames": "frames of a clip",
    "threads": "threads of everyone",
    "tolerance": "seconds that a key frame may be away",
    "repeats": "rounds measured",
    "warmup": "rounds before these, not counted",
}
DECODE_FLAGS = {
    "frames": "frames taken of each video",
    "threads": "threads of our reader, beside one",
    "tolerance": "seconds that a key frame may be away",
    "repeats": "rounds measured",
    "warmup": "rounds before these, not counted",
}
BULK_FLAGS = {
    "clips": "clips of a run, links to the videos",
    "workers": "workers of each stage on Ray, measured from one on",
}


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    parser = Parser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    train = commands.add_parser("train", help="training and simulated evaluation against the float network")
    train.set_defaults(run=run_train)
    train.add_argument("--backbone", choices=sorted(BACKBONES), default=TrainSettings.backbone)
    train.add_argument(
        "--weight", default=TrainSettings.weight, help="weight quantizer: dorefa, lsq or nested"
    )
    add_counts(train, TrainSettings, TRAIN_FLAGS)
    infer = commands.add_parser("infer", help="exported bundles against other ways to run the network")
    infer.set_defaults(run=run_infer)
    infer.add_argument("--engine", choices=["openvino", "onnxruntime"], default=InferSettings.engine)
    infer.add_argument(
        "--weight", default=InferSettings.weight, help="weight quantizer of ours: dorefa, lsq or nested"
    )
    infer.add_argument(
        "--per-channel",
        action="store_true",
        help="a weight scale for each output channel, in place of one for the layer",
    )
    infer.add_argument(
        "--float-stem",
        action="store_true",
        help="leave the frame and the first convolution of ours float, as in the paper",
    )
    infer.add_argument(
        "--policy",
        choices=list(POLICIES),
        default=InferSettings.policy,
        help="policy of ours: the paper's MobileNetV2 in float or at 8 bits, or the tiny one at 8 bits (default tiny)",
    )
    add_counts(infer, InferSettings, INFER_FLAGS)
    infer.add_argument("--video", type=Path, metavar="F", help="to decode; default: one of 10 s, made here")
    infer.add_argument(
        "--sampling", choices=SAMPLING, default=InferSettings.sampling, help="how ours reads the video"
    )
    infer.add_argument(
        "--bundle",
        nargs="+",
        default=[],
        help="also measure these trained models: folders, or names of the zoo (zoo://NAME)",
    )
    infer.add_argument("--list", type=Path, help="videos for --bundle: lines of a path and a label")
    infer.add_argument("--data-root", type=Path, default=Path(), help="folder of these videos")
    infer.add_argument("--only-bundles", action="store_true", help="leave the random networks out")
    infer.add_argument(
        "--plot", type=Path, metavar="F", help="draw accuracy against milliseconds of --bundle"
    )
    infer.add_argument(
        "--keep",
        type=Path,
        metavar="FOLDER",
        help="keep the contenders' files and logs here; a later run with the same settings takes them",
    )
    infer.add_argument(
        "--only", nargs="+", default=[], metavar="NAME", help="measure these: " + ", ".join([*PEERS, *MIXES])
    )
    decode = commands.add_parser("decode", help="from a file to frames: our reader against decord")
    decode.set_defaults(run=run_decode)
    decode.add_argument(
        "videos", type=Path, nargs="*", help="default: one of 10 s and one of 2 min, made here"
    )
    add_counts(decode, DecodeSettings, DECODE_FLAGS)
    decode.add_argument(
        "--keep", type=Path, metavar="FOLDER", help="keep the videos made here, for later runs"
    )
    bulk = commands.add_parser("bulk", help="mmvideoiq bulk, without and with Ray, against mmvideoiq infer")
    bulk.set_defaults(run=run_bulk)
    bulk.add_argument("bundle", help="folder that mmvideoiq export wrote, or zoo://NAME")
    bulk.add_argument("videos", type=Path, nargs="*", help="default: small clips, made here")
    add_counts(bulk, BulkSettings, BULK_FLAGS)
    latency = commands.add_parser("latency", help='milliseconds of each action here, for cost="latency.json"')
    latency.set_defaults(run=run_latency)
    latency.add_argument(
        "source", help="a bundle (folder or zoo://NAME), or a config of a model with actions"
    )
    latency.add_argument("--engine", choices=["openvino", "onnxruntime"], default="openvino")
    latency.add_argument("--threads", type=int, metavar="N", help="default: the engine's choice")
    for command in (train, infer, decode, bulk, latency):
        command.add_argument("--json", type=Path, metavar="F", help="write everything measured to this file")
    return parser.parse_args(argv)


def add_counts(parser: argparse.ArgumentParser, settings: type, flags: Mapping[str, str]) -> None:
    """A flag for each whole number of ``settings``."""
    for name, text in flags.items():
        default = getattr(settings, name)
        parser.add_argument(
            f"--{name.replace('_', '-')}", type=int, default=default, help=f"{text} (default {default})"
        )


def settings_of(args: argparse.Namespace, kind: type) -> Any:
    return kind(**{name: getattr(args, name) for name in kind.__dataclass_fields__})


def progress_bars() -> Progress:
    """On standard error, so that standard output holds the tables alone."""
    columns = (*Progress.get_default_columns(), TimeElapsedColumn())
    return Progress(*columns, console=Console(stderr=True), transient=True)


def bars(progress: Progress) -> Callable[[str, int], Callable[[], None]]:
    """``begin`` of the measuring functions, shown as bars."""

    def begin(label: str, total: int) -> Callable[[], None]:
        task = progress.add_task(label, total=total)
        return lambda: progress.advance(task)

    return begin


def run_train(args: argparse.Namespace, console: Console) -> dict[str, Any]:
    settings = settings_of(args, TrainSettings)
    kept = keep_freed_memory()
    with progress_bars() as progress:
        result = dict(measure_training(settings, begin=bars(progress)), freed_memory_kept=kept)
    tables.show_training(result, console)
    return result


def run_infer(args: argparse.Namespace, console: Console) -> dict[str, Any]:
    settings = settings_of(args, InferSettings)
    if args.bundle and args.list is None:
        raise ValueError("--bundle needs --list, the videos to measure on")
    if args.only_bundles and not args.bundle:
        raise ValueError("--only-bundles needs --bundle")
    bundles = [Path(find_bundle(bundle)) for bundle in args.bundle]
    videos = read_videos(args.list, args.data_root) if bundles else []
    result: dict[str, Any] = dict(rows=[])
    with tempfile.TemporaryDirectory() if args.keep is None else nullcontext(args.keep) as folder:
        Path(folder).mkdir(parents=True, exist_ok=True)
        with progress_bars() as progress:
            if not args.only_bundles:
                result = measure_inference(
                    settings,
                    Path(folder),
                    log=lambda text: progress.console.print(f"[dim]{text}"),
                    begin=bars(progress),
                )
            if args.bundle:
                result["rows"] += measure_trained(
                    {path.name: path for path in bundles},
                    videos,
                    Path(folder),
                    engine=args.engine,
                    threads=args.threads,
                    begin=bars(progress),
                )
    tables.show_inference(result, console)
    if args.plot is not None:
        tables.plot_accuracy(result["rows"], args.plot)
        console.print(f"drawn: {args.plot}")
    return result


def run_decode(args: argparse.Namespace, console: Console) -> dict[str, Any]:
    settings = settings_of(args, DecodeSettings)
    for video in args.videos:
        cli.need_file(str(video), "video")
    with tempfile.TemporaryDirectory() if args.keep is None else nullcontext(args.keep) as folder:
        with progress_bars() as progress:
            begin = bars(progress)
            videos = {str(video): video for video in args.videos} or make_films(Path(folder), begin=begin)
            result = measure_decoding(videos, settings, begin=begin)
    tables.show_decoding(result, console)
    return result


def run_bulk(args: argparse.Namespace, console: Console) -> dict[str, Any]:
    settings = settings_of(args, BulkSettings)
    for video in args.videos:
        cli.need_file(str(video), "video")
    with tempfile.TemporaryDirectory() as folder, progress_bars() as progress:
        bundle = Path(find_bundle(args.bundle))
        result = measure_bulk(bundle, args.videos, settings, Path(folder), begin=bars(progress))
    tables.show_bulk(result, console)
    return result


def run_latency(args: argparse.Namespace, console: Console) -> dict[str, Any]:
    options = dict(engine=args.engine, threads=args.threads)
    if args.source.endswith(".py"):
        config = cli.read_config(args.source, options=None, work_dir=None, launcher="none")
        result = measure_config(config, **options)
    else:
        result = measure_table(Path(find_bundle(args.source)), **options)
    tables.show_latency(result, console)
    return result


def read_videos(path: Path, root: Path) -> list[tuple[str, int]]:
    """Path and label of each line of an MMAction2 list."""
    cli.need_file(str(path), "list of videos")
    pairs = [line.rsplit(maxsplit=1) for line in path.read_text().splitlines() if line.strip()]
    for number, pair in enumerate(pairs, 1):
        if len(pair) != 2 or not pair[1].isdigit():
            raise ValueError(f"{path}: line {number} is not a path and a label")
    return [(str(root / name), int(label)) for name, label in pairs]


def main(argv: list[str] | None = None) -> None:
    args, console = parse_args(argv), Console()
    with one_line_errors():
        result = args.run(args, console)
        if args.json is not None:
            write_json(args.json, result)
            console.print(f"written: {args.json}")


if __name__ == "__main__":
    restore_signals()
    main()
