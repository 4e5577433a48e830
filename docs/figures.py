"""The pictures of the documentation, computed by the package itself. ``mkdocs`` draws them when it builds the pages.

python docs/figures.py FOLDER
"""

from __future__ import annotations

import io
import json
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import matplotlib
import numpy as np
import torch
from matplotlib.figure import Figure
from matplotlib.patches import FancyBboxPatch
from matplotlib.ticker import LogLocator, NullFormatter

from mmvideoiq import zoo
from mmvideoiq.actions import ActionSpace
from mmvideoiq.data.synthetic import SUFFICIENT_BITS, load_kinds, make_synthetic
from mmvideoiq.deploy import budget
from mmvideoiq.deploy.session import VideoSession
from mmvideoiq.quant import functional
from mmvideoiq.visualization.figures import FAINT, INK, action_colours, draw_timeline

STYLE = {
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": FAINT,
    "axes.titlesize": 10,
    "svg.fonttype": "none",
    "svg.hashsalt": "mmvideoiq",
}
NAMES = ("32", "8", "4", "2", "skip")
COLOURS = action_colours(NAMES)
SEED = 1000  # of the clips: none that the shipped model was trained on
BUNDLE = "demo_videoiq_bundle"
COMPARISONS = Path(__file__).resolve().parents[1] / "benchmarks" / "comparisons"


def draw_method() -> Figure:
    """The path of a frame through the network."""
    figure = Figure(figsize=(8.6, 2.9), facecolor="white")
    axes = figure.add_axes((0, 0, 1, 1), xlim=(0, 8.6), ylim=(0, 2.9))
    axes.axis("off")

    def box(x: float, y: float, width: float, text: str, colour: str = "#eef1f5", ink: str = INK) -> None:
        height = 0.24 + 0.18 * (1 + text.count("\n"))
        axes.add_patch(
            FancyBboxPatch(
                (x, y - height / 2), width, height, boxstyle="round,pad=0,rounding_size=0.08",
                facecolor=colour, edgecolor=FAINT,
            )
        )  # fmt: skip
        axes.text(x + width / 2, y, text, ha="center", va="center", color=ink, fontsize=8.5)

    def arrow(start: tuple[float, float], end: tuple[float, float]) -> None:
        axes.annotate("", end, start, arrowprops=dict(arrowstyle="->", color=FAINT, lw=1.2))

    box(0.15, 1.45, 0.8, "frame t")
    box(1.35, 1.45, 1.75, "policy: small network\nat 84x84, LSTM over t")
    box(3.5, 1.45, 0.8, "action")
    arrow((0.95, 1.45), (1.35, 1.45))
    arrow((3.1, 1.45), (3.5, 1.45))
    names = ("32", "4", "2", "skip")
    for place, name in enumerate(names):
        y = 2.38 - 0.62 * place
        skipped = name == "skip"
        text = "skipped: never runs" if skipped else f"backbone read at {name} bits"
        box(4.85, y, 1.9, text, "white" if skipped else COLOURS[name], FAINT if skipped else "white")
        arrow((4.3, 1.45), (4.85, y))
        if not skipped:
            arrow((6.75, y), (7.15, 1.45))
    box(7.15, 1.45, 1.3, "mean of the\nprocessed frames,\nclassifier")
    axes.text(5.8, 2.74, "one set of weights", ha="center", va="center", color=FAINT, fontsize=8)
    return figure


