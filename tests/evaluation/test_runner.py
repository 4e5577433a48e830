"""Comparisons: testing rows, resuming, and the command."""

import io
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.runner import Runner
from rich.console import Console

from mmvideoiq.evaluation import runner
from mmvideoiq.evaluation.config import Comparison, make_rows
from mmvideoiq.evaluation.frame_outcomes import right_alone
from mmvideoiq.evaluation.runner import Evaluation, run_comparison
from tests.evaluation.conftest import build, entry, save


@pytest.fixture
def compare_rows(trained, in_process, tmp_path):
    """Compare rows of ``trained``, tested in this process, in one folder; returns the summary."""

    def run(*entries, kinds=None, **options):
        setting = Comparison(name="toy", rows=make_rows(entries, folder=trained), kinds=kinds)
        console = Console(file=io.StringIO(), width=200)
        return run_comparison(setting, tmp_path / "out", console=console, **dict(timed=False) | options)

    return run


@pytest.mark.slow
def test_every_override(trained, compare_rows):
    entries = [
        entry(trained, "random", "videoiq", usage_of="videoiq", draws=2),
        entry(trained, "float", "float"),
        entry(trained, "exit", "exit", threshold=[0, 0.8, 1]),
        entry(trained, "ensemble", "ensemble"),
        entry(trained, "fixed-4", "any", precision=4),
        entry(trained, "fixed-2", "videoiq", precision=2),
        entry(trained, "videoiq", "videoiq"),
        entry(trained, "budget", "videoiq", budget=0.3),
    ]
    summary = compare_rows(*entries, timed=True)
    rows = {row["name"]: row for row in summary["rows"]}
    names = [
        "random",
        "float",
        "exit@0",
        "exit@0.8",
        "exit@1",
        "ensemble",
        "fixed-4",
        "fixed-2",
        "videoiq",
        "budget",
    ]
    assert list(rows) == names
    for row in rows.values():
        assert 0 <= row["top1"] <= 1 and sum(row["usage"].values()) == pytest.approx(1)
    costs = {name: row["cost"] for name, row in rows.items()}
    assert costs["float"] == costs["exit@1"] == 1 and costs["exit@0"] == 0.5 <= costs["exit@0.8"] <= 1
    for figure in ("top1", "bitops"):
        assert rows["float"][figure] == rows["exit@1"][figure]
    assert costs["ensemble"] == 1.3125 and costs["fixed-4"] == 0.25 and costs["fixed-2"] == 0.0625
    assert rows["fixed-4"]["gflops"] < rows["ensemble"]["gflops"]
    assert rows["random"]["runs"] == 2 and rows["exit@0"]["curve"] == "exit"
    assert summary["source"]["test_clips"] == 8 and summary["source"]["frames"] == 2
    assert costs["budget"] <= max(costs["videoiq"], 0.3) + 1e-6


