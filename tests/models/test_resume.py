"""Interrupted and resumed equals uninterrupted, noise included."""

import pytest
import torch
from mmaction.registry import METRICS
from mmengine.evaluator import BaseMetric
from mmengine.hooks import Hook

import mmvideoiq.hooks  # noqa: F401
from tests.models.toy_runs import config, train
from tests.models.toys import any_precision_recognizer, policy, videoiq

SEED = [dict(type="EpochSeedHook")]
STAGES = [
    pytest.param(any_precision_recognizer(), [], id="any-precision"),
    pytest.param(
        videoiq(policy=policy(dropout_ratio=0.5)), [dict(type="GumbelTemperatureHook")], id="policy"
    ),
]


class Interruption(Hook):
    """Ctrl-C in the middle of the second epoch."""

    def before_train_iter(self, runner, batch_idx, data_batch=None):
        if runner.iter == 3:
            raise KeyboardInterrupt


def run(cfg, work_dir, hooks, *, workers=0, interrupted=False, resume=False):
    """The runner after two epochs of two steps, and what it logged."""
    made = config(cfg, work_dir, epochs=2, dataset=dict(augment=True), custom_hooks=hooks, resume=resume)
    made.param_scheduler = [dict(type="MultiStepLR", milestones=[1], gamma=0.5)]
    made.train_dataloader.num_workers = workers
    if not interrupted:
        return train(made)
    with pytest.raises(KeyboardInterrupt):
        train(made, Interruption())


@pytest.mark.parametrize("workers", [0, pytest.param(2, marks=pytest.mark.slow)])
@pytest.mark.parametrize("cfg, hooks", STAGES)
def test_resumed_equals_uninterrupted(cfg, hooks, workers, tmp_path):
    straight, steps = run(cfg, tmp_path / "straight", SEED + hooks, workers=workers)
    run(cfg, tmp_path / "broken", SEED + hooks, workers=workers, interrupted=True)
    resumed, last_steps = run(cfg, tmp_path / "broken", SEED + hooks, workers=workers, resume=True)
    assert resumed.epoch == straight.epoch == 2
    assert last_steps == steps[2:]
    expected = straight.model.state_dict()
    for name, value in resumed.model.state_dict().items():
        assert torch.equal(value, expected[name]), name
    if hooks:
        assert resumed.model.policy.temperature == straight.model.policy.temperature == 5.0 * 0.956


def test_without_the_hook_the_noise_differs(tmp_path):
    """Why the hook is there: MMEngine restores no random state."""
    _, steps = run(videoiq(), tmp_path / "straight", [])
    run(videoiq(), tmp_path / "broken", [], interrupted=True)
    _, last_steps = run(videoiq(), tmp_path / "broken", [], resume=True)
    assert last_steps != steps[2:]


def test_epochs_draw_different_noise_and_the_seed_decides(tmp_path):
    draws = []
    for name, seed in (("a", 3), ("b", 3), ("c", 4)):
        cfg = config(videoiq(), tmp_path / name, epochs=2, custom_hooks=SEED, randomness=dict(seed=seed))
        draws.append([step["loss_efficiency"] + step["loss_entropy"] for step in train(cfg)[1]])
    assert draws[0] == draws[1]
    assert draws[0] != draws[2] and len(set(draws[0])) == 4


@METRICS.register_module()
class TrueClassScore(BaseMetric):
    """The mean score of the right classes."""

    def process(self, data_batch, data_samples):
        self.results += [float(sample["pred_score"][int(sample["gt_label"])]) for sample in data_samples]

    def compute_metrics(self, results):
        return dict(score=sum(results) / len(results))


class ValidationTrace(Hook):
    """Keeps what was found; Ctrl-C before the validation of ``interrupted``."""

    def __init__(self, interrupted=None):
        self.interrupted, self.found = interrupted, {}

    def before_val_epoch(self, runner):
        if runner.epoch == self.interrupted:
            raise KeyboardInterrupt

    def after_val_epoch(self, runner, metrics=None):
        self.found[runner.epoch] = metrics["score"]


@pytest.mark.parametrize("interrupted", [1, 2])
def test_a_validation_that_was_left_out_is_made_up_for(tmp_path, interrupted):
    def run(name, hooks, trace, **options):
        loader = dict(
            batch_size=4,
            num_workers=0,
            sampler=dict(type="DefaultSampler", shuffle=False),
            dataset=dict(type="ToyClips"),
        )
        val = dict(val_dataloader=loader, val_cfg=dict(), val_evaluator=dict(type="TrueClassScore"))
        cfg = config(
            any_precision_recognizer(), tmp_path / name, epochs=2, custom_hooks=hooks, **val, **options
        )
        cfg.default_hooks.checkpoint.update(save_best="score", rule="greater")
        runner = train(cfg, trace)[0]
        return runner.message_hub.get_info("best_score"), sorted(
            path.name for path in (tmp_path / name).glob("*.pth")
        )

    made_up = [*SEED, dict(type="ResumedValidationHook")]
    straight = ValidationTrace()
    best = run("straight", made_up, straight)
    assert list(straight.found) == [1, 2] and best[0] == max(straight.found.values())
    for name, hooks in (("broken", made_up), ("without", SEED)):
        with pytest.raises(KeyboardInterrupt):
            run(name, hooks, ValidationTrace(interrupted))
        resumed = ValidationTrace()
        if name == "broken":
            assert run(name, hooks, resumed, resume=True) == best
            assert resumed.found == {epoch: straight.found[epoch] for epoch in range(interrupted, 3)}
        else:  # why the hook is there
            run(name, hooks, resumed, resume=True)
            assert interrupted not in resumed.found
