"""Every shipped config builds; one of each family, on each kind of list, takes a training and a test step."""

import json
import socket
from pathlib import Path
from typing import Any

import pytest
import torch
from mmaction.registry import MODELS
from mmaction.structures import ActionDataSample
from mmengine.config import Config
from mmengine.evaluator import Evaluator
from mmengine.registry import DefaultScope
from mmengine.runner import Runner

from mmvideoiq.recipes.config import read_recipe
from mmvideoiq.recipes.plan import plan
from tests.data.published import make_benchmark

CONFIGS = Path(__file__).resolve().parents[1] / "configs"
FAMILIES = ("float", "any_precision", "policy_backbone", "videoiq")
LEAVES = sorted(p for p in CONFIGS.glob("[!_]*/*.py") if not p.stem.endswith(("_recipe", "_compare")))
RECIPES = sorted(CONFIGS.glob("*/*_recipe.py"))
LONGEST_LEAF = 15
SMALL = [
    (f"{family}/{task}_{family}.py", size)
    for family in FAMILIES
    for task, size in (("demo", 64), ("scenes", 84 if family == "policy_backbone" else 112))
]
# of each kind of list one benchmark: its config's media and what stands in its lists
FORMATS = [
    ("mini_kinetics", "videos"),  # one label, names that hold spaces
    ("activitynet", "videos"),  # several labels
    pytest.param("mini_kinetics", "rawframes", marks=pytest.mark.slow),
    pytest.param("fcvid", "rawframes", marks=pytest.mark.slow),  # several labels
]
STAGES = {
    "float": "float_r18",
    "any_precision": "any_precision_r18",
    "policy_backbone": "policy_backbone_mbv2",
    "videoiq": "videoiq_r18",
}
FRAMES, SIDE, FRAME = 2, 96, 88  # instead of 16 frames, 256 and 224 pixels


@pytest.fixture(autouse=True)
def plugin():
    import mmvideoiq.plugin  # noqa: F401

    with DefaultScope.overwrite_default_scope("mmaction"):
        yield


@pytest.fixture
def offline(monkeypatch):
    def refuse(*_):
        raise AssertionError("building a model must not reach for the network")

    monkeypatch.setattr(socket.socket, "connect", refuse)


def identify(path: Path) -> str:
    return str(path.relative_to(CONFIGS))


BUILT: set[str] = set()  # what models that differ at most in their number of classes have in common


@pytest.mark.parametrize("path", LEAVES, ids=identify)
def test_every_config_builds(path, offline):
    config = Config.fromfile(path)
    assert config.model.cls_head.num_classes == config.num_classes
    assert config.model.data_preprocessor == config.data_preprocessor
    counts = set(of_key("num_classes", config.model.to_dict()))
    assert counts <= {config.num_classes, None}, "the model's parts differ in their classes"
    same = json.dumps(config.model.to_dict(), sort_keys=True).replace(
        f'"num_classes": {config.num_classes}', ""
    )
    if same in BUILT:
        return
    model = MODELS.build({**config.model, "_scope_": "mmaction"})
    if path.parent.name in FAMILIES:
        assert any(p.requires_grad for p in model.parameters()), "nothing would learn"
    BUILT.add(same)


def of_key(key: str, value: Any) -> list:
    """Everything that ``key`` stands for in a nested config."""
    found = []
    for name, item in value.items() if isinstance(value, dict) else enumerate(value):
        if name == key:
            found.append(item)
        elif isinstance(item, (dict, list, tuple)):
            found += of_key(key, item)
    return found


@pytest.mark.parametrize("path", LEAVES, ids=identify)
def test_a_leaf_is_short(path):
    assert len(path.read_text().splitlines()) <= LONGEST_LEAF


def test_the_papers_leaves_are_all_there():
    for data in ("activitynet", "fcvid", "mini_sports1m", "mini_kinetics"):
        for depth in (18, 50):
            for family, name in STAGES.items():
                stem = f"{name.replace('r18', f'r{depth}')}_16f_{data}"
                assert (CONFIGS / family / f"{stem}.py").is_file(), stem
            assert (CONFIGS / f"videoiq/videoiq_r{depth}_16f_{data}_recipe.py").is_file()


