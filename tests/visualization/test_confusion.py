"""The confusion matrix: its counts, and how few and many classes are shown."""

import numpy as np
import pytest

from mmvideoiq.visualization.confusion import (
    DRAWN,
    PAIRS_ALONE,
    confused_pairs,
    confusion_parts,
    count_confusions,
)
from mmvideoiq.visualization.page import page, section
from tests.visualization.html_page import ReportPage, columns_of


def clips(*pairs):
    return [dict(gt_label=true, pred_label=given) for true, given in pairs]


def shown(counts, classes):
    return ReportPage(page("t", "s", [section("c", *confusion_parts(counts, classes))]))


def test_counts():
    counts = count_confusions(clips((0, 0), (0, 2), (0, 2), (2, 2), (1, 0)), 3)
    assert counts.tolist() == [[1, 0, 2], [1, 0, 0], [0, 0, 1]]
    assert count_confusions(clips((0, 0)), 2).tolist() == [[1, 0], [0, 0]]
    assert count_confusions(clips((0, 3))).shape == (4, 4)


@pytest.mark.parametrize("bad", [[], clips(([0, 1], 0)), clips((None, 0)), clips((0, None)), clips((-1, 0))])
def test_without_single_labels_there_is_none(bad):
    assert count_confusions(bad) is None


def test_pairs_are_the_errors_the_most_frequent_first():
    assert confused_pairs(np.array([[5, 0, 2], [3, 1, 0], [0, 2, 9]])) == [(1, 0, 3), (0, 2, 2), (2, 1, 2)]


def test_few_classes_are_a_matrix():
    found = shown(np.array([[3, 1, 0], [0, 0, 2], [0, 0, 0]]), ["a & b", "<c>"])
    matrix, pairs = found.tables["c"]
    assert matrix == [
        ["", "a & b", "<c>", "2", ""],
        ["a & b", "3", "1", "", "75 %"],
        ["<c>", "", "", "2", "0 %"],
        ["2", "", "", "", ""],
    ]
    assert "3 of 6 clips are right (50.0 %)" in found.texts["c"]
    assert columns_of(pairs) == {
        "true class": ["<c>", "a & b"],
        "taken for": ["2", "<c>"],
        "clips": ["2", "1"],
        "% of the class": ["100.0", "25.0"],
    }
    shares = [float(part.partition("%")[0]) for part in found.source.split("--share:")[1:]]
    assert shares == [46, 16, 0, 0, 0, 62, 0, 0, 0]


def test_without_errors_there_are_no_pairs():
    assert len(shown(np.diag([2, 3]), ["a", "b"]).tables["c"]) == 1


def test_many_classes_are_their_most_confused_pairs():
    many = DRAWN + 60
    counts = np.zeros((many, many), dtype=np.int64)
    for k in range(many - 1):
        counts[k, k], counts[k, k + 1] = 500 - k, k + 1
    found = shown(counts, [f"class {k}" for k in range(many)])
    (pairs,) = found.tables["c"]
    columns = columns_of(pairs)
    assert len(columns["clips"]) == PAIRS_ALONE
    assert columns["clips"][:2] == [str(many - 1), str(many - 2)]
    assert columns["true class"][0] == f"class {many - 2}" and columns["taken for"][0] == f"class {many - 1}"
    drawn = shown(np.eye(DRAWN, dtype=np.int64), [])
    assert len(drawn.tables["c"][0]) == DRAWN + 1
