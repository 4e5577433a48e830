from types import SimpleNamespace

import pytest
import torch
from mmaction.registry import HOOKS
from mmengine.hooks import Hook
from mmengine.logging import MessageHub
from mmengine.model import BaseModel
from mmengine.registry import MODEL_WRAPPERS
from mmengine.runner import Runner
from torch import nn

from mmvideoiq.hooks import CalibrationHook, CheckpointFitHook, FiniteLossHook, GumbelTemperatureHook
from mmvideoiq.jobs.errors import RunStopped


class Policy(nn.Module):
    temperature = 1.0


class Model(BaseModel):
    def __init__(self):
        super().__init__()
        self.policy = Policy()
        self.weight = nn.Parameter(torch.zeros(1))

    def forward(self, inputs, data_samples=None, mode="tensor"):
        return dict(loss=self.weight.sum())


class Seen(Hook):
    def __init__(self):
        self.temperatures = []

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
        self.temperatures.append(runner.model.policy.temperature)


def train(work_dir, name, epochs, seen, resume=False):
    dataset = [dict(inputs=torch.ones(1))] * 2
    runner = Runner(
        model=Model(),
        work_dir=str(work_dir),
        experiment_name=f"{work_dir}-{name}",
        train_dataloader=dict(
            dataset=dataset, batch_size=1, sampler=dict(type="DefaultSampler", shuffle=False)
        ),
        train_cfg=dict(by_epoch=True, max_epochs=epochs),
        optim_wrapper=dict(optimizer=dict(type="SGD", lr=0.1)),
        custom_hooks=[HOOKS.build(dict(type="GumbelTemperatureHook", initial=5.0, decay=0.5)), seen],
        resume=resume,
        default_scope="mmaction",
        log_level="ERROR",
    )
    runner.train()
    return runner


def test_schedule_in_the_runner_and_after_resuming(tmp_path):
    seen = Seen()
    runner = train(tmp_path, "first", 2, seen)
    assert seen.temperatures == [5.0, 5.0, 2.5, 2.5]
    assert runner.message_hub.get_scalar("train/temperature").current() == 2.5
    seen = Seen()
    train(tmp_path, "second", 4, seen, resume=True)
    assert seen.temperatures == [1.25, 1.25, 0.625, 0.625]


def test_the_papers_schedule():
    hook = GumbelTemperatureHook()
    assert [hook.temperature(e) for e in (0, 1, 49)] == pytest.approx([5.0, 4.78, 0.5513], abs=1e-3)


def test_reaches_through_a_wrapper():
    @MODEL_WRAPPERS.register_module(name="TemperatureTestWrapper", force=True)
    class Wrapper(nn.Module):
        def __init__(self, module):
            super().__init__()
            self.module = module

    model = Model()
    hub = MessageHub.get_instance("temperature through a wrapper")
    runner = SimpleNamespace(model=Wrapper(model), epoch=2, message_hub=hub)
    hook = GumbelTemperatureHook(initial=8, decay=0.5)
    hook.before_train(runner)
    hook.before_train_epoch(runner)
    assert model.policy.temperature == 2.0


def test_a_model_without_policy_is_refused_before_training():
    with pytest.raises(TypeError, match="needs a model with a policy, got Linear"):
        GumbelTemperatureHook().before_train(SimpleNamespace(model=nn.Linear(1, 1)))


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        (dict(initial=0), ValueError, "initial must be > 0, got 0"),
        (dict(initial=float("nan")), ValueError, "initial must be > 0, got nan"),
        (dict(initial=float("inf")), ValueError, "initial must be > 0, got inf"),
        (dict(decay=0.0), ValueError, r"decay must be in \(0, 1\], got 0.0"),
        (dict(decay=1.01), ValueError, r"decay must be in \(0, 1\], got 1.01"),
        (dict(initial="5"), TypeError, "initial must be a number, got '5'"),
        (dict(decay=True), TypeError, "decay must be a number, got True"),
    ],
)
def test_refuses(arguments, error, message):
    with pytest.raises(error, match=message):
        GumbelTemperatureHook(**arguments)


class Backbone(nn.Module):
    def __init__(self):
        super().__init__()
        self.seen = []

    def calibrate_(self, frames):
        self.seen.append(frames)


def calibrating_runner(iteration: int) -> SimpleNamespace:
    model = Model()
    model.backbone = Backbone()
    dataset = [dict(inputs=torch.full((4, 3, 2, 2), float(i))) for i in range(10)]
    loader = SimpleNamespace(
        dataset=dataset, collate_fn=lambda items: dict(inputs=torch.stack([i["inputs"] for i in items]))
    )
    return SimpleNamespace(iter=iteration, model=model, train_dataloader=loader)


