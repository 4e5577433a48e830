"""Recipes: reading, the hashes that say what is done, hand-over of checkpoints, interruption and resume."""

import errno
import io
import json
import os
import resource
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from mmengine.config import Config
from rich.console import Console

from mmvideoiq.fileio import DamagedFile, find_checkpoint, last_checkpoint, read_json, write_json
from mmvideoiq.jobs import process
from mmvideoiq.jobs.errors import Begun, RunStopped
from mmvideoiq.jobs.worker import Progress
from mmvideoiq.recipes import evaluation, runner, train_stage
from mmvideoiq.recipes.config import RecipeError, check_runs, check_work_dir, fill, plan, read_recipe
from mmvideoiq.recipes.runner import Interrupted, run_recipe

ROOT = Path(__file__).resolve().parents[2]

TOY_MODULE = '''
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

TOY_CONFIG = """
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

TOY_RECIPE = """
name = "toy"
stages = [
    dict(name="first", config="stage.py"),
    dict(name="second", config="stage.py", cfg_options={"load_from": "{first}"}, seeds=[0, 1]),
]
fast = dict(cfg_options={"train_cfg.max_epochs": 1}, seeds=[5], stages={"second": {"model.width": 2}})
"""


@pytest.fixture
def toy(tmp_path, monkeypatch):
    """A folder with a recipe of two stages on a model of two parameters; returns the recipe's path."""
    (tmp_path / "toy_stage.py").write_text(TOY_MODULE)
    (tmp_path / "list.txt").write_text("a 0\n")
    (tmp_path / "stage.py").write_text(TOY_CONFIG.format(ann_file=str(tmp_path / "list.txt")))
    (tmp_path / "recipe.py").write_text(TOY_RECIPE)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "toy_stage", raising=False)
    return tmp_path / "recipe.py"


@pytest.fixture
def in_process(monkeypatch):
    """Run the stages' jobs in this process; returns the list of folders trained in."""
    trained = []

    def run(function, kwargs, folder, console, **options):
        if function != runner.TRAIN:
            return {}
        trained.append(folder)
        return train_stage.train(kwargs["config"], Silent())

    monkeypatch.setattr(runner, "run_process", run)
    return trained


class Silent:
    """Progress that nobody follows."""

    def __call__(self, text, done=None, *, log=True): ...

    def begin(self): ...


def write_recipe(toy: Path, text: str) -> Path:
    toy.write_text(textwrap.dedent(text))
    return toy


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("name = 'x'", "'stages' is missing"),
        ("name = 'x'\nstages = []", "'stages' is empty"),
        ("name = 'x'\nstages = [dict(name='a', config='stage.py')]\nspeed = 3", "unknown key 'speed'"),
        ("name = 'x'\nstages = [dict(name='a', config='gone.py')]", "config gone.py does not exist"),
        ("name = 'x'\nstages = [dict(name='a', config='stage.py', seeds=[])]", "seeds must be different"),
        ("name = 'x'\nstages = [dict(name='a', config='stage.py', seeds=[1, 1])]", "seeds must be different"),
        ("name = 'x'\nstages = [dict(name='data', config='stage.py')]", "no other stage or folder"),
        ("name = 'x'\nstages = [dict(name='a', config='stage.py')] * 2", "no other stage or folder"),
        (
            "name = 'x'\nstages = [dict(name='a', config='stage.py', cfg_options=dict(load_from='{b}'))]",
            "'{b}' is not an earlier stage",
        ),
        (
            "name = 'x'\nstages = [dict(name='a', config='stage.py', seeds=[0, 1]),"
            "dict(name='b', config='stage.py', cfg_options=dict(m=[dict(c='{a}')]))]",
            "'{a}' has several seeds",
        ),
        ("name = 'x'\nstages = [", "cannot be read"),
        ("name = 'x'\nstages = dict(a='stage.py')", "stage 'a' must be a dict, got 'stage.py'"),
        ("name = 'x'\nstages = dict(a=dict(seeds=[0]))", "stage 'a': 'config' is missing"),
    ],
)
def test_unfit_recipes_are_refused(toy, text, message):
    with pytest.raises(RecipeError, match=message) as error:
        read_recipe(write_recipe(toy, text))
    assert "\n" not in str(error.value)


def test_recipes_inherit(toy):
    """Stages by name, from another recipe: what is changed is changed, the rest and the order stay."""
    base = toy.with_name("base.py")
    base.write_text(
        "stages = dict(first=dict(), second=dict(cfg_options={'load_from': '{first}'}, seeds=[0, 1]))\n"
        "fast = dict(seeds=[5])\n"
    )
    toy.write_text(
        "_base_ = ['./base.py']\nname = 'toy'\nstages = dict(second=dict(config='stage.py', "
        "cfg_options={'model.width': 2}), first=dict(config='stage.py'))\n"
    )
    recipe = read_recipe(toy)
    assert [stage.name for stage in recipe.stages] == ["first", "second"]
    assert recipe.stages[1].cfg_options == {"load_from": "{first}", "model.width": 2}
    assert recipe.stages[1].seeds == (0, 1) and read_recipe(toy, fast=True).stages[1].seeds == (5,)


def test_missing_recipe_is_refused(tmp_path):
    with pytest.raises(RecipeError, match="no such file"):
        read_recipe(tmp_path / "gone.py")


def test_fast_changes_what_it_names_and_nothing_else(toy):
    slow, fast = read_recipe(toy), read_recipe(toy, fast=True)
    assert [stage.seeds for stage in fast.stages] == [None, (5,)]
    assert fast.stages[0].cfg_options == {"train_cfg.max_epochs": 1}
    assert fast.stages[1].cfg_options == {"load_from": "{first}", "train_cfg.max_epochs": 1, "model.width": 2}
    assert [stage.config for stage in fast.stages] == [stage.config for stage in slow.stages]
    assert not slow.fast and fast.fast


def test_fast_without_its_section_is_refused(toy):
    write_recipe(toy, "name = 'x'\nstages = [dict(name='a', config='stage.py')]")
    with pytest.raises(RecipeError, match="no 'fast' section"):
        read_recipe(toy, fast=True)


def test_fill_reaches_every_string_and_leaves_other_braces():
    value = {"a": "{float}", "b": ["x/{float}/y", ("{work_dir}", 3)], "c": "{other} {}"}
    filled = fill(value, {"float": "f.pth", "work_dir": "w"})
    assert filled == {"a": "f.pth", "b": ["x/f.pth/y", ("w", 3)], "c": "{other} {}"}
    assert fill("{float}", {"float": None}) is None


def test_hashes_follow_the_stages_built_on(toy, tmp_path):
    def hashes(text=TOY_RECIPE, folder="a"):
        return [run.hash for run in plan(read_recipe(write_recipe(toy, text)), tmp_path / folder)]

    before = hashes()
    assert len(set(before)) == 3  # one for the first stage, one per seed of the second
    assert hashes(folder="b") == before
    second = hashes(TOY_RECIPE.replace('"{first}"', '"{first}", "model.width": 3'))
    assert second[0] == before[0] and not set(second[1:]) & set(before)
    first = hashes(
        TOY_RECIPE.replace('"first", config="stage.py"', '"first", config="stage.py", cfg_options={"x": 1}')
    )
    assert not set(first) & set(before)


def test_all_models_and_lists_are_checked_before_training(toy, tmp_path):
    runs = plan(read_recipe(toy), tmp_path / "work")
    check_runs(runs, tmp_path / "work")
    bad_model = TOY_RECIPE.replace('"{first}"', '"{first}", "model.width": 0')
    with pytest.raises(RecipeError, match=r"stage 'second/seed0'.*width=0 must be at least 1"):
        check_runs(plan(read_recipe(write_recipe(toy, bad_model)), tmp_path), tmp_path)
    bad_file = TOY_RECIPE.replace('"{first}"', '"gone.pth"')
    with pytest.raises(RecipeError, match=r"load_from gone.pth does not exist"):
        check_runs(plan(read_recipe(write_recipe(toy, bad_file)), tmp_path), tmp_path)
    bad_init = TOY_RECIPE.replace('"{first}"', '"{first}", "model.teacher": [dict(checkpoint="gone2.pth")]')
    with pytest.raises(RecipeError, match=r"checkpoint gone2.pth does not exist"):
        check_runs(plan(read_recipe(write_recipe(toy, bad_init)), tmp_path), tmp_path)
    (tmp_path / "list.txt").unlink()
    with pytest.raises(RecipeError, match=r"stage 'first'.*list.txt does not exist$"):
        check_runs(runs, tmp_path / "work")
    with (tmp_path / "stage.py").open("a") as file:
        file.write('load_from = "{{$TOY_WEIGHTS:gone3.pth}}"')
    with pytest.raises(RecipeError, match=r"load_from gone3.pth does not exist; set TOY_WEIGHTS, from which"):
        check_runs(plan(read_recipe(toy), tmp_path), tmp_path)


def test_the_best_checkpoint_goes_before_the_last(tmp_path):
    with pytest.raises(FileNotFoundError, match="no checkpoint was saved"):
        find_checkpoint(tmp_path)
    torch.save({}, tmp_path / "epoch_3.pth")
    (tmp_path / "last_checkpoint").write_text(str(tmp_path / "epoch_3.pth"))
    assert find_checkpoint(tmp_path).name == "epoch_3.pth"
    (tmp_path / "best_acc_epoch_2.pth").touch()
    assert find_checkpoint(tmp_path).name == "best_acc_epoch_2.pth"


def test_stages_run_in_order_and_finished_ones_are_not_repeated(toy, tmp_path, in_process):
    work = tmp_path / "work"
    recipe = read_recipe(toy)
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


def test_a_start_that_was_refused_leaves_the_folder_free(toy, tmp_path, in_process):
    missing = write_recipe(toy, TOY_RECIPE.replace('"{first}"', '"gone.pth"'))
    with pytest.raises(RecipeError, match=r"gone\.pth does not exist"):
        run_recipe(read_recipe(missing), tmp_path / "work")
    assert not in_process
    run_recipe(read_recipe(write_recipe(toy, TOY_RECIPE)), tmp_path / "work")
    assert len(in_process) == 3


def test_a_start_that_was_refused_leaves_the_folder_free_for_other_settings(toy, tmp_path, in_process):
    missing = write_recipe(toy, TOY_RECIPE.replace('"{first}"', '"gone.pth"'))
    with pytest.raises(RecipeError, match=r"gone\.pth does not exist"):
        run_recipe(read_recipe(missing), tmp_path / "work")
    run_recipe(read_recipe(write_recipe(toy, TOY_RECIPE), fast=True), tmp_path / "work")
    assert len(in_process) == 2


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
                run_recipe(read_recipe(toy), tmp_path / "work")
        finally:
            other.kill()
    assert not in_process
    run_recipe(read_recipe(toy), tmp_path / "work")
    assert len(in_process) == 3


def test_cut_files_are_named_in_one_line(toy, tmp_path, in_process):
    write_recipe(toy, TOY_RECIPE + 'data = dict(function="json.loads", kwargs=dict(s="[]"))\n')
    recipe, work = read_recipe(toy, fast=True), tmp_path / "work"
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
def test_what_a_finished_stage_left_behind_must_be_whole(toy, tmp_path, in_process, damage):
    recipe, work = read_recipe(toy, fast=True), tmp_path / "work"
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


def test_an_unfinished_stage_falls_back_to_the_checkpoint_before_a_cut_one(tmp_path):
    assert last_checkpoint(tmp_path) is None
    for epoch in (9, 10):
        torch.save(dict(weight=torch.zeros(100)), tmp_path / f"epoch_{epoch}.pth")
        os.utime(tmp_path / f"epoch_{epoch}.pth", (epoch, epoch))
    for pointer in (str(tmp_path / "epoch_10.pth"), "", str(tmp_path / "gone.pth")):
        (tmp_path / "last_checkpoint").write_text(pointer)
        assert last_checkpoint(tmp_path).name == "epoch_10.pth"
    os.truncate(tmp_path / "epoch_10.pth", (tmp_path / "epoch_10.pth").stat().st_size - 10)
    (tmp_path / "last_checkpoint").write_text(str(tmp_path / "epoch_10.pth"))
    assert last_checkpoint(tmp_path).name == "epoch_9.pth"
    data = bytearray((tmp_path / "epoch_9.pth").read_bytes())
    data[len(data) // 2] ^= 255  # of the length it had, but other bytes
    (tmp_path / "epoch_9.pth").write_bytes(data)
    assert last_checkpoint(tmp_path) is None


def test_a_stage_ends_with_its_parent_also_while_it_imports(tmp_path):
    """With the other end of its pipe closed it does not come as far as missing its job."""
    read, write = os.pipe()
    os.close(write)
    command = [sys.executable, "-m", "mmvideoiq.jobs.worker", str(tmp_path / "gone.json"), str(read)]
    ended = subprocess.run(command, cwd=ROOT, pass_fds=[read], start_new_session=True, timeout=120)
    os.close(read)
    assert ended.returncode == -signal.SIGKILL


def test_an_epoch_is_printed_once_where_there_is_no_terminal(tmp_path):
    """A stage of one epoch: figures within it, at its end, and after its validation."""
    progress = Progress(str(tmp_path / "progress.jsonl"), Begun())
    for quarter in range(4):
        progress("epoch 1/1  loss 2", quarter / 4, log=False)
    progress("epoch 1/1  loss 1", 1.0)
    progress("epoch 1/1  loss 1  top1 0.5", 1.0)
    polls = iter([None, 0])
    console = Console(file=io.StringIO())
    process._follow(SimpleNamespace(poll=lambda: next(polls)), tmp_path / "progress.jsonl", console)
    assert console.file.getvalue() == "  epoch 1/1  loss 1  (0 s)\n"


def test_figures_within_an_epoch_are_not_for_the_log():
    shown = []
    hook = train_stage.StageHook(progress=lambda text, done, *, log: shown.append((text, done, log)))
    hub = SimpleNamespace(log_scalars={})
    runner = SimpleNamespace(epoch=0, max_epochs=1, iter=1, max_iters=4, message_hub=hub, train_loop=None)
    hook.after_train_iter(runner, 0)
    hook.after_train_epoch(runner)
    assert shown == [("epoch 1/1", 0.25, False), ("epoch 1/1", 0.25, True)]


def test_an_invalid_loss_stops_the_stage_and_resume_goes_on_from_finite_weights(toy, tmp_path, in_process):
    write_recipe(toy, TOY_RECIPE.replace('"{first}"', '"{first}", "model.invalid_from": 8'))  # 3 an epoch
    with pytest.raises(RunStopped) as error:
        run_recipe(read_recipe(toy), tmp_path / "work")
    assert str(error.value).startswith("loss_other is inf at epoch 3, iteration 8, learning rate 0.1: ")
    seed0 = tmp_path / "work/second/seed0"
    assert "checkpoint" not in read_json(seed0 / "state.json")
    assert last_checkpoint(seed0) == seed0 / "epoch_2.pth" and not (seed0 / "epoch_3.pth").exists()
    state = torch.load(seed0 / "epoch_2.pth", weights_only=False)["state_dict"]
    assert all(value.isfinite().all() for value in state.values())
    assert len(in_process) == 2


def test_a_full_disk_is_one_line(toy, tmp_path, load_tool, monkeypatch, capsys):
    tool = load_tool("train_stages.py")

    def write(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(tmp_path / "work/first/state.json"))

    monkeypatch.setattr(runner, "_train", write)
    monkeypatch.setattr(sys, "argv", ["train_stages.py", str(toy), "--work-dir", str(tmp_path / "work")])
    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    try:
        assert tool.main() == 1
    finally:
        for number, handler in zip((signal.SIGINT, signal.SIGTERM), before, strict=True):
            signal.signal(number, handler)
    errors = capsys.readouterr().err
    assert errors.count("\n") == 1 and "No space left on device" in errors and "--resume" in errors


def test_a_work_dir_of_other_settings_is_refused(toy, tmp_path, in_process):
    work = tmp_path / "work"
    run_recipe(read_recipe(toy), work)
    fast = read_recipe(toy, fast=True)
    with pytest.raises(RecipeError, match="holds recipe 'toy': choose another --work-dir"):
        check_work_dir(fast, plan(fast, work), work, resume=True)
    changed = read_recipe(write_recipe(toy, TOY_RECIPE.replace('"{first}"', '"{first}", "model.width": 3')))
    with pytest.raises(RecipeError, match=r"stage 'second/seed0'.*another config"):
        check_work_dir(changed, plan(changed, work), work, resume=True)


def test_interrupted_and_resumed_equals_uninterrupted(toy, tmp_path, in_process, monkeypatch):
    recipe = read_recipe(toy)
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


def test_json_is_replaced_whole(tmp_path):
    path = tmp_path / "deep/state.json"
    write_json(path, {"a": 1})
    with pytest.raises(TypeError):
        write_json(path, {"a": object()})
    assert read_json(path) == {"a": 1}
    assert read_json(tmp_path / "gone.json") is None


@pytest.mark.slow
def test_ctrl_c_and_resume_on_the_command_line(toy, tmp_path):
    slow = TOY_RECIPE.replace('"{first}"', '"{first}", "model.seconds": 0.3')
    write_recipe(toy, slow)
    work = tmp_path / "work"
    command = [sys.executable, str(ROOT / "tools/train_stages.py"), str(toy), "--work-dir", str(work)]
    environment = os.environ | {"PYTHONPATH": str(tmp_path), "OMP_NUM_THREADS": "1"}
    options = dict(env=environment, cwd=ROOT, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE)

    process = subprocess.Popen(command, **options)
    progress = work / "second/seed0/progress.jsonl"
    deadline = time.monotonic() + 90
    while not (progress.is_file() and "epoch 2/4" in progress.read_text()):
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.1)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=30)
    assert process.returncode == 130
    assert (
        errors.strip().splitlines()[-1].startswith("Interrupted in stage 'second/seed0'. Go on with: python")
    )
    first = (work / "first/state.json").stat().st_mtime_ns

    again = subprocess.run(command, **options, timeout=60)
    assert again.returncode == 2 and "--resume" in again.stderr and "Traceback" not in again.stderr

    resumed = subprocess.run([*command, "--resume"], **options, timeout=120)
    assert resumed.returncode == 0, resumed.stderr
    assert "resumed from its last checkpoint, epoch_" in resumed.stdout
    assert (work / "first/state.json").stat().st_mtime_ns == first
    assert len(json.loads((work / "summary.json").read_text())["stages"]) == 3


@pytest.mark.slow
def test_a_failing_stage_shows_the_end_of_its_log(toy, tmp_path):
    module = tmp_path / "toy_stage.py"
    module.write_text(
        module.read_text().replace("time.sleep(self.seconds)", "raise RuntimeError('no more memory')")
    )
    command = [
        sys.executable,
        str(ROOT / "tools/train_stages.py"),
        str(toy),
        "--work-dir",
        str(tmp_path / "work"),
    ]
    environment = os.environ | {"PYTHONPATH": str(tmp_path), "OMP_NUM_THREADS": "1"}
    result = subprocess.run(command, env=environment, cwd=ROOT, text=True, capture_output=True, timeout=90)
    assert result.returncode == 1
    assert "no more memory" in result.stderr and "log.txt" in result.stderr


@pytest.mark.slow
def test_a_stage_on_a_full_disk_and_one_with_an_invalid_loss_end_in_one_line(toy, tmp_path):
    def run(options: str, limit: int | None) -> subprocess.CompletedProcess:
        changed = f'"first", config="stage.py", cfg_options={options}'
        write_recipe(toy, TOY_RECIPE.replace('"first", config="stage.py"', changed))
        command = [sys.executable, str(ROOT / "tools/train_stages.py"), str(toy)]
        return subprocess.run(
            [*command, "--work-dir", str(tmp_path / options.split(".")[1][:4])],
            env=os.environ | {"PYTHONPATH": str(tmp_path), "OMP_NUM_THREADS": "1"},
            cwd=ROOT, text=True, capture_output=True, timeout=90,
            preexec_fn=lambda: limit and resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit)),
        )  # fmt: skip

    full = run('{"model.ballast": 1_000_000}', 1_000_000)  # a file may not be larger, as on a full disk
    assert full.returncode == 1 and full.stderr.count("\n") == 1
    assert "no space left for" in full.stderr and "--resume" in full.stderr
    invalid = run('{"model.invalid_from": 2}', None)
    assert invalid.returncode == 1 and invalid.stderr.count("\n") == 1
    assert "error: a stage failed, loss_other is inf at epoch 1, iteration 2" in invalid.stderr
