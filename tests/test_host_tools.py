"""tools/train.py and tools/test.py: MMAction2's TSN trains, tests, saves, resumes; wrong input is one line."""

import errno
import json
import os
import pickle
import shutil
import socket
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from mmaction.evaluation import AccMetric
from mmaction.registry import MODELS
from mmengine.config import Config
from mmengine.registry import init_default_scope
from torch import nn

from mmvideoiq import cli
from mmvideoiq.jobs.errors import TRACEBACK, RunStopped, one_line_errors


@pytest.fixture(scope="module")
def train(load_tool):
    return load_tool("train.py")


@pytest.fixture(scope="module")
def test(load_tool):
    return load_tool("test.py")


def scalars(work_dir: Path) -> list[dict]:
    """All lines of MMEngine's JSON logs in the order of time."""
    logs = sorted(work_dir.glob("*/vis_data/scalars.json"))
    return [json.loads(line) for log in logs for line in log.read_text().splitlines()]


def error_line(capsys: pytest.CaptureFixture[str], main, *argv: str) -> str:
    """The one line that a command ends with when its arguments are wrong."""
    with pytest.raises(SystemExit) as ended:
        main([str(arg) for arg in argv])
    assert ended.value.code == 2
    return capsys.readouterr().err.strip().splitlines()[-1]


def test_missing_config(train, test, capsys):
    assert error_line(capsys, train.main, "no.py").endswith("error: config not found: no.py")
    assert error_line(capsys, test.main, "no.py", "no.pth").endswith("error: config not found: no.py")


def test_missing_checkpoint(train, test, tsn_config, tmp_path, capsys):
    where = ("--work-dir", tmp_path)
    for main, argv in [
        (test.main, (tsn_config, "no.pth")),
        (train.main, (tsn_config, "--resume", "no.pth")),
        (train.main, (tsn_config, "--cfg-options", "load_from=no.pth")),
    ]:
        assert error_line(capsys, main, *argv, *where).endswith("error: checkpoint not found: no.pth")


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ("model.backbone.depth", "--cfg-options takes key=value, got 'model.backbone.depth'"),
        ("model.backbone.depth.x=1", "--cfg-options model.backbone.depth.x=1 does not fit"),
        ("train_dataloader.dataset.pipeline.9.type=X", "--cfg-options train_dataloader.dataset.pipeline.9"),
        ("model.backbone.type=NoNet", "NoNet is not in the mmaction::model registry"),
        ("model.backbone.type=MobileOneTSM", "MobileOneTSM requires mmpretrain, which is not installed"),
        ("model.backbone.dept=18", "unexpected keyword argument 'dept'"),
        ("model.backbone.depth=19", "invalid depth 19 for resnet"),
        ("train_dataloader.dataset.ann_file=no.txt", "no.txt"),
        ("test_dataloader.sampler=1", "test_dataloader.sampler=1 must be a dict, such as"),
        ("log_processor.window_size=[[0]]", "log_processor.window_size=[[0]] must be a whole number"),
        ("log_processor.window_size=0", "log_processor.window_size=0 must be a whole number"),
        ("load_from=https:/no.pth", "checkpoint not found: https:/no.pth"),
    ],
)
def test_wrong_settings_end_in_one_line(train, tsn_config, tmp_path, capsys, option, message):
    line = error_line(capsys, train.main, tsn_config, "--work-dir", tmp_path, "--cfg-options", option)
    assert "error: " in line and message in line


def test_unreadable_config_and_checkpoint(train, test, tsn_config, tmp_path, capsys):
    broken = tmp_path / "broken.py"
    broken.write_text("model = dict(")
    assert "broken.py" in error_line(capsys, train.main, broken)
    absent = tmp_path / "absent.py"
    absent.write_text('custom_imports = dict(imports=["mmvideoiq.nothing"], allow_failed_imports=False)\n')
    assert "No module named 'mmvideoiq.nothing'" in error_line(capsys, train.main, absent)
    garbage = tmp_path / "garbage.pth"
    garbage.write_bytes(b"not a checkpoint")
    line = error_line(capsys, test.main, tsn_config, garbage, "--work-dir", tmp_path)
    assert f"checkpoint {garbage} cannot be read" in line


