"""Arithmetic of budgets: decisions, the curve, and the way back from a budget to a multiplier."""

from functools import partial
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mmvideoiq.deploy.budget import (
    Budget,
    BudgetError,
    action_for,
    apply_multiplier,
    best_processed,
    calibrate,
    clip_accuracy,
    decide,
    log_softmax,
    multiplier_for,
    parse_budget,
    process_chance,
)

COSTS = np.array([1.0, 0.25, 0.0625, 0.0])
SKIPS = np.array([False, False, False, True])


def policy(seed: int, videos: int = 40, frames: int = 8, bias=(0.0, 0.0, 0.0, 0.0)) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return log_softmax(2 * rng.standard_normal((videos, frames, len(COSTS))) + bias)


def curve_of(log_probs: np.ndarray, **options) -> list[dict]:
    return calibrate(partial(decide, log_probs, COSTS, SKIPS), COSTS, **options)


# --- what a budget is -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "value", "unit"),
    [
        (0.4, 0.4, "cost"),
        (1, 1.0, "cost"),
        ("0.4", 0.4, "cost"),
        (" .5 ", 0.5, "cost"),
        ("1e-2", 0.01, "cost"),
        (1e-7, 1e-7, "cost"),
        ("30ms", 30.0, "ms"),
        ("2.5 ms", 2.5, "ms"),
    ],
)
def test_budgets(given, value, unit):
    assert parse_budget(given) == Budget(value, unit)


@pytest.mark.parametrize("given", ["", "ms", "-1", -0.1, "30s", "30 ms ms", "nan", float("inf"), True, "1,5"])
def test_what_is_no_budget(given):
    with pytest.raises(BudgetError, match=r"neither a mean cost such as 0\.4 nor a time such as '30ms'"):
        parse_budget(given)


# --- decisions ------------------------------------------------------------------------------------------------------


def test_the_dial_takes_a_multiple_of_the_costs():
    log_probs = policy(0)
    assert apply_multiplier(log_probs, COSTS, 0) is log_probs
    turned = apply_multiplier(log_probs, COSTS, 2.0)
    np.testing.assert_allclose(np.exp(turned).sum(-1), 1)
    np.testing.assert_allclose(np.diff(turned), np.diff(log_probs - 2.0 * COSTS), atol=1e-12)


def test_chances_and_the_best_of_the_processed():
    log_probs = np.log([[0.1, 0.2, 0.3, 0.4], [0.05, 0.6, 0.05, 0.3]])
    np.testing.assert_allclose(np.exp(process_chance(log_probs, SKIPS)), [0.6, 0.7])
    assert best_processed(log_probs, SKIPS).tolist() == [2, 1]
    impossible = np.array([[-np.inf, -800.0, -900.0, 0.0]])
    np.testing.assert_allclose(process_chance(impossible, SKIPS), [-800.0])


def test_decisions_clip_by_clip():
    """The obvious way: over clips and frames, one after the other."""
    log_probs = policy(1, frames=3, bias=(-2.0, -2.0, -2.0, 2.0))
    for all_skip in ("likeliest", "zero"):
        got, forced = decide(log_probs, COSTS, SKIPS, all_skip=all_skip), 0
        for actions, clip in zip(got, log_probs, strict=True):
            want = [int(frame.argmax()) for frame in clip]
            if all(SKIPS[want]) and all_skip == "likeliest":
                place = int(np.argmax([np.exp(frame)[~SKIPS].sum() for frame in clip]))
                want[place] = int(clip[place][:3].argmax())
                forced += 1
            assert actions.tolist() == want
        assert (forced > 3) == (all_skip == "likeliest")
        np.testing.assert_array_equal(decide(log_probs[5], COSTS, SKIPS, all_skip=all_skip), got[5])


def test_without_skips_nothing_is_forced():
    log_probs = policy(2)[..., :3]
    np.testing.assert_array_equal(decide(log_probs, COSTS[:3], SKIPS[:3]), log_probs.argmax(-1))


