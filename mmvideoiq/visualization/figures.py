"""The report's drawings: the precision chosen for each frame, and accuracy against cost."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure
from matplotlib.patches import FancyBboxPatch, Patch, Rectangle
from matplotlib.transforms import Bbox

from mmvideoiq.data.frame_kinds import KINDS, WITHOUT_EVIDENCE
from mmvideoiq.video.av_reader import AvReader
from mmvideoiq.visualization.action_style import action_colours, action_label

INK, FAINT, GRID = "#1d2733", "#7b8794", "#e4e8ed"
MAX_CLIPS, MAX_FRAMES = 6, 16


def _choose_clips(trace: Sequence[Mapping[str, Any]], kinds: Sequence[Sequence[str]] | None) -> list[int]:
    """Up to MAX_CLIPS clips: as many of each kind of clip as of the others, else evenly over the list."""
    if kinds is None:
        return sorted({round(place) for place in np.linspace(0, len(trace) - 1, min(MAX_CLIPS, len(trace)))})
    groups: dict[str, list[int]] = {}
    for index, row in enumerate(kinds):
        evidence = (kind for kind in row if kind not in WITHOUT_EVIDENCE)
        groups.setdefault(next(evidence, row[0]), []).append(index)
    share = max(1, MAX_CLIPS // len(groups))
    order = sorted(groups, key=lambda kind: (kind in WITHOUT_EVIDENCE, KINDS.index(kind)))
    return [index for kind in order for index in groups[kind][:share]]


def read_frames(clip: Mapping[str, Any], places: Sequence[int]) -> np.ndarray | None:
    """Frames of a clip of a trace, (T, H, W, 3); None where the file is missing or damaged."""
    try:
        return np.stack(AvReader(clip["filename"]).read([clip["frame_inds"][i] for i in places]))
    except (IndexError, KeyError, TypeError, ValueError):  # also where a trace names no file
        return None


def draw_timeline(
    trace: Sequence[Mapping[str, Any]], names: Sequence[str], *, kinds: Sequence[Sequence[str]] | None = None
) -> Figure:
    """Frames of some clips in the order of time, under each the action chosen for it.

    Args:
        trace: of ``ComputeCostMetric``.
        names: of the actions, in the order of their indices.
        kinds: the kind of each frame where known, clip by clip.
    """
    rows = []
    for index in _choose_clips(trace, kinds):
        count = len(trace[index]["actions"])
        places = sorted({round(place) for place in np.linspace(0, count - 1, min(MAX_FRAMES, count))})
        frames = read_frames(trace[index], places)
        if frames is not None:
            rows.append((trace[index], places, frames, kinds[index] if kinds else None))
    colours = action_colours(names)
    width = max((len(row[1]) for row in rows), default=1)
    ratio = max((row[2].shape[1] / row[2].shape[2] for row in rows), default=1.0)
    cell_w, cell_h, side, top = 1.25, 1.1 * ratio + 0.45 + 0.12 * bool(kinds), 1.9, 0.95
    size = (side + cell_w * width + 0.3, top + cell_h * max(len(rows), 1) + 0.2)
    figure = Figure(figsize=size, dpi=130, facecolor="white")
    axes = figure.add_axes((0, 0, 1, 1), xlim=(0, size[0]), ylim=(size[1], 0))
    axes.axis("off")
    axes.text(
        0.3, 0.36, "Precision chosen for each frame", fontsize=14, weight="bold", color=INK, va="center"
    )
    axes.text(size[0] - 0.35, 0.72, "time  \u2192", fontsize=9, color=FAINT, va="center", ha="right")
    handles = [Patch(color=colours[name], label=action_label(name)) for name in names]
    axes.legend(
        handles=handles, loc="center left", bbox_to_anchor=(0.22 / size[0], 1 - 0.72 / size[1]),
        ncols=len(names), frameon=False, fontsize=9, labelcolor=INK,
        handlelength=1.0, handleheight=1.0, columnspacing=1.4,
    )  # fmt: skip
    for number, (clip, places, frames, row_kinds) in enumerate(rows):
        y = top + number * cell_h
        _draw_title(axes, clip, 0.3, y + 0.55 * ratio)
        for column, place in enumerate(places):
            name = names[clip["actions"][place]]
            kind = row_kinds[place] if row_kinds else None
            _draw_frame(axes, frames[column], side + column * cell_w, y, ratio, name, colours[name], kind)
    return figure


def _draw_title(axes: Any, clip: Mapping[str, Any], x: float, y: float) -> None:
    right = clip["pred_label"] == clip["gt_label"]
    axes.text(x, y - 0.16, f"class {clip['gt_label']}", fontsize=10, weight="bold", color=INK, va="center")
    sign = "\u2713" if right else "\u2717"
    score = clip.get("pred_score")
    text = f"{sign} predicted {clip['pred_label']}" + (f" ({100 * score:.0f} %)" if score is not None else "")
    axes.text(x, y + 0.1, text, fontsize=8, color="#1a7f4b" if right else "#b3261e", va="center")


def _draw_frame(
    axes: Any, frame: np.ndarray, x: float, y: float, ratio: float, name: str, colour: str, kind: str | None
) -> None:
    skipped = name.startswith("skip")
    width, height = 1.1, 1.1 * ratio
    shown = frame / 255.0
    if skipped:
        shown = 0.35 * shown + 0.65
    axes.imshow(shown, extent=(x, x + width, y + height, y), interpolation="nearest", aspect="auto", zorder=1)
    border = (
        {"linewidth": 2.2, "linestyle": "-"} if not skipped else {"linewidth": 1.0, "linestyle": (0, (3, 2))}
    )
    axes.add_patch(Rectangle((x, y), width, height, fill=False, edgecolor=colour, zorder=2, **border))
    pill = FancyBboxPatch(
        (x + 0.02, y + height + 0.07), width - 0.04, 0.17, boxstyle="round,pad=0,rounding_size=0.08",
        facecolor="white" if skipped else colour, edgecolor=colour, linewidth=1, zorder=2,
    )  # fmt: skip
    axes.add_patch(pill)
    text = "skip" if skipped else action_label(name).partition(" (")[0]
    middle = x + width / 2
    axes.text(
        middle, y + height + 0.16, text, fontsize=7.5, weight="bold", color=FAINT if skipped else "white",
        ha="center", va="center", zorder=3,
    )  # fmt: skip
    if kind:
        axes.text(middle, y + height + 0.34, kind, fontsize=7, color=FAINT, ha="center", va="center")


def draw_grid(axes: Any) -> None:
    axes.grid(color=GRID, linewidth=0.8)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)


# Where a label may stand beside its point, in points, the first free place being taken; left of it, as many again.
LABEL_PLACES = ((10, 5), (10, -13), (10, 17), (10, -25), (10, 29), (10, -37))


def draw_tradeoff(rows: Sequence[Mapping[str, Any]]) -> Figure:
    """Accuracy against mean cost, a point per row, bars for the spread."""
    figure = Figure(figsize=(6.4, 4.0), dpi=130, facecolor="white")
    axes = figure.add_subplot()
    for row in rows:
        own = row["name"] == "videoiq"
        axes.errorbar(
            row["cost"], 100 * row["top1"], yerr=100 * row.get("top1_std", 0), xerr=row.get("cost_std", 0),
            fmt="*" if own else "o", markersize=15 if own else 7, color=_tradeoff_colour(row), capsize=3,
            zorder=3 if own else 2,
        )  # fmt: skip
    axes.set(
        xlabel="mean cost per frame (32 bits = 1, skipped = 0)",
        ylabel="top-1 accuracy in %",
        xlim=(-0.04, 1.06),
    )
    draw_grid(axes)
    figure.tight_layout()
    taken: list[Bbox] = []  # labels are placed once the axes stay where they are
    for row in rows:
        _label(axes, row, taken)
    return figure


def _tradeoff_colour(row: Mapping[str, Any]) -> str:
    return {"videoiq": "#c2410c", "random": FAINT}.get(row["name"], "#1f6fb2")


def _label(axes: Any, row: Mapping[str, Any], taken: list[Bbox]) -> None:
    """Write a row's name beside its point, off the labels that were ``taken``."""
    label = axes.annotate(
        row["name"], (row["cost"], 100 * row["top1"]), xytext=(0, 0), textcoords="offset points", fontsize=9,
        color=_tradeoff_colour(row), weight="bold" if row["name"] == "videoiq" else "normal",
    )  # fmt: skip
    sides = ("right", "left") if row["cost"] > 0.8 else ("left", "right")
    places = [(side, x if side == "left" else 2 - x, y) for side in sides for x, y in LABEL_PLACES]
    for side, x, y in [*places, places[0]]:  # where all are taken, the first
        label.set_ha(side)
        label.xyann = (x, y)
        box = label.get_window_extent()
        if not any(box.overlaps(other) for other in taken):
            break
    taken.append(box)


