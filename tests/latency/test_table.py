"""The table of milliseconds: its file is the cost of an action space, and the stage of a recipe that writes it."""

import json
from dataclasses import replace

import pytest
from mmengine.config import Config

from mmvideoiq.actions import ActionSpace
from mmvideoiq.latency import table
from mmvideoiq.recipes.checks import check_work_dir
from mmvideoiq.recipes.config import RecipeError, read_recipe
from mmvideoiq.recipes.plan import plan
from tests.conftest import ROOT


@pytest.fixture
def quick(monkeypatch):
    monkeypatch.setattr(table, "WARMUP", 0)
    monkeypatch.setattr(table, "REPEATS", 2)


@pytest.mark.slow
def test_the_table_of_a_config_is_a_cost(quick, load_tool, tmp_path):
    out = tmp_path / "latency.json"
    load_tool("benchmark.py").main(
        ["latency", str(ROOT / "configs/videoiq/demo_videoiq.py"), "--threads=1", f"--json={out}"]
    )
    found = json.loads(out.read_text())
    assert {"engine", "threads", "float_precision", "cpu", "frames", "actions", "policy"} == set(found)
    assert list(found["actions"]) == ["32", "4", "2", "skip"] and found["actions"]["skip"] == 0
    assert all(ms > 0 for name, ms in found["actions"].items() if name != "skip") and found["policy"] > 0
    costs = ActionSpace([dict(bits=32), dict(bits=4), dict(skip=1)], cost=str(out)).costs
    assert costs[1] / costs[0] == pytest.approx(found["actions"]["4"] / found["actions"]["32"])


@pytest.mark.slow
def test_the_table_that_a_config_names_may_not_exist_yet(quick):
    config = Config.fromfile(ROOT / "configs/videoiq/demo_videoiq.py")
    space = dict(actions=[dict(bits=32), dict(skip=1)], cost="gone.json")
    config.model.update(actions=space)
    found = table.measure_config(config, engine="openvino", threads=1)
    assert list(found["actions"]) == ["32", "skip"] and config.model.actions.cost == "gone.json"


def measured_demo(tmp_path):
    path, folder = tmp_path / "recipe.py", ROOT / "configs"
    configs = dict(
        float="float/demo_float.py",
        any_precision="any_precision/demo_any_precision.py",
        policy_backbone="policy_backbone/demo_policy_backbone.py",
        policy="videoiq/demo_videoiq.py",
    )
    stages = {name: dict(config=str(folder / config)) for name, config in configs.items()}
    base = f'_base_ = ["{folder}/_base_/recipes/four_stages.py"]\nname = "measured"'
    path.write_text(f'{base}\nstages = {stages}\nmeasure = dict(engine="openvino", threads=1)\n')
    return read_recipe(path)


def test_a_recipe_measures_before_the_policy_and_trains_against_it(quick, tmp_path):
    recipe, work = measured_demo(tmp_path), tmp_path / "work"
    runs = {run.name: run for run in plan(recipe, work)}
    assert list(runs)[3:5] == ["latency", "policy/seed0"]
    assert "cost" not in str(runs["latency"].config.model.actions)
    policy = runs["policy/seed0"].config
    space = dict(actions=[dict(bits=32), dict(bits=4), dict(bits=2), dict(skip=1)], cost="{latency}")
    assert policy.model.actions == policy.val_evaluator[1].actions == space
    config, out = tmp_path / "stage.py", work / "latency/latency.json"
    runs["latency"].config.dump(config)
    table.measure_stage(str(config), str(out), dict(recipe.measure))
    (work / "latency/state.json").write_text(
        json.dumps(dict(hash=runs["latency"].hash, checkpoint=str(out), metrics={}))
    )
    check_work_dir(recipe, list(runs.values()), work, resume=True)
    out.write_text(json.dumps(json.loads(out.read_text()) | dict(cpu="another")))
    with pytest.raises(RecipeError, match="stage 'latency' was measured on another, this machine has"):
        check_work_dir(recipe, list(runs.values()), work, resume=True)


def test_what_a_table_was_measured_with_is_part_of_its_hash(tmp_path):
    recipe, work = measured_demo(tmp_path), tmp_path / "work"
    one, two = (
        {
            run.name: run.hash
            for run in plan(replace(recipe, measure=dict(engine="openvino", threads=n)), work)
        }
        for n in (1, 2)
    )
    assert {name for name in one if one[name] != two[name]} >= {"latency", "policy/seed0"}
    assert one["float"] == two["float"]


def test_a_table_that_is_gone(tmp_path):
    recipe, work = measured_demo(tmp_path), tmp_path / "work"
    (latency,) = (run for run in plan(recipe, work) if run.name == "latency")
    gone = str(latency.folder / "latency.json")
    latency.folder.mkdir(parents=True)
    state = dict(hash=latency.hash, checkpoint=gone, metrics={}, files={gone: "0"})
    (latency.folder / "state.json").write_text(json.dumps(state))
    with pytest.raises(RecipeError, match=r"has finished, but its latency\.json is missing"):
        check_work_dir(recipe, [latency], work, resume=True)


def test_a_recipe_without_actions_has_nothing_to_measure(tmp_path):
    path = tmp_path / "recipe.py"
    stage = dict(name="float", config=str(ROOT / "configs/float/demo_float.py"))
    path.write_text(f'name = "plain"\nstages = [{stage}]\nmeasure = dict(engine="openvino")\n')
    with pytest.raises(RecipeError, match="no stage whose model has actions"):
        plan(read_recipe(path), tmp_path)