@pytest.mark.parametrize("path", RECIPES, ids=identify)
def test_every_recipe_reads(path, tmp_path):
    for fast in (False, True):
        recipe = read_recipe(path, fast=fast)
        assert [stage.name for stage in recipe.stages] == [
            "float",
            "any_precision",
            "policy_backbone",
            "policy",
        ]
    runs = plan(recipe, tmp_path)  # with the hand-over merged into the configs
    for run in runs:
        assert run.config.train_cfg.max_epochs == 1
        if run.config.model.get("teacher"):
            assert run.config.model.teacher.checkpoint == "{float}"
    metric = (recipe.evaluate or {}).get("metric", "acc/top1")
    evaluator = runs[0].config.test_evaluator
    assert metric.removeprefix("acc/").replace("top1", "top_k_accuracy") in evaluator.metric_list


def test_the_papers_numbers():
    """Where the paper says one (arXiv:2108.10394), it is what reaches the optimizer and the policy."""
    config = Config.fromfile(CONFIGS / "videoiq/videoiq_r18_16f_activitynet.py")
    assert config.train_dataloader.batch_size == config.auto_scale_lr.base_batch_size == 72
    assert config.custom_hooks == [dict(type="GumbelTemperatureHook", initial=5.0, decay=0.956)]
    model = MODELS.build(config.model)
    rates = rates_of(model, config)
    assert rates["policy.head.lstm.weight_ih_l0"] == rates["cls_head.fc_cls.weight"] == (0.01, 5e-4)
    assert rates["policy.backbone.conv1.conv.weight"] == (pytest.approx(0.001), 5e-4)
    assert not any(name.startswith(("backbone.", "teacher.")) for name in rates)
    assert [loss.weight for loss in model.losses.values()] == [0.16, 0.5, 0.1]
    assert model.distill.weight == 1 and model.actions.names == ("32", "4", "2", "skip")

    config = Config.fromfile(CONFIGS / "any_precision/any_precision_r18_16f_fcvid.py")
    rates = rates_of(MODELS.build(config.model), config)
    clips = {name: rate for name, rate in rates.items() if ".clip." in name}
    assert {name.rpartition(".")[2] for name in clips} == {"4", "2"}
    for name, rate in clips.items():
        assert rate == pytest.approx((0.01, 6e-2) if name.endswith(".2") else (0.1, 5e-4))
    assert rates["cls_head.fc_cls.weight"] == (0.01, 5e-4)


def rates_of(model: torch.nn.Module, config: Config) -> dict[str, tuple[float, float]]:
    """Learning rate and weight decay of each parameter that learns."""
    groups = Runner.build_optim_wrapper(_RunnerOf(model), config.optim_wrapper).optimizer.param_groups
    names = {id(parameter): name for name, parameter in model.named_parameters() if parameter.requires_grad}
    return {names[id(p)]: (g["lr"], g["weight_decay"]) for g in groups for p in g["params"] if id(p) in names}


# --- steps on arrays ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name, size", SMALL)
def test_family_takes_a_training_and_a_test_step(name, size):
    config = Config.fromfile(CONFIGS / name)
    model = MODELS.build(config.model)
    samples = [ActionDataSample().set_gt_label(label) for label in (0, 1)]
    clips = [torch.randint(0, 256, (2, 3, size, size), dtype=torch.uint8) for _ in samples]
    batch = dict(inputs=clips, data_samples=samples)
    check_training_step(model, config, batch)
    check_test_step(model, config, batch, frames=2)


# --- steps on a benchmark's own files -------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def benchmark(tmp_path_factory):
    made: dict[tuple[str, str], Path] = {}

    def folder(name: str, media: str) -> Path:
        if (name, media) not in made:
            path = tmp_path_factory.mktemp(f"{name}_{media}")
            made[name, media] = make_benchmark(path, name, media)
        return made[name, media]

    return folder


@pytest.fixture
def load(benchmark, monkeypatch):
    """A config that reads a small benchmark, with smaller frames."""

    def go(path: str, name: str, media: str) -> Config:
        monkeypatch.setenv("DATA_ROOT", str(benchmark(name, media)))
        monkeypatch.setenv("MEDIA", media)
        config = Config.fromfile(CONFIGS / path)
        for split in ("train", "val", "test"):
            loader = config[f"{split}_dataloader"]
            loader.update(batch_size=3, num_workers=0, persistent_workers=False)
            for step in loader.dataset.pipeline:
                shrink(step)
        if config.model.get("num_frames"):
            config.model.num_frames = FRAMES
        return config

    return go