def test_accuracy_is_that_of_the_mean_of_processed_frames():
    rng = np.random.default_rng(0)
    videos, frames, classes, features = 30, 5, 4, 6
    seen = rng.standard_normal((videos, frames, 3, features))
    weight, bias = rng.standard_normal((classes, features)), rng.standard_normal(classes)
    actions = rng.integers(0, 4, (videos, frames))
    actions[0] = 3  # nothing processed: the bias decides
    labels = []
    for clip, chosen in zip(seen, actions, strict=True):
        kept = [frame[action] for frame, action in zip(clip, chosen, strict=True) if action != 3]
        labels.append(int((weight @ np.mean(kept or np.zeros((1, features)), axis=0) + bias).argmax()))
    labels = np.array(labels)
    labels[5:12] = (labels[5:12] + 1) % classes
    got = clip_accuracy(actions, seen @ weight.T, bias, labels, SKIPS)
    assert got == pytest.approx(1 - 7 / videos)


# --- the curve ------------------------------------------------------------------------------------------------------


def check_curve(curve: list[dict], decide_at) -> None:
    multipliers = [row["multiplier"] for row in curve]
    assert 0.0 in multipliers
    for low, high in pairwise(curve):
        assert low["multiplier"] < high["multiplier"] and low["cost"] > high["cost"]
    for row in curve:
        usage = np.bincount(decide_at(row["multiplier"]).ravel(), minlength=len(COSTS)) / decide_at(0.0).size
        np.testing.assert_allclose(row["usage"], usage)
        assert row["cost"] == pytest.approx(usage @ COSTS)


@settings(max_examples=30, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    videos=st.integers(1, 12),
    frames=st.integers(1, 6),
    bias=st.lists(st.floats(-6, 6), min_size=4, max_size=4),
    all_skip=st.sampled_from(["likeliest", "zero"]),
)
def test_along_any_curve_multipliers_rise_and_costs_fall(seed, videos, frames, bias, all_skip):
    decide_at = partial(decide, policy(seed, videos, frames, bias), COSTS, SKIPS, all_skip=all_skip)
    check_curve(calibrate(decide_at, COSTS), decide_at)


def test_the_trained_policy_stays_on_the_curve_where_a_forced_frame_costs_more():
    """A clip that is about to be skipped as a whole pays for one frame at once, and so saving more costs more."""
    costs = {-8.0: 0.7, -1.0: 0.35, 0.0: 0.4, 1.0: 0.45, 8.0: 0.1}

    def decide_at(multiplier: float) -> np.ndarray:
        """Actions 0 and 3 in the share that makes the cost of the nearest multiplier given."""
        cost = costs[min(costs, key=lambda m: abs(m - multiplier))]
        return np.where(np.arange(100) < round(100 * cost), 0, 3)[None]

    curve = calibrate(decide_at, COSTS)
    check_curve(curve, decide_at)
    assert [row["cost"] for row in curve] == pytest.approx([0.7, 0.4, 0.1])


def test_a_curve_reaches_from_end_to_end_in_small_steps():
    curve = curve_of(policy(3), points=24)
    costs = [row["cost"] for row in curve]
    assert costs[0] == 1.0  # everything at 32 bits
    assert costs[-1] == pytest.approx(0.0625 / 8)  # one frame of each clip at 2 bits
    assert 12 < len(curve) <= 96
    assert max(-np.diff(costs)) < 0.1


def test_accuracy_is_asked_of_each_rows_actions():
    curve = curve_of(policy(4), accuracy=lambda actions: float((actions == 0).mean()))
    assert all(row["accuracy"] == pytest.approx(row["usage"][0]) for row in curve)
    assert all(row["accuracy"] is None for row in curve_of(policy(4)))


def test_a_policy_that_knows_one_answer():
    curve = calibrate(lambda multiplier: np.full((2, 3), 1), COSTS)
    assert [(row["multiplier"], row["cost"]) for row in curve] == [(0.0, 0.25)]
    assert multiplier_for(curve, Budget(0.25, "cost")) == 0.0
    with pytest.raises(BudgetError, match=r"this model spends 0\.25 to 0\.25"):
        multiplier_for(curve, Budget(0.3, "cost"))


