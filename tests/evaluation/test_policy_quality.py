"""How near a policy comes to the right one: by hand."""

import json

import numpy as np
import pytest

from mmvideoiq.actions import ActionSpace
from mmvideoiq.evaluation.policy_quality import policy_quality

ACTIONS = ActionSpace([dict(bits=32), dict(bits=4), dict(bits=2), dict(skip=1)])


def test_quality_of_the_right_policy_is_perfect():
    kinds = [["blank", "bold", "bold"], ["medium", "blank", "medium"], ["faint", "faint", "blank"]]
    right = dict(blank="skip", bold="2", medium="4", faint="32")
    actions = [[ACTIONS.index(right[k]) for k in row] for row in kinds]
    quality = policy_quality(kinds, actions, ACTIONS)
    assert quality["blank_skipped"] == quality["evidence_processed"] == quality["evidence_cheapest"] == 1
    assert quality["usage"]["bold"] == {"32": 0, "4": 0, "2": 1, "skip": 0}


def test_quality_by_hand():
    kinds = [["blank", "blank", "bold", "bold", "bold", "bold"]]
    actions = [[3, 0, 3, 2, 1, 2]]  # a blank one at 32; of the bold: one skipped, two at 2, one at 4 bits
    quality = policy_quality(kinds, np.array(actions), ACTIONS)
    assert quality["blank_skipped"] == 0.5
    assert quality["evidence_processed"] == 0.75
    assert quality["evidence_cheapest"] == pytest.approx(2 / 3)
    json.dumps(quality)


def test_cheapest_precision_above_four_counts_for_faint():
    space = ActionSpace([dict(bits=32), dict(bits=6), dict(bits=4), dict(skip=1)])
    assert policy_quality([["faint"]], [[1]], space)["evidence_cheapest"] == 1
    assert policy_quality([["faint"]], [[0]], space)["evidence_cheapest"] == 0
    equal = ActionSpace(
        [dict(bits=32), dict(bits=8), dict(bits=2), dict(skip=1)]
    )  # of equal cost in the paper
    assert policy_quality([["faint", "faint"]], [[0, 1]], equal)["evidence_cheapest"] == 1
    weak = ActionSpace([dict(bits=4), dict(skip=1)])
    assert policy_quality([["faint"]], [[0]], weak)["evidence_cheapest"] == 0
    assert np.isnan(policy_quality([["faint"]], [[0]], weak)["blank_skipped"])


def test_quality_refuses_other_shapes_and_kinds():
    with pytest.raises(ValueError, match="shape"):
        policy_quality([["blank", "bold"]], [[0]], ACTIONS)
    with pytest.raises(ValueError, match="unknown frame kind dim"):
        policy_quality([["dim"]], [[0]], ACTIONS)
