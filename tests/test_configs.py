"""Every shipped config builds; one of each family takes a training step and a test step."""

from pathlib import Path

import pytest
import torch
from mmaction.registry import MODELS
from mmaction.structures import ActionDataSample
from mmengine.config import Config
from mmengine.runner import Runner

from mmvideoiq.recipe import read_recipe

CONFIGS = Path(__file__).resolve().parents[1] / "configs"
LEAVES = sorted(p for p in CONFIGS.glob("[!_]*/*.py") if not p.stem.endswith("_recipe"))
RECIPES = sorted(CONFIGS.glob("*/*_recipe.py"))
FAMILIES = [
    (f"{family}/{task}_{family}.py", size)
    for family in ("float", "any_precision", "policy_backbone", "videoiq")
    for task, size in (("demo", 40), ("scenes", 84 if family == "policy_backbone" else 112))
]


@pytest.fixture(autouse=True)
def plugin():
    import mmvideoiq.plugin  # noqa: F401


def identify(path: Path) -> str:
    return str(path.relative_to(CONFIGS))


@pytest.mark.parametrize("path", LEAVES, ids=identify)
def test_every_config_builds(path):
    config = Config.fromfile(path)
    model = MODELS.build({**config.model, "_scope_": "mmaction"})
    names = [name for name, parameter in model.named_parameters() if parameter.requires_grad]
    assert names, "nothing would learn"
    assert config.model.cls_head.num_classes == config.num_classes
    assert config.model.data_preprocessor == config.data_preprocessor


@pytest.mark.parametrize("path", RECIPES, ids=identify)
def test_every_recipe_reads(path):
    for fast in (False, True):
        assert next(stage.name for stage in read_recipe(path, fast=fast).stages) == "float"


@pytest.mark.parametrize("name, size", FAMILIES)
def test_family_takes_a_training_and_a_test_step(name, size):
    config = Config.fromfile(CONFIGS / name)
    torch.manual_seed(0)
    model = MODELS.build({**config.model, "_scope_": "mmaction"})
    samples = [ActionDataSample().set_gt_label(label) for label in (0, 1)]
    clips = [torch.randint(0, 256, (2, 3, size, size), dtype=torch.uint8) for _ in samples]
    batch = dict(inputs=clips, data_samples=samples)
    wrapper = Runner.build_optim_wrapper(_RunnerOf(model), config.optim_wrapper)
    before = {n: p.detach().clone() for n, p in model.named_parameters()}
    model.train()
    logged = model.train_step(batch, wrapper)
    assert torch.isfinite(logged["loss"])
    after = dict(model.named_parameters())
    assert any(not torch.equal(before[n], after[n]) for n in before)
    assert all(torch.equal(before[n], p) for n, p in after.items() if not p.requires_grad)

    model.eval()
    with torch.no_grad():
        results = model.test_step(batch)
    for sample in results:
        assert sample.pred_score.shape == (config.num_classes,)
        assert torch.isclose(sample.pred_score.sum(), torch.tensor(1.0), atol=1e-4)
        if "videoiq" in name:
            assert sample.policy_actions.shape == (2,)
            assert 0 <= sample.cost["mean_cost"] <= 1


class _RunnerOf:
    """The one thing that the host's ``build_optim_wrapper`` asks of a runner."""

    def __init__(self, model: torch.nn.Module) -> None:
        self.model = model