def test_a_checkpoint_that_fits_in_part_ends_in_one_line(train, test, tsn_config, tmp_path, capsys):
    init_default_scope("mmaction")
    state = MODELS.build(Config.fromfile(tsn_config).model).state_dict()
    parts = {
        "no.pth": ({}, "backbone.conv1.conv.weight, "),
        "one.pth": ({"cls_head.fc_cls.bias": state["cls_head.fc_cls.bias"]}, " missing; "),
        "shape.pth": (
            state | {"cls_head.fc_cls.bias": torch.zeros(400)},
            "bias [400] for [2] of another shape; ",
        ),
    }
    for name, (part, message) in parts.items():
        path = tmp_path / name
        torch.save(dict(state_dict=part), path)
        line = error_line(capsys, test.main, tsn_config, path, "--work-dir", tmp_path)
        assert f"checkpoint {path} does not fit: " in line and message in line and "load_strict=False" in line
    begin = ("--cfg-options", f"load_from={path}", f"experiment_name={tmp_path.name}")
    line = error_line(capsys, train.main, tsn_config, "--work-dir", tmp_path, *begin)
    assert f"checkpoint {path} does not fit: cls_head.fc_cls.bias [400] for [2]" in line


def test_what_stops_a_run_is_one_line_also_after_it_has_begun(capsys):
    for error in (RunStopped("loss is nan"), OSError(errno.ENOSPC, "No space left on device", "x.pth")):
        with pytest.raises(SystemExit) as ended, one_line_errors() as begun:
            begun.happened = True
            raise error
        assert ended.value.code == 1
        assert capsys.readouterr().err.endswith(f"error: {error}\n")


def test_flags_that_need_something(train, test, tsn_config, tmp_path, capsys):
    weights = tmp_path / "weights.pth"
    torch.save({}, weights)
    where = ("--work-dir", tmp_path)
    assert "--auto-scale-lr needs auto_scale_lr" in error_line(
        capsys, train.main, tsn_config, *where, "--auto-scale-lr"
    )
    assert "--dump must end in .pkl or .pickle, got x.json" in error_line(
        capsys, test.main, tsn_config, weights, *where, "--dump", "x.json"
    )
    assert "--show and --show-dir need visualization" in error_line(
        capsys, test.main, tsn_config, weights, *where, "--show"
    )
    assert "--precision 4: Recognizer2D has no precisions to choose from" in error_line(
        capsys, test.main, tsn_config, weights, *where, "--precision", "4"
    )


def test_errors_in_the_run_keep_their_traceback(capsys):
    with pytest.raises(ValueError, match="in training"), one_line_errors() as begun:
        cli.BeginHook(begun).before_train(
            SimpleNamespace(model=nn.Linear(1, 1), train_dataloader=None, val_loop=None)
        )
        raise ValueError("in training")
    with pytest.raises(ZeroDivisionError), one_line_errors():
        1 / 0  # noqa: B018
    with pytest.raises(SystemExit), one_line_errors():
        raise ValueError("while\n  building")
    assert capsys.readouterr().err.endswith("error: while building\n")
    with pytest.raises(SystemExit), one_line_errors():  # as MMEngine for default_hooks=[]
        [].items()
    error = capsys.readouterr().err
    assert error.endswith("error: AttributeError: 'list' object has no attribute 'items'\n")


def test_frames_that_do_not_suit_the_model_end_in_one_line_before_the_first_step(capsys):
    class Model(nn.Linear):
        def check_frames(self, height, width):
            raise ValueError(f"frames of {height}x{width}")

    loader = SimpleNamespace(dataset=[dict(inputs=torch.zeros(6, 3, 40, 30))])
    runner = SimpleNamespace(model=Model(1, 1), train_dataloader=loader, test_dataloader=loader)
    for name in ("before_train", "before_test"):
        with pytest.raises(SystemExit) as ended, one_line_errors() as begun:
            getattr(cli.BeginHook(begun), name)(runner)
        assert ended.value.code == 2
        assert capsys.readouterr().err.endswith("error: frames of 40x30\n")


@pytest.mark.parametrize(
    "options", [-1, None, dict(top_k_accuracy=1), dict(top_k_accuracy=dict(topk=[1, 5]))]
)
def test_options_of_a_metric_end_in_one_line_before_the_first_clip(capsys, options):
    metric = AccMetric(metric_options=options)
    evaluator = SimpleNamespace(
        metrics=[AccMetric(), AccMetric("mean_class_accuracy", metric_options=options), metric]
    )
    runner = SimpleNamespace(
        **dict(model=nn.Linear(1, 1), train_dataloader=None, test_dataloader=None, val_loop=object()),
        **dict(val_evaluator=evaluator, test_evaluator=evaluator),
    )
    for name in ("before_train", "before_test"):
        with pytest.raises(SystemExit) as ended, one_line_errors() as begun:
            getattr(cli.BeginHook(begun), name)(runner)
        assert ended.value.code == 2 and not begun.happened
        assert capsys.readouterr().err.endswith(f"topk a whole number or a tuple of some, got {options!r}\n")