def draw_grids() -> Figure:
    """What a weight becomes at 8, 4 and 2 bits on both grids; dashed: before rounding."""
    generator = torch.Generator().manual_seed(SEED)
    weight = torch.randn(1, 4096, generator=generator).sort().values
    scale = weight.abs().amax()
    figure = Figure(figsize=(8.6, 4.6), facecolor="white", layout="constrained")
    axes = figure.subplots(2, 3, sharex=True)
    for row, grid in enumerate(("dorefa", "nested")):
        for column, bits in enumerate((8, 4, 2)):
            if grid == "dorefa":
                soft = functional.dorefa_normalize(weight)
                hard = functional.dorefa_weight(weight, bits, 8)
            else:
                soft, hard = weight / scale, functional.nested_weight(weight, scale, bits) / scale
            panel = axes[row, column]
            panel.plot(weight[0], soft[0], color=FAINT, linewidth=1, linestyle="--")
            panel.step(weight[0], hard[0], color=COLOURS[str(bits)], linewidth=1.6, where="mid")
            panel.set_title(f"{grid}, {bits} bits: {len(hard.unique())} values")
            panel.grid(color="#e4e8ed", linewidth=0.7)
        axes[row, 0].set_ylabel("weight used (scaled)")
    for panel in axes[1]:
        panel.set_xlabel("weight stored")
    return figure


def draw_nesting() -> Figure:
    """Stored codes of 8 bits, and what is left of them at 4 and 2."""
    weight = torch.tensor([-0.93, -0.55, -0.21, 0.04, 0.38, 0.81])
    codes = functional.nested_codes(weight, torch.tensor(1.0), 8)
    figure = Figure(figsize=(8.6, 2.4), facecolor="white")
    axes = figure.add_axes((0, 0, 1, 1), xlim=(0, 8.6), ylim=(2.4, 0))
    axes.axis("off")
    for row, bits in enumerate((8, 4, 2)):
        y = 0.75 + 0.62 * row
        axes.text(0.15, y, f"{bits} bits", color=COLOURS[str(bits)], weight="bold", va="center", fontsize=10)
        kept = functional.truncate_codes(codes, 8, bits)
        values = functional.nested_values(kept, 1.0, bits)
        for column, code in enumerate(codes.int().tolist()):
            x = 1.0 + 1.25 * column
            digits = f"{code:08b}"
            assert int(digits[:bits], 2) == int(kept[column]), "cutting digits is the truncation"
            for place, digit in enumerate(digits):
                inside = place < bits
                axes.text(
                    x + 0.1 * place, y, digit if inside else "·", family="monospace", fontsize=9, va="center",
                    color=COLOURS[str(bits)] if inside else "#c5ccd4", weight="bold" if inside else "normal",
                )  # fmt: skip
            axes.text(x, y + 0.24, f"{values[column]:+.4f}", fontsize=8, color=FAINT, va="center")
    for column, value in enumerate(weight.tolist()):
        axes.text(1.0 + 1.25 * column, 0.25, f"weight {value:+.2f}", fontsize=9, color=INK, va="center")
    return figure


def draw_pact() -> Figure:
    """An activation at several precisions, and where gradients go."""
    x = torch.linspace(-0.8, 2.8, 1441)
    clip = torch.tensor([2.0])
    figure = Figure(figsize=(8.6, 3.0), facecolor="white", layout="constrained")
    forward, to_input, to_clip = figure.subplots(1, 3, sharex=True)
    for bits in (8, 4, 2):
        forward.plot(
            x, functional.pact(x, clip, bits), color=COLOURS[str(bits)], label=f"{bits} bits", linewidth=1.4
        )
    forward.axvline(float(clip), color=FAINT, linestyle=":", linewidth=1)
    forward.set(title="forward, clip = 2", xlabel="activation", ylabel="activation used")
    forward.legend(frameon=False, fontsize=8)
    inputs = x.clone().requires_grad_()
    functional.pact(inputs, clip, 4).sum().backward()
    to_input.plot(x, inputs.grad, color=COLOURS["4"], linewidth=1.6)
    to_input.set(title="gradient to the activation", xlabel="activation", ylim=(-0.1, 1.15))
    grads = []
    for value in x[::8]:
        learned = clip.clone().requires_grad_()
        functional.pact(value[None], learned, 4).sum().backward()
        grads.append(float(learned.grad))
    to_clip.plot(x[::8], grads, color=COLOURS["4"], linewidth=1.6)
    to_clip.set(title="gradient to the clip", xlabel="activation", ylim=(-0.1, 1.15))
    for axes in (forward, to_input, to_clip):
        axes.grid(color="#e4e8ed", linewidth=0.7)
    return figure


