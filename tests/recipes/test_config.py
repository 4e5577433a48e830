"""Recipes: reading and checking them."""

import pytest

from mmvideoiq.recipes.config import RecipeError, read_recipe

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
        (recipe(f"[{STAGE}, 'b.py']"), "stage 1 must be a dict, got 'b.py'"),
        (recipe("'stage.py'"), "'stages' must be a list or a dict, got 'stage.py'"),
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
