"""The end of fuzz, faults and soak: a table, a JSON file, what went wrong, the exit code."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from mmvideoiq.fileio import finite, write_text


@dataclass
class Row:
    """A line of the table.

    Attributes:
        name: what was tried.
        figures: by the name of their column.
        problems: a line each; none if all is well.
        skipped: why it was not tried.
    """

    name: str
    figures: dict[str, Any] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)
    skipped: str = ""


def shown(figure: Any) -> str:
    return f"{figure:.1f}" if isinstance(figure, float) else str(figure)


def finish(rows: Sequence[Row], *, json_file: Path | None, **more: Any) -> int:
    """Print the table and the problems, write ``{"rows": ..., **more}``; 1 if there is a problem, else 0."""
    console = Console(width=None if sys.stdout.isatty() else 160)
    columns = list(dict.fromkeys(name for row in rows for name in row.figures))
    table = Table("", *columns, box=None, pad_edge=False)
    for column in table.columns[1:]:
        column.justify = "right"
    for row in rows:
        table.add_row(row.name, *(shown(row.figures.get(name, "")) for name in columns))
    console.print(table)
    for row in rows:
        if row.skipped:
            console.print(
                f"{row.name}: skipped: {row.skipped}", highlight=False, markup=False, soft_wrap=True
            )
        for problem in row.problems:
            console.print(
                f"{row.name}: {problem}", style="red", highlight=False, markup=False, soft_wrap=True
            )
    if json_file is not None:
        content = dict(more, rows=[asdict(row) for row in rows])
        write_text(json_file, json.dumps(finite(content), indent=1) + "\n")
    return int(any(row.problems for row in rows))
