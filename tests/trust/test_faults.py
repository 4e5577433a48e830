"""``make faults`` in small, and that it sees what differs."""

import json
import subprocess
import sys

import numpy as np
import pytest

from tests.trust import disks, kills
from tests.trust.subjects import Subject, differences, unmeasured

#: Writes 40 lines, one each 20 ms, and goes on after the last that is there. With "loses", the last never comes.
WRITER = """
import pathlib, sys, time
out = pathlib.Path(sys.argv[1]); out.mkdir(parents=True, exist_ok=True)
file = out / "lines"
done = len(file.read_text().split()) if file.exists() else 0
for number in range(done, 40 - ("loses" in sys.argv)):
    time.sleep(0.02)
    with file.open("a") as lines:
        lines.write(f"{number}\\n")
"""


def writer(*more: str) -> Subject:
    return Subject(
        "writer",
        lambda out: [sys.executable, "-c", WRITER, str(out), *more],
        lambda out: (out / "lines").read_text().split(),
    )


@pytest.mark.parametrize(("more", "held"), [((), 4), (("loses",), 0)])
def test_kills_are_counted_and_losses_seen(tmp_path, more, held):
    reference = kills.Reference(writer(), tmp_path / "whole")
    settings = dict(kills=4, per_run=2, seed=0, until=float("inf"), tell=lambda text: None)
    row = kills.killed(writer(*more), tmp_path, reference=reference, **settings)
    assert row.figures["tried"] == 4
    assert (row.figures["held"] == 4, bool(row.problems)) == (held == 4, held != 4)


def test_differences_are_named():
    one = dict(a=[1, 2.5], b=np.zeros(1).tolist(), c=float("nan"))
    assert differences(one, dict(one)) == []
    assert differences(one, dict(one, a=[1, 2.6])) == ["/a/1: 2.5 and 2.6"]
    assert differences(one, dict(a=[1, 2.5], b=[0.0])) == ["/c: only in one"]
    assert differences([1], [1, 2], "x") == ["x: 1 and 2 items"]
    assert differences(1, True, "x") == ["x: int and bool"]
    assert unmeasured([dict(seconds=1, top1=2)]) == [dict(top1=2)]


def test_tensors_are_compared_bit_by_bit():
    import torch

    one = dict(w=torch.tensor([1.0, 2.0]))
    assert differences(one, dict(w=torch.tensor([1.0, 2.0]))) == []
    assert differences(one, dict(w=torch.tensor([1.0, 2.0 + 1e-6]))) == ["/w: other values"]
    assert differences(one, dict(w=one["w"].double())) == ["/w: other values"]


def test_what_a_command_says_about_a_disk():
    full = "mmvideoiq bulk: error: [Errno 28] No space left on device: 'a'\n"
    assert disks.refused(1, full, words=disks.FULL) == []
    assert disks.refused(1, full, words=("read-only",)) != []
    assert disks.refused(0, full, words=disks.FULL) != []
    assert disks.refused(1, "Traceback (most recent call last):\n" + full, words=disks.FULL) != []


@pytest.mark.slow
def test_faults_in_small(repo, tmp_path):
    report = tmp_path / "report.json"
    command = [sys.executable, "-m", "tests.trust.faults", "--kills", "2", "--videos", "60", "--only", "bulk"]
    more = ["--work-dir", str(tmp_path / "work"), "--json", str(report)]
    done = subprocess.run([*command, *more], cwd=repo, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    (row,) = json.loads(report.read_text())["rows"]
    assert row["figures"]["tried"] == row["figures"]["held"] == 2
