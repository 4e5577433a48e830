"""Fill the tables of models in README.md and configs/*/README.md from the metafiles."""

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from mmvideoiq.jobs.arguments import Parser
from mmvideoiq.jobs.errors import one_line_errors, traceback_wanted, write_any_text
from mmvideoiq.jobs.signals import restore_signals
from mmvideoiq.service.main import imports_of

with imports_of("runtime"):
    from mmvideoiq.fileio import write_text
    from mmvideoiq.zoo import index, tables


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    parser = Parser(description=__doc__)
    parser.add_argument(
        "--check", action="store_true", help="change nothing; exit code 1 if a table is stale"
    )
    parser.add_argument("files", nargs="*", type=Path, metavar="FILE", help="instead of these")
    return parser.parse_args(argv)


def fill(path: Path, models: dict[str, index.ZooModel], *, check: bool) -> bool:
    """Whether the file's tables were stale; they are written unless it is a ``check``."""
    text = path.read_text(encoding="utf-8")
    try:
        new = tables.filled(text, path.resolve().parent, models)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None
    if new != text and not check:
        write_text(path, new)
    return new != text


def main(argv: list[str] | None = None) -> int:
    write_any_text()
    args = parse_args(argv)
    try:
        models = index.read()
        stale = [path for path in args.files or tables.files() if fill(path, models, check=args.check)]
    except (OSError, ValueError) as error:
        if traceback_wanted():
            raise
        print(f"zoo_tables.py: error: {' '.join(str(error).split())}", file=sys.stderr)
        return 2
    for path in stale:
        print(f"{path}: {'is stale: run python tools/zoo_tables.py' if args.check else 'filled'}")
    return int(args.check and bool(stale))


if __name__ == "__main__":
    restore_signals()
    with one_line_errors():
        sys.exit(main())
