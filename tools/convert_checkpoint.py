"""Convert a float zoo checkpoint or one of the authors' release: writes DST.pth, and DST.py whose model loads it."""

import argparse
import os
from pathlib import Path

from mmvideoiq import cli
from mmvideoiq.checkpoint import (
    complete,
    convert_float,
    convert_release,
    float_model,
    is_release,
    load_state,
    read_float,
    read_release,
    release_model,
    write_config,
)

QUANTIZERS = ("quantizer.",)  # parts of names that a float file lacks; a new model's values stand in


def numbers(text: str) -> list[int]:
    return [int(part) for part in text.replace(",", " ").split()]


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("src", type=Path, help="checkpoint to read")
    parser.add_argument(
        "dst", type=Path, help="checkpoint to write, *.pth; the config goes beside it as *.py"
    )
    parser.add_argument("--num-frames", type=int, default=16, help="frames per clip (16)")
    parser.add_argument(
        "--precisions", type=numbers, help="high to low, e.g. 32,4,2; a release file tells its own"
    )
    parser.add_argument(
        "--weight", choices=["dorefa", "nested", "lsq"], default="dorefa", help="for float files"
    )
    parser.add_argument(
        "--skip-list", type=numbers, help="frames that each skip action leaves out, e.g. 1,2,4"
    )
    parser.add_argument("--separate-fp32-action", action="store_true", help="one action is the float network")
    parser.add_argument("--num-classes", type=int, help="for a float backbone without classifier")
    args = parser.parse_args(argv)
    if args.dst.suffix != ".pth":
        raise ValueError(f"DST {args.dst} must end in .pth")
    if args.num_frames < 1:
        raise ValueError(f"--num-frames {args.num_frames} must be at least 1")
    return args


def convert(args: argparse.Namespace) -> tuple[str, dict, dict, tuple[str, ...]]:
    """What was read, the model's config, the converted state, and which parts of names a new model may supply."""
    state = load_state(args.src)
    if is_release(state):
        spec = read_release(
            state,
            skip_list=args.skip_list,
            precisions=args.precisions,
            separate_fp32_action=args.separate_fp32_action,
        )
        return f"the authors' release, {spec}", release_model(spec), convert_release(state, spec), ()
    if args.skip_list or args.separate_fp32_action:
        raise ValueError(
            f"{args.src} is a float network: --skip-list and --separate-fp32-action do not apply"
        )
    found = read_float(state)
    precisions = args.precisions or [32, 4, 2]
    model = float_model(
        found, precisions, weight=args.weight, num_frames=args.num_frames, num_classes=args.num_classes
    )
    allow = QUANTIZERS if found.num_classes else (*QUANTIZERS, "cls_head.")
    return f"a float network, {found}", model, convert_float(state, found, precisions), allow


def save(path: Path, write) -> None:
    """Write beside ``path``, then rename: the file appears whole or not at all."""
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        write(part)
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


def main(argv: list[str] | None = None) -> None:
    with cli.one_line_errors():
        args = parse_args(argv)
        what, model_config, converted, allow = convert(args)
        import torch
        from mmaction.registry import MODELS
        from mmengine.config import Config

        text = write_config(model_config, num_frames=args.num_frames, source=args.src.name)
        config = Config.fromstring(text, ".py")
        model = MODELS.build(config.model)
        state = complete(converted, model.state_dict(), allow)
        model.load_state_dict(state, strict=True)
        args.dst.parent.mkdir(parents=True, exist_ok=True)
        save(
            args.dst, lambda part: torch.save({"meta": {"source": args.src.name}, "state_dict": state}, part)
        )
        save(args.dst.with_suffix(".py"), lambda part: part.write_text(text))
        print(
            f"{args.src}: {what}\nwrote {args.dst} ({len(state)} tensors) and {args.dst.with_suffix('.py')}"
        )


if __name__ == "__main__":
    main()
