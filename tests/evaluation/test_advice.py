"""What a policy gains, and the rules of the advice: made-up numbers for each."""

import numpy as np
import pytest

from mmvideoiq.evaluation.advice import Rival, advise, correct_clips, gains, paired_gain

WORSE, EQUAL, BETTER = (-0.08, -0.02), (-0.03, 0.03), (0.02, 0.08)  # the policy, beyond doubt or not


def rival(name, top1, spent, interval):
    return Rival(name, top1, spent, interval)


def verdict(rivals, random=None, spent=10.0, unit="ms"):
    return advise("videoiq", 0.8, spent, rivals, random=random, unit=unit)


CHANCE = rival("random", 0.79, 10.0, EQUAL)
RANDOM = rival("random", 0.5, 10.0, (0.25, 0.35))


def test_nothing_to_compare_with():
    found = verdict([])
    assert found.verdict == "unknown" and "beside no fixed mode" in found.text


@pytest.mark.parametrize("random", [None, CHANCE, RANDOM])
@pytest.mark.parametrize(
    ("spent", "interval"), [(5.0, EQUAL), (10.0, EQUAL), (10.4, EQUAL), (9.0, WORSE), (9.0, (0.0, 0.05))]
)
def test_an_alternative_that_spends_no_more_and_is_not_worse_beyond_doubt(spent, interval, random):
    rivals = [rival("float", 0.9, 40.0, WORSE), rival("fixed-8@160", 0.79, spent, interval)]
    found = verdict(rivals, random)
    assert found.verdict == "no gain"
    assert found.text.startswith("use fixed-8@160: the policy gains nothing here (fixed-8@160 79.0 % at ")
    assert "videoiq 80.0 % at 10 ms" in found.text


def test_the_most_accurate_of_them_then_the_quickest():
    rivals = [
        rival("a", 0.78, 2.0, EQUAL), rival("b", 0.82, 9.0, EQUAL), rival("c", 0.82, 8.0, EQUAL),
        rival("d", 0.90, 11.0, WORSE),
    ]  # fmt: skip
    assert verdict(rivals).text.startswith("use c: the policy gains nothing")


def test_a_choice_no_better_than_chance():
    rivals = [rival("float", 0.9, 40.0, WORSE), rival("fixed", 0.7, 9.0, BETTER)]
    found = verdict(rivals, CHANCE)
    assert found.verdict == "chance" and "random actions of the same usage get 79.0 %" in found.text
    assert verdict(rivals, rival("random", 0.7, 10.0, (0.0, 0.2))).verdict == "chance"
    assert verdict(rivals, rival("random", 0.7, 10.0, (0.001, 0.2))).verdict == "faster"


@pytest.mark.parametrize("random", [None, RANDOM])
def test_less_accurate_but_faster_than_the_best(random):
    found = verdict([rival("float", 0.85, 40.0, WORSE), rival("fixed", 0.7, 9.0, BETTER)], random)
    assert found.verdict == "faster"
    assert "where float takes too long: it takes 0.25 times its milliseconds" in found.text


@pytest.mark.parametrize("spent", [4.0, 10.4])
def test_more_accurate_than_the_best_which_spends_no_more(spent):
    found = verdict([rival("float", 0.7, spent, BETTER), rival("few", 0.6, 2.0, BETTER)], RANDOM)
    assert found.verdict == "more accurate" and "where accuracy counts" in found.text


def test_more_accurate_and_cheaper_than_the_best():
    found = verdict([rival("float", 0.7, 20.0, BETTER), rival("few", 0.6, 2.0, BETTER)], RANDOM)
    assert found.verdict == "better"
    assert found.text.startswith("use videoiq: it is more accurate than float at 0.5 of its milliseconds (")
    assert found.text.endswith("float 70.0 % at 20 ms, difference +2.0 to +8.0 points)")


@pytest.mark.parametrize("interval", [EQUAL, (-0.03, 0.0), (0.0, 0.04)])
def test_as_accurate_as_the_best_and_cheaper(interval):
    found = verdict([rival("float", 0.8, 20.0, interval), rival("few", 0.6, 2.0, BETTER)], RANDOM)
    assert found.verdict == "as accurate" and "as accurate as float at 0.5 of its milliseconds" in found.text