def test_rivals_without_learning_and_the_oracle(trained, compare_rows, tmp_path):
    entries = [
        entry(trained, "fixed-4", "videoiq", precision=4),
        entry(trained, "few", "videoiq", frames=dict(mode=4, count=[2, 1])),
        entry(trained, "gate", "videoiq", difference=dict(mode=4, threshold=[0, 255])),
        entry(trained, "share", "videoiq", difference=dict(mode=4, processed=0.5)),
        entry(trained, "oracle", "videoiq", oracle=True),
        entry(trained, "videoiq", "videoiq"),
        entry(trained, "ours", "videoiq", multiplier=[-1000, 1000]),
        entry(trained, "random", "videoiq", usage_of="oracle", draws=2),
    ]
    rows = {row["name"]: row for row in compare_rows(*entries)["rows"]}
    assert {name: row["role"] for name, row in rows.items() if row["role"] != "plain"} == {
        "oracle": "limit",
        "videoiq": "policy",
        "ours@-1000": "policy",
        "ours@1000": "policy",
        "random": "random",
    }
    whole = {key: rows["fixed-4"][key] for key in ("top1", "cost", "bitops", "gflops")}
    for name in ("few@2", "gate@0"):  # two frames, which differ
        assert {key: rows[name][key] for key in whole} == whole, name
    half = rows["few@1"]
    assert half["cost"] == whole["cost"] / 2 and half["usage"]["skip"] == 0.5
    for name in ("gate@255", "share"):  # the first frame alone
        assert (rows[name]["cost"], rows[name]["usage"]) == (half["cost"], half["usage"]), name
    assert rows["ours@-1000"]["usage"]["32"] == 1 and rows["ours@1000"]["cost"] == 0.0625 / 2

    def read(name, run=0):
        return json.loads((tmp_path / f"out/rows/{name}/trace_{run}.json").read_text())

    assert read("random") != read("random", 1)  # a trace for each draw

    config = Config.fromfile(trained / "videoiq.py")
    model = build(config).eval()
    model.load_state_dict(torch.load(trained / "videoiq.pth")["state_dict"])
    right = right_alone(
        model, Runner.build_dataloader(config.test_dataloader)
    ).numpy()  # (clips, frames, modes)
    assert right.shape == (8, 2, 3) and right.any() and not right.all()
    # frames that are right by themselves are right together: the oracle fails where no frame is
    assert rows["oracle"]["top1"] == right.any((1, 2)).mean()
    chosen = np.array([clip["actions"] for clip in read("oracle")])
    for clip, frame in np.argwhere(chosen < 3):
        modes = right[clip, frame]
        assert modes[chosen[clip, frame]] or not right[clip].any()
        assert not modes[chosen[clip, frame] + 1 :].any()  # modes get cheaper
    fixed = np.array([clip["pred_label"] == clip["gt_label"] for clip in read("fixed-4")])
    assert fixed.mean() == whole["top1"]
    processed = [(right[clip, frame], action) for clip, frame, action in enumerate_actions(read("videoiq"))]
    wasted = [modes[action] and modes[action + 1 :].any() for modes, action in processed]
    regretted = [not modes[action] and modes[:action].any() for modes, action in processed]
    quality = rows["videoiq"]["quality"]
    assert (quality["waste"], quality["regret"]) == (np.mean(wasted), np.mean(regretted))
    assert rows["videoiq"]["advice"]["verdict"] and "advice" not in rows["ours@1000"]
    against = rows["videoiq"]["against"]
    assert against["fixed-4"]["gain"] == pytest.approx(rows["videoiq"]["top1"] - whole["top1"])
    assert "oracle" not in against and "random" in against


@pytest.mark.slow
def test_static_int8_is_near_float(trained, compare_rows, tmp_path):
    pytest.importorskip("nncf")
    counts = dict(type="ComputeCostMetric", actions=[dict(bits=32)])  # of the float network
    counted = {"test_evaluator": [dict(type="AccMetric"), counts]}
    entries = [
        entry(trained, "float", "float"),
        entry(trained, "int8", "float", static_int8=dict(size=[32, 16])),
        entry(trained, "half", "float", static_int8=dict(size=16, frames=1), cfg_options=counted),
    ]
    rows = {row["name"]: row for row in compare_rows(*entries)["rows"]}
    assert list(rows) == ["float", "int8@32", "int8@16", "half"]
    assert abs(rows["int8@32"]["top1"] - rows["float"]["top1"]) <= 1 / 8
    assert [row["cost"] for row in rows.values()] == [1, 1, 0.25, 0.125]
    assert rows["half"]["usage"] == {"8@16": 0.5, "skip": 0.5}
    assert (tmp_path / "out/rows/int8@32/network_0.xml").is_file()


def enumerate_actions(trace):
    """Clip, frame and action of each processed frame."""
    for number, clip in enumerate(trace):
        yield from ((number, frame, action) for frame, action in enumerate(clip["actions"]) if action < 3)


def test_the_oracle_skips_frames_without_evidence(trained, compare_rows, tmp_path):
    dataset = Config.fromfile(trained / "videoiq.py").test_dataloader.dataset
    folder = Path(dataset.data_prefix.video)
    kinds = {f"{folder.name}/{path.name}": ["blank", "bold"] * 50 for path in folder.glob("*.mp4")}
    (tmp_path / "kinds").mkdir()
    (tmp_path / "kinds/kinds.json").write_text(json.dumps(kinds))
    row = entry(trained, "oracle", "videoiq", oracle=True)
    with pytest.raises(ValueError, match="meta_keys of PackActionInputs lack filename, frame_inds"):
        compare_rows(row, kinds=str(tmp_path / "kinds"))
    named = {"test_dataloader.dataset.pipeline.5.meta_keys": ("filename", "frame_inds")}
    compare_rows(row | dict(cfg_options=named), kinds=str(tmp_path / "kinds"))
    for clip in json.loads((tmp_path / "out/rows/oracle/trace_0.json").read_text()):
        processed = [
            place for place, action in zip(clip["frame_inds"], clip["actions"], strict=True) if action < 3
        ]
        bold = [place for place in clip["frame_inds"] if place % 2]
        assert set(processed) <= set(bold or clip["frame_inds"][:1])


