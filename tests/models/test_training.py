"""Both recognizers under MMEngine's runner: which parts change, and MMEngine's optim wrappers."""

import pytest
import torch
from mmaction.registry import MODELS
from mmengine.hooks import Hook
from safetensors import safe_open

import mmvideoiq.hooks  # noqa: F401, registers them
from tests.models.toy_runs import config, preprocessor, train
from tests.models.toys import (
    CLASSES,
    any_precision_recognizer,
    build,
    float_recognizer,
    lived_in,
    policy,
    total,
    videoiq,
)


@pytest.fixture
def teacher(tmp_path):
    model = lived_in(build(float_recognizer(), seed=2), seed=2)
    torch.save(dict(state_dict=model.state_dict()), tmp_path / "teacher.pth")
    return dict(float_recognizer(), checkpoint=str(tmp_path / "teacher.pth"))


def with_dropout(cfg):
    """The recognizer config with dropout in every head, the teacher's too."""
    for part in (cfg, cfg.get("teacher") or {}):
        if "cls_head" in part:
            part["cls_head"] = dict(part["cls_head"], dropout_ratio=0.5)
    return cfg


def moved_parts(cfg, tmp_path, **options):
    """Names of the top modules of which any parameter or buffer changed in one epoch."""
    start = lived_in(build(cfg))
    torch.save(dict(state_dict=start.state_dict()), tmp_path / "start.pth")
    runner, steps = train(config(cfg, tmp_path, load_from=str(tmp_path / "start.pth"), **options))
    before = start.state_dict()
    after = runner.model.state_dict()
    assert set(after) == set(before) and len(steps) > 0
    moved = {name for name in after if not torch.equal(after[name], before[name])}
    return {name.split(".")[0] for name in moved}, moved


def test_policy_stage_moves_the_policy_and_the_classifier_alone(tmp_path, teacher):
    cfg = with_dropout(videoiq(teacher=teacher, distill=dict(type="DistillationLoss")))
    parts, _ = moved_parts(cfg, tmp_path)
    assert parts == {"policy", "cls_head"}


def test_frozen_parts_give_the_same_output_while_training(teacher):
    """Their dropout and batch norm are off, in the middle of training too."""
    frozen = ("backbone", "cls_head")
    cfg = with_dropout(videoiq(teacher=teacher, distill=dict(type="DistillationLoss"), frozen=frozen))
    model = lived_in(build(cfg))
    features, processed = torch.randn(2, 3, 16), torch.ones(2, 3)
    for mode in (True, False, True):
        model.train(mode)
        for part in (model.backbone, model.cls_head, model.teacher):
            assert not any(module.training for module in part.modules())
        assert model.policy.training is mode
        assert torch.equal(model.cls_head(features, processed), model.cls_head(features, processed))


def test_frozen_classifier_stands_still(tmp_path):
    parts, _ = moved_parts(with_dropout(videoiq(frozen=("backbone", "cls_head"))), tmp_path)
    assert parts == {"policy"}


def test_joint_training_moves_everything(tmp_path):
    parts, moved = moved_parts(videoiq(frozen=()), tmp_path, epochs=2)
    assert parts == {"policy", "cls_head", "backbone"}
    for kind in ("conv1.conv.weight", "norms.2.running_mean", "norms.32.weight", "clip.2", "clip.4"):
        assert any(name.startswith("backbone.") and kind in name for name in moved), kind


def test_any_precision_stage_moves_everything_but_the_teacher(tmp_path, teacher):
    parts, moved = moved_parts(with_dropout(any_precision_recognizer(teacher=teacher)), tmp_path)
    assert parts == {"backbone", "cls_head"}
    still = set(MODELS.build(any_precision_recognizer()).state_dict()) - moved
    assert not {name for name in still if "clip" not in name}


def test_cached_features_train_the_same_network(tmp_path):
    weights = []
    for cached in (False, True):
        runner, _ = train(config(videoiq(cache_features=cached), tmp_path / str(cached), epochs=2))
        weights.append(runner.model.state_dict())
        if cached:
            assert len(runner.model.feature_cache) == 8
    for name, value in weights[0].items():
        torch.testing.assert_close(value, weights[1][name], rtol=1e-3, atol=1e-4, msg=name)


