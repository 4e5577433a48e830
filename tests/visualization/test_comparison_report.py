"""The report of a comparison: its files, its table and its drawing."""

import io
import json

from PIL import Image
from rich.console import Console

from mmvideoiq.visualization.comparison_report import write_comparison
from mmvideoiq.visualization.figures import draw_comparison
from tests.visualization.html_page import ReportPage, columns_of


def row(name, top1, cost, usage, curve=None, **more):
    figures = dict(top1=top1, cost=cost, gflops=cost, bitops=1e9 * cost, top1_std=0.0, cost_std=0.0)
    return dict(name=name, curve=curve or name, usage=usage, runs=1, **figures) | more


ROWS = [
    row("float", 1.0, 1.0, {"32": 1.0}, ms_per_clip=9.0, ms_of="PyTorch"),
    row("exit@0.5", 0.6, 0.3, {"32": 0.3, "skip": 0.7}, curve="exit"),
    row("exit@0.9", 0.9, 0.8, {"32": 0.8, "skip": 0.2}, curve="exit"),
    row("oracle", 1.0, 0.05, {"2": 0.5, "skip": 0.5}, role="limit"),
    row("ensemble", 0.95, 1.3125, {"32": 1 / 3, "4": 1 / 3, "2": 1 / 3}),
    row(
        "videoiq",
        0.97,
        0.1,
        {"32": 0, "4": 0.3, "2": 0.1, "skip": 0.6},
        ms_per_clip=2.5,
        ms_of="engine",
        runs=3,
        top1_std=0.01,
        role="policy",
        quality=dict(usage={"blank": {"32": 0.0, "skip": 1.0}}, blank_skipped=1.0, waste=0.25, regret=0.0),
        against={"float": dict(gain=-0.03, interval=[-0.05, 0.0])},
        advice=dict(verdict="as accurate", text="use videoiq: it is <as accurate>"),
    ),
]


def summary_of(rows):
    return dict(name="toy", rows=rows, metric="acc/top1", source=dict(test_clips=8, frames=2))


def test_what_is_written(tmp_path):
    console = Console(file=io.StringIO(), width=200)
    write_comparison(summary_of(ROWS), tmp_path, console=console)
    names = ["accuracy_cost.png", "accuracy_gflops.png", "accuracy_ms.png"]
    names += ["comparison.html", "comparison.json", "comparison.md"]
    assert sorted(path.name for path in tmp_path.iterdir()) == names
    for name in names[:3]:
        Image.open(tmp_path / name).verify()
    assert json.loads((tmp_path / "comparison.json").read_text())["rows"] == ROWS
    markdown = (tmp_path / "comparison.md").read_text()
    assert "| videoiq | 97.0 ± 1.0 | 0.100 |" in markdown and "| 9.00* |" in markdown
    assert "| exit@0.5 | 60.0 | 0.300 | 0.3 | 0.3 |  | 30/0/0/70 |" in markdown
    table = markdown[: markdown.index("## videoiq")]
    assert len({line.count("|") for line in table.splitlines() if line.startswith("|")}) == 1
    assert "| oracle (upper limit) | 100.0 |" in table and "it knows the labels" in table
    assert "- advice: use videoiq: it is <as accurate>" in markdown and "| blank | 0.0 | 100.0 |" in markdown
    assert "| float | -3.0 | -5.0 to +0.0 | 0.28 |" in markdown
    page = ReportPage((tmp_path / "comparison.html").read_text())
    assert page.source.count("<svg") == 3 and "it is <as accurate>" in page.texts["videoiq"]
    assert columns_of(page.tables["accuracy-and-cost"][0])["cost"] == [f"{row['cost']:.3f}" for row in ROWS]
    shown = console.file.getvalue()
    assert all(entry["name"] in shown for entry in ROWS) and "32/4/2/skip %" in shown
    write_comparison(
        summary_of([{k: v for k, v in r.items() if k[:2] != "ms"} for r in ROWS]), tmp_path, console=console
    )
    assert not (tmp_path / "accuracy_ms.png").exists()
    assert "advice: use videoiq" in shown and "25.0 %" in shown


def test_points_of_a_curve_have_the_figure_that_makes_them():
    rows = [row(f"videoiq@{n}", 0.9, n / 10, {"32": 1.0}, curve="videoiq") for n in (1, 2)]
    rows.append(row("videoiq", 0.9, 0.5, {"32": 1.0}))
    [axes] = draw_comparison(rows, "cost", "cost", "top-1 %").axes
    assert [text.get_text() for text in axes.texts if text.get_text()] == ["1", "2"]


def test_the_drawing_joins_the_points_of_a_curve():
    [axes] = draw_comparison(ROWS, "cost", "cost", "top-1 %").axes
    labels = [text.get_text() for text in axes.get_legend().get_texts()]
    assert labels == ["float", "exit", "oracle (upper limit)", "ensemble", "videoiq"]
    lines = {container.get_label(): container[0] for container in axes.containers}
    assert lines["exit"].get_xdata().tolist() == [0.3, 0.8] and lines["exit"].get_linestyle() == "-"
    assert lines["videoiq"].get_marker() == "*" and lines["float"].get_linestyle() == "None"
    low, high = axes.get_xlim()
    assert low <= 0 and high > 1.3125