def test_traceback_on_request(monkeypatch):
    monkeypatch.setenv(TRACEBACK, "1")
    with pytest.raises(ValueError, match="wanted"), one_line_errors():
        raise ValueError("wanted")


def test_train_flags_reach_the_config(train, tsn_config):
    config = Config.fromfile(tsn_config)
    config.auto_scale_lr = dict(base_batch_size=8)
    argv = [
        str(tsn_config),
        "--no-validate",
        "--amp",
        "--auto-scale-lr",
        "--seed",
        "0",
        "--deterministic",
        "--resume",
    ]
    train.apply_flags(config, train.parse_args(argv))
    assert config.val_cfg is config.val_dataloader is config.val_evaluator is None
    assert config.optim_wrapper.type == "AmpOptimWrapper" and config.optim_wrapper.loss_scale == "dynamic"
    assert config.auto_scale_lr.enable and config.resume is True and config.load_from is None
    assert config.randomness == dict(seed=0, deterministic=True, diff_rank_seed=False)
    plain = Config.fromfile(tsn_config)
    train.apply_flags(plain, train.parse_args([str(tsn_config)]))
    assert plain.randomness.seed == 3 and "resume" not in plain


def test_test_flags_reach_the_config(test, tsn_config, tmp_path):
    (tmp_path / "a.pth").touch()
    config = Config.fromfile(tsn_config)
    config.default_hooks.visualization = dict(type="VisualizationHook")
    argv = [str(tsn_config), str(tmp_path / "a.pth"), "--dump", "x.pkl", "--show-dir", "s", "--interval", "3"]
    test.apply_flags(config, test.parse_args(argv))
    assert config.load_from == str(tmp_path / "a.pth")
    assert config.test_evaluator[1] == dict(type="DumpResults", out_file_path="x.pkl")
    shown = config.default_hooks.visualization
    assert (shown.enable, shown.show, shown.out_dir, shown.interval, shown.wait_time) == (
        True,
        False,
        "s",
        3,
        2,
    )


def test_work_dir_follows_the_host(tsn_config):
    read = {
        name: cli.read_config(str(tsn_config), options=None, work_dir=name, launcher="none")
        for name in (None, "w")
    }
    assert read[None].work_dir == os.path.join("work_dirs", "tsn") and read["w"].work_dir == "w"


class Precise(nn.Module):
    def set_fixed_action(self, *, bits: int | None) -> None:
        if bits not in (32, 4):
            raise ValueError(f"bits must be one of 32, 4, got {bits}")
        self.bits = bits


def test_precision_is_set_on_the_model(test):
    model = Precise()
    test.fix_precision(model, 4)
    assert model.bits == 4
    with pytest.raises(ValueError, match="bits must be one of 32, 4, got 3"):
        test.fix_precision(model, 3)


def test_a_mode_is_bits_or_a_name(test):
    args = ["config.py", "checkpoint.pth", "--precision"]
    assert [test.parse_args([*args, text]).precision for text in ("4", "8@112")] == [4, "8@112"]


def test_precision_of_a_model_of_ours(test, tsn_config, tmp_path, capsys):
    """``--precision`` runs every frame at it, as ``set_fixed_action`` does; another one is refused in one line."""
    config = Config.fromfile(tsn_config)
    config.custom_imports = dict(imports=["mmvideoiq.plugin"], allow_failed_imports=False)
    config.model.type = "AnyPrecisionRecognizer"
    backbone = dict(type="SlimResNet", base_channels=8, stage_blocks=(1,))
    config.model.backbone = dict(type="AnyPrecisionBackbone", backbone=backbone, precisions=(8, 2))
    config.model.cls_head.in_channels = 8
    config.dump(tmp_path / "ours.py")
    import mmvideoiq.plugin  # noqa: F401  registers the parts that the config names

    init_default_scope("mmaction")
    torch.save(dict(state_dict=MODELS.build(config.model).state_dict()), tmp_path / "ours.pth")

    def scores(*flags: str) -> torch.Tensor:
        out = tmp_path / f"scores{len(list(tmp_path.glob('*.pkl')))}.pkl"
        test.main([*where, "--dump", str(out), "--cfg-options", f"experiment_name={out.stem}", *flags])
        return torch.stack([sample["pred_score"] for sample in pickle.loads(out.read_bytes())])

    where = [str(tmp_path / "ours.py"), str(tmp_path / "ours.pth"), "--work-dir", str(tmp_path)]
    top, high, low = scores(), scores("--precision", "8"), scores("--precision", "2")
    assert torch.equal(top, high) and not torch.equal(high, low)
    assert "precision 3 is not one of the model's (8, 2)" in error_line(
        capsys, test.main, *where, "--precision", "3"
    )


