"""What a command line names: files, folders, the zoo's bundles, the configs of the installation."""

import pytest

from mmvideoiq.service.sources import find_config
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
