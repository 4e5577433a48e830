"""The curves of trained stages, from what MMEngine wrote beside their checkpoints."""

from __future__ import annotations

import html
import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from mmvideoiq.actions import action_of, sort_actions
from mmvideoiq.visualization.action_style import action_colours
from mmvideoiq.visualization.drawing import drawing
from mmvideoiq.visualization.figures import FAINT, INK, draw_grid
from mmvideoiq.visualization.page import note

SCALARS = "*/vis_data/scalars.json"  # below a stage's folder, one for each start of it
POINTS = 200  # of a curve
SHADES = ("#1f6fb2", "#c2410c", "#2fb58a", "#8a9a2b", "#43206f", "#7b8794")
LIMIT = 1_200_000  # bytes of all curves
NOTE = (
    "Points of training are means over MMEngine's log interval. TensorBoard shows everything that was logged."
)

Points = list[tuple[float, float]]  # (x, value)


@dataclass
class Curves:
    """What a stage logged.

    Attributes:
        unit: of x: 'epoch' or 'iteration'.
        train, val: by name, the points in the order of time.
    """

    unit: str
    train: dict[str, Points] = field(default_factory=dict)
    val: dict[str, Points] = field(default_factory=dict)


def read_curves(folder: Path) -> Curves | None:
    """The scalars of all starts of a stage; what a resumed one repeats replaces what stood there. None without any."""
    train: dict[int, Mapping[str, Any]] = {}
    val: dict[int, Mapping[str, Any]] = {}
    for path in sorted(folder.glob(SCALARS)):
        for entry in _entries(path):
            (train if "loss" in entry else val)[entry["step"]] = entry
    if not train and not val:
        return None
    epochs = [entry for entry in train.values() if entry.get("epoch") and entry.get("iter")]
    length = max((entry["iter"] / entry["epoch"] for entry in epochs), default=0.0)
    last = max((entry["epoch"] for entry in epochs), default=0)
    by_epoch = bool(length) and max(val, default=0) <= last
    curves = Curves(unit="epoch" if by_epoch else "iteration")
    for steps, found, scale in ((train, curves.train, length if by_epoch else 1.0), (val, curves.val, 1.0)):
        for step in sorted(steps):
            for name, value in steps[step].items():
                if isinstance(value, int | float) and math.isfinite(value):
                    found.setdefault(name, []).append((step / scale, float(value)))
    return curves


def _entries(path: Path) -> list[dict[str, Any]]:
    """The lines of a file that are whole, each with a step."""
    found = []
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
        try:
            entry = json.loads(line)
        except ValueError:  # the last one of a run that was killed
            continue
        if isinstance(entry, dict) and isinstance(entry.get("step"), int):
            found.append(entry)
    return found


def stage_curves(name: str, folder: Path) -> str:
    """A stage's drawings under its name; '' where nothing was logged."""
    curves = read_curves(folder)
    if curves is None:
        return ""
    word = re.sub(r"\W+", "-", name).strip("-")
    parts = [
        drawing(figure, f"{name}: {title} by {curves.unit}", name=f"{word}-{number}")
        for number, (title, figure) in enumerate(draw_curves(curves).items())
    ]
    drawings = "\n".join(parts)
    return f'<div>\n<h3>{html.escape(name)}</h3>\n<div class="curves">\n{drawings}\n</div>\n</div>'


def curves_parts(stages: Sequence[tuple[str, Path]]) -> list[str]:
    """The curves of all stages as parts of a page, as many as :data:`LIMIT` allows.

    Args:
        stages: name and folder of each.
    """
    parts: list[str] = []
    size = left_out = 0
    for name, folder in stages:
        part = stage_curves(name, folder)
        size += len(part)
        if size <= LIMIT:
            parts.append(part)
        elif part:
            left_out += 1
    if not any(parts):
        return []
    more = f"Left out: the curves of {left_out} more stages, which would make the page too large."
    shown = "\n".join(parts)
    return [f'<div class="training">\n{shown}\n</div>', note(more) if left_out else "", note(NOTE)]


