"""Running recipes: the order of stages, what they pass on, interruption and resume."""

import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from mmengine.config import Config
from rich.console import Console

from mmvideoiq.fileio import DamagedFile, last_checkpoint, read_json, write_json
from mmvideoiq.jobs.errors import RunStopped
from mmvideoiq.recipes import evaluation, train_stage
from mmvideoiq.recipes.checks import check_work_dir
from mmvideoiq.recipes.config import RecipeError
from mmvideoiq.recipes.plan import plan
from mmvideoiq.recipes.runner import Interrupted, run_recipe
from tests.conftest import ROOT


def test_stages_run_in_order_and_finished_ones_are_not_repeated(toy, tmp_path, in_process):
    work = tmp_path / "work"
    recipe = toy.recipe()
    summary = run_recipe(recipe, work)
    names = ["first", "second/seed0", "second/seed1"]
    assert [stage["name"] for stage in summary["stages"]] == names
    assert in_process == [work / name for name in names]
    # the second stage begins from the first one's last checkpoint
    handed_over = Config.fromfile(work / "second/seed0/stage_config.py")
    assert handed_over.load_from == str(work / "first/epoch_4.pth")
    assert Config.fromfile(work / "second/seed1/stage_config.py").randomness.seed == 1

    with pytest.raises(RecipeError, match="3 of 3 trainings finished: go on with --resume"):
        run_recipe(recipe, work)
    run_recipe(recipe, work, resume=True)
    assert len(in_process) == 3
    # what is gone is trained again, and only that
    (work / "second/seed1/state.json").unlink()
    run_recipe(recipe, work, resume=True)
    assert in_process[3:] == [work / "second/seed1"]


@pytest.mark.parametrize("fast", [False, True])
def test_a_start_that_was_refused_leaves_the_folder_free(toy, tmp_path, in_process, fast):
    with pytest.raises(RecipeError, match=r"gone\.pth does not exist"):
        run_recipe(toy.recipe(load_from="gone.pth"), tmp_path / "work")
    assert not in_process
    run_recipe(toy.recipe(fast=fast), tmp_path / "work")
    assert len(in_process) == (2 if fast else 3)


def test_a_folder_belongs_to_one_run_until_it_ends_or_dies(toy, tmp_path, in_process):
    code = (
        "import sys, time\nfrom pathlib import Path\nfrom mmvideoiq.jobs.lock import locked\n"
        "with locked(Path(sys.argv[1]), ValueError):\n    print('held', flush=True)\n    time.sleep(60)"
    )
    command = [sys.executable, "-c", code, str(tmp_path / "work")]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE) as other:
        try:
            assert other.stdout.readline() == b"held\n"
            with pytest.raises(RecipeError, match=rf"work is in use by process {other.pid} on \S+: end it"):
                run_recipe(toy.recipe(), tmp_path / "work")
        finally:
            other.kill()
    assert not in_process
    run_recipe(toy.recipe(), tmp_path / "work")
    assert len(in_process) == 3


