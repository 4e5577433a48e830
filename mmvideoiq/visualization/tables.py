"""Tables of rows, made column by column, for the terminal, Markdown and HTML."""

from __future__ import annotations

import html
import os
import re
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.box import SIMPLE
from rich.console import Console
from rich.table import Table

from mmvideoiq.actions import action_of, sort_actions
from mmvideoiq.fileio import replace_file, to_bytes

Columns = Sequence[Sequence[str]]  # of each column the title, then a cell per line


def action_names(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """All actions that the rows use, in the order of an action space."""
    names = {name for row in rows for name in row["usage"]}
    return [action.name for action in sort_actions([action_of(name) for name in names])]


def table_columns(rows: Sequence[Mapping[str, Any]], accuracy: str = "top-1 %") -> list[list[str]]:
    """The table column by column: title, then a cell per row; ``accuracy`` is the title of the first figure."""
    names = action_names(rows)
    timed = any("ms_per_clip" in row for row in rows)
    return [
        ["", *(row["name"] for row in rows)],
        [accuracy, *(_percent(row) for row in rows)],
        ["cost", *(f"{row['cost']:.3f}" for row in rows)],
        ["GFLOPs", *(f"{row['gflops']:.2g}" for row in rows)],
        ["GBitOPs", *(f"{row['bitops'] / 1e9:.2g}" for row in rows)],
        *([["ms/clip", *(_milliseconds(row) for row in rows)]] if timed else []),
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


def clock(seconds: float | None) -> str:
    """Minutes and seconds."""
    return "?" if seconds is None else f"{seconds // 60:.0f}:{seconds % 60:02.0f}"


def _lines(columns: Columns, marked: str = "videoiq") -> Iterator[tuple[tuple[str, ...], bool]]:
    """Below the titles: the cells of each line, and whether it stands out: the method's own."""
    for cells in zip(*(column[1:] for column in columns), strict=True):
        yield cells, bool(marked) and cells[0].startswith(marked)


def terminal_table(columns: Columns, *, title: str, caption: str) -> Table:
    table = Table(title=title, caption=caption, box=SIMPLE)
    for name, *_ in columns:
        last = name == columns[-1][0]  # the usage of many actions is long
        table.add_column(name, justify="right" if name else "left", no_wrap=not last, overflow="fold")
    for cells, own in _lines(columns):
        table.add_row(*cells, style="bold" if own else None)
    return table


def markdown_table(columns: Columns) -> str:
    def line(cells: Iterable[str]) -> str:
        return f"| {' | '.join(cell.strip().replace('|', escaped) for cell in cells)} |"

    escaped = "\\|"
    head = "|" + "|".join(["---"] + ["---:"] * (len(columns) - 1)) + "|"
    return "\n".join(
        [line(column[0] for column in columns), head, *(line(cells) for cells, _ in _lines(columns))]
    )


def html_table(columns: Columns, *, wrapped: Collection[str] = (), marked: str = "videoiq") -> str:
    """A table that scrolls by itself where the page is too narrow for it.

    Args:
        wrapped: titles of columns of long words, such as paths, which break anywhere.
        marked: lines whose first cell begins with this stand out.
    """

    def cell(tag: str, text: str, title: str, scope: str = "") -> str:
        attributes = f' scope="{scope}"' if scope else ""
        attributes += ' class="wrap"' if title in wrapped else ""
        content = html.escape(text)
        if title in wrapped:
            content = re.sub(r"([/_-]+)(?=.)", r"\1<wbr>", content)  # it breaks there first
        return f"<{tag}{attributes}>{content}</{tag}>"

    titles = [column[0] for column in columns]
    lines = ["".join(cell("th", title, title, "col") for title in titles)]
    for cells, own in _lines(columns, marked):
        first, *others = cells
        content = cell("th", first, titles[0], "row")
        content += "".join(cell("td", text, title) for text, title in zip(others, titles[1:], strict=True))
        lines.append(f'<tr class="own">{content}</tr>' if own else f"<tr>{content}</tr>")
    head, *body = lines
    rows = "\n".join(body)
    return scrolling(f"<table><thead><tr>{head}</tr></thead>\n<tbody>{rows}</tbody></table>")


def scrolling(table: str) -> str:
    """HTML that scrolls sideways within the page, by keyboard too."""
    return f'<div class="wide" tabindex="0">{table}</div>'


def write_files(folder: Path, files: Mapping[str, bytes | str], console: Console) -> None:
    """Write each file by an atomic rename, and print their names."""
    for name, content in files.items():
        replace_file(folder / name, content if isinstance(content, bytes) else to_bytes(content))
    names = ", ".join(os.path.relpath(folder / name) for name in files)
    console.print(f"wrote {names}", highlight=False, soft_wrap=True)
