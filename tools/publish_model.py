"""Strip a checkpoint for the zoo: weights, classes, epoch and seed stay. Prints what goes into its metafile."""

import argparse
import os
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import torch

from mmvideoiq import checkpoint, cli
from mmvideoiq.zoo.fetch import sha256_of

KEPT = ("epoch", "iter", "seed", "dataset_meta")


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("src", type=Path, help="checkpoint of a training")
    parser.add_argument("dst", type=Path, help="file to write (*.pth)")
    args = parser.parse_args(argv)
    if args.dst.suffix != ".pth":
        raise ValueError(f"DST {args.dst} must end in .pth")
    return args


def publish(src: Path, dst: Path) -> None:
    """The same weights under the same name give the same bytes."""
    state = checkpoint.load_state(src)
    meta = torch.load(src, map_location="cpu", weights_only=True).get("meta") or {}
    content = dict(state_dict=state, meta={key: meta[key] for key in KEPT if key in meta})
    with tempfile.TemporaryDirectory(dir=dst.parent) as folder:  # torch writes the file's name into it
        torch.save(content, Path(folder, dst.name))
        os.replace(Path(folder, dst.name), dst)


def main(argv: list[str] | None = None) -> None:
    with cli.one_line_errors():
        args = parse_args(argv)
        publish(args.src, args.dst)
        print(f"  Weights: {args.dst}  # {args.dst.stat().st_size} bytes")
        print(f"  Metadata:\n    SHA256: {sha256_of(args.dst)}")


if __name__ == "__main__":
    main()
