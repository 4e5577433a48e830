"""Rows as the columns of a table, for the terminal, Markdown and HTML."""

from __future__ import annotations

import html
import io
from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.figure import Figure

from mmvideoiq.actions import action_of


def action_names(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """All actions that the rows use, in the order of an action space."""
    names = {name for row in rows for name in row["usage"]}

    def place(name: str) -> tuple[bool, bool, int]:
        action = action_of(name)
        return "skip" in action, not action.get("separate", False), action.get("skip", -action.get("bits", 0))

    return sorted(names, key=place)


def table_columns(rows: Sequence[Mapping[str, Any]], accuracy: str = "top-1 %") -> list[list[str]]:
    """The table column by column: title, then a cell per row; ``accuracy`` is the title of the first figure."""
    names = action_names(rows)
    return [
        ["", *(row["name"] for row in rows)],
        [accuracy, *(_percent(row) for row in rows)],
        ["cost", *(f"{row['cost']:.3f}" for row in rows)],
        ["GFLOPs", *(f"{row['gflops']:.2g}" for row in rows)],
        ["GBitOPs", *(f"{row['bitops'] / 1e9:.2g}" for row in rows)],
        *(
            [["ms/clip", *(_milliseconds(row) for row in rows)]]
            if any("ms_per_clip" in row for row in rows)
            else []
        ),
        [
            f"{'/'.join(names)} %",
            *("/".join(f"{100 * row['usage'].get(name, 0):.0f}" for name in names) for row in rows),
        ],
    ]


def _milliseconds(row: Mapping[str, Any]) -> str:
    value = row.get("ms_per_clip")
    return "" if value is None else f"{value:.2f}"


def _percent(row: Mapping[str, Any]) -> str:
    text = f"{100 * row['top1']:.1f}"
    return text if row.get("runs", 1) < 2 else f"{text} ± {100 * row['top1_std']:.1f}"


def _clock(seconds: float | None) -> str:
    return "?" if seconds is None else f"{seconds // 60:.0f}:{seconds % 60:02.0f}"


def png(figure: Figure) -> bytes:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png")
    return buffer.getvalue()


def _html_table(columns: Sequence[Sequence[str]]) -> str:
    head = "".join(f"<th>{html.escape(column[0])}</th>" for column in columns)
    lines = [f"<tr>{head}</tr>"]
    for cells in zip(*(column[1:] for column in columns), strict=True):
        mark = ' class="ours"' if cells[0] == "videoiq" else ""
        lines.append(f"<tr{mark}>" + "".join(f"<td>{html.escape(cell)}</td>" for cell in cells) + "</tr>")
    return f"<table>{''.join(lines)}</table>"