def test_networks_are_timed_as_they_are_tested(trained, in_process, monkeypatch, tmp_path):
    """Every threshold of an early exit by itself, a float network without what counts its cost."""
    entries = [entry(trained, "exit", "exit", threshold=[0.2, 0.8]), entry(trained, "float", "float")]
    setting = Comparison(name="toy", rows=make_rows(entries, folder=trained))
    evaluation = Evaluation(setting, tmp_path / "out", console=Console(file=io.StringIO()))
    evaluation.test()
    timed = {}

    def time_rows(function, kwargs, folder, console):
        timed.update(kwargs["job"]["rows"])
        return dict.fromkeys(timed, 1.0)

    monkeypatch.setattr(runner, "run_process", time_rows)
    evaluation.time()
    models = {name: Config.fromfile(row["config"]).model for name, row in timed.items()}
    assert [models[f"exit@{value}"].threshold for value in (0.2, 0.8)] == [0.2, 0.8]
    assert models["float"].type == "Recognizer2D"
    assert {row["ms_of"] for row in evaluation.rows} == {"PyTorch"}


@pytest.mark.slow
def test_finished_rows_are_not_repeated(trained, compare_rows, in_process, tmp_path):
    entries = [
        entry(trained, "random", "videoiq", usage_of="videoiq", draws=2),
        entry(trained, "exit", "exit", threshold=[0, 1]),
        entry(trained, "videoiq", "videoiq"),
    ]
    first = compare_rows(*entries)
    assert in_process == ["exit@0", "exit@1", "videoiq", "random"]
    assert compare_rows(*entries) == first and len(in_process) == 4
    (tmp_path / "out/rows/random/result.json").unlink()
    assert compare_rows(*entries) == first
    assert in_process[4:] == ["random"]


def test_a_row_is_tested_again_when_its_checkpoint_changes(trained, compare_rows, in_process, tmp_path):
    copy = tmp_path / "copy.pth"
    copy.write_bytes((trained / "float.pth").read_bytes())
    row = entry(trained, "float", "float") | dict(checkpoint=str(copy))
    compare_rows(row)
    compare_rows(row)
    assert in_process == ["float"]
    save(build(Config.fromfile(trained / "float.py")), copy)
    compare_rows(row)
    assert in_process == ["float", "float"]


def test_the_config_s_own_precision_comes_back_after_another_row(trained, compare_rows):
    own = dict(cfg_options={"model.bits": 2, "model.type": "FixedPrecisionRecognizer"})
    rows = [entry(trained, "four", "any", precision=4, **own), entry(trained, "own", "any", **own)]
    assert [row["cost"] for row in compare_rows(*rows)["rows"]] == [0.25, 0.0625]


def test_a_row_of_several_checkpoints_is_their_mean(trained, compare_rows):
    several = dict(checkpoint=[str(trained / "float.pth")] * 2)
    [row] = compare_rows(entry(trained, "float", "float") | several)["rows"]
    assert row["runs"] == 2 and row["top1_std"] == 0


def test_the_command(load_tool, trained, in_process, tmp_path, capsys):
    given = [str(trained / "float.py"), str(trained / "float.pth")]
    argv = ["--row", "one", *given, "--row", "two", *given, "--work-dir", str(tmp_path / "out")]
    assert load_tool("compare.py").main(argv) == 0
    assert in_process == ["one", "two"] and (tmp_path / "out" / "comparison.md").is_file()
    assert "one" in capsys.readouterr().out


def test_mistakes_are_one_line(load_tool, trained, capsys):
    compare = load_tool("compare.py")
    given = [str(trained / "float.py"), str(trained / "float.pth")]
    for argv, message in [
        ([], "there are no rows to compare"),
        (["gone.py"], "file of rows not found: gone.py"),
        (["--row", "a", given[0], "gone.pth"], "row 'a': checkpoint not found: gone.pth"),
        (
            ["--row", "a", *given, "--row", "a", *given],
            "row 'a': the name is used twice; every row needs its own",
        ),
    ]:
        assert compare.main(argv) == 2
        assert capsys.readouterr().err == f"compare.py: error: {message}\n"
