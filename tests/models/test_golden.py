"""Losses of a short training, step by step, as they were when last looked at.

After a deliberate numeric change, write them anew and say in the commit what changed and why:
``MMVIDEOIQ_WRITE_GOLDEN=1 python -m pytest tests/models/test_golden.py``
"""

import json
import os
from pathlib import Path

import pytest

import mmvideoiq.hooks  # noqa: F401
from tests.models.toy_runs import config, train
from tests.models.toys import any_precision, any_precision_recognizer, policy, videoiq

FOLDER = Path(__file__).parents[1] / "golden"
WRITE = "MMVIDEOIQ_WRITE_GOLDEN"
TEMPERATURE = dict(type="GumbelTemperatureHook")
STAGES = {
    "any_precision_dorefa": (any_precision_recognizer(), []),
    "any_precision_nested": (
        any_precision_recognizer(
            backbone=any_precision(precisions=(8, 4, 2), weight=dict(type="nested")), distill=None
        ),
        [],
    ),
    "policy": (videoiq(policy=policy(dropout_ratio=0.2)), [TEMPERATURE]),
    "joint": (videoiq(policy=policy(dropout_ratio=0.2), frozen=()), [TEMPERATURE]),
}


@pytest.mark.parametrize("name", STAGES)
def test_losses_are_those_written_down(name, tmp_path):
    model, hooks = STAGES[name]
    hooks = [dict(type="EpochSeedHook"), *hooks]
    _, steps = train(config(model, tmp_path, epochs=4, custom_hooks=hooks))
    assert len(steps) == 8
    path = FOLDER / f"{name}.json"
    if os.environ.get(WRITE):
        FOLDER.mkdir(exist_ok=True)
        path.write_text(json.dumps(steps, indent=1) + "\n")
        pytest.skip(f"wrote {path.name}")
    expected = json.loads(path.read_text())
    for number, (step, wanted) in enumerate(zip(steps, expected, strict=True)):
        assert step == pytest.approx(wanted, rel=1e-4, abs=1e-5), f"step {number}; {WRITE}=1 writes anew"
