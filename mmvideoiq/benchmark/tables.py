"""Measurements as tables for the terminal and as a drawing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.box import SIMPLE
from rich.console import Console
from rich.table import Table

from mmvideoiq.benchmark.training import RATIOS
from mmvideoiq.fileio import atomic_write


def show_training(result: Mapping[str, Any], console: Console) -> None:
    """The ratios of ``measure_training``."""
    table = Table(
        title="{backbone}, {clips} x {frames} frames (evaluation: {eval_frames}) at {input_size}, {threads} threads: "
        "time over the float network's".format(**result)
    )
    for column in ("", "ratio", "quartiles", "range", "processor", "seconds", "float"):
        table.add_column(column, justify="right" if column else "left")
    for name, base in RATIOS.items():
        ratio = result["spread"][f"{name}_ratio"]
        spread = ["{:.2f} to {:.2f}".format(*ratio[key]) for key in ("quartiles", "range")]
        processor = f"{result['processor_time'][f'{name}_ratio']:.2f}"
        seconds = [f"{result['seconds'][key]:.3f}" for key in (name, base)]
        table.add_row(name.replace("_", " "), f"{ratio['median']:.2f}", *spread, processor, *seconds)
    console.print(table)
    console.print("ratio: by the clock; processor: the same of processor time")
    sizes, pixels = ", ".join(map(str, result["sizes"])), result["ideal_sizes_ratio"]
    console.print(f"sizes step: 8 bits at {sizes}, {pixels:.2f} times the pixels of one size, over one size")
    console.print(f"dynamic eval: {result['usage']['how']}")


def show_inference(result: Mapping[str, Any], console: Console) -> None:
    """The rows of ``measure_inference`` and ``measure_trained``, then how many times faster mmvideoiq is."""
    title = None
    if "settings" in result:
        title = "ResNet-{depth}, {frames} frames at {size}, {threads} threads pinned".format(
            **result["settings"]
        )
        title += f", {result['cpu']['name']} ({', '.join(result['cpu']['flags'])})"
    trained = any(row["top1"] is not None for row in result["rows"])
    table = Table(title=title, box=SIMPLE)
    for column in (
        "",
        "model ms",
        "quartiles",
        "+ decoding",
        "peak MB",
        "file MB",
        *["top-1 %", "cost"] * trained,
    ):
        table.add_column(column, justify="right" if column else "left", no_wrap=True)
    for row in result["rows"]:
        quartiles = "{:.1f}-{:.1f}".format(*row["ms_per_clip_model_quartiles"])
        times = [f"{row['ms_per_clip_model']:.1f}", quartiles, f"{row['ms_per_clip_total']:.1f}"]
        sizes = [f"{row['peak_rss_mb']:.0f}", f"{row['file_mb']:.1f}"]
        right = "" if row["top1"] is None else f"{100 * row['top1']:.1f}"
        cost = f"{row['cost']:.3f}" if "cost" in row else ""
        table.add_row(row["name"], *times, *sizes, *[right, cost] * trained)
    console.print(table)
    for task, times in result.get("times_faster", {}).items():
        if any(times.values()):
            console.print(faster(times, dict(model="frames to label", total="file to label")[task]))
    if any("promised_ms" in row for row in result["rows"]):
        console.print(predictions(result["rows"]))
        console.print(
            "predicted: usage x the engine's own times per frame; overhead: what policy, grouping, dispatch and "
            "averaging add to it;\nshare: of the gain predicted, the policy's time included; push: what it adds to "
            "the engine's times of single frames"
        )


def show_decoding(result: Mapping[str, Any], console: Console) -> None:
    """The rows of ``measure_decoding``, a table per video."""
    for video in dict.fromkeys(row["video"] for row in result["rows"]):
        table = Table(title=f"{video}: {result['settings']['frames']} frames, time over decord's", box=SIMPLE)
        for column in ("", "threads", "ms", "ratio", "quartiles", "processor"):
            table.add_column(column, justify="right" if column else "left")
        for row in result["rows"]:
            if row["video"] == video:
                quartiles = "{:.2f} to {:.2f}".format(*row["quartiles"])
                numbers = [
                    f"{row['ms']:.1f}",
                    f"{row['ratio']:.2f}",
                    quartiles,
                    f"{row['processor_ratio']:.2f}",
                ]
                table.add_row(row["sampling"], str(row["threads"]), *numbers)
        console.print(table)


def show_bulk(result: Mapping[str, Any], console: Console) -> None:
    """The rows of ``measure_bulk``."""
    table = Table("", title="{clips} clips".format(**result["settings"]), box=SIMPLE)
    for column in ("seconds", "over infer's", "start s", "clips/s", "over infer's"):
        table.add_column(column, justify="right")
    for row in result["rows"]:
        total, rate = f"{row['seconds']:.1f}", f"{row['clips_per_s']:.0f}"
        table.add_row(
            row["name"],
            total,
            f"{row['ratio']:.2f}",
            f"{row['start_s']:.1f}",
            rate,
            f"{row['rate_ratio']:.2f}",
        )
    console.print(table)
    console.print("start: seconds of a run that its clips, at the rate beside it, do not account for")


def show_latency(result: Mapping[str, Any], console: Console) -> None:
    """The table of ``measure_table``."""
    table = Table("action", title="{engine} on {cpu}, threads {threads}".format(**result), box=SIMPLE)
    table.add_column("ms per frame", justify="right")
    table.add_column("cost", justify="right")
    most = max(result["actions"].values())
    for name, ms in result["actions"].items():
        table.add_row(name, f"{ms:.2f}", f"{ms / most:.3f}")
    table.add_row("policy", f"{result['policy']:.2f}", f"{result['policy'] / most:.3f}")
    console.print(table)


def faster(times: Mapping[str, Mapping[str, Any]], what: str) -> Table:
    """How many times faster mmvideoiq is: medians and quartiles of the rounds."""
    bases = list(next(iter(times.values())))
    table = Table(f"times faster, {what}, than", *bases, box=SIMPLE)
    for name, ratios in times.items():
        cells = ["{:.2f} ({:.2f}-{:.2f})".format(r["median"], *r["quartiles"]) for r in ratios.values()]
        table.add_row(name, *cells)
    return table


def predictions(rows: Sequence[Mapping[str, Any]]) -> Table:
    """Milliseconds per frame of each network, and predicted beside measured latency."""
    table = Table(
        "", "ms per frame", "predicted ms", "with policy", "overhead %", "share %", "push %", box=SIMPLE
    )
    for row in rows:
        if "promised_ms" in row:
            frame = ", ".join(f"{name}: {ms:.1f}" for name, ms in row["ms_per_frame"].items())
            times = [f"{row[key]:.1f}" for key in ("promised_ms", "promised_ms_with_policy")]
            shares = [f"{100 * row[key]:.1f}" for key in ("overhead", "share_of_promise", "push_overhead")]
            table.add_row(row["name"], frame, *times, *shares)
    return table


def plot_accuracy(rows: Sequence[Mapping[str, Any]], path: Path) -> None:
    """Top-1 against measured milliseconds per clip, a line per model; written by an atomic rename."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 4.5), layout="constrained")
    axes = figure.subplots()
    models: dict[str, list[Mapping[str, Any]]] = {}
    for row in rows:
        if row["top1"] is not None:
            models.setdefault(row["name"].split("@")[0], []).append(row)
    for name, points in models.items():
        points = sorted(points, key=lambda row: row["ms_per_clip_model"])
        axes.plot(
            [row["ms_per_clip_model"] for row in points],
            [100 * row["top1"] for row in points],
            "o-",
            label=name,
        )
        for row in points:
            text = "as trained" if row["budget"] is None else f"{row['budget']:.2g}"
            place = (row["ms_per_clip_model"], 100 * row["top1"])
            axes.annotate(text, place, xytext=(4, -10), textcoords="offset points", fontsize=8)
    axes.set_xlabel("milliseconds per clip, without decoding")
    axes.set_ylabel("top-1 %")
    axes.grid(alpha=0.3)
    axes.legend()
    with atomic_write(path) as part:
        figure.savefig(part)
