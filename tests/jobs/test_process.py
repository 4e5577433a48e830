"""A child process: its progress, its end, and what it reports back."""

import io
import os
import signal
import subprocess
import sys
from types import SimpleNamespace

import pytest
from rich.console import Console

from mmvideoiq.jobs import process
from mmvideoiq.jobs.errors import Begun
from mmvideoiq.jobs.process import LOG_LINES, _end_of, _follow
from mmvideoiq.jobs.worker import Progress
from tests.conftest import ROOT


def test_a_process_ends_with_its_parent_also_while_it_imports(tmp_path):
    """With the other end of its pipe closed it does not come as far as missing its job."""
    read, write = os.pipe()
    os.close(write)
    command = [sys.executable, "-m", "mmvideoiq.jobs.worker", str(tmp_path / "gone.json"), str(read)]
    ended = subprocess.run(command, cwd=ROOT, pass_fds=[read], start_new_session=True, timeout=120)
    os.close(read)
    assert ended.returncode == -signal.SIGKILL


def followed(path, entries, console):
    """What is printed of a process with these entries ``(text, done, log)``."""
    progress = Progress(str(path / "progress.jsonl"), Begun())
    for text, done, logged in entries:
        progress(text, done, log=logged)
    polls = iter([None, 0])
    _follow(SimpleNamespace(poll=lambda: next(polls)), path / "progress.jsonl", console)
    return console.file.getvalue()


def test_an_epoch_is_printed_once_where_there_is_no_terminal(tmp_path):
    """A stage of one epoch: figures within it, at its end, and after its validation."""
    entries = [("epoch 1/1  loss 2", quarter / 4, False) for quarter in range(4)]
    entries += [("epoch 1/1  loss 1", 1.0, True), ("epoch 1/1  loss 1  top1 0.5", 1.0, True)]
    assert followed(tmp_path, entries, Console(file=io.StringIO())) == "  epoch 1/1  loss 1  (0 s)\n"


@pytest.mark.parametrize(("seconds", "lines"), [(0.0, 8), (1e9, 4)])
def test_of_long_epochs_each_is_printed(tmp_path, monkeypatch, seconds, lines):
    monkeypatch.setattr(process, "LINE_SECONDS", seconds)
    entries = [("starting", None, True)] + [(f"epoch {n}/8", n / 8, True) for n in range(1, 9)]
    assert followed(tmp_path, entries, Console(file=io.StringIO())).count("epoch") == lines


def test_a_long_line_leaves_room_for_the_bar(tmp_path):
    console = Console(file=io.StringIO(), force_terminal=True, width=80)
    shown = followed(tmp_path, [("epoch 1/1: " + "usage " * 30, 1.0, True)], console)
    assert "epoch 1/1: usage" in shown and "\u2026" in shown and "0:00:0" in shown


def test_a_failed_process_is_its_one_line_error_or_the_end_of_its_log(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    log = tmp_path / "log.txt"
    log.write_text("INFO: started\nworker.py: error: loss is nan\n")
    assert _end_of(log, 1) == "loss is nan (log.txt)"
    log.write_text("".join(f"line {n}\n" for n in range(20)) + "RuntimeError: no more memory\n")
    first, *tail = _end_of(log, 1).splitlines()
    assert first == "exit code 1; the end of log.txt:" and len(tail) == LOG_LINES
    assert tail[-1] == "  RuntimeError: no more memory"
