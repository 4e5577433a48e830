"""The demo's table on the shipped checkpoints: the rows of a recipe, against the golden ones."""

import json
from pathlib import Path
from types import SimpleNamespace

import pytest
from mmengine.config import Config
from rich.console import Console

from mmvideoiq.data.synthetic import make_synthetic
from mmvideoiq.evaluation import evaluator, runner
from mmvideoiq.evaluation.config import Comparison
from mmvideoiq.evaluation.runner import Evaluation
from mmvideoiq.recipes.config import read_recipe
from mmvideoiq.recipes.evaluation import make_rows

ROOT = Path(__file__).resolve().parents[2]
GOLDEN = json.loads((ROOT / "tests/golden/demo_rows.json").read_text())
CLIPS = 48


def trained(stage: str, config: str, folder: Path, data: Path) -> SimpleNamespace:
    """A finished run of the demo whose checkpoint is the shipped one."""
    settings = Config.fromfile(ROOT / config)
    settings.test_dataloader.dataset.data_root = str(data)
    folder.mkdir()
    settings.dump(folder / "stage_config.py")
    checkpoint = str(ROOT / f"zoo/demo/demo_{'videoiq' if stage == 'policy' else stage}.pth")
    return SimpleNamespace(
        stage=SimpleNamespace(name=stage), folder=folder, seed=0, state=dict(checkpoint=checkpoint)
    )


def test_the_demo_s_rows_are_the_golden_ones(tmp_path, monkeypatch):
    monkeypatch.setattr(
        runner,
        "run_process",
        lambda function, kwargs, folder, console: evaluator.test_rows(
            kwargs["job"], lambda text, done=None: None
        ),
    )
    make_synthetic(tmp_path / "data", train=3, val=3, test=CLIPS, seed=0)
    recipe = read_recipe(ROOT / "configs/videoiq/demo_recipe.py")
    runs = [
        trained("float", "configs/float/demo_float.py", tmp_path / "float", tmp_path / "data"),
        trained("policy", "configs/videoiq/demo_videoiq.py", tmp_path / "policy", tmp_path / "data"),
    ]
    rows = make_rows(recipe, runs, None)
    evaluation = Evaluation(Comparison(name="demo", rows=rows), tmp_path / "out", console=Console(quiet=True))
    evaluation.test()
    assert [row["name"] for row in evaluation.rows] == [row["name"] for row in GOLDEN]
    for row, golden in zip(evaluation.rows, GOLDEN, strict=True):
        # another processor may round one clip, or a few frames, to the other side
        assert row["top1"] == pytest.approx(golden["top1"], abs=1.01 / CLIPS), row["name"]
        loose = row["name"] in ("random", "videoiq")
        for key in ("cost", "gflops", "bitops"):
            assert row[key] == pytest.approx(golden[key], rel=0.05 if loose else 1e-12), (row["name"], key)
        for name, share in golden["usage"].items():
            assert row["usage"][name] == pytest.approx(share, abs=0.01 if loose else 0), (row["name"], name)
    trace = json.loads(Path(evaluation.traces["videoiq"][0]).read_text())
    assert len(trace) == CLIPS and len(trace[0]["actions"]) == 6


def test_each_mode_has_a_row(tmp_path):
    recipe = read_recipe(ROOT / "configs/videoiq/demo-sizes_recipe.py")
    run = trained("policy", "configs/videoiq/demo-sizes_videoiq.py", tmp_path / "policy", tmp_path / "data")
    rows = {row.name: row.value for row in make_rows(recipe, [run], None) if row.override == "precision"}
    modes = (32, "32@28", 4, "4@28", 2, "2@28")
    assert rows == {f"fixed-{mode}": mode for mode in modes}
