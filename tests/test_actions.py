import json

import numpy as np
import pytest
import torch

from mmvideoiq.actions import FLOAT_BITS, Action, ActionSpace, action_of, resized_shape
from mmvideoiq.quant import precision

PAPER = [dict(bits=32), dict(bits=4), dict(bits=2), dict(skip=1)]


def test_float_bits_are_those_of_the_layers():
    assert FLOAT_BITS == precision.FLOAT_BITS


@pytest.mark.parametrize(
    ("fields", "name"),
    [
        (dict(bits=32), "32"),
        (dict(bits=4), "4"),
        (dict(bits=1), "1"),
        (dict(bits=8, size=112), "8@112"),
        (dict(bits=32, separate=True), "32fp"),
        (dict(skip=1), "skip"),
        (dict(skip=4), "skip4"),
    ],
)
def test_names(fields, name):
    action = Action(**fields)
    assert action.name == name
    assert action.is_skip == ("skip" in fields)
    assert action_of(name) == action and action.to_cfg() == fields


@pytest.mark.parametrize(
    ("fields", "error", "message"),
    [
        (dict(), ValueError, "exactly one of bits"),
        (dict(bits=4, skip=1), ValueError, "got bits=4, skip=1"),
        (dict(bits=0), ValueError, "1..32, got 0"),
        (dict(bits=33), ValueError, "1..32, got 33"),
        (dict(skip=-1), ValueError, "skip must be >= 1, got -1"),
        (dict(bits=4.0), TypeError, "bits must be an int"),
        (dict(bits=True), TypeError, "bits must be an int"),
        (dict(bits="4"), TypeError, "bits must be an int"),
        (dict(skip="1"), TypeError, "skip must be an int"),
        (dict(bits=32, separate=1), TypeError, "separate must be True or False"),
        (dict(bits=4, separate=True), ValueError, "needs bits=32, got bits=4"),
        (dict(bits=4, size="84"), TypeError, "size must be an int >= 1, got '84'"),
        (dict(bits=4, size=0), ValueError, "size must be >= 1, .*got size=0"),
        (dict(skip=1, size=84), ValueError, "of an action with bits .* got size=84, bits=None"),
        (dict(bits=32, size=84, separate=True), ValueError, "without separate, got size=84"),
    ],
)
def test_action_refuses(fields, error, message):
    with pytest.raises(error, match=message):
        Action(**fields)


def test_the_papers_space():
    space = ActionSpace(PAPER)
    assert space.names == ("32", "4", "2", "skip")
    assert space.costs == (1.0, 1 / 4, 1 / 16, 0.0)
    assert space.precisions == (32, 4, 2)
    assert space.skip_mask == (False, False, False, True)
    assert space.skip_lengths == (0, 0, 0, 1)
    assert len(space) == 4
    assert [a.name for a in space] == list(space.names)


def test_separate_and_long_skips():
    actions = [
        Action(bits=32, separate=True),
        Action(bits=32),
        Action(bits=8),
        Action(skip=1),
        Action(skip=4),
    ]
    space = ActionSpace(actions, cost="bitops")
    assert space.names == ("32fp", "32", "8", "skip", "skip4")
    assert space.costs == (1.0, 1.0, 1 / 16, 0.0, 0.0)
    assert space.precisions == (32, 8)
    assert space.skip_lengths == (0, 0, 0, 1, 4)
    assert space.index(32) == 1
    assert space.index("32fp") == 0
    assert space.index("skip4") == 4


def test_sizes():
    actions = [dict(bits=8), dict(bits=8, size=112), dict(bits=4), dict(bits=4, size=56), dict(skip=1)]
    space = ActionSpace(actions)
    assert space.names == ("8", "8@112", "4", "4@56", "skip")
    assert space.costs == (1.0, 1 / 4, 1 / 4, 1 / 64, 0.0)
    assert ActionSpace(actions, cost="bitops").costs == (1 / 16, 1 / 64, 1 / 64, 1 / 1024, 0.0)
    assert ActionSpace(actions, frame_size=448).costs[1] == 1 / 16
    assert space.modes == (8, "8@112", 4, "4@56") and space.precisions == (8, 4)
    assert space.index("8@112") == 1
    assert ActionSpace.from_cfg(space.to_cfg()) == space
    space.check_frames(224, 300)
    with pytest.raises(ValueError, match="frames of 224, the frame is 200x300: set frame_size=200"):
        space.check_frames(200, 300)
    with pytest.raises(ValueError, match="ask for 8@112, 4@56, but the backbone's precisions are 8, 4"):
        space.check_modes((8, 4))


@pytest.mark.parametrize(
    ("frame", "size", "expected"),
    [((40, 40), 20, (20, 20)), ((30, 45), 10, (10, 15)), ((45, 31), 10, (15, 10)), ((7, 8), 7, (7, 8))],
)
def test_the_short_side_is_resized_and_the_aspect_kept(frame, size, expected):
    assert resized_shape(*frame, size) == expected


def test_a_size_larger_than_the_frame():
    with pytest.raises(ValueError, match=r"size 32 is larger than the frame \(30x40\): use at most 30"):
        resized_shape(30, 40, 32)


