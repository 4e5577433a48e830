"""Try every backbone of MMAction2 and write down what works; writes docs/backbones.md.

    python tools/backbones.py --out docs/backbones.md
    python tools/backbones.py ResNet timm.resnet18 --json some.json

Backbones of packages that are not installed are listed as refused: pip install --no-deps mmpretrain timm torchvision,
in versions that fit the installed torch, fills in their rows.
"""

import argparse
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "docs")]

from mmvideoiq.jobs.arguments import Parser
from mmvideoiq.jobs.errors import one_line_errors
from mmvideoiq.jobs.signals import restore_signals
from mmvideoiq.service.main import imports_of

with imports_of("train"):
    if not Path(ROOT, "docs/backbone_support.py").is_file():
        raise ImportError("this writes docs/backbones.md of the repository: run it in a clone")
    import backbone_support as backbones
    from rich.progress import track

    from mmvideoiq.fileio import write_json, write_text


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    parser = Parser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAME", help="only these backbones")
    parser.add_argument("--out", type=Path, metavar="FILE", help="write the table as Markdown")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write everything found")
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> None:
    with one_line_errors():
        args = parse_args(argv)
        configs = backbones.cases(args.names)
        result = backbones.measure(configs, lambda names: track(names, description="backbones"))
        for row in result["rows"]:
            print(f"{row['name']}: {summary(row)}")
        command = " ".join(["python tools/backbones.py", *args.names, "--out docs/backbones.md"])
        if args.json is not None:
            write_json(args.json, result)
        if args.out is not None:
            write_text(args.out, backbones.page(result, command))


def summary(row: dict) -> str:
    """One row in a line."""
    if row["refused"]:
        return f"refused: {row['refused']}"
    failed = [f"{field}: {row[field]}" for field in backbones.ATTEMPTS if row[field] is not None]
    return "; ".join([f"{row['converted']} layers, {row['norms']} norms", *failed])


if __name__ == "__main__":
    restore_signals()
    main()
