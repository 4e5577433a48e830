"""``tools/train_stages.py``: interruption, and what is printed when a stage fails."""

import errno
import json
import os
import resource
import signal
import subprocess
import sys
import time

import pytest

from mmvideoiq.recipes import runner


def test_a_full_disk_is_one_line(toy, tmp_path, load_tool, monkeypatch, capsys):
    tool = load_tool("train_stages.py")

    def write(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(tmp_path / "work/first/state.json"))

    monkeypatch.setattr(runner, "_train", write)
    monkeypatch.setattr(sys, "argv", ["train_stages.py", str(toy.path), "--work-dir", str(tmp_path / "work")])
    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    try:
        assert tool.main() == 1
    finally:
        for number, handler in zip((signal.SIGINT, signal.SIGTERM), before, strict=True):
            signal.signal(number, handler)
    errors = capsys.readouterr().err
    assert errors.count("\n") == 1 and "No space left on device" in errors and "--resume" in errors


@pytest.mark.parametrize("number", [errno.EROFS, errno.EACCES])
def test_a_folder_that_may_not_be_written_is_one_line(toy, tmp_path, monkeypatch, capsys, number):
    from mmvideoiq.service import recipe

    def refuse(*_, **__):
        raise OSError(number, os.strerror(number), str(tmp_path / "work"))

    monkeypatch.setattr(recipe, "run_recipe", refuse)
    assert recipe.main([str(toy.path), "--work-dir", str(tmp_path / "work")]) == 2
    errors = capsys.readouterr().err
    assert errors.count("\n") == 1 and os.strerror(number) in errors
    assert errors.endswith(": choose another --work-dir, or allow to write there\n")


@pytest.mark.slow
def test_ctrl_c_and_resume_on_the_command_line(toy, tmp_path):
    toy.recipe(model__seconds=0.3)
    work = tmp_path / "work"
    command, options = toy.command(work)
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
    command, options = toy.command(tmp_path / "work")
    result = subprocess.run(command, **options, timeout=90)
    assert result.returncode == 1
    assert "no more memory" in result.stderr and "log.txt" in result.stderr


@pytest.mark.slow
@pytest.mark.parametrize(
    ("options", "limit", "messages"),
    [
        (
            dict(ballast=1_000_000),
            1_000_000,
            ["train_stages.py: error: ", "no space left for", "--resume"],
        ),  # file size, as on a full disk
        (
            dict(invalid_from=2),
            None,
            ["train_stages.py: error: a stage failed, loss_other is inf at epoch 1, iteration 2"],
        ),
    ],
)
def test_a_full_disk_and_an_invalid_loss_end_in_one_line(toy, tmp_path, options, limit, messages):
    model = {f"model.{key}": value for key, value in options.items()}
    toy.write(f"name = 'toy'\nstages = [dict(name='first', config='stage.py', cfg_options={model})]\n")
    command, settings = toy.command(tmp_path / "work")

    def limit_files():
        if limit:
            resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))

    done = subprocess.run(command, **settings, timeout=90, preexec_fn=limit_files)
    assert done.returncode == 1 and done.stderr.count("\n") == 1
    assert all(message in done.stderr for message in messages)