@pytest.mark.parametrize(
    ("actions", "message"),
    [
        ([], "is empty"),
        ([dict(skip=1)], "only skips"),
        ([dict(bits=4), dict(bits=4)], "repeat 4"),
        ([dict(bits=4), dict(skip=1), dict(skip=1)], "repeat skip"),
        ([dict(bits=2), dict(bits=4)], "expected 4, 2"),
        ([dict(skip=1), dict(bits=4)], "expected 4, skip"),
        ([dict(bits=4), dict(skip=2), dict(skip=1)], "expected 4, skip, skip2"),
        ([dict(bits=32), dict(bits=32, separate=True)], "expected 32fp, 32"),
        ([dict(bit=4)], "unknown action field bit; known are bits, skip"),
        ([dict(bits=8, size=80), dict(bits=8, size=112)], "expected 8@112, 8@80"),
        ([dict(bits=8, size=112), dict(bits=8)], "expected 8, 8@112"),
        ([dict(bits=4), dict(bits=8, size=112)], "expected 8@112, 4"),
        ([dict(bits=8), dict(bits=8, size=256)], "action 8@256: size 256 is larger than .* frame_size=224"),
    ],
)
def test_space_refuses(actions, message):
    with pytest.raises(ValueError, match=message):
        ActionSpace(actions)


@pytest.mark.parametrize("actions", [dict(bits=4), "4", 4, [4]])
def test_space_refuses_types(actions):
    with pytest.raises(TypeError, match="got"):
        ActionSpace(actions)


def test_from_cfg():
    space = ActionSpace(PAPER, cost="bitops")
    assert ActionSpace.from_cfg(space) is space
    assert ActionSpace.from_cfg(dict(actions=PAPER, cost="bitops")) == space
    assert ActionSpace.from_cfg(PAPER) == ActionSpace(PAPER)
    assert ActionSpace.from_cfg(PAPER) != space
    assert ActionSpace.from_cfg(dict(actions=PAPER, frame_size=40)).frame_size == 40
    with pytest.raises(ValueError, match="frame_size must be an int >= 1, got 0"):
        ActionSpace(PAPER, frame_size=0)
    with pytest.raises(ValueError, match="must hold 'actions'"):
        ActionSpace.from_cfg(dict(bits=4))
    with pytest.raises(ValueError, match="must hold 'actions'"):
        ActionSpace.from_cfg(dict(actions=PAPER, costs="paper"))


@pytest.mark.parametrize("wanted", ["8", 8, "Skip", 0])
def test_index_names_the_choices(wanted):
    with pytest.raises(ValueError, match="it has 32, 4, 2, skip"):
        ActionSpace(PAPER).index(wanted)


@pytest.mark.parametrize("wrap", [list, np.array, torch.tensor])
def test_usage_by_hand(wrap):
    actions = wrap([[0, 1, 1, 3], [3, 3, 3, 1]])
    assert ActionSpace(PAPER).usage(actions).tolist() == [1 / 8, 3 / 8, 0.0, 4 / 8]


@pytest.mark.parametrize(
    ("actions", "error", "message"),
    [
        ([0, 4], ValueError, "in 0..3, got 0..4"),
        ([-1, 0], ValueError, "in 0..3, got -1..0"),
        ([0.0, 1.0], TypeError, "must be integers, got float64"),
        ([], ValueError, "empty"),
    ],
)
def test_usage_refuses(actions, error, message):
    with pytest.raises(error, match=message):
        ActionSpace(PAPER).usage(actions)


def test_latency_table(tmp_path):
    path = tmp_path / "table.json"
    path.write_text(json.dumps({"32": 8.0, "4": 4, "2": 3.0, "16": 80.0}))
    assert ActionSpace(PAPER, cost=str(path)).costs == (1.0, 0.5, 0.375, 0.0)
    with pytest.raises(ValueError, match="lacks 4@112; it has 16, 2, 32, 4"):
        ActionSpace([dict(bits=4), dict(bits=4, size=112)], cost=str(path))
    path.write_text(json.dumps({"32": 2.0, "4": 4.0, "2": 3.0, "skip": 0.5}))
    assert ActionSpace(PAPER, cost=str(path)).costs == (0.5, 1.0, 0.75, 0.125)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('{"32": 1.0}', "lacks 4, 2; it has 32"),
        ('{"32": 0, "4": 0, "2": 0}', "are 0"),
        ('{"32": -1, "4": 1, "2": 1}', "'32' must be a time >= 0"),
        ('{"32": NaN, "4": 1, "2": 1}', "'32' must be a time >= 0"),
        ('{"32": "1", "4": 1, "2": 1}', "'32' must be a time >= 0"),
        ("[1, 2]", "must be a JSON object"),
        ("{", "is not JSON"),
    ],
)
def test_latency_table_refuses(tmp_path, content, message):
    path = tmp_path / "table.json"
    path.write_text(content)
    with pytest.raises(ValueError, match=message):
        ActionSpace(PAPER, cost=str(path))


def test_unknown_cost(tmp_path):
    with pytest.raises(ValueError, match=r"'paper', 'bitops' or a path to a \.json table, got 'papr'"):
        ActionSpace(PAPER, cost="papr")
    with pytest.raises(FileNotFoundError, match="does not exist"):
        ActionSpace(PAPER, cost=str(tmp_path / "none.json"))