def draw_costs() -> Figure:
    """What each action costs under the two rules."""
    actions = [dict(bits=32), dict(bits=8), dict(bits=4), dict(bits=2), dict(skip=1)]
    figure = Figure(figsize=(8.6, 2.9), facecolor="white", layout="constrained")
    titles = {"paper": "cost='paper': min(bits, 8)² / 64", "bitops": "cost='bitops': (bits / 32)²"}
    for axes, (rule, title) in zip(figure.subplots(1, 2, sharey=True), titles.items(), strict=True):
        space = ActionSpace(actions, cost=rule)
        bars = axes.bar(space.names, space.costs, color=[COLOURS[name] for name in space.names], width=0.65)
        axes.bar_label(bars, labels=[f"{cost:.4g}" for cost in space.costs], fontsize=8, padding=2)
        axes.set(title=title, ylim=(0, 1.12))
    return figure


def draw_cost_multiplier() -> Figure:
    """The effect of the cost multiplier on the probabilities of one frame."""
    space = ActionSpace([dict(bits=32), dict(bits=4), dict(bits=2), dict(skip=1)])
    log_probs = budget.log_softmax(np.array([1.0, 0.8, 0.2, -0.5]))
    multipliers = np.linspace(-3, 5, 161)
    probs = np.exp([budget.apply_multiplier(log_probs, np.array(space.costs), float(m)) for m in multipliers])
    figure = Figure(figsize=(8.6, 2.9), facecolor="white", layout="constrained")
    axes = figure.subplots()
    axes.stackplot(
        multipliers, probs.T, colors=[COLOURS[name] for name in space.names], labels=space.names, alpha=0.9
    )
    axes.axvline(0, color="white", linewidth=1.5, linestyle="--")
    axes.set(
        xlabel="cost multiplier: spend more  ←  0, as trained  →  save", ylabel="probability",
        xlim=(-3, 5), ylim=(0, 1),
    )  # fmt: skip
    axes.legend(frameon=False, fontsize=8, loc="center left", bbox_to_anchor=(1, 0.5))
    return figure


def draw_right_policy() -> Figure:
    """Frames of generated clips, each with the cheapest precision at which it can be read."""
    space = ActionSpace([dict(bits=32), dict(bits=4), dict(bits=2), dict(skip=1)])
    cheapest = {
        kind: space.index(min(bits for bits in space.precisions if bits >= need))
        for kind, need in SUFFICIENT_BITS.items()
    } | {"blank": space.index("skip")}
    with generated_clips() as clips:
        trace = [
            dict(
                filename=path, frame_inds=list(range(len(kinds))), actions=[cheapest[kind] for kind in kinds],
                pred_label=label, gt_label=label,
            )
            for path, label, kinds in clips
        ]  # fmt: skip
        figure = draw_timeline(trace, space.names, kinds=[kinds for _, _, kinds in clips])
    for text in figure.axes[0].texts:
        if "predicted" in text.get_text():
            text.set(text="by the rule", color=FAINT)
    return figure


def draw_trained_policy() -> Figure:
    """The actions of the included demo bundle on the same clips."""
    with generated_clips() as clips, VideoSession.open(zoo.download(BUNDLE), threads=1) as session:
        results = [session.run_video(path) for path, _, _ in clips]
        trace = [
            dict(
                filename=path, frame_inds=list(range(result.frames)), actions=result.actions.tolist(),
                pred_label=result.label, pred_score=result.score, gt_label=label,
            )
            for result, (path, label, _) in zip(results, clips, strict=True)
        ]  # fmt: skip
        return draw_timeline(trace, session.actions.names, kinds=[kinds for _, _, kinds in clips])


@contextmanager
def generated_clips() -> Iterator[list[tuple[str, int, list[str]]]]:
    """Temporary clips: path, class, kind of each frame."""
    with tempfile.TemporaryDirectory() as folder:
        make_synthetic(folder, train=24, val=1, test=1, seed=SEED)
        kinds = load_kinds(folder)
        lines = [line.rsplit(maxsplit=1) for line in (Path(folder) / "train.txt").read_text().splitlines()]
        yield [(str(Path(folder) / "videos" / path), int(label), kinds[path]) for path, label in lines]


