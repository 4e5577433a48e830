"""``make soak`` in small, and that it sees what grows or changes."""

import json
import subprocess
import sys

import pytest

pytest.importorskip("openvino")
pytest.importorskip("starlette")

from tests.trust.soak import GOOD, Watched, flat, percentiles, same_answers


def answers(count: int) -> list[dict]:
    """Of as many clips, as ``infer --json -`` tells them."""
    bad = GOOD
    return [
        dict(
            video=f"/v/{number:06d}.mkv",
            **(dict(error="is no video") if number % 5 == bad else dict(label=3)),
        )
        for number in range(count)
    ]


def test_answers_that_change_are_seen():
    assert same_answers(answers(20), 20) == []
    assert same_answers(answers(19), 20) == ["19 answers to 20 clips, or not in their order"]
    other = answers(20)
    other[5]["label"] = 4
    assert same_answers(other, 20) == ["2 answers to the same clip"]
    lost = answers(20)
    for number in (0, 5, 10, 15):
        lost[number] = dict(video=lost[number]["video"], error="x")
    assert same_answers(lost, 20) == ["4 clips with an error, or bad ones without"]


def test_what_grows_is_seen():
    def found(mb: float, descriptors: float) -> list[str]:
        """Of 100 samples that grow by so much from first to last."""
        samples = [(float(i), 300 + mb * i / 99, int(9 + descriptors * i / 99)) for i in range(100)]
        return flat(Watched(0, [], "", 100.0, samples))[1]

    assert found(10, 0) == []
    assert found(90, 0)[0].startswith("memory grew from ")
    assert found(0, 40) == ["descriptors grew from 28 to 49"]
    assert flat(Watched(0, [], "", 0.5)) == ({}, [])
    assert flat(Watched(0, [], "", 60.0))[1] == ["memory was not watched"]


def test_times_are_judged_on_request():
    slow = [10.0] * 95 + [50.0] * 5
    times = [[30.0] * 100, slow, []]
    assert percentiles(times, judge=False) == (dict(p50_ms=10.0, p99_ms=50.0), [])
    assert percentiles(times, judge=True)[1] == ["the 99th percentile is 50.0 ms, above 2 medians of 10.0 ms"]
    assert percentiles([[10.0] * 100, [30.0] * 100], judge=True)[1] == []
    assert percentiles([], judge=True) == (dict(p50_ms=0.0, p99_ms=0.0), [])


@pytest.mark.slow
def test_soak_in_small(repo, tmp_path):
    report = tmp_path / "report.json"
    small = ["--clips", "200", "--frames", "600", "--serve-seconds", "5", "--clients", "4"]
    command = [sys.executable, "-m", "tests.trust.soak", *small, "--json", str(report)]
    done = subprocess.run(command, cwd=repo, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    rows = {row["name"]: row["figures"] for row in json.loads(report.read_text())["rows"]}
    assert rows["clips"]["done"] == 200 and rows["stream"]["done"] == 600 and rows["serve"]["done"] > 0
