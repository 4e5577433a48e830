"""The checks before a training."""

import pytest

from mmvideoiq.recipes.checks import check_runs
from mmvideoiq.recipes.config import RecipeError
from mmvideoiq.recipes.plan import plan


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