# --- from a budget to a multiplier ----------------------------------------------------------------------------------

CURVE = [
    dict(multiplier=-4.0, cost=0.8, usage=[0.8, 0.0, 0.0, 0.2]),
    dict(multiplier=0.0, cost=0.4, usage=[0.3, 0.3, 0.2, 0.2]),
    dict(multiplier=8.0, cost=0.2, usage=[0.0, 0.4, 0.4, 0.2]),
]


@pytest.mark.parametrize(
    ("budget", "multiplier"),
    [(0.8, -4.0), (0.6, -2.0), (0.4, 0.0), (0.35, 2.0), (0.2, 8.0), (0.8007, -4.0), (0.1999, 8.0)],
)
def test_multipliers_at_the_ends_and_between(budget, multiplier):
    assert multiplier_for(CURVE, Budget(budget, "cost")) == pytest.approx(multiplier)


@pytest.mark.parametrize("budget", [0.0, 0.19, 0.81, 100.0])
def test_costs_out_of_reach(budget):
    with pytest.raises(BudgetError) as caught:
        multiplier_for(CURVE, Budget(budget, "cost"))
    assert str(caught.value) == f"a budget of {budget:g} is out of reach: this model spends 0.2 to 0.8"


def test_milliseconds():
    clip_ms = np.array([100.0, 40.0, 30.0, 0.0])  # 80, 48 and 28 ms along the curve
    for budget, multiplier in [(300, -4.0), (80, -4.0), (64, -2.0), (48, 0.0), (38, 4.0), (28, 8.0)]:
        assert multiplier_for(CURVE, Budget(budget, "ms"), clip_ms=clip_ms) == pytest.approx(multiplier)
    with pytest.raises(BudgetError) as caught:
        multiplier_for(CURVE, Budget(27, "ms"), clip_ms=clip_ms)
    assert str(caught.value) == (
        "a budget of 27 ms per clip is out of reach: this model spends 28 to 80 ms per clip"
    )


def test_saving_that_saves_no_time_is_passed_over():
    clip_ms = np.array([100.0, 100.0, 200.0, 0.0])  # 2 bits are slow here: 80, 100 and 120 ms
    assert multiplier_for(CURVE, Budget(80, "ms"), clip_ms=clip_ms) == -4.0
    assert multiplier_for(CURVE, Budget(100, "ms"), clip_ms=clip_ms) == -4.0
    with pytest.raises(BudgetError, match="spends 80 to 80 ms per clip"):
        multiplier_for(CURVE, Budget(79, "ms"), clip_ms=clip_ms)


def test_a_budget_is_met_on_the_clips_of_the_curve():
    log_probs = policy(5, videos=200)
    curve = curve_of(log_probs)
    for budget in (0.9, 0.6, 0.3, 0.1, 0.02):
        actions = decide(log_probs, COSTS, SKIPS, multiplier_for(curve, Budget(budget, "cost")))
        assert COSTS[actions].mean() == pytest.approx(budget, abs=0.02)


def test_the_most_expensive_precision_within_a_budget():
    spent = np.array([100.0, 40.0, 55.0])
    for budget, place in [(100, 0), (99, 2), (54, 1), (40, 1), (100.05, 0), (300, 0)]:
        assert action_for(spent, Budget(budget, "ms"), costs=spent / 100) == place
    with pytest.raises(BudgetError, match="39 ms per clip is out of reach: this model spends 40 to 100"):
        action_for(spent, Budget(39, "ms"), costs=spent / 100)
    with pytest.raises(BudgetError, match=r"0\.9 is out of reach: this model spends 0\.1 to 0\.8"):
        action_for(np.array([0.8, 0.1]), Budget(0.9, "cost"), costs=np.array([0.8, 0.1]))


def test_the_most_expensive_precision_need_not_be_the_slowest():
    ms, costs = np.array([60.0, 80.0, 40.0]), np.array([1.0, 0.25, 0.06])
    assert [action_for(ms, Budget(given, "ms"), costs=costs) for given in (300, 80, 60, 59)] == [0, 0, 0, 2]
