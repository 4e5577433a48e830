"""Comparisons: reading and checking rows, testing and resuming them, what is written and drawn."""

import io
import json
import re
from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from PIL import Image
from rich.console import Console

from mmvideoiq.evaluation import evaluator, runner
from mmvideoiq.evaluation.config import Comparison, RowError, check_rows, make_rows, read_comparison
from mmvideoiq.evaluation.runner import run_comparison
from mmvideoiq.visualization.comparison_report import write_comparison
from mmvideoiq.visualization.figures import draw_comparison

BACKBONE = dict(type="SlimResNet", base_channels=4, stage_blocks=(1, 1))
ANY = dict(type="AnyPrecisionBackbone", backbone=BACKBONE)
HEAD = dict(type="TSNHead", num_classes=2, in_channels=8, dropout_ratio=0.0, average_clips="prob")
MODELS = {
    "float": dict(type="Recognizer2D", backbone=BACKBONE, cls_head=HEAD),
    "exit": dict(type="EarlyExitRecognizer", backbone=BACKBONE, cls_head=HEAD),
    "any": dict(type="AnyPrecisionRecognizer", backbone=ANY, cls_head=HEAD),
    "ensemble": dict(type="PrecisionEnsemble", backbone=ANY, cls_head=HEAD),
    "videoiq": dict(
        type="VideoIQRecognizer",
        backbone=ANY,
        policy=dict(
            type="PrecisionPolicy",
            input_size=16,
            backbone=BACKBONE,
            head=dict(type="PolicyHead", in_channels=8, hidden=8),
        ),
        cls_head=dict(type="FrameAverageHead", num_classes=2, in_channels=8, topk=(1,)),
        actions=[dict(bits=32), dict(bits=4), dict(bits=2), dict(skip=1)],
    ),
}
WEIGHTS = {"float": "float", "exit": "float", "any": "any", "ensemble": "any", "videoiq": "videoiq"}


@pytest.fixture(scope="module")
def trained(tmp_path_factory, tsn_config):
    """A folder with a config per model, on eight tiny videos, and checkpoints with random weights."""
    import mmvideoiq.plugin  # noqa: F401

    folder = tmp_path_factory.mktemp("trained")
    base = Config.fromfile(tsn_config)
    for name, model in MODELS.items():
        config = Config(
            base.to_dict() | {"model": model | {"data_preprocessor": base.model.data_preprocessor}}
        )
        config.dump(folder / f"{name}.py")
        if WEIGHTS[name] == name:
            torch.manual_seed(0)
            save(build(config), folder / f"{name}.pth")
    return folder


def build(config):
    from mmaction.registry import MODELS as REGISTRY
    from mmengine.registry import init_default_scope

    init_default_scope("mmaction")
    return REGISTRY.build(config.model)


def save(model, path):
    with torch.no_grad():  # a classifier with opinions
        model.cls_head.fc_cls.weight.normal_(0, 2)
    torch.save({"state_dict": model.state_dict()}, path)


def entry(folder: Path, name: str, model: str, **more) -> dict:
    files = dict(config=f"{model}.py", checkpoint=str(folder / f"{WEIGHTS[model]}.pth"))
    return dict(name=name) | files | more


def entries(folder: Path) -> list[dict]:
    return [
        entry(folder, "random", "videoiq", usage_of="videoiq", draws=2),
        entry(folder, "float", "float"),
        entry(folder, "exit", "exit", threshold=[0, 0.8, 1]),
        entry(folder, "ensemble", "ensemble"),
        entry(folder, "fixed-4", "any", precision=4),
        entry(folder, "fixed-2", "videoiq", precision=2),
        entry(folder, "videoiq", "videoiq"),
        entry(folder, "budget", "videoiq", budget=0.3),
    ]


@pytest.fixture
def in_process(monkeypatch):
    """Test rows in this process; returns the names of those that were tested."""
    tested = []

    def run(function, kwargs, folder, console):
        job = kwargs["job"]
        tested.extend(row["name"] for row in job["rows"])
        return evaluator.test_rows(job, lambda text, done=None: None)

    monkeypatch.setattr(runner, "run_process", run)
    return tested


def quiet() -> Console:
    return Console(file=io.StringIO(), width=200)