MARKERS = "osD^vP<>Xph"
CURVES = LinearSegmentedColormap.from_list("curves", ["#43206f", "#1f6fb2", "#2fb58a", "#8a9a2b", "#7b8794"])


def draw_comparison(rows: Sequence[Mapping[str, Any]], figure_of: str, label: str, accuracy: str) -> Figure:
    """Accuracy against another figure; rows of one ``curve`` are joined by a line, those of videoiq are stars.

    An upper limit (``role`` 'limit') is an open marker on a dashed line.

    Args:
        rows: with ``name``, ``curve``, ``top1`` and, where the row has one, its figure and the ``_std`` of both.
        figure_of: the key on the horizontal axis; ``label`` names it.
        accuracy: name of the vertical axis.
    """
    curves: dict[str, list[Mapping[str, Any]]] = {}
    for row in rows:
        curves.setdefault(row.get("curve", row["name"]), []).append(row)
    others = [name for name in curves if not name.startswith("videoiq")]
    shades = dict(zip(others, CURVES(np.linspace(0, 1, max(len(others), 1))), strict=False))
    figure = Figure(figsize=(8.0, 4.4), dpi=130, facecolor="white", layout="constrained")
    axes = figure.add_subplot()
    for name, points in curves.items():
        points = sorted(points, key=lambda row: row[figure_of])
        own, limit = name not in shades, points[0].get("role") == "limit"
        axes.errorbar(
            [row[figure_of] for row in points],
            [100 * row["top1"] for row in points],
            xerr=[row.get(f"{figure_of}_std", 0) for row in points],
            yerr=[100 * row.get("top1_std", 0) for row in points],
            fmt="*" if own else MARKERS[others.index(name) % len(MARKERS)],
            linestyle="-" if len(points) > 1 else "none",
            color="#c2410c" if own else shades[name], alpha=0.9,
            markersize=15 if own and len(points) == 1 else 7, capsize=3, linewidth=1.2, zorder=4 if own else 3,
            label=f"{name} (upper limit)" if limit else name, markerfacecolor="none" if limit else None,
        )  # fmt: skip
        if limit:
            axes.axhline(100 * points[0]["top1"], color=shades[name], linestyle="--", linewidth=0.8, zorder=1)
        for row in points if len(points) > 1 else ():
            text = row["name"].rpartition("@")[2] if "@" in row["name"] else ""  # the policy as trained
            place = (row[figure_of], 100 * row["top1"])
            axes.annotate(text, place, xytext=(4, -11), textcoords="offset points", fontsize=7, color=FAINT)
    axes.set(xlabel=label, ylabel=accuracy)
    axes.set_xlim(left=min(0, axes.get_xlim()[0]))
    draw_grid(axes)
    axes.legend(loc="center left", bbox_to_anchor=(1.01, 0.5), frameon=False, fontsize=9, labelcolor=INK)
    return figure
