"""The result of a recipe: a table, ``summary.json``, ``timeline.png`` and the page ``report.html``."""

from __future__ import annotations

import html
import json
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console

from mmvideoiq.data.frame_kinds import kinds_of_trace
from mmvideoiq.fileio import finite
from mmvideoiq.visualization.clips_report import ClipStrips, confusion_section
from mmvideoiq.visualization.drawing import drawing, png
from mmvideoiq.visualization.environment import environment_table
from mmvideoiq.visualization.figures import draw_timeline, draw_tradeoff, read_frames
from mmvideoiq.visualization.gains import (
    GAINS,
    advice_of,
    gain_columns,
    quality_lines,
    usage_columns,
)
from mmvideoiq.visualization.gains import (
    NOTE as QUALITY_NOTE,
)
from mmvideoiq.visualization.page import Thumbnails, fit, items, note, page, section
from mmvideoiq.visualization.tables import clock, html_table, table_columns, terminal_table, write_files
from mmvideoiq.visualization.training_curves import curves_parts


def write_all(summary: dict[str, Any], work_dir: Path, *, console: Console | None = None) -> None:
    """Print the table and write ``summary.json``, ``timeline.png`` and ``report.html`` into ``work_dir``.

    Args:
        summary: of ``recipes.runner.run_recipe``. ``traces`` and ``kinds`` in it name files; with ``kinds``, a folder
            of clips of which the kinds of frames are known, these stand in the timeline. ``classes`` names the classes.
    """
    console = console or Console()
    traces = [json.loads(Path(path).read_text()) for path in summary.get("traces", [])]
    names = next((list(row["usage"]) for row in summary["rows"] if row["name"] == "videoiq"), [])
    kinds = None
    if summary.get("kinds") and traces:
        kinds = kinds_of_trace(traces[0], summary["kinds"])
    files: dict[str, bytes | str] = {"summary.json": json.dumps(finite(_relative(summary)), indent=1)}
    if traces:
        files["timeline.png"] = png(draw_timeline(traces[0], names, kinds=kinds))
    files["report.html"] = make_page(summary, traces, names, kinds=kinds)
    print_table(summary, console)
    write_files(work_dir, files, console)


def _relative(summary: Mapping[str, Any]) -> dict[str, Any]:
    """File names relative to the current folder, so that the summary can be moved with the project."""
    result = dict(summary)
    if "traces" in result:
        result["traces"] = [os.path.relpath(path) for path in result["traces"]]
    if "kinds" in result:
        result["kinds"] = os.path.relpath(result["kinds"])
    if "bundle" in result:
        result["bundle"] = result["bundle"] | {"path": os.path.relpath(result["bundle"]["path"])}
    return result


def print_table(summary: Mapping[str, Any], console: Console) -> None:
    """The rows, the policy's quality where the right policy is known, and the stages' times."""
    rows = summary["rows"]
    if rows:
        columns = table_columns(rows)
        caption = (
            "± standard deviation over policy seeds or draws. Cost: 32 bits = 1, skipped = 0.\n"
            "Per clip: GFLOPs by the paper's formula (MACs); BitOPs = MACs x weight bits x activation bits; "
            "random runs no policy."
        )
        if any(title == "ms/clip" for title, *_ in columns):
            caption += "\nms/clip: measured; float as MMAction2 runs it, the others in the bundle."
        title = f"{summary['recipe']}: {_counts(summary)}"
        console.print(terminal_table(columns, title=title, caption=caption))
    stages = (f"[dim]{s['name']}: {clock(s['seconds'])}  {s['checkpoint']}[/]" for s in summary["stages"])
    smoke = ["a smoke run (--fast): its figures and its advice mean nothing"] if summary.get("fast") else []
    for line in (*smoke, *_policy_lines(summary), *bundle_lines(summary), *stages):
        console.print(line, highlight=False, soft_wrap=True)


def _policy_lines(summary: Mapping[str, Any]) -> list[str]:
    """The advice, what the policy gains over random actions, and its quality."""
    own = _own_row(summary)
    random = (own.get("against") or {}).get("random")
    gain = []
    if random:
        low, high = (100 * bound for bound in random["interval"])
        gain = [
            f"over random actions of the same usage: {100 * random['gain']:+.1f} points "
            f"(95 % interval {low:+.1f} to {high:+.1f})"
        ]
    advice = [f"advice: {advice_of(own)}"] if advice_of(own) else []
    return [*advice, *gain, *quality_lines(summary.get("policy_quality"))]


def _own_row(summary: Mapping[str, Any]) -> Mapping[str, Any]:
    return next((row for row in summary["rows"] if row["name"] == "videoiq"), {})


