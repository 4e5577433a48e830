"""The report: files, figures in them, and what the drawings show."""

import io
import json
import math
import re
from itertools import combinations

import numpy as np
import pytest
from matplotlib.colors import to_rgb
from rich.console import Console

from mmvideoiq.data.synthetic import KINDS, load_kinds, make_synthetic
from mmvideoiq.video.av_reader import AvReader
from mmvideoiq.visualization import recipe_report as report
from mmvideoiq.visualization.action_style import action_colours
from mmvideoiq.visualization.figures import MAX_CLIPS, draw_timeline, draw_tradeoff
from mmvideoiq.visualization.page import LIMIT
from mmvideoiq.visualization.tables import action_names
from tests.visualization.html_page import ReportPage, columns_of
from tests.visualization.test_training_curves import write_scalars

NAMES = ("32", "4", "2", "skip")
RIGHT = {"blank": 3, "bold": 2, "medium": 1, "faint": 0}


@pytest.fixture(scope="module")
def clips(tmp_path_factory):
    """A small synthetic set and the trace of the right policy on its test list."""
    root = tmp_path_factory.mktemp("clips") / "data"
    make_synthetic(root, train=1, val=1, test=24)
    kinds = load_kinds(root)
    trace = []
    for line in (root / "test.txt").read_text().splitlines():
        name, label = line.split()
        frames = dict(frame_inds=list(range(6)), actions=[RIGHT[kind] for kind in kinds[name]], probs=None)
        labels = dict(pred_label=int(label), gt_label=int(label), pred_score=0.5)
        trace.append(dict(filename=str(root / "videos" / name)) | frames | labels)
    return root, trace, [kinds["/".join(clip["filename"].split("/")[-2:])] for clip in trace]


def row(name, top1, cost, usage, runs=1, **spread):
    figures = dict(top1=top1, cost=cost, gflops=cost / 100, bitops=cost * 1e9)
    stds = {f"{key}_std": 0.0 for key in figures} | spread
    return dict(name=name, usage=dict(zip(NAMES, usage, strict=True)), runs=runs, **figures, **stds)


def make_summary(**changes):
    summary = dict(
        recipe="toy <demo>",
        fast=False,
        command="python tools/train_stages.py toy.py",
        seeds=2,
        stages=[
            dict(name="float", config="f.py", seconds=61.0, checkpoint="f/epoch_1.pth", top1=0.5, metrics={})
        ],
        rows=[
            row("float", 1.0, 1.0, (1, 0, 0, 0)),
            row("fixed-4", 0.5, 0.25, (0, 1, 0, 0)),
            row("videoiq", 0.987, 0.125, (0, 0.5, 0, 0.5), runs=2, top1_std=0.0123),
        ],
        source=dict(test_clips=24, frames=6),
    )
    return summary | changes


def test_all_files_are_written_and_the_page_needs_no_other(clips, tmp_path):
    root, trace, _ = clips
    path = tmp_path / "trace.json"
    path.write_text(json.dumps(trace))
    usage = {"blank": dict.fromkeys(NAMES, 0.25), "bold": dict(zip(NAMES, (0, 0, 0.5, 0.5), strict=True))}
    figures = dict(
        blank_skipped=0.25, evidence_processed=0.5, evidence_cheapest=math.nan, waste=0.125, regret=0.0
    )
    summary = make_summary(policy_quality=figures | dict(usage=usage, seeds=[figures]))
    summary["rows"][-1] |= dict(
        against={
            "fixed-4": dict(gain=0.487, interval=[0.4, 0.55]),
            "random": dict(gain=0.3, interval=[0.25, 0.35]),
        },
        advice=dict(verdict="better", text="use videoiq: <good>"),
    )
    summary["rows"].insert(2, row("random", 0.687, 0.125, (0, 0.5, 0, 0.5)))
    out = tmp_path / "out"
    console = Console(file=io.StringIO(), width=200)
    report.write_all(summary | dict(traces=[str(path)], kinds=str(root)), out, console=console)
    assert sorted(path.name for path in out.iterdir()) == ["report.html", "summary.json", "timeline.png"]
    written = json.loads((out / "summary.json").read_text())
    assert [entry["name"] for entry in written["rows"]] == ["float", "fixed-4", "random", "videoiq"]
    assert (
        written["policy_quality"]["evidence_cheapest"] is None and written["policy_quality"]["usage"] == usage
    )
    shown = console.file.getvalue()
    assert "advice: use videoiq: <good>" in shown and "waste: right in the mode chosen" in shown
    assert "over random actions of the same usage: +30.0 points (95 % interval +25.0 to +35.0)" in shown
    assert "cheapest sufficient" not in shown  # a share of no frames
    assert "smoke run" not in shown
    report.print_table(summary | dict(fast=True), console)
    assert "\na smoke run (--fast): its figures and its advice mean nothing\n" in console.file.getvalue()

    page = ReportPage((out / "report.html").read_text())
    assert (
        page.title == "mmvideoiq: toy <demo>"
        and "python tools/train_stages.py toy.py" in page.texts["to-run-it-again"]
    )
    assert "use videoiq: <good>" in page.texts["the-policy"] and page.source.count("<svg") == 1
    usage_table, gains_table = map(columns_of, page.tables["the-policy"])
    assert usage_table["2 %"] == ["25.0", "50.0"] and "+40.0 to +55.0" in gains_table["95 % interval"]
    figures = columns_of(page.tables["accuracy-and-cost"][0])
    assert figures["top-1 %"][-1] == "98.7 ± 1.2" and figures["cost"][-1] == "0.125"
    stages = columns_of(page.tables["stages"][0])
    assert (
        stages["time"] == ["1:01"]
        and stages["top-1 %"] == ["50.0"]
        and stages["checkpoint"] == ["f/epoch_1.pth"]
    )
    assert ["CPU class", "torch"] == [
        row[0] for row in page.tables["environment"][0] if row[0] in ("CPU class", "torch")
    ]
    assert 0 < len(page.source.encode()) < LIMIT