def shrink(step: dict) -> None:
    sizes = {256: SIDE, 224: FRAME}
    for key in ("crop_size", "input_size"):
        if key in step:
            step[key] = sizes.get(step[key], step[key])
    if "scale" in step:
        step["scale"] = tuple(sizes.get(side, side) for side in step["scale"])
    if "num_clips" in step:
        step["num_clips"] = FRAMES


def first_batch(config: Config, split: str) -> dict:
    return next(iter(Runner.build_dataloader(config[f"{split}_dataloader"], seed=0)))


@pytest.mark.parametrize("name, media", FORMATS)
@pytest.mark.parametrize("family", FAMILIES)
def test_steps_through_the_real_pipeline(family, name, media, load):
    config = load(f"{family}/{STAGES[family]}_16f_{name}.py", name, media)
    model = MODELS.build(config.model)
    batch = first_batch(config, "train")
    size = 84 if family == "policy_backbone" else FRAME
    assert [tuple(clip.shape) for clip in batch["inputs"]] == [(FRAMES, 3, size, size)] * 3
    several = name in ("activitynet", "fcvid")
    assert [len(s.gt_label) for s in batch["data_samples"]] == [config.num_classes if several else 1] * 3
    if several:
        assert sorted(int(s.gt_label.sum()) for s in batch["data_samples"]) == [1, 1, 2]
    check_training_step(model, config, batch)

    batch = first_batch(config, "test")
    results = check_test_step(model, config, batch, frames=FRAMES)
    evaluators = config.test_evaluator if isinstance(config.test_evaluator, list) else [config.test_evaluator]
    evaluator = Evaluator(evaluators)
    evaluator.process(results, batch)
    metrics = evaluator.evaluate(len(results))
    assert 0 <= metrics["acc/mean_average_precision" if several else "acc/top1"] <= 1
    assert ("cost/mean_cost" in metrics) == (family == "videoiq")


def test_several_views_through_the_real_pipeline(load):
    """2 clips x 3 crops: each is a clip of its own for the policy."""
    config = load("videoiq/videoiq_r50_16f-6views_mini_kinetics.py", "mini_kinetics", "videos")
    r18 = load("videoiq/videoiq_r18_16f_mini_kinetics.py", "mini_kinetics", "videos")
    model = MODELS.build(r18.model).eval()
    batch = first_batch(config, "test")
    assert batch["inputs"][0].shape == (6 * FRAMES, 3, SIDE, SIDE)
    with torch.no_grad():
        results = model.test_step(batch)
        views = [clip.unflatten(0, (6, FRAMES)) for clip in batch["inputs"]]
        for result, clips in zip(results, views, strict=True):
            samples = [ActionDataSample().set_gt_label(0) for _ in clips]
            alone = model.test_step(dict(inputs=list(clips), data_samples=samples))
            torch.testing.assert_close(
                result.pred_score, torch.stack([view.pred_score for view in alone]).mean(0)
            )
            assert torch.equal(result.policy_actions, torch.cat([view.policy_actions for view in alone]))
    left, right = (batch["inputs"][0].unflatten(0, (3, 2, FRAMES))[crop] for crop in (0, 1))
    assert not torch.equal(left, right)


def check_training_step(model: torch.nn.Module, config: Config, batch: dict) -> None:
    """The loss is finite, something learns, and what is frozen stays."""
    wrapper = Runner.build_optim_wrapper(_RunnerOf(model), config.optim_wrapper)
    before = {n: p.detach().clone() for n, p in model.named_parameters()}
    model.train()
    logged = model.train_step(batch, wrapper)
    assert torch.isfinite(logged["loss"])
    after = dict(model.named_parameters())
    assert any(not torch.equal(before[n], after[n]) for n in before)
    assert all(torch.equal(before[n], p) for n, p in after.items() if not p.requires_grad)


def check_test_step(model: torch.nn.Module, config: Config, batch: dict, *, frames: int) -> list[dict]:
    """Scores of every class, and of a policy its choices."""
    model.eval()
    with torch.no_grad():
        results = model.test_step(batch)
    for sample in results:
        assert sample.pred_score.shape == (config.num_classes,)
        assert torch.isclose(sample.pred_score.sum(), torch.tensor(1.0), atol=1e-4)
        if config.model.type == "VideoIQRecognizer":
            assert sample.policy_actions.shape == (frames,)
            assert 0 <= sample.cost["mean_cost"] <= 1
    return [sample.to_dict() for sample in results]


class _RunnerOf:
    """The one thing that MMEngine's ``build_optim_wrapper`` asks of a runner."""

    def __init__(self, model: torch.nn.Module) -> None:
        self.model = model