@pytest.mark.slow
def test_tsn_trains_saves_resumes_and_tests(train, test, tsn_config, tmp_path):
    """Two epochs give the same weights as one epoch that is resumed; the checkpoint can be tested."""

    def argv(name: str) -> list[str]:
        options = ["--cfg-options", "train_cfg.max_epochs=2", f"experiment_name={name}"]
        return [str(tsn_config), "--work-dir", str(tmp_path / name), *options]

    train.main(argv("whole"))
    assert list((tmp_path / "whole").glob("best_acc_top1_epoch_*.pth"))
    (tmp_path / "resumed").mkdir()
    first = shutil.copy(tmp_path / "whole/epoch_1.pth", tmp_path / "resumed")
    (tmp_path / "resumed/last_checkpoint").write_text(str(first))
    train.main([*argv("resumed"), "--resume"])
    whole, resumed = (torch.load(tmp_path / name / "epoch_2.pth") for name in ("whole", "resumed"))
    assert [line["epoch"] for line in scalars(tmp_path / "resumed") if "loss" in line] == [2, 2]
    assert resumed["meta"]["epoch"] == whole["meta"]["epoch"] == 2 and resumed["meta"]["iter"] == 4
    assert (
        resumed["optimizer"]["param_groups"][0]["lr"] == whole["optimizer"]["param_groups"][0]["lr"] == 0.005
    )
    for name, value in whole["state_dict"].items():
        torch.testing.assert_close(resumed["state_dict"][name], value, msg=name)

    out = tmp_path / "predictions.pkl"
    checkpoint = str(tmp_path / "resumed/epoch_2.pth")
    test.main([str(tsn_config), checkpoint, "--work-dir", str(tmp_path / "tested"), "--dump", str(out)])
    predictions = pickle.loads(out.read_bytes())
    assert len(predictions) == 8
    right = sum(int(p["pred_label"]) == int(p["gt_label"]) for p in predictions) / 8
    (metrics,) = (tmp_path / "tested").glob("*/*.json")
    assert json.loads(metrics.read_text())["acc/top1"] == pytest.approx(right)


@pytest.mark.slow
def test_tensorboard_is_switched_on_in_the_config(train, tsn_config, tmp_path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    config = Config.fromfile(tsn_config)
    config.visualizer = dict(type="ActionVisualizer", vis_backends=[dict(type="TensorboardVisBackend")])
    config.dump(tmp_path / "tensorboard.py")
    train.main([str(tmp_path / "tensorboard.py"), "--work-dir", str(tmp_path)])
    (events,) = tmp_path.rglob("events.out.tfevents.*")
    written = EventAccumulator(str(events)).Reload()
    assert {"loss", "lr", "acc/top1"} <= set(written.Tags()["scalars"])
    assert [event.step for event in written.Scalars("loss")] == [1, 2]


@pytest.mark.slow
def test_two_processes_on_cpu(tsn_config, tmp_path, repo):
    """``--launcher pytorch`` on a machine without an accelerator: two processes train and agree."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    argv = [str(tsn_config), "--work-dir", str(tmp_path), "--launcher", "pytorch", "--no-validate"]
    if torch.cuda.is_available():
        pytest.skip("this machine has an accelerator; the patch is for machines without one")
    running = [
        subprocess.Popen(
            [sys.executable, "tools/train.py", *argv],
            cwd=repo,
            env={
                **os.environ,
                **dict(RANK=str(rank), LOCAL_RANK=str(rank), WORLD_SIZE="2", MASTER_ADDR="127.0.0.1"),
                **dict(MASTER_PORT=str(port), OMP_NUM_THREADS="1", PYTHONPATH=str(repo)),
            },
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for rank in range(2)
    ]
    said = [process.communicate(timeout=300)[0] for process in running]
    assert [process.returncode for process in running] == [0, 0], "\n".join(said)
    assert torch.load(tmp_path / "epoch_1.pth")["meta"]["iter"] == 1
