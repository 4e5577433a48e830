"""Convert a float checkpoint or the authors' release to DST.pth, and DST.py whose ``model`` loads it."""

import argparse
import sys
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from mmvideoiq.jobs.arguments import Parser
from mmvideoiq.jobs.errors import one_line_errors
from mmvideoiq.jobs.signals import restore_signals
from mmvideoiq.service.main import imports_of

with imports_of("train"):
    from mmvideoiq import checkpoint
    from mmvideoiq.fileio import atomic_write

QUANTIZERS = ("quantizer.",)  # parts of names that a float file lacks; a new model supplies their values


def numbers(text: str) -> list[int]:
    return [int(part) for part in text.replace(",", " ").split()]


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    parser = Parser(description=__doc__)
    parser.add_argument("src", type=Path, help="checkpoint to read")
    parser.add_argument(
        "dst", type=Path, help="checkpoint to write (*.pth); beside it goes its config (*.py)"
    )
    parser.add_argument("--num-frames", type=int, default=16, help="frames per clip (16)")
    parser.add_argument("--precisions", type=numbers, help="e.g. 32,4,2 (default for float files)")
    parser.add_argument("--weight", choices=["dorefa", "nested", "lsq"], default="dorefa")
    parser.add_argument("--skip-list", type=numbers, help="frames each skip action leaves out, e.g. 1,2,4")
    parser.add_argument("--separate-fp32-action", action="store_true", help="one action is the float network")
    parser.add_argument("--num-classes", type=int, help="for a float backbone without classifier")
    args = parser.parse_args(argv)
    if args.dst.suffix != ".pth":
        raise ValueError(f"DST {args.dst} must end in .pth")
    if args.num_frames < 1:
        raise ValueError(f"--num-frames {args.num_frames} must be at least 1")
    return args


def convert(args: argparse.Namespace) -> tuple[str, dict, dict, tuple[str, ...]]:
    """What was read, the model's config, the converted state, what a new model may supply (parts of names)."""
    state = checkpoint.load_state(args.src)
    if checkpoint.is_release(state):
        spec = checkpoint.read_release(
            state,
            skip_list=args.skip_list,
            precisions=args.precisions,
            separate_fp32_action=args.separate_fp32_action,
        )
        return (
            f"the authors' release, {spec}",
            checkpoint.release_model(spec),
            checkpoint.convert_release(state, spec),
            (),
        )
    if args.skip_list or args.separate_fp32_action:
        raise ValueError(f"{args.src} is a float network: it takes no --skip-list, --separate-fp32-action")
    found = checkpoint.read_float(state)
    precisions = args.precisions or [32, 4, 2]
    model = checkpoint.float_model(
        found, precisions, weight=args.weight, num_frames=args.num_frames, num_classes=args.num_classes
    )
    allow = QUANTIZERS if found.num_classes else (*QUANTIZERS, "cls_head.")
    return f"a float network, {found}", model, checkpoint.convert_float(state, found, precisions), allow


def save(writers: dict[Path, Callable[[Path], object]]) -> None:
    """Write all files atomically, none of them if one cannot be written; they are renamed in the given order."""
    with ExitStack() as places:
        parts = {path: places.enter_context(atomic_write(path)) for path in reversed(writers)}
        for path, write in writers.items():
            write(parts[path])


def main(argv: list[str] | None = None) -> None:
    with one_line_errors():
        args = parse_args(argv)
        what, model_config, converted, allow = convert(args)
        import torch
        from mmaction.registry import MODELS
        from mmengine.config import Config

        text = checkpoint.write_config(model_config, num_frames=args.num_frames, source=args.src.name)
        config = Config.fromstring(text, ".py")
        model = MODELS.build(config.model)
        state = checkpoint.complete(converted, model.state_dict(), allow)
        model.load_state_dict(state, strict=True)
        beside, content = (
            args.dst.with_suffix(".py"),
            dict(meta=dict(source=args.src.name), state_dict=state),
        )
        save({beside: lambda p: p.write_text(text), args.dst: lambda p: torch.save(content, p)})
        print(f"{args.src}: {what}\nwrote {args.dst} ({len(state)} tensors) and {beside}")


if __name__ == "__main__":
    restore_signals()
    main()
