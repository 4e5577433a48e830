"""The filmstrip and the line of a policy in training: in files, in TensorBoard, in the log."""

import sys
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
import torch
from mmaction.registry import HOOKS, VISUALIZERS
from mmaction.structures import ActionDataSample
from mmengine.config import Config
from mmengine.logging import MessageHub
from torch import nn

import mmvideoiq.plugin  # noqa: F401  registers the parts
from mmvideoiq.actions import ActionSpace
from mmvideoiq.data.synthetic import make_synthetic
from mmvideoiq.visualization import policy_picture
from mmvideoiq.visualization.policy_view import MAX_FRAMES, PolicyViewHook, film_clip
from tests.conftest import ROOT

SPACE = ActionSpace([dict(bits=32), dict(bits=4), dict(skip=1)])
CLIPS = 10
METRICS = {"acc/top1": 0.5, "cost/mean_cost": 0.25, "cost/gflops": 1.0, "cost/usage_4": 1.0}


class Policy(nn.Module):
    def __init__(self):
        super().__init__()
        self.actions, self.policy = SPACE, nn.Identity()


def sample(label, found, actions=(0, 1, 2), score=0.75):
    made = ActionDataSample().set_gt_label(label).set_pred_label(found)
    made.set_pred_score(torch.tensor([score, 1 - score]))
    made.set_field(torch.tensor(actions), "policy_actions")
    return made


def runner(model):
    """What the hook uses of MMEngine's runner, after the first epoch of a training."""
    shown, lines = [], []
    visualizer = SimpleNamespace(
        dataset_meta=dict(classes=["cat", "dog"]), add_image=lambda *image, step: shown.append((*image, step))
    )
    hub = MessageHub.get_instance(f"policy view {id(shown)}")
    hub.update_scalar("train/temperature", 4.5125)
    return SimpleNamespace(
        model=model,
        epoch=1,
        _train_loop=object(),
        message_hub=hub,
        visualizer=visualizer,
        shown=shown,
        lines=lines,
        val_dataloader=SimpleNamespace(sampler=range(CLIPS)),
        logger=SimpleNamespace(info=lines.append),
    )


def validate(hook, run, *, batch=4):
    """A validation of clips whose frames are as bright as their number."""
    hook.before_val_epoch(run)
    for start in range(0, CLIPS, batch):
        numbers = range(start, min(start + batch, CLIPS))
        inputs = [torch.full((3, 3, 8, 8), number, dtype=torch.uint8) for number in numbers]
        hook.after_val_iter(run, start // batch, dict(inputs=inputs), [sample(0, n % 2) for n in numbers])
    hook.after_val_epoch(run, METRICS)


def test_a_line_and_a_picture_of_clips_spread_over_the_list(monkeypatch):
    drawn = []
    monkeypatch.setattr(
        policy_picture, "draw_filmstrip", lambda clips, names, *, title: drawn.append((clips, names, title))
    )
    run, hook = runner(Policy()), PolicyViewHook(num_clips=4)
    for _ in range(2):  # the same clips in each validation
        validate(hook, run)
    line = "epoch 1: top1 0.5, cost 0.25, usage 4:1.00, temperature 4.51"
    assert run.lines == [line] * 2 and [entry[::2] for entry in run.shown] == [("policy", 1)] * 2
    for clips, names, title in drawn:
        assert [int(clip.frames[0, 0, 0, 0]) for clip in clips] == [0, 3, 6, 9]
        assert [clip.verdict for clip in clips] == ["\u2713 75 %", "\u2717 dog 75 %"] * 2
        assert (names, title) == (SPACE.names, line)


@pytest.mark.parametrize("num_clips", [1, 32])
def test_few_or_many_clips(num_clips):
    run = runner(Policy())
    validate(PolicyViewHook(num_clips=num_clips), run)
    ((_, picture, _),) = run.shown
    rows = (len(picture) - policy_picture.HEAD) / (
        policy_picture.HEIGHT + policy_picture.PILL + 3 * policy_picture.GAP
    )
    assert rows == min(num_clips, CLIPS)


def test_no_clips_is_no_picture():
    run = runner(Policy())
    validate(PolicyViewHook(num_clips=0), run)
    assert run.shown == [] and len(run.lines) == 1


def test_models_without_a_policy_and_validations_without_a_training_are_left_alone():
    without, untrained = runner(nn.Identity()), runner(Policy())
    untrained._train_loop = None
    for run in (without, untrained):
        validate(PolicyViewHook(), run)
        assert run.shown == run.lines == []


def test_a_clip_of_several_labels_and_many_frames():
    frames = torch.arange(40).view(40, 1, 1, 1).expand(40, 3, 8, 8)
    found = sample(torch.tensor([1.0, 0.0, 1.0]), 2, actions=[0] * 20 + [2] * 20)
    clip = film_clip(frames, found, SPACE, None)
    assert (clip.title, clip.verdict, clip.note) == ("class 0, class 2", "\u2713 75 %", "cost 0.500")
    shown = clip.frames[:, 0, 0, 0].tolist()
    assert len(shown) == MAX_FRAMES and (shown[0], shown[-1]) == (0, 39)
    assert clip.actions == [0] * 8 + [2] * 8 and clip.frames.shape == (MAX_FRAMES, 8, 8, 3)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        (dict(num_clips=-1), ValueError, r"^PolicyViewHook num_clips must be in 0\.\.32, got -1$"),
        (dict(num_clips=33), ValueError, r"^PolicyViewHook num_clips must be in 0\.\.32, got 33$"),
        (dict(num_clips=2.0), TypeError, r"^PolicyViewHook num_clips must be an integer, got 2\.0$"),
        (dict(num_clips=True), TypeError, r"^PolicyViewHook num_clips must be an integer, got True$"),
    ],
)
def test_refuses(arguments, error, message):
    with pytest.raises(error, match=message):
        HOOKS.get("PolicyViewHook")(**arguments)


