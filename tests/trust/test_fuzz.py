"""``make fuzz`` in small, and that it counts what it should."""

import json
import random
import subprocess
import sys
from itertools import islice

import pytest

from tests.trust.isolated import HANG, REFUSED, UNEXPLAINED, WORKED, finite_answers, judge
from tests.trust.kinds import SHARES, in_turn
from tests.trust.mutations import change_bytes, change_text, change_tree, places

INPUTS, SEED = 14, 1


@pytest.mark.slow
def test_mutated_inputs_work_or_are_refused(repo, tmp_path):
    report = tmp_path / "report.json"
    command = [sys.executable, "-m", "tests.trust.fuzz", "--inputs", str(INPUTS), "--seed", str(SEED)]
    more = ["--workers", "1", "--keep", str(tmp_path / "kept"), "--json", str(report)]
    done = subprocess.run([*command, *more], cwd=repo, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    rows = {row["name"]: row["figures"] for row in json.loads(report.read_text())["rows"]}
    assert rows.keys() == SHARES.keys()
    assert sum(row["inputs"] for row in rows.values()) == INPUTS
    assert all(row["inputs"] == row[WORKED] + row[REFUSED] > 0 for row in rows.values())


@pytest.mark.parametrize(
    ("code", "out", "err", "end"),
    [
        (0, "fine\n", "", WORKED),
        (0, "", "warning: slow\n", WORKED),
        (2, "", "mmvideoiq infer: error: x.mp4: is empty\n", REFUSED),
        (1, "", "a log\nerror: no space left\n", REFUSED),
        (2, "", "", UNEXPLAINED),
        (1, "", "mmvideoiq infer: error: one\nmmvideoiq infer: error: two\n", UNEXPLAINED),
        (2, "", "mmvideoiq infer: error: one\nof several lines\n", UNEXPLAINED),
        (2, "", "zoo: error: \n", UNEXPLAINED),
        (-11, "", "mmvideoiq infer: error: x\n", UNEXPLAINED),
        (1, "", "Traceback (most recent call last):\nKeyError: error: x\n", UNEXPLAINED),
        (0, "Traceback (most recent call last):\n", "", UNEXPLAINED),
        (0, "", "RuntimeWarning: overflow\n", UNEXPLAINED),
    ],
)
def test_how_an_end_is_judged(code, out, err, end):
    assert judge(code, out, err)[0] == end


def test_answers_must_be_finite():
    assert finite_answers('{"score": 0.5, "cost": 1.0}\n') == ""
    assert "not finite" in finite_answers('{"score": NaN, "cost": 1.0}\n')
    assert finite_answers("") == "no answer"


def test_kinds_come_in_turn_by_their_shares():
    stream = in_turn(list(SHARES))
    jobs = [next(stream) for _ in range(1100)]
    assert len(set(jobs)) == 1100
    for name, (_, share) in SHARES.items():
        assert sum(kind == name for kind, _ in jobs) == share
        assert abs(sum(kind == name for kind, _ in jobs[:110]) - share / 10) <= 1
    assert list(islice(in_turn(["zoo"]), 2)) == [("zoo", 0), ("zoo", 1)]


def test_the_same_seed_makes_the_same_input():
    text = "path label\n" * 40
    for change in (lambda rng: change_bytes(text.encode(), rng), lambda rng: change_text(text, rng)):
        made = [change(random.Random(seed)) for seed in range(40)]
        assert made == [change(random.Random(seed)) for seed in range(40)]
        assert len({data for _, data in made}) > 20


def test_trees_change_in_one_place():
    tree = {"a": [1, {"b": 2.5}], "c": "x"}
    assert set(places(tree)) == {("a",), ("a", 0), ("a", 1), ("a", 1, "b"), ("c",)}
    for seed in range(50):
        changed = json.loads(json.dumps(tree))
        assert change_tree(changed, random.Random(seed))


def test_crashes_and_hangs_are_counted(tmp_path, monkeypatch):
    from tests.trust import fuzz
    from tests.trust.endings import feed

    monkeypatch.setattr(fuzz, "feed", feed)
    args = fuzz.parse_args(["--workers", "2", "--limit", "8", "--keep", str(tmp_path)])
    found = list(fuzz.outcomes(iter([("zoo", number) for number in range(4)]), args, float("inf")))
    ends = {number: (end, told) for _, number, end, told, _ in found}
    assert ends[0] == (WORKED, "fine: ")
    assert ends[1][0] == UNEXPLAINED and "code -11" in ends[1][1]
    assert ends[2][0] == HANG
    assert ends[3] == (UNEXPLAINED, "ValueError: a mutation that fails")
