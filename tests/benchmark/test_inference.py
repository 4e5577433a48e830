"""The benchmark of inference: its arithmetic, a contender's process, and one small run."""

import json
import sys

import numpy as np
import pytest

from mmvideoiq.benchmark import inference, prepared, tables
from mmvideoiq.benchmark.inference import budgets, make_row, predicted_latency
from mmvideoiq.benchmark.inference_settings import MIXES, PEERS, InferSettings
from mmvideoiq.data.synthetic import make_synthetic
from mmvideoiq.latency.contenders import spread
from mmvideoiq.latency.workers import Worker


def test_a_usage_is_spread_over_clips():
    actions = spread([0.2, 0.3, 0.2, 0.3], 5, 16)
    assert actions.shape == (5, 16)
    assert np.bincount(actions.ravel()).tolist() == [16, 24, 16, 24]
    assert np.array_equal(actions, spread([2, 3, 2, 3], 5, 16))
    assert set(spread([0.0, 1.0, 0.0], 1, 7).ravel()) == {1}


def test_predicted_and_measured_latency():
    parts = dict(ms={"8": 160.0, "2": 80.0, "policy": 16.0}, push=1.01)
    row = predicted_latency({"8": 0.5, "2": 0.25, "skip": 0.25}, parts, measured=120.0, frames=16)
    assert row["ms_per_frame"] == {"8": 10.0, "2": 5.0, "policy": 1.0}
    assert row["promised_ms"] == pytest.approx(8 * 10 + 4 * 5)
    assert row["promised_ms_with_policy"] == pytest.approx(116)
    assert row["overhead"] == pytest.approx(0.2)
    assert row["share_of_promise"] == pytest.approx(116 / 120)
    assert row["push_overhead"] == pytest.approx(0.01)


def test_rows_hold_medians_and_quartiles():
    rounds = {"model": {"a": [0.1, 0.2, 0.3, 0.4, 0.5]}, "total": {"a": [0.5] * 5}}
    row = make_row("a", rounds, dict(peak_rss=2**21, file_bytes=3_000_000))
    assert row["ms_per_clip_model"] == pytest.approx(300)
    assert row["ms_per_clip_model_quartiles"] == pytest.approx([200, 400])
    assert row["clips_per_second"] == pytest.approx(2)
    assert (row["peak_rss_mb"], row["file_mb"], row["top1"]) == (2, 3, None)


def test_budgets_span_the_range_of_the_curve():
    assert budgets(None) == [] and budgets([]) == []
    assert budgets([dict(cost=0.9), dict(cost=0.5), dict(cost=0.1)], 3) == pytest.approx([0.1, 0.5, 0.9])


def test_times_faster_than_the_best_float_engine():
    seconds = {
        "mmaction2-eager": [8.0, 8.0],
        "onnxruntime-fp32": [6.0, 6.0],
        "openvino-fp32": [5.0, 5.0],
        "openvino-int8": [3.0, 4.0],
        "ours-8-4-2": [2.0, 2.0],
    }
    ratios = inference.times_faster("ours-8-4-2", seconds)
    assert {name: ratio["median"] for name, ratio in ratios.items()} == {
        "mmaction2-eager": 4.0,
        "openvino-int8": 1.75,
        "best-fp32": 2.5,
    }
    assert ratios["best-fp32"]["name"] == "openvino-fp32"
    assert inference.times_faster("ours-8-4-2", {"ours-8-4-2": [1.0]}) == {}


def test_contenders_are_taken_again_where_the_settings_are_the_same(tmp_path, monkeypatch):
    built = []

    def prepare(settings, folder, say):
        print("much noise")
        built.append(settings.depth)
        return {"a": dict(kind="ours")}

    monkeypatch.setattr(prepared, "prepare", prepare)
    printed = []
    for depth in (18, 18, 50):
        settings = InferSettings(depth=depth, repeats=depth)
        assert prepared.prepared(settings, tmp_path, printed.append) == {"a": dict(kind="ours")}
    assert built == [18, 50] and printed == [f"contenders of an earlier run: {tmp_path}"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (dict(depth=20), "depth=20"),
        (dict(repeats=0), "repeats=0"),
        (dict(size=64), "size=64"),
        (dict(weight="twn"), "weight='twn' must be one of"),
        (dict(weight="dorefa", per_channel=True), "dorefa has one scale for a layer"),
        (dict(policy="none"), "policy='none' must be one of float, int8, tiny"),
        (dict(sampling="fast"), "sampling='fast' must be one of exact, nearby, keyframe"),
        (dict(only=["tensorrt"]), "only=tensorrt: choose among mmaction2-eager, "),
    ],
)
def test_invalid_settings(options, message):
    with pytest.raises(ValueError, match=message):
        InferSettings(**options)