RIVALS = {  # beginning of a row's name -> marker, colour, size, label
    "videoiq": ("*", "#c2410c", 11, "VideoIQ, at five budgets"),
    "videoiq, one size": ("*", "#facc15", 11, "VideoIQ, one size"),
    "videoiq, without skip": ("*", "#a8a29e", 11, "VideoIQ, sizes without skip"),
    "static INT8@": ("s", "#1d4ed8", 6, "static INT8, every frame, by size"),
    "fixed": ("o", "#0891b2", 6, "every frame in one mode"),
    "static INT8, fewer": ("v", "#1d4ed8", 6, "static INT8, fewer frames"),
    "fewer": ("v", "#0891b2", 6, "fewer frames in one mode"),
    "frame difference": ("x", "#64748b", 6, "only frames that change"),
    "random": ("D", "#7c3aed", 5, "random actions of the policy's usage"),
    "oracle": ("P", "#15803d", 7, "oracle, knows the labels"),
}


def beginning_of(row: str) -> str | None:
    """The longest key of :data:`RIVALS` that the name of a row begins with."""
    return max((start for start in RIVALS if row.startswith(start)), key=len, default=None)


def draw_does_it_pay() -> Figure:
    """Accuracy against milliseconds of what was compared: ``benchmarks/comparisons``, files of ``tools/compare.py``."""
    panels = dict(gestures="gestures, both rooms", scenes="scenes", demo="demo")
    figure = Figure(figsize=(9.2, 3.6), facecolor="white", layout="constrained")
    for axes, (name, title) in zip(figure.subplots(1, len(panels)), panels.items(), strict=True):
        rows = json.loads((COMPARISONS / f"{name}.json").read_text(encoding="utf-8"))["rows"]
        timed = [row for row in rows if row.get("ms_of") == "engine"]
        for start, (marker, colour, size, label) in RIVALS.items():
            points = sorted(
                (row["ms_per_clip"], 100 * row["top1"]) for row in timed if start == beginning_of(row["name"])
            )
            axes.plot(
                [ms for ms, _ in points], [top1 for _, top1 in points], marker=marker, color=colour,
                markersize=size, linewidth=0.8, linestyle="-" if start == "videoiq" else "none", label=label,
                zorder=3 if start.startswith("videoiq") else 2,
            )  # fmt: skip
        axes.set(title=title, xscale="log", xlabel="ms per clip, frames to label")
        axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.xaxis.set_major_formatter("{x:g}")
        axes.xaxis.set_minor_formatter(NullFormatter())
    figure.axes[0].set_ylabel("top-1 %")
    handles, labels = figure.axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=4, frameon=False, fontsize=8)
    return figure


FIGURES: dict[str, Callable[[], Figure]] = {
    "method.svg": draw_method,
    "grids.svg": draw_grids,
    "nesting.svg": draw_nesting,
    "pact.svg": draw_pact,
    "costs.svg": draw_costs,
    "cost_multiplier.svg": draw_cost_multiplier,
    "does_it_pay.svg": draw_does_it_pay,
    "trained_policy.png": draw_trained_policy,
    "right_policy.png": draw_right_policy,
}


@contextmanager
def style() -> Iterator[None]:
    with matplotlib.rc_context(STYLE):
        yield


def draw(name: str) -> bytes:
    """The picture's file."""
    buffer = io.BytesIO()
    kind = name.rpartition(".")[2]
    with style():
        figure = FIGURES[name]()
        figure.savefig(buffer, format=kind, metadata={"Date": None} if kind == "svg" else {})
    return buffer.getvalue()


def main() -> None:
    folder = Path(sys.argv[1])
    folder.mkdir(parents=True, exist_ok=True)
    for name in FIGURES:
        (folder / name).write_bytes(draw(name))
        print(folder / name)


if __name__ == "__main__":
    main()
