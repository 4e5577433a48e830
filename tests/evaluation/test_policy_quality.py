"""How near a policy comes to the right one: by hand."""

import json

import numpy as np
import pytest

from mmvideoiq.actions import ActionSpace
from mmvideoiq.evaluation.policy_quality import mean_quality, policy_quality

ACTIONS = ActionSpace([dict(bits=32), dict(bits=4), dict(bits=2), dict(skip=1)])


def test_quality_of_the_right_policy_is_perfect():
    kinds = [["blank", "bold", "bold"], ["medium", "blank", "medium"], ["faint", "faint", "blank"]]
    right = dict(blank="skip", bold="2", medium="4", faint="32")
    actions = [[ACTIONS.index(right[k]) for k in row] for row in kinds]
    quality = policy_quality(actions, ACTIONS, kinds=kinds)
    assert quality["blank_skipped"] == quality["evidence_processed"] == quality["evidence_cheapest"] == 1
    assert quality["usage"]["bold"] == {"32": 0, "4": 0, "2": 1, "skip": 0}


def test_quality_by_hand():
    kinds = [["blank", "blank", "bold", "bold", "bold", "bold"]]
    actions = [[3, 0, 3, 2, 1, 2]]  # a blank one at 32; of the bold: one skipped, two at 2, one at 4 bits
    quality = policy_quality(np.array(actions), ACTIONS, kinds=kinds)
    assert quality["blank_skipped"] == 0.5
    assert quality["evidence_processed"] == 0.75
    assert quality["evidence_cheapest"] == pytest.approx(2 / 3)
    json.dumps(quality)


def test_cheapest_precision_above_four_counts_for_faint():
    space = ActionSpace([dict(bits=32), dict(bits=6), dict(bits=4), dict(skip=1)])
    assert policy_quality([[1]], space, kinds=[["faint"]])["evidence_cheapest"] == 1
    assert policy_quality([[0]], space, kinds=[["faint"]])["evidence_cheapest"] == 0
    equal = ActionSpace(
        [dict(bits=32), dict(bits=8), dict(bits=2), dict(skip=1)]
    )  # of equal cost in the paper
    assert policy_quality([[0, 1]], equal, kinds=[["faint", "faint"]])["evidence_cheapest"] == 1
    weak = ActionSpace([dict(bits=4), dict(skip=1)])
    assert policy_quality([[0]], weak, kinds=[["faint"]])["evidence_cheapest"] == 0
    assert np.isnan(policy_quality([[0]], weak, kinds=[["faint"]])["blank_skipped"])


def test_quality_refuses_other_shapes_and_kinds():
    with pytest.raises(ValueError, match="shape"):
        policy_quality([[0]], ACTIONS, kinds=[["blank", "bold"]])
    with pytest.raises(ValueError, match="unknown frame kind dim"):
        policy_quality([[0]], ACTIONS, kinds=[["dim"]])


SIZES = ActionSpace(
    [dict(bits=8), dict(bits=8, size=160), dict(bits=8, size=96), dict(skip=1)], frame_size=224
)


def test_gestures_have_idle_frames_and_signals():
    kinds = [["idle", "signal", "idle", "signal"], ["signal", "signal", "idle", "idle"]]
    actions = [[3, 0, 2, 3], [1, 2, 3, 3]]
    quality = policy_quality(actions, SIZES, kinds=kinds)
    assert quality["blank_skipped"] == 3 / 4 and quality["evidence_processed"] == 3 / 4
    assert np.isnan(quality["evidence_cheapest"])  # which size is enough is not known beforehand
    assert quality["usage"] == {
        "idle": {"8": 0, "8@160": 0, "8@96": 1 / 4, "skip": 3 / 4},
        "signal": {"8": 1 / 4, "8@160": 1 / 4, "8@96": 1 / 4, "skip": 1 / 4},
    }


def test_waste_and_regret_by_hand():
    right = [[[1, 1, 0], [1, 0, 0], [1, 0, 0], [0, 0, 0], [1, 1, 1], [0, 1, 0], [0, 0, 1]]]
    actions = [[0, 0, 1, 2, 3, 1, 0]]
    # wasted: the first, 160 is enough; regretted: the third; the last but one is as cheap as it can be; the last
    # one is wrong and only cheaper actions are right: neither
    quality = policy_quality(actions, SIZES, right=right)
    assert quality == dict(usage={}, waste=1 / 6, regret=1 / 6)
    kinds = [["idle", "signal", "signal", "signal", "signal", "signal", "idle"]]
    quality = policy_quality(actions, SIZES, kinds=kinds, right=right)
    assert (quality["waste"], quality["regret"]) == (0, 1 / 4)


def test_actions_of_equal_cost_are_neither_waste_nor_regret():
    space = ActionSpace([dict(bits=32), dict(bits=8), dict(skip=1)])
    quality = policy_quality([[0, 1]], space, right=[[[1, 1], [1, 0]]])
    assert (quality["waste"], quality["regret"]) == (0, 0)


def test_outcomes_of_another_shape():
    with pytest.raises(ValueError, match=r"right has shape \(1, 1, 4\), expected \(1, 1, 3\)"):
        policy_quality([[0]], SIZES, right=[[[1, 1, 1, 1]]])


def test_the_mean_of_runs():
    kinds = [["idle", "signal"]]
    runs = [policy_quality(actions, SIZES, kinds=kinds) for actions in ([[3, 0]], [[2, 0]])]
    mean = mean_quality(runs)
    assert mean["blank_skipped"] == 0.5 and mean["usage"]["idle"]["skip"] == 0.5
    assert [run["blank_skipped"] for run in mean["seeds"]] == [1, 0]
