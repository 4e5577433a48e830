import copy
import pickle

import pytest

from mmvideoiq.quant import PrecisionSwitch


@pytest.mark.parametrize(
    "precisions, message",
    [
        ((), "precisions is empty"),
        ((2, 4), r"precisions=\(2, 4\) must go from high to low without repetition, e.g. \(4, 2\)"),
        ((4, 4, 2), r"must go from high to low without repetition, e.g. \(4, 2\)"),
        ((33, 4), r"33 is not a whole number of bits in 1..32"),
        ((4, 0), r"0 is not a whole number of bits in 1..32"),
        ((4, 2.0), r"2.0 is not a whole number"),
        ((4, "2"), r"'2' is not a whole number"),
        ((4, True), r"True is not a whole number"),
        (4, r"precisions=4 must be a list"),
        ("42", r"precisions='42' must be a list"),
        (
            (8, dict(bits=4, sizes=8)),
            r"is not a whole number of bits in 1..32, nor dict\(bits=..., size=...\)",
        ),
        ((dict(bits=40, size=8),), r"'40@8' is not a whole number of bits"),
        ((8, "8@0"), r"'8@0' is not a whole number"),
        (("8@96", "8@112", 8), r"high to low without repetition, e.g. \(8, '8@112', '8@96'\)"),
    ],
)
def test_bad_precision_lists_are_named(precisions, message):
    with pytest.raises(ValueError, match=message):
        PrecisionSwitch(precisions)


def test_the_highest_precision_is_active_outside_of_at():
    switch = PrecisionSwitch([8, 4, 2])
    assert switch.precisions == (8, 4, 2) and switch.bits == 8
    with switch.at(2):
        assert switch.bits == 2
        with switch.at(4):
            assert switch.bits == 4
        assert switch.bits == 2
    assert switch.bits == 8


def test_a_mode_has_bits_and_a_size():
    switch = PrecisionSwitch([8, dict(bits=8, size=112), dict(bits=4), "4@112"])
    assert switch.modes == (8, "8@112", 4, "4@112")
    assert switch.precisions == (8, 4) and switch.sizes == (None, 112)
    with switch.at("4@112"):
        assert (switch.mode, switch.bits, switch.size) == ("4@112", 4, 112)
    assert (switch.mode, switch.bits, switch.size) == (8, 8, None)
    with pytest.raises(ValueError, match=r"precision '4@96' is not one of \(8, '8@112', 4, '4@112'\)"):
        with switch.at("4@96"):
            pass


def test_an_error_inside_at_restores_the_precision():
    switch = PrecisionSwitch((32, 4))
    with pytest.raises(RuntimeError), switch.at(4):
        raise RuntimeError
    assert switch.bits == 32


def test_a_precision_that_is_not_listed_is_an_error():
    switch = PrecisionSwitch((32, 4))
    with pytest.raises(ValueError, match=r"precision 8 is not one of \(32, 4\)"), switch.at(8):
        pass
    assert switch.bits == 32
    with pytest.raises(AttributeError):
        switch.bits = 4


def test_copies_are_independent():
    switch = PrecisionSwitch((32, 4))
    for twin in (copy.deepcopy(switch), pickle.loads(pickle.dumps(switch))):
        with twin.at(4):
            assert switch.bits == 32
        assert repr(twin) == "PrecisionSwitch((32, 4), mode=32)"