def test_the_page_shows_the_clips_and_what_was_confused(clips, tmp_path):
    _, trace, kinds = clips
    seeds = [
        [clip | {"pred_score": 0.5 + place / 100} for place, clip in enumerate(trace)],
        [dict(c) for c in trace],
    ]
    wrong = next(place for place, clip in enumerate(trace) if clip["gt_label"] == 0)
    seeds[0][wrong] |= {"pred_label": 5, "pred_score": 0.99}
    names = [f"class <{k}>" for k in range(8)]
    page = ReportPage(report.make_page(make_summary(classes=names), seeds, NAMES, kinds=kinds))
    said = page.texts["confusion-matrix"]
    assert f"{2 * len(trace) - 1} of {2 * len(trace)} clips" in said and "All 2 policy seeds" in said
    matrix, pairs = page.tables["confusion-matrix"]
    assert [row[0] for row in matrix[1:]] == names and matrix[1][6] == "1"
    assert columns_of(pairs)["taken for"] == ["class <5>"]
    others = [place for place in range(len(trace)) if place != wrong]
    expected = [wrong, *others[:5], *others[:-7:-1]]  # the hardest, the easiest
    shown = page.texts["easiest-and-hardest-clips"]
    assert re.findall(r"(class <\d>) [✓✗]", shown) == [names[trace[place]["gt_label"]] for place in expected]
    assert "✗ class <5> 99 %" in shown and shown.count("✗") == 1 and shown.count("✓") == 11
    assert len(page.images["easiest-and-hardest-clips"]) == 12 * 6
    cells = [kind == "skip" for kind in page.kinds["easiest-and-hardest-clips"] if kind]
    assert cells == [action == 3 for place in expected for action in trace[place]["actions"]]
    words = re.findall("|".join(KINDS), shown)
    assert words == [kind for place in expected for kind in kinds[place]]


def test_curves_are_those_beside_each_checkpoint(tmp_path):
    for name in ("float", "policy/seed0"):
        write_scalars(tmp_path / name, policy="policy" in name)
    stages = [
        dict(
            name=name,
            config="c.py",
            seconds=1.0,
            checkpoint=str(tmp_path / name / "epoch_2.pth"),
            top1=None,
            metrics={},
        )
        for name in ("float", "policy/seed0", "measured")
    ]
    page = ReportPage(report.make_page(make_summary(stages=stages)))
    assert page.source.count('class="curves"') == 2 and page.source.count("<svg") == 1 + 2 + 4
    assert "policy/seed0" in page.texts["training"] and "measured" not in page.texts["training"]


def test_a_large_page_takes_smaller_frames_until_it_fits(monkeypatch):
    noise = np.random.default_rng(0).integers(0, 256, (64, 256, 384, 3), dtype=np.uint8)
    monkeypatch.setattr(report, "read_frames", lambda clip, places: noise[: len(places)])
    trace = [dict(gt_label=0, pred_label=0, pred_score=0.9, actions=[0] * 64, filename="x.mp4")] * 40
    page = ReportPage(report.make_page(make_summary(classes=["x" * 10_000] * 40), [trace], NAMES))
    assert len(page.source.encode()) <= LIMIT
    assert len(page.images["easiest-and-hardest-clips"]) >= 2 * 2 * 8


def test_a_training_without_evaluation_is_reported_too(tmp_path):
    report.write_all(make_summary(rows=[]), tmp_path, console=Console(file=io.StringIO()))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["report.html", "summary.json"]
    assert "epoch_1.pth" in ReportPage((tmp_path / "report.html").read_text()).texts["stages"]


def test_the_table_fits_a_terminal_of_80_columns():
    console = Console(file=io.StringIO(), width=80)
    report.print_table(make_summary(), console)
    text = console.file.getvalue()
    assert "…" not in text
    assert re.search(r"videoiq +98.7 ± 1.2 +0.125 +0.0013 +0.12 +0/50/0/50", text)
    assert re.search(r"float +100.0 +1.000", text)
    assert "ms/clip" not in text


