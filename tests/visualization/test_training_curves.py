"""Training curves: what is read of MMEngine's scalars, and what is drawn of it."""

import json
import re

import numpy as np
import pytest

from mmvideoiq.visualization import training_curves
from mmvideoiq.visualization.action_style import light_dark
from mmvideoiq.visualization.drawing import drawing
from mmvideoiq.visualization.page import page, section
from mmvideoiq.visualization.training_curves import (
    POINTS,
    curves_parts,
    draw_curves,
    read_curves,
    stage_curves,
)
from tests.visualization.html_page import ReportPage


def write_scalars(folder, *, epochs=2, each=4, policy=False, start="20260101_000000", first=0, scale=1.0):
    """As MMEngine's logger writes it, two lines in an epoch and one of validation."""
    lines = []
    for epoch in range(first, epochs):
        for step in (epoch * each + each // 2, (epoch + 1) * each):
            line = dict(
                lr=0.1,
                loss=scale * 8 / step,
                loss_cls=scale * 6 / step,
                epoch=epoch + 1,
                iter=step,
                step=step,
            )
            if policy:
                line |= dict(
                    loss_entropy=scale * 2 / step,
                    mean_cost=1 / step,
                    usage_32=0.25,
                    usage_4=0.25,
                    usage_skip=0.5,
                )
            lines.append(line)
        lines.append(
            {"acc/top1": scale * min(1, 0.25 * (epoch + 1)), "acc/mean1": 0.5, "time": 0.1, "step": epoch + 1}
        )
        if policy:
            lines[-1] |= {"cost/mean_cost": 0.5 / (epoch + 1), "cost/usage_32": 0.3}
    path = folder / start / "vis_data" / "scalars.json"
    path.parent.mkdir(parents=True)
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


def test_steps_become_epochs(tmp_path):
    write_scalars(tmp_path)
    curves = read_curves(tmp_path)
    assert curves.unit == "epoch"
    assert curves.train["loss"] == [(0.5, 4.0), (1.0, 2.0), (1.5, 8 / 6), (2.0, 1.0)]
    assert curves.val["acc/top1"] == [(1.0, 0.25), (2.0, 0.5)]


def test_a_training_by_iterations_keeps_them(tmp_path):
    path = write_scalars(tmp_path)
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    for line in lines:
        line.pop("epoch", None)
        if "loss" not in line:
            line["step"] *= 4
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    curves = read_curves(tmp_path)
    assert curves.unit == "iteration"
    assert [x for x, _ in curves.train["loss"]] == [2, 4, 6, 8] and [
        x for x, _ in curves.val["acc/top1"]
    ] == [4, 8]


def test_a_resumed_stage_is_one_curve_and_a_broken_line_no_error(tmp_path):
    path = write_scalars(tmp_path)
    write_scalars(tmp_path, start="20260101_000100", epochs=3, first=1, scale=0.5)
    path.write_text(
        path.read_text() + '{"loss": 1.0, "st\n[1]\n{"loss": NaN, "step": 99, "epoch": 3, "iter": 12}\n'
    )
    curves = read_curves(tmp_path)
    assert [value for _, value in curves.train["loss"]] == [4.0, 2.0, 4 / 6, 0.5, 0.4, 4 / 12]
    assert [value for _, value in curves.val["acc/top1"]] == [0.25, 0.25, 0.375]


def test_a_stage_that_logged_nothing_has_no_curves(tmp_path):
    assert read_curves(tmp_path) is None and stage_curves("float", tmp_path) == "" and curves_parts([]) == []
    assert curves_parts([("float", tmp_path / "gone")]) == []


def test_a_network_has_loss_and_accuracy_a_policy_also_cost_and_usage(tmp_path):
    write_scalars(tmp_path / "float")
    write_scalars(tmp_path / "policy", policy=True)
    assert list(draw_curves(read_curves(tmp_path / "float"))) == ["loss", "accuracy"]
    figures = draw_curves(read_curves(tmp_path / "policy"))
    assert list(figures) == ["loss", "accuracy", "mean cost", "usage"]
    lines = {line.get_label(): line for line in figures["loss"].axes[0].lines}
    assert list(lines) == ["loss", "cls", "entropy"]
    np.testing.assert_allclose(lines["entropy"].get_ydata(), [1, 0.5, 2 / 6, 0.25])
    accuracy = {line.get_label(): line.get_ydata() for line in figures["accuracy"].axes[0].lines}
    np.testing.assert_allclose(accuracy["top1"], [25, 50])
    costs = {line.get_label(): line.get_ydata() for line in figures["mean cost"].axes[0].lines}
    np.testing.assert_allclose(costs["validation"], [0.5, 0.25])
    layers = [layer.get_label() for layer in figures["usage"].axes[0].collections]
    assert layers == ["32", "4", "skip"]


def test_long_curves_are_thinned_and_end_where_they_end(tmp_path):
    write_scalars(tmp_path, epochs=1000)
    (line,) = draw_curves(read_curves(tmp_path))["loss"].axes[0].lines
    assert len(line.get_xdata()) <= POINTS and line.get_xdata()[-1] == 1000
    assert len(stage_curves("float", tmp_path)) < 60_000


def test_they_are_part_of_a_page_and_follow_its_colours(tmp_path):
    write_scalars(tmp_path / "a", policy=True)
    write_scalars(tmp_path / "b")
    found = ReportPage(
        page("t", "s", [section("c", *curves_parts([("a <1>", tmp_path / "a"), ("b", tmp_path / "b")]))])
    )
    assert (
        found.source.count("<svg") == 6
        and "a <1>" in found.texts["c"]
        and "loss in training" in found.texts["c"]
    )
    drawn = "".join(re.findall(r"<svg.*?</svg>", found.source, re.DOTALL))
    assert not re.search(r"(?<!light-dark\()(?<!, )#[0-9a-f]{6}\b", drawn)
    assert light_dark("#1f6fb2") in drawn and "width=" not in re.findall(r"<svg[^>]*>", drawn)[0]


def test_too_many_stages_leave_some_out_and_say_so(tmp_path, monkeypatch):
    write_scalars(tmp_path)
    size = len(stage_curves("stage 0", tmp_path))
    monkeypatch.setattr(training_curves, "LIMIT", 2 * size + 100)
    parts = curves_parts([(f"stage {k}", tmp_path) for k in range(5)])
    text = "".join(parts)
    assert text.count("<h3>") == 2 and "the curves of 3 more stages" in text


@pytest.mark.parametrize("text", ["a & b", "<tag>", 'quote "'])
def test_texts_of_a_drawing_are_escaped(tmp_path, text):
    write_scalars(tmp_path)
    figure = draw_curves(read_curves(tmp_path))["loss"]
    figure.axes[0].set_title(text)
    found = ReportPage(page("t", "s", [section("c", drawing(figure, text, name="x"))]))
    assert text in found.texts["c"]
