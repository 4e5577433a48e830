"""Make the lists and the split for your own videos, which lie in FOLDER/<class>/.

python tools/data/make_lists.py FOLDER [--val 0.2] [--test 0.0] [--seed 0] [--check] [--overwrite]
"""

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from mmvideoiq.jobs.arguments import Parser
from mmvideoiq.jobs.errors import one_line_errors, write_any_text
from mmvideoiq.jobs.signals import restore_signals
from mmvideoiq.service.main import imports_of

with imports_of("train"):
    from rich.console import Console
    from rich.table import Table

    from mmvideoiq import compat

    compat.apply()

    from mmvideoiq.data.folder import make_lists


def main() -> None:
    write_any_text()
    parser = Parser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder")
    parser.add_argument("--val", type=float, default=0.2, help="share of each class to validate on")
    parser.add_argument("--test", type=float, default=0.0, help="share of each class to test on")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--check", action="store_true", help="try to decode each video, leave out those that do not"
    )
    parser.add_argument("--overwrite", action="store_true", help="replace lists that are there")
    args = parser.parse_args()
    lists = make_lists(**vars(args), progress=True)

    console = Console()
    table = Table("label", "class", *lists.splits)
    for label, name in enumerate(lists.classes):
        counts = [sum(of == label for _, of in rows) for rows in lists.splits.values()]
        table.add_row(str(label), name, *map(str, counts))
    console.print(table)
    for warning in lists.warnings:
        console.print(f"warning: {warning}", style="yellow", markup=False)
    for path, reason in lists.unreadable.items():
        console.print(f"left out, cannot be read: {path} ({reason})", style="yellow", markup=False)
    console.print(
        f"To train on them, set DATA_ROOT={Path(args.folder).resolve()}", markup=False, soft_wrap=True
    )


if __name__ == "__main__":
    restore_signals()
    with one_line_errors():
        main()