@pytest.mark.slow
def test_every_way_to_test_a_row(trained, in_process, tmp_path):
    setting = Comparison(name="toy", rows=make_rows(entries(trained), folder=trained))
    summary = run_comparison(setting, tmp_path, timed=True, console=quiet())
    rows = {row["name"]: row for row in summary["rows"]}
    assert list(rows) == [row.name for row in setting.rows]
    assert all(
        0 <= row["top1"] <= 1 and sum(row["usage"].values()) == pytest.approx(1) for row in rows.values()
    )
    costs = {name: row["cost"] for name, row in rows.items()}
    assert costs["float"] == costs["exit@1"] == 1 and costs["exit@0"] == 0.5 <= costs["exit@0.8"] <= 1
    assert rows["float"]["top1"] == rows["exit@1"]["top1"]
    assert rows["float"]["bitops"] == rows["exit@1"]["bitops"]
    assert costs["ensemble"] == 1.3125 and costs["fixed-4"] == 0.25 and costs["fixed-2"] == 0.0625
    assert rows["fixed-4"]["gflops"] < rows["ensemble"]["gflops"]
    assert rows["random"]["runs"] == 2 and rows["exit@0"]["curve"] == "exit"
    assert summary["source"]["test_clips"] == 8 and summary["source"]["frames"] == 2
    assert costs["budget"] <= max(costs["videoiq"], 0.3) + 1e-6


@pytest.mark.slow
def test_finished_rows_are_not_repeated(trained, in_process, tmp_path):
    made = [*entries(trained)[:3], entry(trained, "videoiq", "videoiq")]
    setting = Comparison(name="toy", rows=make_rows(made, folder=trained))
    first = run_comparison(setting, tmp_path, timed=False, console=quiet())
    everything = ["float", "exit@0", "exit@0.8", "exit@1", "videoiq", "random"]
    assert in_process == everything
    assert (
        run_comparison(setting, tmp_path, timed=False, console=quiet()) == first and in_process == everything
    )
    (tmp_path / "rows" / "random" / "result.json").unlink()
    assert run_comparison(setting, tmp_path, timed=False, console=quiet()) == first
    assert in_process == [*everything, "random"]


def test_a_row_is_tested_again_when_its_checkpoint_changes(trained, in_process, tmp_path):
    copy = tmp_path / "copy.pth"
    copy.write_bytes((trained / "float.pth").read_bytes())
    rows = make_rows([entry(trained, "float", "float") | dict(checkpoint=str(copy))], folder=trained)
    setting = Comparison(name="toy", rows=rows)
    run_comparison(setting, tmp_path, timed=False, console=quiet())
    run_comparison(setting, tmp_path, timed=False, console=quiet())
    assert in_process == ["float"]
    save(build(Config.fromfile(trained / "float.py")), copy)
    run_comparison(setting, tmp_path, timed=False, console=quiet())
    assert in_process == ["float", "float"]


def test_the_config_s_own_precision_comes_back_after_another_row(trained, in_process, tmp_path):
    own = dict(cfg_options={"model.bits": 2, "model.type": "FixedPrecisionRecognizer"})
    rows = [entry(trained, "four", "any", precision=4, **own), entry(trained, "own", "any", **own)]
    setting = Comparison(name="toy", rows=make_rows(rows, folder=trained))
    summary = run_comparison(setting, tmp_path, timed=False, console=quiet())
    assert [row["cost"] for row in summary["rows"]] == [0.25, 0.0625]


def test_a_row_of_several_checkpoints_is_their_mean(trained, in_process, tmp_path):
    several = [str(trained / "float.pth")] * 2
    rows = make_rows([entry(trained, "float", "float") | dict(checkpoint=several)], folder=trained)
    [row] = run_comparison(Comparison(name="toy", rows=rows), tmp_path, timed=False, console=quiet())["rows"]
    assert row["runs"] == 2 and row["top1_std"] == 0


BAD_ROWS = [
    (dict(checkpoint="gone.pth"), "row 'x': checkpoint not found: gone.pth"),
    (dict(checkpoint="."), "row 'x': no checkpoint in the folder ."),
    (dict(checkpoint=[]), "there is no checkpoint"),
    (dict(config="gone.py"), "row 'x': config gone.py does not exist"),
    (dict(bundle="gone"), "row 'x': gone is not a bundle"),
    (dict(speed=3), "unknown key 'speed'"),
    (dict(precision=4, budget=0.3), "precision and budget exclude one another"),
    (dict(precision=[4, 2]), "must be a single value"),
    (dict(threshold=[]), "must be a single value"),
    (dict(usage_of="y"), "usage_of='y' is not another row"),
    (dict(usage_of="x"), "usage_of='x' is not another row"),
]