def bundle_lines(summary: Mapping[str, Any]) -> list[str]:
    """The bundle in sentences; empty where there is none."""
    bundle = summary.get("bundle")
    if not bundle:
        return []
    return [
        f"bundle {os.path.relpath(bundle['path'])}: {bundle['file_mb']:.1f} MB; on {bundle['engine']}, no PyTorch: "
        f"top-1 {100 * bundle['top1']:.1f} % at cost {bundle['cost']:.3f} on {bundle['clips']} clips "
        f"(the same policy tested in MMAction2: {100 * bundle['simulated_top1']:.1f} %)",
        f"same label for {100 * bundle['same_labels']:.1f} % of the clips, "
        f"same precision for {100 * bundle['same_actions']:.1f} % of the frames",
    ]


NOTE = """
Mean ± sample standard deviation over the row's runs; MMAction2's test loop on the test list. Cost: mean over
frames of min(bits, 8)² / 64, 0 for a skipped one. GFLOPs: the paper's formula (arXiv:2108.10394), in
multiply-accumulates per clip. BitOPs: MACs × weight bits × activation bits per clip, float layers 32 × 32.
Random: actions drawn with videoiq's own usage, no clip skipped as a whole; it runs no policy network, so
its GFLOPs include none.
"""


TIMES = """
ms/clip: medians on decoded clips, one at a time, measured in turn: the float row is MMAction2's own inference, all
others run in the bundle, fixed precisions and random actions without the policy network.
"""
SEEDS = "All {runs} policy seeds together: each tested every clip."


def make_page(
    summary: Mapping[str, Any],
    traces: Sequence[Sequence[Mapping[str, Any]]] = (),
    names: Sequence[str] = (),
    *,
    kinds: Sequence[Sequence[str]] | None = None,
) -> str:
    """The report as one HTML page that needs no other file, of at most 3 MB.

    Args:
        traces: of the policy, one for each seed; the clips shown are the first one's.
        names: of its actions.
        kinds: of the first trace's frames, clip by clip, where known.
    """
    classes = summary.get("classes") or []
    everything = [clip for trace in traces for clip in trace]
    clips = ClipStrips(
        traces[0] if traces else [], classes=classes, names=names, frames_of=_frames_of(traces), kinds=kinds
    )
    before = [
        _rows_section(summary),
        _policy_section(summary),
        section("The bundle", items(bundle_lines(summary)), note(TIMES)) if bundle_lines(summary) else "",
        confusion_section(
            everything, classes, note(SEEDS.format(runs=len(traces))) if len(traces) > 1 else ""
        ),
    ]
    stages = summary["stages"]
    folders = [(stage["name"], Path(stage["checkpoint"]).parent) for stage in stages if stage["checkpoint"]]
    source = ", ".join(f"{key} {value}" for key, value in summary.get("source", {}).items())
    after = [
        section("Training", *curves_parts(folders)),
        section("Stages", html_table(_stage_columns(stages), wrapped=("config", "checkpoint"), marked="")),
        section("Environment", environment_table(), note(source) if source else ""),
        section("To run it again", f"<pre>{html.escape(summary['command'])}</pre>"),
    ]

    def render(thumbnails: Thumbnails | None) -> str:
        sections = [*before, clips.section(thumbnails), *after]
        return page(f"mmvideoiq: {summary['recipe']}", _subtitle(summary), sections)

    return fit(render)


def _frames_of(traces: Sequence[Sequence[Mapping[str, Any]]]) -> Callable[[int], Any]:
    def frames_of(place: int) -> Any:
        clip = traces[0][place]
        return read_frames(clip, range(len(clip["actions"])))

    return frames_of


def _rows_section(summary: Mapping[str, Any]) -> str:
    if not summary["rows"]:
        return ""
    return section(
        "Accuracy and cost",
        html_table(table_columns(summary["rows"])),
        drawing(draw_tradeoff(summary["rows"]), "accuracy against cost", name="tradeoff"),
        note(NOTE),
    )


def _policy_section(summary: Mapping[str, Any]) -> str:
    lines = _policy_lines(summary)
    parts = [items(lines)] if lines else []
    for columns, said in (
        (usage_columns(summary.get("policy_quality")), QUALITY_NOTE),
        (gain_columns(_own_row(summary), summary["rows"]), GAINS),
    ):
        if columns:
            parts += [html_table(columns), note(said)]
    return section("The policy", *parts)


def _counts(summary: Mapping[str, Any]) -> str:
    source = summary.get("source", {})
    seeds = f"{summary['seeds']} policy seed" + "s" * (summary["seeds"] != 1)
    return f"{source.get('test_clips', '?')} test clips of {source.get('frames', '?')} frames, {seeds}"


def _subtitle(summary: Mapping[str, Any]) -> str:
    return _counts(summary) + (
        ". A smoke run (--fast): its figures mean nothing." if summary.get("fast") else ""
    )


def _stage_columns(stages: Sequence[Mapping[str, Any]]) -> list[list[str]]:
    return [
        ["stage", *(stage["name"] for stage in stages)],
        ["time", *(clock(stage["seconds"]) for stage in stages)],
        ["top-1 %", *("" if stage["top1"] is None else f"{100 * stage['top1']:.1f}" for stage in stages)],
        ["config", *(stage["config"] for stage in stages)],
        ["checkpoint", *(stage["checkpoint"] or "" for stage in stages)],
    ]
