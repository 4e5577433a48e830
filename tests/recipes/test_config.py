"""Recipes: reading them, their hashes, and the checks before a training."""

import pytest

from mmvideoiq.recipes.config import RecipeError, check_runs, fill, plan, read_recipe

STAGE = "dict(name='a', config='stage.py')"


def recipe(stages: str) -> str:
    return f"name = 'x'\nstages = {stages}"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("name = 'x'", "'stages' is missing"),
        (recipe("[]"), "'stages' is empty"),
        (recipe(f"[{STAGE}]\nspeed = 3"), "unknown key 'speed'"),
        (recipe("[dict(name='a', config='gone.py')]"), "config gone.py does not exist"),
        (recipe("[dict(name='a', config='stage.py', seeds=[])]"), "seeds must be different"),
        (recipe("[dict(name='a', config='stage.py', seeds=[1, 1])]"), "seeds must be different"),
        (recipe("[dict(name='data', config='stage.py')]"), "no other stage or folder"),
        (recipe(f"[{STAGE}] * 2"), "no other stage or folder"),
        (recipe("[dict(name='a', config='stage.py', cfg_options=dict(x='{b}'))]"), "'{b}' is not an earlier"),
        (
            recipe(
                "[dict(name='s', config='stage.py', seeds=[0, 1]), "
                "dict(name='a', config='stage.py', cfg_options=dict(m=[dict(c='{s}')]))]"
            ),
            "'{s}' has several seeds",
        ),
        (recipe(f"[{STAGE}]\nevaluate = dict(videoiq='a', thread=1)"), "evaluate: unknown key 'thread'"),
        (recipe(f"[{STAGE}]\nevaluate = dict(videoiq='a', threads=0)"), "threads=0 must be an integer of at"),
        (
            recipe(f"[{STAGE}]\nmeasure = dict(engine='openvino', threads='2')"),
            "threads='2' must be an integer",
        ),
        (recipe("["), "cannot be read"),
        (recipe("dict(a='stage.py')"), "stage 'a' must be a dict, got 'stage.py'"),
        (recipe("dict(a=dict(seeds=[0]))"), "stage 'a': 'config' is missing"),
    ],
)
def test_invalid_recipes(toy, text, message):
    toy.write(text)
    with pytest.raises(RecipeError, match=message) as error:
        read_recipe(toy.path)
    assert "\n" not in str(error.value)


def test_a_missing_recipe_and_a_missing_fast_section(toy, tmp_path):
    with pytest.raises(RecipeError, match="no such file"):
        read_recipe(tmp_path / "gone.py")
    toy.write(recipe(f"[{STAGE}]"))
    with pytest.raises(RecipeError, match="no 'fast' section"):
        read_recipe(toy.path, fast=True)


def test_recipes_inherit(toy):
    """Stages by name, from another recipe: what is changed is changed, the rest and the order stay."""
    toy.path.with_name("base.py").write_text(
        "stages = dict(first=dict(), second=dict(cfg_options={'load_from': '{first}'}, seeds=[0, 1]))\n"
        "fast = dict(seeds=[5])\n"
    )
    toy.write(
        "_base_ = ['./base.py']\nname = 'toy'\nstages = dict(second=dict(config='stage.py', "
        "cfg_options={'model.width': 2}), first=dict(config='stage.py'))\n"
    )
    found = read_recipe(toy.path)
    assert [stage.name for stage in found.stages] == ["first", "second"]
    assert found.stages[1].cfg_options == {"load_from": "{first}", "model.width": 2}
    assert found.stages[1].seeds == (0, 1) and read_recipe(toy.path, fast=True).stages[1].seeds == (5,)


def test_fast_changes_what_it_names_and_nothing_else(toy):
    slow, fast = toy.recipe(), toy.recipe(fast=True)
    assert [stage.seeds for stage in fast.stages] == [None, (5,)]
    options = {"train_cfg.max_epochs": 1}
    assert fast.stages[0].cfg_options == options
    assert fast.stages[1].cfg_options == options | {"load_from": "{first}", "model.width": 2}
    assert [stage.config for stage in fast.stages] == [stage.config for stage in slow.stages]
    assert not slow.fast and fast.fast


def test_fill_reaches_every_string_and_leaves_other_braces():
    value = {"a": "{float}", "b": ["x/{float}/y", ("{work_dir}", 3)], "c": "{other} {}"}
    filled = fill(value, {"float": "f.pth", "work_dir": "w"})
    assert filled == {"a": "f.pth", "b": ["x/f.pth/y", ("w", 3)], "c": "{other} {}"}
    assert fill("{float}", {"float": None}) is None


def test_hashes_follow_the_stages_built_on(toy, tmp_path):
    def hashes(folder="a", first="", **options):
        toy.recipe(**options)
        toy.write(toy.path.read_text().replace('"first",', f'"first", {first}'))
        return [run.hash for run in plan(read_recipe(toy.path), tmp_path / folder)]

    before = hashes()
    assert len(set(before)) == 3  # one for the first stage, one per seed of the second
    assert hashes(folder="b") == before
    second = hashes(model__width=3)
    assert second[0] == before[0] and not set(second[1:]) & set(before)
    assert not set(hashes(first='cfg_options={"x": 1},')) & set(before)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (dict(model__width=0), "stage 'second/seed0'.*width=0 must be at least 1"),
        (dict(load_from="gone.pth"), "load_from gone.pth does not exist"),
        (dict(model__teacher=[dict(checkpoint="gone.pth")]), "checkpoint gone.pth does not exist"),
    ],
)
def test_all_models_and_weights_are_checked_before_training(toy, tmp_path, options, message):
    check_runs(plan(toy.recipe(), tmp_path), tmp_path)
    with pytest.raises(RecipeError, match=message):
        check_runs(plan(toy.recipe(**options), tmp_path), tmp_path)


def test_a_missing_list_and_the_variable_of_a_missing_file(toy, tmp_path):
    (tmp_path / "list.txt").rename(tmp_path / "other.txt")
    with pytest.raises(RecipeError, match=r"stage 'first'.*list.txt does not exist$"):
        check_runs(plan(toy.recipe(), tmp_path), tmp_path)
    with (tmp_path / "stage.py").open("a") as file:
        file.write('load_from = "{{$TOY_WEIGHTS:gone.pth}}"')
    with pytest.raises(RecipeError, match=r"load_from gone.pth does not exist; set TOY_WEIGHTS, from which"):
        check_runs(plan(toy.recipe(), tmp_path), tmp_path)


def test_what_shows_a_training_is_no_part_of_its_hash(toy):
    def hashes(text):
        config = toy.path.with_name("stage.py")
        whole = config.read_text()
        config.write_text(whole + text)
        found = [run.hash for run in plan(toy.recipe(), toy.folder / "work")]
        config.write_text(whole)
        return found

    shown = (
        'vis_backends = [dict(type="TensorboardVisBackend")]\nvisualizer = dict(vis_backends=vis_backends)\n'
    )
    assert hashes(shown) == hashes("")
    assert not set(hashes("train_cfg = dict(by_epoch=True, max_epochs=5)\n")) & set(hashes(""))
