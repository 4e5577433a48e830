"""The hashes of a recipe's trainings."""

from mmvideoiq.recipes.config import read_recipe
from mmvideoiq.recipes.plan import plan


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
