"""What a command line names: files, folders, the zoo's bundles, the configs of the installation."""

import pytest

from mmvideoiq.service.sources import complete_config, find_config
from mmvideoiq.zoo import index


@pytest.mark.parametrize("name", ["videoiq/demo_recipe", "videoiq/demo_recipe.py"])
def test_a_config_by_its_name(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert find_config(name) == str(index.root() / "configs/videoiq/demo_recipe.py")
    (tmp_path / "videoiq").mkdir()
    (tmp_path / name).touch()
    assert find_config(name) == name  # a file that is there comes first


def test_what_is_nowhere_is_returned(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert find_config("videoiq/nothing") == "videoiq/nothing"


def test_names_of_configs_are_completed(tmp_path, monkeypatch):
    pytest.importorskip("argcomplete")
    monkeypatch.chdir(tmp_path)
    assert "videoiq/demo_recipe" in complete_config("videoiq/demo")
    assert complete_config("any") and not complete_config("videoiq/no")
