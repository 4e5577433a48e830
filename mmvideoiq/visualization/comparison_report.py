"""The result of a comparison: a table for the terminal, ``comparison.md``, ``comparison.json`` and drawings."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rich.console import Console

from mmvideoiq.fileio import finite
from mmvideoiq.visualization.figures import draw_comparison
from mmvideoiq.visualization.tables import markdown_table, png, table_columns, terminal_table, write_files

ACCURACIES = {"acc/top1": "top-1 %", "acc/mean_average_precision": "mAP %"}
NOTE = (
    "MMAction2's test loop on the test list; ± is the standard deviation over a row's checkpoints or draws. "
    "Cost: mean over frames of min(bits, 8)² / 64, 0 for a skipped one; an ensemble counts all its members. "
    "GFLOPs: the paper's formula (MACs) per clip; BitOPs: MACs x weight bits x activation bits."
)
TIMES = (
    "ms/clip: medians on decoded clips, one at a time, in turn: rows with a bundle run in it, "
    "float networks without one (*) as MMAction2 runs them."
)
COST = "mean cost per frame (float = 1, skipped = 0)"
MILLISECONDS = "milliseconds per clip, measured"


def write_comparison(summary: Mapping[str, Any], work_dir: Path, *, console: Console) -> None:
    """Print the table; write it with the drawings into ``work_dir``.

    ``accuracy_ms.png`` is drawn where something was timed; one of an earlier run is removed where nothing was.

    Args:
        summary: of ``evaluation.runner.run_comparison``.
    """
    rows = summary["rows"]
    accuracy = ACCURACIES.get(summary["metric"], f"{summary['metric']} %")
    timed = [row for row in rows if "ms_per_clip" in row]
    columns = table_columns(rows, accuracy)
    for column in columns:
        if column[0] == "ms/clip":
            marks = ("*" if row.get("ms_of") == "PyTorch" else " " for row in rows)
            column[1:] = [cell and cell + mark for cell, mark in zip(column[1:], marks, strict=True)]
    source = summary["source"]
    title = f"{summary['name']}: {source['test_clips']} test clips of {source['frames']} frames"
    notes = f"{NOTE} {TIMES}" if timed else NOTE
    markdown = (
        f"# {title}",
        markdown_table(columns),
        notes.replace("(*)", "(\\*)"),
        ", ".join(f"{key} {value}" for key, value in source.items()),
    )
    files = {
        "comparison.json": json.dumps(finite(summary), indent=1),
        "comparison.md": "\n\n".join(markdown) + "\n",
        "accuracy_cost.png": png(draw_comparison(rows, "cost", COST, accuracy)),
    }
    if timed:
        files["accuracy_ms.png"] = png(draw_comparison(timed, "ms_per_clip", MILLISECONDS, accuracy))
    else:
        (work_dir / "accuracy_ms.png").unlink(missing_ok=True)
    console.print(terminal_table(columns, title=title, caption=notes))
    write_files(work_dir, files, console)