def test_cut_files_are_named_in_one_line(toy, tmp_path, in_process):
    data = 'data = dict(function="json.loads", kwargs=dict(s="[]"))\n'
    recipe, work = toy.recipe(fast=True, add=data), tmp_path / "work"
    run_recipe(recipe, work)
    for path in (work / "recipe.json", work / "first/state.json", work / "data_state.json"):
        whole = path.read_bytes()
        for content in (b"", whole[: len(whole) // 2], b"null", b"{}"):
            path.write_bytes(content)
            with pytest.raises((RecipeError, DamagedFile)) as error:
                run_recipe(recipe, work, resume=True)
            message = str(error.value)
            assert f"{path} is empty, cut short" in message and "delete it" in message and "\n" not in message
        path.unlink()  # as it says
        run_recipe(recipe, work, resume=True)
    assert in_process == [work / "first", work / "second/seed5", work / "first"]


@pytest.mark.parametrize("damage", [Path.unlink, lambda path: os.truncate(path, 500)])
def test_the_files_of_a_finished_stage_must_be_unchanged(toy, tmp_path, in_process, damage):
    recipe, work = toy.recipe(fast=True), tmp_path / "work"
    run_recipe(recipe, work)
    for name in ("epoch_1.pth", "stage_config.py"):
        path = work / "first" / name
        whole = path.read_bytes()
        damage(path)
        what = "has changed" if path.is_file() else "is missing"
        with pytest.raises(
            RecipeError, match=rf"stage 'first' has finished, but its {name} {what}: put it back"
        ):
            run_recipe(recipe, work, resume=True)
        path.write_bytes(whole)
    run_recipe(recipe, work, resume=True)
    assert len(in_process) == 2


def test_a_damaged_bundle_is_exported_again(tmp_path, monkeypatch):
    done = []

    def run(function, kwargs, folder, console):
        done.append(function)
        out = Path(kwargs["job"]["out"])
        assert not out.exists()  # the export writes over no damaged bundle
        write_json(out / "manifest.json", {"format": 1})
        return {"top1": len(done)}

    monkeypatch.setattr(evaluation, "run_process", run)
    (tmp_path / "config.py").touch()
    policy = SimpleNamespace(config=tmp_path / "config.py", checkpoints=("epoch_1.pth",))

    def export():
        bundle, folder = tmp_path / "bundle", tmp_path / "export"
        return evaluation._export(policy, bundle, "openvino", folder, Console(quiet=True))

    assert export() == export() == {"top1": 1}
    os.truncate(tmp_path / "bundle/manifest.json", 5)
    assert export() == export() == {"top1": 2}
    assert read_json(tmp_path / "bundle/manifest.json") == {"format": 1}
    (tmp_path / "export/state.json").write_text("{")
    assert export() == {"top1": 3}


def test_an_invalid_loss_stops_the_stage_and_resume_goes_on_from_finite_weights(toy, tmp_path, in_process):
    with pytest.raises(RunStopped) as error:
        run_recipe(toy.recipe(model__invalid_from=8), tmp_path / "work")  # 3 an epoch
    assert str(error.value).startswith("loss_other is inf at epoch 3, iteration 8, learning rate 0.1: ")
    seed0 = tmp_path / "work/second/seed0"
    assert "checkpoint" not in read_json(seed0 / "state.json")
    assert last_checkpoint(seed0) == seed0 / "epoch_2.pth" and not (seed0 / "epoch_3.pth").exists()
    state = torch.load(seed0 / "epoch_2.pth", weights_only=False)["state_dict"]
    assert all(value.isfinite().all() for value in state.values())
    assert len(in_process) == 2


def test_a_work_dir_of_other_settings_is_refused(toy, tmp_path, in_process):
    work = tmp_path / "work"
    run_recipe(toy.recipe(), work)
    for recipe, message in (
        (toy.recipe(fast=True), "holds recipe 'toy': choose another --work-dir"),
        (toy.recipe(model__width=3), r"stage 'second/seed0'.*another config"),
    ):
        with pytest.raises(RecipeError, match=message):
            check_work_dir(recipe, plan(recipe, work), work, resume=True)


def test_interrupted_and_resumed_equals_uninterrupted(toy, tmp_path, in_process, monkeypatch):
    recipe = toy.recipe()
    run_recipe(recipe, tmp_path / "whole")

    after_train_iter = train_stage.StageHook.after_train_iter
    stopped = []

    def stop_within_the_third_epoch(self, runner, *args, **kwargs):
        if "second" in runner.work_dir and runner.iter == 7 and not stopped:  # 3 iterations an epoch
            stopped.append(runner.epoch)
            raise KeyboardInterrupt
        after_train_iter(self, runner, *args, **kwargs)

    monkeypatch.setattr(train_stage.StageHook, "after_train_iter", stop_within_the_third_epoch)
    with pytest.raises(Interrupted, match=r"Interrupted in stage 'second/seed0'. Go on with: .*--resume$"):
        run_recipe(recipe, tmp_path / "parts")
    assert read_json(tmp_path / "parts/second/seed0/state.json")["seconds"] > 0
    summary = run_recipe(recipe, tmp_path / "parts", resume=True)
    assert stopped == [2] and len(summary["stages"]) == 3
    for name in ("first", "second/seed0", "second/seed1"):
        whole, parts = (
            torch.load(tmp_path / folder / name / "epoch_4.pth", weights_only=False)["state_dict"]
            for folder in ("whole", "parts")
        )
        for key in whole:
            assert torch.equal(whole[key], parts[key]), (name, key)


@pytest.mark.parametrize(("validated", "lines"), [(False, ["epoch 1/2"]), (True, ["epoch 1/2: top1 0.5"])])
def test_an_epoch_is_one_line_after_its_validation_if_there_is_one(validated, lines):
    shown = []
    hook = train_stage.StageHook(progress=lambda text, done, *, log: shown.append((text, done, log)))
    loop = SimpleNamespace(val_begin=1, val_interval=1, max_epochs=2)
    runner = SimpleNamespace(
        epoch=0, max_epochs=2, iter=1, max_iters=4, message_hub=SimpleNamespace(log_scalars={}),
        train_loop=loop, val_loop=object() if validated else None,
    )  # fmt: skip
    hook.after_train_iter(runner, 0)
    hook.after_train_epoch(runner)
    runner.epoch = 1
    if validated:
        hook.after_val_epoch(runner, {"acc/top1": 0.5})
    assert shown[0] == ("epoch 1/2", 0.25, False)
    assert [text for text, _, log in shown if log] == lines


@pytest.mark.parametrize(
    ("epoch", "begin", "interval", "last", "expected"),
    [(0, 1, 1, 9, True), (0, 1, 2, 9, False), (8, 1, 2, 9, True), (1, 3, 2, 9, False), (3, 3, 2, 9, True)],
)
def test_which_epochs_are_validated(epoch, begin, interval, last, expected):
    loop = SimpleNamespace(val_begin=begin, val_interval=interval, max_epochs=last)
    runner = SimpleNamespace(epoch=epoch, train_loop=loop, val_loop=object())
    assert train_stage._is_validated(runner) == expected
