"""What a comparison came to: a table for the terminal, ``comparison.md``, ``comparison.json`` and its drawings."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.box import SIMPLE
from rich.console import Console
from rich.table import Table

from mmvideoiq.fileio import finite, replace_file
from mmvideoiq.visualization.figures import draw_comparison
from mmvideoiq.visualization.tables import png, table_columns

ACCURACIES = {"acc/top1": "top-1 %", "acc/mean_average_precision": "mAP %"}
NOTE = (
    "The host's test loop on the test list; ± is the standard deviation over a row's checkpoints or draws. "
    "Cost: mean over frames of min(bits, 8)² / 64, 0 for one left out; an ensemble pays for all its members. "
    "GFLOPs: the paper's formula (MACs) per clip; BitOPs: MACs x weight bits x activation bits."
)
TIMES = (
    "ms/clip: medians on decoded clips, one at a time, in turn: rows with a bundle run in it, "
    "float networks without one (*) as MMAction2 runs them."
)
COST = "mean cost per frame (float = 1, left out = 0)"
MILLISECONDS = "milliseconds per clip, measured"


def write_comparison(summary: Mapping[str, Any], work_dir: Path, *, console: Console) -> None:
    """Print the table; write it with the drawings into ``work_dir``.

    ``accuracy_ms.png`` is drawn where something was timed; one of an earlier run is removed where nothing was.

    Args:
        summary: of ``comparison_runner.run_comparison``.
    """
    work_dir.mkdir(parents=True, exist_ok=True)
    rows, accuracy = summary["rows"], ACCURACIES.get(summary["metric"], f"{summary['metric']} %")
    columns = _columns(summary)
    replace_file(work_dir / "comparison.json", json.dumps(finite(summary), indent=1).encode())
    replace_file(work_dir / "comparison.md", _markdown(summary, columns).encode())
    replace_file(work_dir / "accuracy_cost.png", png(draw_comparison(rows, "cost", COST, accuracy)))
    written = ["comparison.json", "comparison.md", "accuracy_cost.png"]
    timed = [row for row in rows if "ms_per_clip" in row]
    (work_dir / "accuracy_ms.png").unlink(missing_ok=True)
    if timed:
        drawing = draw_comparison(timed, "ms_per_clip", MILLISECONDS, accuracy)
        replace_file(work_dir / "accuracy_ms.png", png(drawing))
        written.append("accuracy_ms.png")
    console.print(_table(summary, columns))
    console.print(
        f"wrote {', '.join(os.path.relpath(work_dir / name) for name in written)}",
        highlight=False,
        soft_wrap=True,
    )


def _columns(summary: Mapping[str, Any]) -> list[list[str]]:
    rows = summary["rows"]
    columns = table_columns(rows, ACCURACIES.get(summary["metric"], f"{summary['metric']} %"))
    for column in columns:
        if column[0] == "ms/clip":
            column[1:] = [
                cell + ("*" if row.get("ms_of") == "PyTorch" else " ") if cell else ""
                for cell, row in zip(column[1:], rows, strict=True)
            ]
    return columns


def _title(summary: Mapping[str, Any]) -> str:
    source = summary["source"]
    return f"{summary['name']}: {source['test_clips']} test clips of {source['frames']} frames"


def _notes(summary: Mapping[str, Any]) -> str:
    return f"{NOTE} {TIMES}" if any("ms_per_clip" in row for row in summary["rows"]) else NOTE


def _table(summary: Mapping[str, Any], columns: Sequence[Sequence[str]]) -> Table:
    table = Table(title=_title(summary), caption=_notes(summary), box=SIMPLE)
    for title, *_ in columns:
        table.add_column(title, justify="right" if title else "left", no_wrap=True)
    for cells in zip(*(column[1:] for column in columns), strict=True):
        table.add_row(*cells, style="bold" if cells[0].startswith("videoiq") else None)
    return table


def _markdown(summary: Mapping[str, Any], columns: Sequence[Sequence[str]]) -> str:
    lines = [f"# {_title(summary)}", ""]
    lines.append("| " + " | ".join(column[0].replace("|", "\\|") for column in columns) + " |")
    lines.append("|" + "|".join(["---"] + ["---:"] * (len(columns) - 1)) + "|")
    for cells in zip(*(column[1:] for column in columns), strict=True):
        lines.append("| " + " | ".join(cell.strip().replace("|", "\\|") for cell in cells) + " |")
    source = ", ".join(f"{key} {value}" for key, value in summary["source"].items())
    return "\n".join([*lines, "", _notes(summary).replace("(*)", "(\\*)"), "", source, ""])
