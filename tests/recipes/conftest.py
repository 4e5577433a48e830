"""A recipe of two stages on a model of two parameters."""

import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from mmvideoiq.recipes import runner, train_stage
from mmvideoiq.recipes.config import Recipe, read_recipe
from tests.conftest import ROOT

MODULE = '''
import time
import torch
from mmengine.model import BaseModel
from mmengine.registry import DATASETS, MODELS

@DATASETS.register_module(force=True)
class ToyClips(torch.utils.data.Dataset):
    def __init__(self, ann_file):
        self.points = torch.linspace(-1, 1, 12)
    def __len__(self):
        return len(self.points)
    def __getitem__(self, i):
        return dict(inputs=self.points[i])

@MODELS.register_module(force=True)
class ToyModel(BaseModel):
    """Learns y = 3x through noise, so that a resumed training has to draw the same noise."""
    def __init__(self, seconds=0.0, teacher=None, width=1, invalid_from=None, ballast=0):
        super().__init__()
        if width < 1:
            raise ValueError(f"width={width} must be at least 1")
        self.seconds = seconds
        self.steps = 0
        self.invalid_from = invalid_from
        self.register_buffer("ballast", torch.zeros(ballast))
        self.layer = torch.nn.Linear(1, 1)
    def forward(self, inputs, mode="loss"):
        time.sleep(self.seconds)
        inputs = torch.stack(inputs)
        noisy = inputs + 0.1 * torch.randn(len(inputs))
        self.steps += 1
        loss = (self.layer(noisy[:, None])[:, 0] - 3 * inputs).square().mean()
        other = float("inf") if self.steps == self.invalid_from else 0.0
        return dict(loss_square=loss, loss_other=0 * loss + other)
'''

CONFIG = """
custom_imports = dict(imports=["toy_stage", "mmvideoiq.hooks"], allow_failed_imports=False)
default_scope = "mmengine"
model = dict(type="ToyModel")
train_dataloader = dict(
    batch_size=4, num_workers=0, sampler=dict(type="DefaultSampler", shuffle=True),
    dataset=dict(type="ToyClips", ann_file={ann_file!r}),
)
train_cfg = dict(by_epoch=True, max_epochs=4)
optim_wrapper = dict(optimizer=dict(type="SGD", lr=0.1, momentum=0.9))
default_hooks = dict(checkpoint=dict(type="CheckpointHook", interval=1, max_keep_ckpts=2))
custom_hooks = [dict(type="mmaction.EpochSeedHook")]
"""

RECIPE = """
name = "toy"
stages = [
    dict(name="first", config="stage.py"),
    dict(name="second", config="stage.py", cfg_options={"load_from": "{first}"}, seeds=[0, 1]),
]
fast = dict(cfg_options={"train_cfg.max_epochs": 1}, seeds=[5], stages={"second": {"model.width": 2}})
"""


class Toy:
    """The recipe's files in ``folder``."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.path = folder, folder / "recipe.py"
        (folder / "toy_stage.py").write_text(MODULE)
        (folder / "list.txt").write_text("a 0\n")
        (folder / "stage.py").write_text(CONFIG.format(ann_file=str(folder / "list.txt")))
        self.write()

    def write(self, text: str = RECIPE) -> None:
        self.path.write_text(textwrap.dedent(text))

    def recipe(self, *, fast: bool = False, add: str = "", **options: object) -> Recipe:
        """The recipe with further text and ``options`` (``load_from=..., model__width=...``) of its second stage."""
        changed = {"load_from": "{first}"} | {key.replace("__", "."): value for key, value in options.items()}
        self.write(RECIPE.replace('{"load_from": "{first}"}', repr(changed)) + add)
        return read_recipe(self.path, fast=fast)

    def command(self, work_dir: Path) -> tuple[list[str], dict]:
        """The command that runs the recipe, and options for ``subprocess``."""
        argv = [
            sys.executable,
            str(ROOT / "tools/train_stages.py"),
            str(self.path),
            "--work-dir",
            str(work_dir),
        ]
        environment = os.environ | {"PYTHONPATH": str(self.folder), "OMP_NUM_THREADS": "1"}
        pipes = dict(stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        return argv, dict(env=environment, cwd=ROOT, text=True, **pipes)


@pytest.fixture
def toy(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "toy_stage", raising=False)
    return Toy(tmp_path)


@pytest.fixture
def in_process(monkeypatch):
    """Run the stages' jobs in this process; returns the list of folders trained in."""
    trained = []

    class Silent:
        """Progress that is not shown."""

        def __call__(self, text, done=None, *, log=True): ...

        def begin(self): ...

    def run(function, kwargs, folder, console, **options):
        if function != runner.TRAIN:
            return {}
        trained.append(folder)
        return train_stage.train(kwargs["config"], Silent())

    monkeypatch.setattr(runner, "run_process", run)
    return trained
