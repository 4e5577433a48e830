"""Fixtures of the deployment tests."""

import shutil
from pathlib import Path

import pytest

from tests.deploy.toy_bundle import make_toy_bundle


@pytest.fixture(scope="session")
def toy(tmp_path_factory) -> Path:
    """A bundle that tests leave as it is."""
    return make_toy_bundle(tmp_path_factory.mktemp("bundle") / "toy")


@pytest.fixture
def copy(toy, tmp_path) -> Path:
    """A bundle to damage."""
    return Path(shutil.copytree(toy, tmp_path / "copy"))


@pytest.fixture(scope="module")
def mmaction_scope():
    """MMAction2's registries are the default ones, and its log is silent."""
    from mmengine.logging import MMLogger
    from mmengine.registry import DefaultScope, init_default_scope

    before = DefaultScope.get_current_instance()
    init_default_scope("mmaction")
    MMLogger.get_current_instance().setLevel("ERROR")
    yield
    if before is not None:
        init_default_scope(before.scope_name)
