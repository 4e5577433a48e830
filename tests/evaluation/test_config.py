"""Rows of comparisons: reading and checking them."""

import re
from pathlib import Path

import pytest
from mmengine.config import Config

from mmvideoiq.evaluation.config import Comparison, RowError, check_rows, make_rows, read_comparison
from tests.evaluation.conftest import build, entry, save

CONFIGS = Path(__file__).resolve().parents[2] / "configs"
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
    (dict(oracle=False), "oracle=False must be True"),
    (dict(frames=4), "frames=4 must be dict(mode=, count=)"),
    (dict(frames=dict(mode=4, count=2, size=3)), "must be dict(mode=, count=)"),
    (dict(frames=dict(mode=4, count=[])), "may hold one list, of numbers"),
    (dict(frames=dict(mode=["4", "2"], count=1)), "may hold one list, of numbers"),
    (dict(static_int8=dict(size=[32, 16], frames=[2, 1])), "may hold one list, of numbers"),
    (dict(static_int8=dict(frames=2)), "must be dict(size=) or dict(size=, frames=)"),
    (dict(difference=dict(mode=4)), "must be dict(mode=, threshold=) or dict(mode=, processed=)"),
    (dict(difference=dict(mode=4, threshold=1, processed=0.5)), "must be dict(mode=, threshold=) or"),
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
            "test list not found: gone.txt; set the environment variable DATA_ROOT",
        ),
        ("float", dict(cfg_options={"test_evaluator": None}), "has no test_evaluator"),
        ("float", dict(precision=4), "precision=4 does not apply to a UniformRecognizer"),
        ("float", dict(threshold=0.5), "the model cannot be built"),
        ("any", dict(precision=8), "precision=8: precision 8 is not one of"),
        ("videoiq", dict(precision=8), "precision=8: no action 8"),
        ("ensemble", dict(precision=4), "runs all its precisions"),
        ("any", dict(frames=dict(mode=4, count=1)), "does not apply to a FixedPrecisionRecognizer"),
        ("videoiq", dict(frames=dict(mode=8, count=1)), "no action 8"),
        ("videoiq", dict(difference=dict(mode="skip", threshold=1)), "skip is no mode"),
        ("any", dict(static_int8=dict(size=16)), "does not apply to a FixedPrecisionRecognizer"),
        ("videoiq", dict(multiplier=float("nan")), "multiplier=nan must be a finite number"),
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
        (f"threads = 0\nrows = [{one}]", "threads=0 must be an integer of at least 1"),
        ("x = 1", "unknown key"),
    ):
        path.write_text(text)
        with pytest.raises(RowError, match=message):
            read_comparison(path)
    with pytest.raises(RowError, match="not found"):
        read_comparison(tmp_path / "gone.py")


def test_some_rows_of_a_file(trained):
    rows = [
        entry(trained, "a", "float"),
        entry(trained, "b", "videoiq"),
        entry(trained, "c", "videoiq", usage_of="b"),
    ]
    comparison = Comparison(name="toy", rows=make_rows(rows, folder=trained))
    assert [row.name for row in comparison.only(["c", "b"]).rows] == ["b", "c"]
    with pytest.raises(RowError, match=r"^toy has no row 'd': its rows are a, b, c$"):
        comparison.only(["a", "d"])
    with pytest.raises(RowError, match=r"^row 'c' takes the usage of 'b': name that row too$"):
        comparison.only(["a", "c"])


def test_rows_that_are_not_asked_for_may_lack_their_files(trained, tmp_path):
    config = str(trained / "float.py")
    rows = [entry(trained, "a", "float", config=config), entry(trained, "b", "float", config=config)]
    rows[1] |= dict(checkpoint=["gone.pth"], bundle="gone")
    path = tmp_path / "table.py"
    path.write_text(f"rows = {rows}\n")
    assert [row.name for row in read_comparison(path, only=["a"]).only(["a"]).rows] == ["a"]
    for only in (None, ["b"], ["a", "b"]):
        with pytest.raises(RowError, match=r"^row 'b': checkpoint not found: gone.pth$"):
            read_comparison(path, only=only)