def test_a_contender_that_fails_says_why(tmp_path):
    worker = Worker("gone", dict(kind="openvino", threads=1, model=str(tmp_path / "none.xml")), tmp_path)
    with pytest.raises(RuntimeError, match=r"gone ended: .*log"):
        worker.answer()
    worker.close()


@pytest.mark.slow
def test_a_whole_run(load_tool, tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "140")
    flags = "--depth 18 --size 96 --frames 4 --repeats 2 --warmup 1 --threads 1".split()
    tool = load_tool("benchmark.py")
    monkeypatch.setattr(sys, "argv", ["benchmark.py"])
    tool.main(["infer", *flags, "--json", str(tmp_path / "out.json"), "--keep", str(tmp_path / "files")])
    found = json.loads((tmp_path / "out.json").read_text())
    names = [row["name"] for row in found["rows"]]
    assert names == [*PEERS, *MIXES]
    for row in found["rows"]:
        assert row["ms_per_clip_total"] > 0 < row["ms_per_clip_model"]
        assert row["file_mb"] > 10 and row["peak_rss_mb"] > 50
    paper, sizes = (row["usage"] for row in found["rows"][-2:])
    assert paper == pytest.approx({"8": 0.2, "4": 0.3, "2": 0.2, "skip": 0.3}, abs=0.06)
    assert sizes == pytest.approx({"8": 0.3, "8@68": 0.0, "8@48": 0.4, "skip": 0.3}, abs=0.06)
    for task in ("model", "total"):
        rivals = {"mmaction2-eager", "best-fp32", "openvino-auto", "openvino-int8"}
        assert set(found["times_faster"][task]["ours-8-4-2"]) == rivals
    printed = capsys.readouterr().out
    assert "times faster, frames to label, than" in printed and "share %" in printed
    assert "INFO" not in printed and len(printed.splitlines()) < 70  # the tables alone
    again = ["--only", "openvino-fp32", "ours-8-4-2", "--keep", str(tmp_path / "files")]
    tool.main(["infer", *flags, *again, "--json", str(tmp_path / "again.json")])
    found = json.loads((tmp_path / "again.json").read_text())
    assert [row["name"] for row in found["rows"]] == ["openvino-fp32", "ours-8-4-2"]
    assert set(found["times_faster"]["model"]["ours-8-4-2"]) == {"best-fp32"}


def test_the_drawing(tmp_path):
    rows = [
        dict(name="a", top1=0.9, ms_per_clip_model=5.0, budget=None),
        dict(name="a@0.1", top1=0.7, ms_per_clip_model=2.0, budget=0.1),
        dict(name="float", top1=None, ms_per_clip_model=2.0),
    ]
    tables.plot_accuracy(rows, tmp_path / "new" / "plot.png")
    assert (tmp_path / "new" / "plot.png").stat().st_size > 1000
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["plot.png"]


@pytest.mark.slow
def test_trained_bundles_on_a_list_of_videos(repo, load_tool, tmp_path):
    """As docs/deployment.md shows it, without the random networks."""
    pytest.importorskip("openvino")
    make_synthetic(tmp_path / "data", train=3, val=3, test=6, seed=0)
    argv = ["infer", "--only-bundles", "--bundle", str(repo / "zoo/demo/demo_videoiq_bundle")]
    argv += ["--list", str(tmp_path / "data/test.txt"), "--data-root", str(tmp_path / "data/videos")]
    argv += ["--plot", str(tmp_path / "accuracy.png"), "--json", str(tmp_path / "out.json")]
    load_tool("benchmark.py").main(argv)
    first, *budgets_of_it = json.loads((tmp_path / "out.json").read_text())["rows"]
    assert first["top1"] == 1 and first["ms_per_clip_model"] > 0 and sum(first["usage"].values()) == 1
    assert len(budgets_of_it) == 5 and (tmp_path / "accuracy.png").stat().st_size > 0
