"""The result of a comparison: a table for the terminal, Markdown, JSON and a page, and drawings."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rich.console import Console

from mmvideoiq.fileio import finite
from mmvideoiq.visualization import gains
from mmvideoiq.visualization.drawing import drawing, png
from mmvideoiq.visualization.environment import environment_table
from mmvideoiq.visualization.figures import draw_comparison
from mmvideoiq.visualization.page import items, note, page, section
from mmvideoiq.visualization.tables import (
    html_table,
    markdown_table,
    table_columns,
    terminal_table,
    write_files,
)

ACCURACIES = {"acc/top1": "top-1 %", "acc/mean_average_precision": "mAP %"}
NOTE = (
    "MMAction2's test loop on the test list; ± is the standard deviation over a row's checkpoints or draws. "
    "Cost: mean over frames of min(bits, 8)² / 64, 0 for a skipped one; an ensemble counts all its members. "
    "GFLOPs: the paper's formula (MACs) per clip; BitOPs: MACs x weight bits x activation bits."
)
TIMES = (
    "ms/clip: medians on decoded clips, one at a time, in turn: rows with a bundle run in it, static INT8 in OpenVINO, "
    "float networks without one (*) as MMAction2 runs them."
)
LIMIT = (
    "Upper limit: it knows the labels; each frame takes the cheapest mode in which it is right by itself, "
    "or is skipped where none is, and no policy runs. One right frame would be enough, so that a policy may spend less."
)
AXES = {
    "cost": "mean cost per frame (float = 1, skipped = 0)",
    "gflops": "GFLOPs per clip",
    "ms_per_clip": "milliseconds per clip, measured",
}
DRAWINGS = {"cost": "accuracy_cost.png", "gflops": "accuracy_gflops.png", "ms_per_clip": "accuracy_ms.png"}


def write_comparison(summary: Mapping[str, Any], work_dir: Path, *, console: Console) -> None:
    """Print the table; write it with the drawings into ``work_dir``.

    ``accuracy_ms.png`` is drawn where something was timed; one of an earlier run is removed where nothing was.

    Args:
        summary: of ``evaluation.runner.run_comparison``.
    """
    rows = summary["rows"]
    accuracy = ACCURACIES.get(summary["metric"], f"{summary['metric']} %")
    timed = [row for row in rows if "ms_per_clip" in row]
    columns = _columns(rows, accuracy)
    source = summary["source"]
    title = f"{summary['name']}: {source['test_clips']} test clips of {source['frames']} frames"
    notes = " ".join(
        [
            NOTE,
            *([TIMES] if timed else []),
            *([LIMIT] if any(row.get("role") == "limit" for row in rows) else []),
        ]
    )
    figures = {
        key: draw_comparison([row for row in rows if key in row], key, label, accuracy)
        for key, label in AXES.items()
        if any(key in row for row in rows)
    }
    origin = ", ".join(f"{key} {value}" for key, value in source.items())
    policies = [row for row in rows if _lines(row)]
    markdown = [f"# {title}", markdown_table(columns), notes.replace("(*)", "(\\*)")]
    sections = [
        section(
            "Accuracy and cost",
            html_table(columns),
            note(notes),
            *(
                drawing(figure, f"{accuracy} against {AXES[key]}", name=key)
                for key, figure in figures.items()
            ),
        )
    ]
    for row in policies:
        markdown += [f"## {row['name']}", "\n".join(f"- {line}" for line in _lines(row))]
        parts = [items(_lines(row))]
        tables = (
            (gains.usage_columns(row.get("quality")), gains.NOTE),
            (gains.gain_columns(row, rows), gains.GAINS),
        )
        for table, said in tables:
            if table:
                markdown += [markdown_table(table), said]
                parts += [html_table(table), note(said)]
        sections.append(section(row["name"], *parts))
    sections.append(section("Environment", environment_table()))
    files: dict[str, bytes | str] = {
        "comparison.json": json.dumps(finite(summary), indent=1),
        "comparison.md": "\n\n".join([*markdown, origin]) + "\n",
        "comparison.html": page(title, origin, sections),
    }
    files |= {DRAWINGS[key]: png(figure) for key, figure in figures.items()}
    if not timed:
        (work_dir / DRAWINGS["ms_per_clip"]).unlink(missing_ok=True)
    console.print(terminal_table(columns, title=title, caption=notes))
    for row in policies:
        console.print(f"[bold]{row['name']}[/]", highlight=False)
        for line in _lines(row):
            console.print(f"  {line}", highlight=False, soft_wrap=True)
    write_files(work_dir, files, console)


def _columns(rows: list[Mapping[str, Any]], accuracy: str) -> list[list[str]]:
    columns = table_columns(rows, accuracy)
    for column in columns:
        if column[0] == "ms/clip":
            marks = ("*" if row.get("ms_of") == "PyTorch" else " " for row in rows)
            column[1:] = [cell and cell + mark for cell, mark in zip(column[1:], marks, strict=True)]
    columns[0][1:] = [
        f"{row['name']} (upper limit)" if row.get("role") == "limit" else row["name"] for row in rows
    ]
    return columns


def _lines(row: Mapping[str, Any]) -> list[str]:
    """A policy as trained in sentences: the advice first."""
    advice = gains.advice_of(row)
    return [f"advice: {advice}", *gains.quality_lines(row.get("quality"))] if advice else []