def test_a_file_without_tensorboard_installed(tmp_path, monkeypatch):
    for module in ("tensorboard", "torch.utils.tensorboard"):
        monkeypatch.setitem(sys.modules, module, None)
    visualizer = VISUALIZERS.build(
        dict(
            type="ActionVisualizer",
            name=str(tmp_path),
            save_dir=str(tmp_path),
            vis_backends=[dict(type="LocalVisBackend")],
        )
    )
    run = runner(Policy())
    run.visualizer = visualizer
    validate(PolicyViewHook(), run)
    assert cv2.imread(str(tmp_path / "vis_data/vis_image/policy_1.png")) is not None


def test_the_variable_switches_backends_on(monkeypatch):
    def backends():
        config = Config.fromfile(ROOT / "configs/videoiq/demo_videoiq.py")
        return [backend["type"] for backend in config.visualizer.vis_backends]

    monkeypatch.delenv("VIS_BACKENDS", raising=False)
    assert backends() == ["LocalVisBackend"]
    monkeypatch.setenv("VIS_BACKENDS", "LocalVisBackend,TensorboardVisBackend")
    assert backends() == ["LocalVisBackend", "TensorboardVisBackend"]


@pytest.fixture(scope="module")
def clips(tmp_path_factory):
    root = tmp_path_factory.mktemp("view") / "data"
    make_synthetic(root, train=16, val=8, test=1)
    return root


@pytest.mark.slow
@pytest.mark.parametrize(
    ("config", "scalars"),
    [
        ("any_precision/demo_any_precision", {f"loss_cls_{bits}" for bits in (32, 4, 2)} | {"loss_kd_2"}),
        (
            "videoiq/demo_videoiq",
            {"mean_cost", "usage_skip", "temperature", "loss_efficiency", "cost/mean_cost", "cost/usage_4"},
        ),
    ],
)
def test_an_epoch_in_tensorboard(load_tool, clips, tmp_path, monkeypatch, config, scalars):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    monkeypatch.setenv("VIS_BACKENDS", "LocalVisBackend,TensorboardVisBackend")
    monkeypatch.setenv("DATA_ROOT", str(clips))
    path = str(ROOT / "configs" / f"{config}.py")
    options = ["train_cfg.max_epochs=2", "train_cfg.val_interval=1", "train_dataloader.batch_size=8"]
    options.append(f"experiment_name={tmp_path.name}")
    load_tool("train.py").main([path, "--work-dir", str(tmp_path), "--cfg-options", *options])
    (events,) = tmp_path.rglob("events.out.tfevents.*")
    written = EventAccumulator(str(events), size_guidance=dict(images=0)).Reload()
    assert scalars | {"loss", "lr", "acc/top1"} <= set(written.Tags()["scalars"])
    log = next(tmp_path.glob("*/*.log")).read_text()
    if "mean_cost" not in scalars:
        assert written.Tags()["images"] == [] and "epoch 1: " not in log
        return
    assert "epoch 2: top1 " in log and ", temperature 4.75\n" in log  # 5 * 0.95
    assert written.Tags()["images"] == ["policy"]
    images = written.Images("policy")
    assert [image.step for image in images] == [1, 2] == [e.step for e in written.Scalars("cost/mean_cost")]
    rows = 4 * (policy_picture.HEIGHT + policy_picture.PILL + 3 * policy_picture.GAP)
    for image in images:
        assert (
            image.height == policy_picture.HEAD + rows
            and image.width >= policy_picture.SIDE + 6 * policy_picture.HEIGHT
        )
        saved = next(tmp_path.glob(f"*/vis_data/vis_image/policy_{image.step}.png"))
        decoded = cv2.imdecode(np.frombuffer(image.encoded_image_string, np.uint8), cv2.IMREAD_COLOR)
        assert (cv2.imread(str(saved)) == decoded).all()