def test_costs_where_nothing_was_timed():
    found = verdict([rival("float", 0.8, 1.0, EQUAL)], RANDOM, spent=0.25, unit="cost")
    assert "at 0.25 of its cost" in found.text and "videoiq 80.0 % at cost 0.25" in found.text
    free = verdict([rival("float", 0.85, 1.0, WORSE)], RANDOM, spent=0.25, unit="cost")
    assert "where float costs too much: it takes 0.25 times its cost" in free.text


def test_the_interval_holds_the_gain_and_shrinks_with_more_clips():
    rng = np.random.default_rng(1)
    ours, theirs = (rng.random(400) < 0.8).astype(float), (rng.random(400) < 0.6).astype(float)
    found = paired_gain(ours, theirs)
    assert found["gain"] == pytest.approx((ours - theirs).mean(), abs=1e-12)
    low, high = found["interval"]
    # the normal approximation of a mean of 400 differences
    half = 1.96 * (ours - theirs).std() / 20
    assert low == pytest.approx(found["gain"] - half, abs=0.006)
    assert high == pytest.approx(found["gain"] + half, abs=0.006)
    assert paired_gain(ours, theirs) == found
    few = paired_gain(ours[:40], theirs[:40])["interval"]
    assert few[1] - few[0] > high - low


def test_pairs_count_not_accuracies():
    ours = np.tile([1.0, 0.0], 50)
    assert paired_gain(ours, ours) == dict(gain=0.0, interval=[0.0, 0.0])
    shifted = paired_gain(ours, 1 - ours)  # as accurate, on the other clips
    assert shifted["gain"] == 0 and shifted["interval"][0] < -0.1 and shifted["interval"][1] > 0.1


def clips(*labels):
    return [dict(pred_label=found, gt_label=wanted) for found, wanted in labels]


def test_runs_are_averaged_clip_by_clip():
    runs = [clips((1, 1), (2, 0), (3, 3)), clips((1, 1), (0, 0), (2, 3))]
    assert correct_clips(runs).tolist() == [1.0, 0.5, 0.5]
    assert correct_clips([clips((1, [0, 1]))]) is None and correct_clips([clips((None, 1))]) is None


def row(name, role, top1, ms=None, ms_of="engine", cost=1.0):
    times = {} if ms is None else dict(ms_per_clip=ms, ms_of=ms_of)
    return dict(name=name, role=role, top1=top1, cost=cost) | times


def test_gains_of_a_row():
    names = ("float", "fixed", "ensemble", "random", "oracle", "videoiq")
    right = dict(zip(names, (80, 70, 75, 40, 95, 80), strict=True))
    correct = {name: (np.arange(100) < count).astype(float) for name, count in right.items()}
    rows = [
        row("float", "plain", 0.8, 1.0, "PyTorch"),
        row("fixed", "plain", 0.7, 8.0),
        row("ensemble", "plain", 0.75),
        row("random", "random", 0.4),
        row("oracle", "limit", 0.95, 1.0),
        row("videoiq", "policy", 0.8, 4.0, cost=0.3),
    ]
    found = gains(rows[-1], rows, correct, random=["random"])
    assert list(found["against"]) == ["float", "fixed", "ensemble", "random"]  # not the limit
    assert found["against"]["random"]["gain"] == pytest.approx(0.4)
    assert found["advice"]["verdict"] == "better" and "fixed" in found["advice"]["text"]
    untimed = [{key: value for key, value in each.items() if key[:2] != "ms"} for each in rows]
    found = gains(untimed[-1], untimed, correct, random=["random"])
    assert found["advice"]["verdict"] == "as accurate" and "float" in found["advice"]["text"]
    assert gains(rows[-1], rows, correct | dict(videoiq=None), random=[]) == {}
    assert gains(rows[-1], rows, correct | dict(videoiq=np.ones(1)), random=[]) == {}