def test_milliseconds_are_explained_where_they_were_measured():
    console = Console(file=io.StringIO(), width=100)
    rows = [row | dict(ms_per_clip=2.5) for row in make_summary()["rows"]]
    report.print_table(make_summary(rows=rows), console)
    assert console.file.getvalue().count("ms/clip") == 2  # the column and what it is


def test_timeline_shows_frames_in_order_with_their_actions(clips):
    _, trace, kinds = clips
    figure = draw_timeline(trace, NAMES, kinds=kinds)
    axes = figure.axes[0]
    shown = [image.get_array() for image in axes.images]
    texts = [text.get_text() for text in axes.texts]
    assert len(shown) == MAX_CLIPS * 6
    assert all(image.get_interpolation() == "nearest" for image in axes.images)
    labels = [text for text in texts if text in ("32 bits", "4 bits", "2 bits", "skip")]
    frame_kinds = [text for text in texts if text in KINDS]
    assert [RIGHT[kind] for kind in frame_kinds] == [
        ("32 bits", "4 bits", "2 bits", "skip").index(label) for label in labels
    ]
    assert {"bold", "medium", "faint", "blank"} == set(frame_kinds)
    # from left to right is the order of time: the first row's frames are the clip's, skipped ones paler
    first = next(i for i, row_kinds in enumerate(kinds) if "bold" in row_kinds)
    frames = np.stack(AvReader(trace[first]["filename"]).read(range(6))) / 255
    places = [image.get_extent()[0] for image in axes.images[:6]]
    assert places == sorted(places)
    for frame, image, action in zip(frames, shown, trace[first]["actions"], strict=False):
        expected = 0.35 * frame + 0.65 if action == 3 else frame
        np.testing.assert_allclose(image, expected, atol=1e-6)


def test_a_wrong_prediction_is_marked(clips):
    _, trace, _ = clips
    wrong = [clip | {"pred_label": 99} for clip in trace]
    texts = [text.get_text() for text in draw_timeline(wrong, NAMES).axes[0].texts]
    assert sum(text.startswith("\u2717 predicted 99 (50 %)") for text in texts) == MAX_CLIPS


def test_unreadable_clips_are_left_out_of_the_timeline(clips, tmp_path):
    _, trace, _ = clips
    (tmp_path / "broken.mkv").write_bytes(b"no video")
    spoiled = [
        trace[0],
        trace[1] | {"filename": str(tmp_path / "broken.mkv")},
        trace[2] | {"filename": "gone.mkv"},
    ]
    assert len(draw_timeline(spoiled, NAMES).axes[0].images) == 6


def test_colours_get_lighter_as_precisions_get_cheaper():
    colours = action_colours(("32", "8", "4", "2", "skip", "skip2"))
    light = [sum(to_rgb(colours[name])) for name in ("32", "8", "4", "2")]
    assert light == sorted(light) and len(set(colours.values())) == 5
    assert colours["skip"] == colours["skip2"]


def test_modes_with_a_size_have_names_and_an_order():
    rows = [dict(usage={"skip": 0.5, "4": 0.1, "8@112": 0.4}), dict(usage={"32fp": 0, "8": 1, "8@64": 0})]
    assert action_names(rows) == ["32fp", "8", "8@112", "8@64", "4", "skip"]
    labels = [
        text.get_text() for text in draw_timeline([], ("8", "8@112", "skip")).axes[0].get_legend().texts
    ]
    assert labels == ["8 bits", "8 bits at 112", "skipped"]
    assert len(set(action_colours(("8", "8@112", "8@64", "skip")).values())) == 4


def test_tradeoff_has_a_point_for_every_row():
    axes = draw_tradeoff(make_summary()["rows"]).axes[0]
    assert {text.get_text() for text in axes.texts} == {"float", "fixed-4", "videoiq"}
    points = {(line.get_xdata()[0], line.get_ydata()[0]) for line in axes.lines if len(line.get_xdata()) == 1}
    assert any(math.isclose(x, 0.125) and math.isclose(y, 98.7) for x, y in points)


def test_labels_of_the_tradeoff_do_not_overlap():
    near = [dict(name=f"fixed-{bits}", cost=0.4 + 0.01 * bits, top1=0.9) for bits in (2, 3, 4)]
    rows = [*near, *[dict(name=name, cost=1.0, top1=0.9001) for name in ("float", "fixed-32")]]
    rows += [dict(name="videoiq", cost=0.41, top1=0.905), dict(name="random", cost=0.41, top1=0.895)]
    boxes = [text.get_window_extent() for text in draw_tradeoff(rows).axes[0].texts]
    assert len(boxes) == len(rows)
    assert not [pair for pair in combinations(boxes, 2) if pair[0].overlaps(pair[1])]