@pytest.mark.parametrize(
    ("change", "message"), BAD_ROWS, ids=[str(list(change.items())) for change, _ in BAD_ROWS]
)
def test_rows_that_cannot_be_read(trained, change, message, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(RowError, match=re.escape(message)):
        make_rows([entry(trained, "x", "float") | change], folder=trained)


def test_names_are_unique_and_there_are_rows(trained):
    twice = [entry(trained, "x", "float"), entry(trained, "x", "exit")]
    with pytest.raises(RowError, match="row 'x': the name is used twice"):
        make_rows(twice, folder=trained)
    with pytest.raises(RowError, match="no rows"):
        make_rows([], folder=trained)
    with pytest.raises(RowError, match="'checkpoint' is missing"):
        make_rows([dict(name="x", config="float.py")], folder=trained)
    one = Comparison(name="toy", rows=make_rows(twice[:1], folder=trained))
    with pytest.raises(RowError, match="twice"):
        one.with_rows(one.rows)


@pytest.mark.parametrize(
    ("model", "more", "message"),
    [
        (
            "float",
            dict(cfg_options={"model.cls_head.num_classes": 3}),
            "does not fit float.py: size mismatch",
        ),
        ("float", dict(cfg_options={"model.backbone.stage_blocks": (1, 2)}), "lacks 10 of the weights"),
        ("float", dict(cfg_options={"model.backbone.type": "Nowhere"}), "the model cannot be built"),
        (
            "float",
            dict(cfg_options={"model.type": "Recognizer3D"}),
            "does not report the cost of its predictions",
        ),
        (
            "float",
            dict(cfg_options={"test_dataloader.dataset.ann_file": "gone.txt"}),
            "test list not found: gone.txt",
        ),
        ("float", dict(cfg_options={"test_evaluator": None}), "has no test_evaluator"),
        ("float", dict(precision=4), "precision=4 does not apply to a UniformRecognizer"),
        ("float", dict(threshold=0.5), "the model cannot be built"),
        ("any", dict(precision=8), "precision=8: precision 8 is not one of"),
        ("videoiq", dict(precision=8), "precision=8: no action 8"),
        ("ensemble", dict(precision=4), "runs all its precisions"),
        ("any", dict(budget=0.2), "budget=0.2 does not apply to a FixedPrecisionRecognizer"),
    ],
)
def test_rows_that_do_not_fit(trained, model, more, message):
    rows = make_rows([entry(trained, "first", "float"), entry(trained, "x", model, **more)], folder=trained)
    with pytest.raises(RowError, match=re.escape(message)) as caught:
        check_rows(rows)
    assert "row 'x'" in str(caught.value) and "\n" not in str(caught.value)


def test_rows_of_other_classes_or_other_lists_are_not_compared(trained, tmp_path):
    options = {"model.cls_head.num_classes": 3}
    config = Config.fromfile(trained / "float.py")
    config.merge_from_dict(options)
    save(build(config), tmp_path / "three.pth")
    three = entry(trained, "x", "float", cfg_options=options) | dict(checkpoint=str(tmp_path / "three.pth"))
    with pytest.raises(RowError, match="row 'x' has 3 classes, row 'first' has 2"):
        check_rows(make_rows([entry(trained, "first", "float"), three], folder=trained))
    (tmp_path / "other.txt").write_text("0.mp4 0\n")
    other = {"test_dataloader.dataset.ann_file": str(tmp_path / "other.txt")}
    rows = [entry(trained, "first", "float"), entry(trained, "x", "float", cfg_options=other)]
    with pytest.raises(RowError, match=r"row 'x' is tested on .*other.txt, row 'first' on .*list.txt"):
        check_rows(make_rows(rows, folder=trained))


def test_a_file_of_rows(trained, tmp_path):
    path = tmp_path / "table.py"
    one = entry(trained, "a", "float", config=str(trained / "float.py"))
    path.write_text(f"rows = [{one}]\nmetric = 'acc/top5'\n")
    setting = read_comparison(path)
    assert (setting.name, setting.metric, [row.name for row in setting.rows]) == ("table", "acc/top5", ["a"])
    for text, message in (
        ("rows = [", "cannot be read"),
        ("rows = []\nspeed = 1", "unknown key 'speed'"),
        ("x = 1", "unknown key"),
    ):
        path.write_text(text)
        with pytest.raises(RowError, match=message):
            read_comparison(path)
    with pytest.raises(RowError, match="not found"):
        read_comparison(tmp_path / "gone.py")


def row(name, top1, cost, usage, curve=None, **more):
    figures = dict(top1=top1, cost=cost, gflops=cost, bitops=1e9 * cost, top1_std=0.0, cost_std=0.0)
    return dict(name=name, curve=curve or name, usage=usage, runs=1, **figures) | more


ROWS = [
    row("float", 1.0, 1.0, {"32": 1.0}, ms_per_clip=9.0, ms_of="PyTorch"),
    row("exit@0.5", 0.6, 0.3, {"32": 0.3, "skip": 0.7}, curve="exit"),
    row("exit@0.9", 0.9, 0.8, {"32": 0.8, "skip": 0.2}, curve="exit"),
    row("ensemble", 0.95, 1.3125, {"32": 1 / 3, "4": 1 / 3, "2": 1 / 3}),
    row(
        "videoiq",
        0.97,
        0.1,
        {"32": 0, "4": 0.3, "2": 0.1, "skip": 0.6},
        ms_per_clip=2.5,
        ms_of="bundle",
        runs=3,
        top1_std=0.01,
    ),
]


def summary_of(rows):
    return dict(name="toy", rows=rows, metric="acc/top1", source=dict(test_clips=8, frames=2))


def test_what_is_written(tmp_path):
    console = quiet()
    write_comparison(summary_of(ROWS), tmp_path, console=console)
    names = ["accuracy_cost.png", "accuracy_ms.png", "comparison.json", "comparison.md"]
    assert sorted(path.name for path in tmp_path.iterdir()) == names
    for name in names[:2]:
        Image.open(tmp_path / name).verify()
    assert json.loads((tmp_path / "comparison.json").read_text())["rows"] == ROWS
    markdown = (tmp_path / "comparison.md").read_text()
    assert "| videoiq | 97.0 ± 1.0 | 0.100 |" in markdown and "| 9.00* |" in markdown
    assert "| exit@0.5 | 60.0 | 0.300 | 0.3 | 0.3 |  | 30/0/0/70 |" in markdown
    assert len({line.count("|") for line in markdown.splitlines() if line.startswith("|")}) == 1
    shown = console.file.getvalue()
    assert all(entry["name"] in shown for entry in ROWS) and "32/4/2/skip %" in shown
    write_comparison(
        summary_of([{k: v for k, v in r.items() if k[:2] != "ms"} for r in ROWS]), tmp_path, console=console
    )
    assert not (tmp_path / "accuracy_ms.png").exists()


def test_the_drawing_joins_the_points_of_a_curve():
    [axes] = draw_comparison(ROWS, "cost", "cost", "top-1 %").axes
    labels = [text.get_text() for text in axes.get_legend().get_texts()]
    assert labels == ["float", "exit", "ensemble", "videoiq"]
    lines = {container.get_label(): container[0] for container in axes.containers}
    assert lines["exit"].get_xdata().tolist() == [0.3, 0.8] and lines["exit"].get_linestyle() == "-"
    assert lines["videoiq"].get_marker() == "*" and lines["float"].get_linestyle() == "None"
    low, high = axes.get_xlim()
    assert low <= 0 and high > 1.3125


@pytest.fixture(scope="module")
def compare(load_tool):
    return load_tool("compare.py")


def test_the_command(compare, trained, in_process, tmp_path, capsys):
    given = [str(trained / "float.py"), str(trained / "float.pth")]
    argv = ["--row", "one", *given, "--row", "two", *given, "--work-dir", str(tmp_path / "out")]
    assert compare.main(argv) == 0
    assert in_process == ["one", "two"] and (tmp_path / "out" / "comparison.md").is_file()
    assert "one" in capsys.readouterr().out


def test_mistakes_are_one_line(compare, trained, capsys):
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