STAGES = [
    pytest.param(any_precision_recognizer(), id="any-precision"),
    pytest.param(videoiq(), id="policy"),
    pytest.param(videoiq(frozen=(), policy=policy(num_classes=CLASSES), policy_cls_weight=0.1), id="joint"),
]


@pytest.mark.parametrize("cfg", STAGES)
def test_mixed_precision_of_the_host(cfg, tmp_path, monkeypatch):
    """MMEngine wants a GPU for it; bfloat16 works on CPUs, so its check is lifted here."""
    monkeypatch.setattr("mmengine.optim.optimizer.amp_optimizer_wrapper.is_cuda_available", lambda: True)
    amp = dict(type="AmpOptimWrapper", dtype="bfloat16", loss_scale=dict(enabled=False))
    amp["optimizer"] = dict(type="SGD", lr=0.02)
    runner, steps = train(config(cfg, tmp_path, optim_wrapper=amp))
    plain = dict(type="OptimWrapper", optimizer=dict(type="SGD", lr=0.02))
    _, exact = train(config(cfg, tmp_path / "float", optim_wrapper=plain))
    assert steps[0]["loss"] != exact[0]["loss"]
    assert steps[0]["loss"] == pytest.approx(exact[0]["loss"], rel=0.2)
    for name, value in runner.model.state_dict().items():
        assert torch.isfinite(value).all() and value.dtype != torch.bfloat16, name


class Snapshots(Hook):
    """The weights and the batch of each step."""

    def __init__(self):
        self.weights, self.batches = [], []

    def before_train_iter(self, runner, batch_idx, data_batch=None):
        self.batches.append(data_batch)
        self.weights.append({k: v.detach().clone() for k, v in runner.model.named_parameters()})


@pytest.mark.parametrize("cfg", STAGES)
def test_gradient_accumulation_of_the_host(cfg, tmp_path):
    """Weights move at every second step, by the mean gradient of both."""
    wrapper = dict(type="OptimWrapper", accumulative_counts=2, optimizer=dict(type="SGD", lr=0.1))
    seen = Snapshots()
    train(config(cfg, tmp_path, optim_wrapper=wrapper, epochs=2), seen)
    first, second, third, _ = seen.weights
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert any(not torch.equal(first[name], third[name]) for name in first)
    if cfg["type"] != "AnyPrecisionRecognizer":
        return  # the policy's noise cannot be drawn again
    model = MODELS.build(dict(cfg, data_preprocessor=preprocessor())).train()
    model.load_state_dict(first, strict=False)
    for batch in seen.batches[:2]:
        data = model.data_preprocessor(batch, training=True)
        total(model(**data, mode="loss")).div(2).backward()
    for name, parameter in model.named_parameters():
        expected = first[name] - 0.1 * parameter.grad
        torch.testing.assert_close(third[name], expected, rtol=1e-4, atol=1e-5, msg=name)


class CountBackbone(Hook):
    """How often the backbone ran."""

    calls = 0

    def before_train(self, runner):
        runner.model.backbone.net.register_forward_pre_hook(lambda *_: setattr(self, "calls", self.calls + 1))


def test_another_policy_takes_the_features_from_a_file(tmp_path):
    start = lived_in(build(videoiq()))
    torch.save(dict(state_dict=start.state_dict()), tmp_path / "start.pth")
    hook = dict(type="FeatureCacheHook", path=str(tmp_path / "features.safetensors"))
    runs, ran = [], []
    for name in ("first", "second"):
        settings = config(
            videoiq(cache_features=True), tmp_path / name, load_from=str(tmp_path / "start.pth")
        )
        settings.custom_hooks = [*settings.get("custom_hooks", []), hook]
        settings.randomness = dict(seed=0)
        counter = CountBackbone()
        _, steps = train(settings, counter)
        runs.append([step["loss"] for step in steps])
        ran.append(counter.calls)
    assert runs[0] == runs[1] and ran[0] > ran[1] == 0
    with safe_open(tmp_path / "features.safetensors", "pt") as file:
        assert len(file.get_tensor("keys.0")) == 8


def test_a_file_of_features_needs_a_cache(tmp_path):
    settings = config(videoiq(), tmp_path)
    settings.custom_hooks = [dict(type="FeatureCacheHook", path=str(tmp_path / "features.safetensors"))]
    with pytest.raises(ValueError, match="cache_features=True"):
        train(settings)