def test_calibration_looks_at_frames_spread_over_list_and_video():
    runner = calibrating_runner(iteration=0)
    CalibrationHook(num_videos=5, frames_per_video=2).before_train(runner)
    (frames,) = runner.model.backbone.seen
    assert frames.shape == (10, 3, 2, 2)
    assert frames[:, 0, 0, 0].tolist() == [0, 0, 2, 2, 4, 4, 6, 6, 8, 8]


def test_calibration_of_a_policy():
    runner = calibrating_runner(iteration=0)
    runner.model.policy = runner.model.backbone
    runner.model.backbone = nn.Identity()
    CalibrationHook(part="policy").before_train(runner)
    assert len(runner.model.policy.seen) == 1
    with pytest.raises(ValueError, match="part='head' must be 'backbone' or 'policy'"):
        CalibrationHook(part="head")


def test_calibration_leaves_a_resumed_training_alone():
    runner = calibrating_runner(iteration=3)
    CalibrationHook().before_train(runner)
    assert runner.model.backbone.seen == []


def test_calibration_refuses_what_it_cannot_serve():
    with pytest.raises(ValueError, match="num_videos must be >= 1, got 0"):
        CalibrationHook(num_videos=0)
    runner = calibrating_runner(iteration=0)
    runner.model.backbone = nn.Identity()
    with pytest.raises(TypeError, match="needs an AnyPrecisionBackbone, the model has a Identity"):
        CalibrationHook().before_train(runner)


class Diverging(nn.Linear):
    """Its loss is finite; from iteration ``number`` on its gradient is not."""

    def __init__(self, number: int):
        super().__init__(1, 1)
        self.left = number

    def forward(self, inputs):
        self.left -= 1
        if self.left == 0:
            self.weight.register_hook(lambda gradient: gradient / 0)
        return super().forward(inputs)


class DivergingModel(BaseModel):
    def __init__(self, number: int):
        super().__init__()
        self.layer = Diverging(number)

    def forward(self, inputs, data_samples=None, mode="tensor"):
        return dict(
            loss_cls=self.layer(torch.stack(inputs)).square().mean(), top1_acc=torch.tensor(float("nan"))
        )


def run(work_dir, model, **options):
    dataset = [dict(inputs=torch.ones(1))] * 2
    runner = Runner(
        model=model,
        work_dir=str(work_dir),
        experiment_name=str(work_dir),
        train_dataloader=dict(
            dataset=dataset, batch_size=1, sampler=dict(type="DefaultSampler", shuffle=False)
        ),
        train_cfg=dict(by_epoch=True, max_epochs=3),
        optim_wrapper=dict(optimizer=dict(type="SGD", lr=0.25)),
        default_hooks=dict(checkpoint=dict(type="CheckpointHook", interval=1, max_keep_ckpts=1)),
        custom_hooks=[FiniteLossHook(), CheckpointFitHook()],
        default_scope="mmaction",
        log_level="ERROR",
        **options,
    )
    runner.train()


def test_weights_that_are_not_finite_are_not_saved_over_those_that_are(tmp_path):
    """The last step of epoch 2 spoils them; a figure that is no loss may be NaN."""
    with pytest.raises(
        RunStopped, match=r"^parameter layer.weight is no longer finite at epoch 2, iteration 4, "
    ):
        run(tmp_path, DivergingModel(4))
    assert [path.name for path in tmp_path.glob("*.pth")] == ["epoch_1.pth"]


def test_the_first_invalid_loss_stops_the_training(tmp_path):
    with pytest.raises(RunStopped) as error:
        run(tmp_path, DivergingModel(3))
    assert str(error.value).startswith("loss_cls is nan at epoch 2, iteration 4, learning rate 0.25: lower ")
    assert [path.name for path in tmp_path.glob("*.pth")] == ["epoch_1.pth"]


def test_a_checkpoint_that_fits_in_part_is_refused_unless_the_config_says_so(tmp_path):
    path = str(tmp_path / "part.pth")
    torch.save(dict(state_dict={"layer.weight": torch.zeros(1, 1)}), path)
    with pytest.raises(
        ValueError, match=r"part.pth does not fit: layer.bias missing; .*load_strict=False"
    ) as error:
        run(tmp_path / "strict", DivergingModel(99), load_from=path)
    assert "\n" not in str(error.value)
    run(tmp_path / "loose", DivergingModel(99), load_from=path, cfg=dict(load_strict=False))
    assert (tmp_path / "loose/epoch_3.pth").is_file()
