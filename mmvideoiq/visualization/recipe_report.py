"""The result of a recipe: a table, ``summary.json``, ``timeline.png`` and the page ``report.html``."""

from __future__ import annotations

import base64
import html
import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure
from rich.console import Console

from mmvideoiq.data.frame_kinds import kinds_of_trace
from mmvideoiq.evaluation.policy_quality import mean_quality
from mmvideoiq.fileio import finite
from mmvideoiq.visualization.figures import draw_timeline, draw_tradeoff
from mmvideoiq.visualization.tables import clock, html_table, png, table_columns, terminal_table, write_files


def write_all(summary: dict[str, Any], work_dir: Path, *, console: Console | None = None) -> None:
    """Print the table and write ``summary.json``, ``timeline.png`` and ``report.html`` into ``work_dir``.

    Args:
        summary: of ``recipes.runner.run_recipe``. ``traces`` and ``kinds`` in it name files; with
            ``kinds``, a synthetic set's folder, ``policy_quality`` is added (mean over the policy seeds).
    """
    console = console or Console()
    traces = [json.loads(Path(path).read_text()) for path in summary.get("traces", [])]
    names = next((list(row["usage"]) for row in summary["rows"] if row["name"] == "videoiq"), [])
    kinds = None
    if summary.get("kinds") and traces:
        kinds = kinds_of_trace(traces[0], summary["kinds"])
        summary = summary | {"policy_quality": mean_quality(traces, summary["kinds"], names)}
    timeline = draw_timeline(traces[0], names, kinds=kinds) if traces else None
    files: dict[str, bytes | str] = {"summary.json": json.dumps(finite(_relative(summary)), indent=1)}
    if timeline is not None:
        files["timeline.png"] = png(timeline)
    files["report.html"] = make_page(summary, timeline)
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
    for line in (*quality_lines(summary), *bundle_lines(summary), *stages):
        console.print(line, highlight=False, soft_wrap=True)


def quality_lines(summary: Mapping[str, Any]) -> list[str]:
    """The policy's quality in sentences; empty where the right policy is not known."""
    quality = summary.get("policy_quality")
    if not quality:
        return []
    return [
        f"blank frames skipped: {100 * quality['blank_skipped']:.1f} %",
        f"evidence frames processed: {100 * quality['evidence_processed']:.1f} % (one is enough for a clip)",
        f"of these at their cheapest sufficient precision: {100 * quality['evidence_cheapest']:.1f} %",
    ]


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


def _image(figure: Figure, alt: str) -> str:
    data = base64.b64encode(png(figure)).decode()
    return f'<img alt="{html.escape(alt)}" src="data:image/png;base64,{data}">'


STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; color: #1d2733; background: white }
body { max-width: 62rem; margin: 2rem auto; padding: 0 1rem }
h1 { margin-bottom: 0 } h2 { margin-top: 2.2rem } p.sub, small { color: #5c6875 }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; display: block; overflow-x: auto }
th, td { padding: .35rem .8rem; text-align: right; border-bottom: 1px solid #e4e8ed; white-space: nowrap }
th:first-child, td:first-child { text-align: left } tr.own { background: #fff3ea; font-weight: 600 }
img { max-width: 100%; height: auto } pre { background: #f4f6f8; padding: .8rem; overflow-x: auto }
"""


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


def make_page(summary: Mapping[str, Any], timeline: Figure | None) -> str:
    """The report as one HTML page that needs no other file."""
    title = html.escape(f"mmvideoiq: {summary['recipe']}")
    parts = [f"<h1>{title}</h1>", f'<p class="sub">{html.escape(_subtitle(summary))}</p>']
    if summary["rows"]:
        parts += [
            "<h2>Accuracy and cost</h2>",
            html_table(table_columns(summary["rows"])),
            f"<p><small>{NOTE}</small></p>",
            _image(draw_tradeoff(summary["rows"]), "accuracy against cost"),
        ]
    if quality_lines(summary):
        parts.append(
            f"<h2>Against the right policy</h2>{_items(quality_lines(summary))}{_quality_table(summary)}"
        )
    if bundle_lines(summary):
        parts.append(f"<h2>The bundle</h2>{_items(bundle_lines(summary))}<p><small>{TIMES}</small></p>")
    if timeline is not None:
        parts += ["<h2>Frames and their precision</h2>", _image(timeline, "frames with the precision chosen")]
    parts += ["<h2>Stages</h2>", html_table(_stage_columns(summary["stages"]))]
    parts += ["<h2>To run it again</h2>", f"<pre>{html.escape(summary['command'])}</pre>"]
    source = ", ".join(f"{key} {value}" for key, value in summary.get("source", {}).items())
    parts.append(f"<p><small>{html.escape(source)}</small></p>")
    head = f'<meta charset="utf-8"><meta name="viewport" content="width=device-width"><title>{title}</title>'
    body = "\n".join(parts)
    head += f"<style>{STYLE}</style>"
    return f'<!doctype html>\n<html lang="en"><head>{head}</head><body>\n{body}\n</body></html>\n'


def _items(lines: Sequence[str]) -> str:
    return f"<ul>{''.join(f'<li>{html.escape(line)}</li>' for line in lines)}</ul>"


def _counts(summary: Mapping[str, Any]) -> str:
    source = summary.get("source", {})
    seeds = f"{summary['seeds']} policy seed" + "s" * (summary["seeds"] != 1)
    return f"{source.get('test_clips', '?')} test clips of {source.get('frames', '?')} frames, {seeds}"


def _subtitle(summary: Mapping[str, Any]) -> str:
    return _counts(summary) + (
        ". A smoke run (--fast): its figures mean nothing." if summary.get("fast") else ""
    )


def _quality_table(summary: Mapping[str, Any]) -> str:
    usage = summary["policy_quality"]["usage"]
    names = list(next(iter(usage.values())))
    columns = [["frames", *usage]]
    columns += [[f"{name} %", *(f"{100 * shares[name]:.1f}" for shares in usage.values())] for name in names]
    return html_table(columns)


def _stage_columns(stages: Sequence[Mapping[str, Any]]) -> list[list[str]]:
    return [
        ["stage", *(stage["name"] for stage in stages)],
        ["time", *(clock(stage["seconds"]) for stage in stages)],
        ["top-1 %", *("" if stage["top1"] is None else f"{100 * stage['top1']:.1f}" for stage in stages)],
        ["config", *(stage["config"] for stage in stages)],
        ["checkpoint", *(stage["checkpoint"] for stage in stages)],
    ]