def test_lists_of_figures_make_a_row_each(trained):
    entries = [
        entry(trained, "few", "videoiq", frames=dict(mode="4", count=[4, 2])),
        entry(trained, "gate", "videoiq", difference=dict(mode=32, processed=[0.5])),
        entry(trained, "ours", "videoiq", multiplier=[-1, 0.5]),
    ]
    rows = make_rows(entries, folder=trained)
    assert [(row.name, row.curve, row.value) for row in rows] == [
        ("few@4", "few", dict(mode="4", count=4)),
        ("few@2", "few", dict(mode="4", count=2)),
        ("gate@0.5", "gate", dict(mode=32, processed=0.5)),
        ("ours@-1", "ours", -1),
        ("ours@0.5", "ours", 0.5),
    ]


def test_each_data_set_has_its_options(trained, tmp_path):
    options = {"test_dataloader.dataset.ann_file": "b.txt"}
    given = dict(cfg_options={"model.bits": 2})
    path = tmp_path / "table.py"
    one = entry(trained, "a", "float", config=str(trained / "float.py"), **given)
    path.write_text(f"rows = [{one}]\ndatasets = dict(all={{}}, b={options})\nkinds = '{tmp_path}'\n")
    comparison = read_comparison(path)
    found = dict(comparison.each_dataset())
    assert list(found) == ["all", "b"] and found["b"].name == "table, b" and found["b"].kinds == str(tmp_path)
    assert found["all"].rows[0].cfg_options == {"model.bits": 2}
    assert found["b"].rows[0].cfg_options == {"model.bits": 2} | options
    assert [name for name, _ in found["b"].each_dataset()] == [""]
    path.write_text(f"rows = [{one}]\nkinds = 'nowhere'\n")
    with pytest.raises(RowError, match="kinds=nowhere is not a folder"):
        read_comparison(path)


@pytest.mark.parametrize("name", ["demo", "gestures", "scenes", "scenes-sizes"])
def test_shipped_files_of_rows_can_be_read(name, tmp_path, monkeypatch):
    for stage in ("float", "any_precision", "lstm", *(f"policy/seed{seed}" for seed in range(3))):
        (tmp_path / stage).mkdir(parents=True)
        (tmp_path / stage / "best_acc_top1_epoch_1.pth").touch()
    (tmp_path / "policy/seed0/stage_config.py").touch()
    (tmp_path / "bundle").mkdir()
    (tmp_path / "bundle/manifest.json").touch()
    (tmp_path / "data").mkdir()
    for variable in ("DEMO", "TRAINED", "ONE_SIZE", "SPARING", "WITHOUT_SKIP"):
        monkeypatch.setenv(variable, str(tmp_path))
    for variable, folder in dict(DEMO_LSTM="lstm", BUNDLE="bundle", DATA_ROOT="data").items():
        monkeypatch.setenv(variable, str(tmp_path / folder))
    comparison = read_comparison(CONFIGS / f"baselines/{name}_compare.py")
    names = [row.name for row in comparison.rows]
    assert {"float", "videoiq", "random", "oracle", "videoiq@4", "early exit@0.9"} < set(names)
    assert ("videoiq, one size, cost weight 0.5" in names) == (name == "gestures")
    assert ("lstm" in names) == (name == "demo")
    fewer = {"videoiq, one size", "videoiq, without skip"}
    assert fewer & set(names) == (fewer if name in ("gestures", "scenes-sizes") else set())
    assert [each for each, _ in comparison.each_dataset()] == (
        ["both rooms", "room B"] if name == "gestures" else [""]
    )
    assert all(row.bundle == tmp_path / "bundle" for row in comparison.rows if row.name.startswith("videoiq"))
