"""Registers the parts under test; their configs name parts of MMAction2 without a scope."""

import mmaction.models  # noqa: F401
import pytest
import torch
from mmengine.registry import DefaultScope, init_default_scope

import mmvideoiq.models  # noqa: F401
from tests.models.toys import build, float_recognizer, lived_in


@pytest.fixture(autouse=True)
def _one_thread():
    """Sums are taken in one order everywhere, and tiny tensors gain nothing from more."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(autouse=True)
def _mmaction_scope():
    """MMAction2's scope, as its runner sets it; names of scopes are global, so the old one is put back."""
    before = DefaultScope.get_current_instance()
    init_default_scope("mmaction")
    yield
    if before is not None and before.scope_name != "mmaction":
        init_default_scope(before.scope_name)


@pytest.fixture
def teacher(tmp_path):
    model = lived_in(build(float_recognizer(), seed=2), seed=2)
    torch.save(dict(state_dict=model.state_dict()), tmp_path / "teacher.pth")
    return dict(float_recognizer(), checkpoint=str(tmp_path / "teacher.pth"))
