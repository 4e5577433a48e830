"""Small models of each kind, with random weights, on eight tiny videos."""

from pathlib import Path

import pytest
import torch
from mmengine.config import Config

from mmvideoiq.evaluation import evaluator, runner

BACKBONE = dict(type="SlimResNet", base_channels=4, stage_blocks=(1, 1))
ANY = dict(type="AnyPrecisionBackbone", backbone=BACKBONE)
HEAD = dict(type="TSNHead", num_classes=2, in_channels=8, dropout_ratio=0.0, average_clips="prob")
MODELS = {
    "float": dict(type="Recognizer2D", backbone=BACKBONE, cls_head=HEAD),
    "exit": dict(type="EarlyExitRecognizer", backbone=BACKBONE, cls_head=HEAD),
    "any": dict(type="AnyPrecisionRecognizer", backbone=ANY, cls_head=HEAD),
    "ensemble": dict(type="PrecisionEnsemble", backbone=ANY, cls_head=HEAD),
    "videoiq": dict(
        type="VideoIQRecognizer",
        backbone=ANY,
        policy=dict(
            type="PrecisionPolicy",
            input_size=16,
            backbone=BACKBONE,
            head=dict(type="PolicyHead", in_channels=8, hidden=8),
        ),
        cls_head=dict(type="FrameAverageHead", num_classes=2, in_channels=8, topk=(1,)),
        actions=[dict(bits=32), dict(bits=4), dict(bits=2), dict(skip=1)],
    ),
}
WEIGHTS = {"float": "float", "exit": "float", "any": "any", "ensemble": "any", "videoiq": "videoiq"}


@pytest.fixture(scope="session")
def trained(tmp_path_factory, tsn_config):
    """A folder with a config per model, on eight tiny videos, and checkpoints with random weights."""
    import mmvideoiq.plugin  # noqa: F401

    folder = tmp_path_factory.mktemp("trained")
    base = Config.fromfile(tsn_config)
    for name, model in MODELS.items():
        config = Config(
            base.to_dict() | {"model": model | {"data_preprocessor": base.model.data_preprocessor}}
        )
        config.dump(folder / f"{name}.py")
        if WEIGHTS[name] == name:
            torch.manual_seed(0)
            save(build(config), folder / f"{name}.pth")
    return folder


def build(config):
    from mmaction.registry import MODELS as REGISTRY
    from mmengine.registry import init_default_scope

    init_default_scope("mmaction")
    return REGISTRY.build(config.model)


def save(model, path):
    with torch.no_grad():  # a classifier with opinions
        model.cls_head.fc_cls.weight.normal_(0, 2)
    torch.save({"state_dict": model.state_dict()}, path)


def entry(folder: Path, name: str, model: str, **more) -> dict:
    files = dict(config=f"{model}.py", checkpoint=str(folder / f"{WEIGHTS[model]}.pth"))
    return dict(name=name) | files | more


@pytest.fixture
def in_process(monkeypatch):
    """Test rows in this process; returns the names of those that were tested."""
    tested = []

    def run(function, kwargs, folder, console):
        job = kwargs["job"]
        tested.extend(row["name"] for row in job["rows"])
        return evaluator.test_rows(job, lambda text, done=None: None)

    monkeypatch.setattr(runner, "run_process", run)
    return tested