def draw_curves(curves: Curves) -> dict[str, Figure]:
    """The drawings of a stage by title: loss, accuracy, and of a policy mean cost and usage."""
    losses = {"loss": curves.train.get("loss", [])}
    parts = {name: points for name, points in curves.train.items() if name.startswith("loss_")}
    accuracies = {
        name.partition("/")[2]: _percent(points)
        for name, points in curves.val.items()
        if name.startswith("acc/") and max(value for _, value in points) <= 1
    }
    costs = {
        "training": curves.train.get("mean_cost", []),
        "validation": curves.val.get("cost/mean_cost", []),
    }
    usage = {
        name.removeprefix("usage_"): _percent(points)
        for name, points in curves.train.items()
        if name.startswith("usage_")
    }
    figures = {}
    if losses["loss"]:
        figures["loss"] = _lines("loss in training", losses | (parts if len(parts) > 1 else {}), curves.unit)
    if accuracies:
        names = f" {next(iter(accuracies))}" if len(accuracies) == 1 else ""
        figures["accuracy"] = _lines(f"validation{names}, %", accuracies, curves.unit)
    if any(costs.values()):
        figures["mean cost"] = _lines("mean cost per frame", costs, curves.unit)
    if usage and len(next(iter(usage.values()))) > 1:
        figures["usage"] = _stack("usage in training, %", usage, curves.unit)
    return figures


def _percent(points: Points) -> Points:
    return [(x, 100 * value) for x, value in points]


def _thin(points: Points) -> Points:
    """At most POINTS of them, evenly; the last is kept."""
    stride = math.ceil(len(points) / POINTS)
    return points[::-1][::stride][::-1] if stride > 1 else points


def _axes(title: str, unit: str) -> tuple[Figure, Any]:
    figure = Figure(figsize=(3.3, 2.5), layout="constrained")
    axes = figure.add_subplot()
    axes.set_title(title, fontsize=9.5, color=INK, loc="left", weight="bold")
    axes.set_xlabel(unit, fontsize=8, color=FAINT)
    axes.tick_params(labelsize=8, colors=FAINT)
    axes.xaxis.get_major_locator().set_params(integer=True, nbins=5)
    axes.yaxis.get_major_locator().set_params(nbins=5)
    return figure, axes


def _legend(axes: Any, count: int) -> None:
    if count > 1:
        axes.figure.legend(
            *axes.get_legend_handles_labels(), loc="outside lower left", ncols=min(count, 3), frameon=False,
            fontsize=7.5, labelcolor=INK, handlelength=1.1, columnspacing=1.0, handletextpad=0.5,
        )  # fmt: skip


def _lines(title: str, lines: Mapping[str, Points], unit: str) -> Figure:
    figure, axes = _axes(title, unit)
    shown = {name: _thin(points) for name, points in lines.items() if points}
    for number, (name, points) in enumerate(shown.items()):
        axes.plot(
            *zip(*points, strict=True), label=name.removeprefix("loss_"), color=SHADES[number % len(SHADES)],
            linewidth=1.0 if number else 1.8, zorder=2 if number else 3, marker="." if len(points) < 12 else None,
        )  # fmt: skip
    axes.set_xlim(left=0)
    draw_grid(axes)
    _legend(axes, len(shown))
    return figure


def _stack(title: str, usage: Mapping[str, Points], unit: str) -> Figure:
    figure, axes = _axes(title, unit)
    names = [action.name for action in sort_actions([action_of(name) for name in usage])]
    colours, points = action_colours(names), {name: _thin(usage[name]) for name in names}
    length = min(map(len, points.values()))
    shares = np.array([[value for _, value in points[name][-length:]] for name in names])
    axes.stackplot(
        [x for x, _ in points[names[0]][-length:]], shares, labels=names,
        colors=[colours[name] for name in names], linewidth=0,
    )  # fmt: skip
    axes.set(xlim=(0, None), ylim=(0, 100))
    axes.spines[["top", "right"]].set_visible(False)
    _legend(axes, len(names))
    return figure
