"""Which classes are taken for which: a matrix of few classes, the pairs most often confused of many."""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mmvideoiq.visualization.page import note, short
from mmvideoiq.visualization.tables import html_table, scrolling

DRAWN = 40  # classes of a matrix
PAIRS, PAIRS_ALONE = 8, 25  # listed, beside a matrix and without one
SHADE = 62  # percent of the colour in a cell of share 1: text stays readable on it


def count_confusions(clips: Sequence[Mapping[str, Any]], count: int = 0) -> NDArray[np.int64] | None:
    """How many clips of each class (row) were given each label (column). (K, K)

    Args:
        clips: entries with ``gt_label`` and ``pred_label``, as in the trace of ``ComputeCostMetric``.
        count: K; more where a label needs it.

    Returns: None without clips, or where one has several labels, or none.
    """
    labels = [(clip.get("gt_label"), clip.get("pred_label")) for clip in clips]
    if not labels or not all(isinstance(label, int) and label >= 0 for pair in labels for label in pair):
        return None
    size = max(count, 1 + max(max(pair) for pair in labels))
    counts = np.zeros((size, size), dtype=np.int64)
    np.add.at(counts, tuple(np.array(labels).T), 1)
    return counts


def confusion_parts(counts: NDArray[np.int64], classes: Sequence[str]) -> list[str]:
    """Parts of a page.

    Args:
        counts: (K, K), of :func:`count_confusions`.
        classes: the name of each class; numbers where there are fewer names.
    """
    names = [short(classes[k]) if k < len(classes) else str(k) for k in range(len(counts))]
    drawn = len(names) <= DRAWN
    total, right = int(counts.sum()), int(counts.trace())
    said = f"{right} of {total} clips are right ({100 * right / total:.1f} %)."
    if drawn:
        said += " Rows: true classes; columns: answers; the last column: the share of a class that is right."
    pairs = confused_pairs(counts)[: PAIRS if drawn else PAIRS_ALONE]
    parts = [note(said), _matrix(counts, names) if drawn else ""]
    if pairs:
        parts += [
            "<h3>Most often confused</h3>",
            html_table(_pair_columns(pairs, counts, names), wrapped=("taken for",), marked=""),
        ]
    return parts


def confused_pairs(counts: NDArray[np.int64]) -> list[tuple[int, int, int]]:
    """(true class, answer, clips) of all errors, the most frequent first."""
    wrong = counts * (1 - np.eye(len(counts), dtype=np.int64))
    found = [
        (int(true), int(given), int(wrong[true, given])) for true, given in zip(*wrong.nonzero(), strict=True)
    ]
    return sorted(found, key=lambda pair: (-pair[2], pair[:2]))


def _pair_columns(
    pairs: Sequence[tuple[int, int, int]], counts: NDArray[np.int64], names: Sequence[str]
) -> list[list[str]]:
    sizes = counts.sum(axis=1)
    return [
        ["true class", *(names[true] for true, _, _ in pairs)],
        ["taken for", *(names[given] for _, given, _ in pairs)],
        ["clips", *(str(number) for _, _, number in pairs)],
        ["% of the class", *(f"{100 * number / sizes[true]:.1f}" for true, _, number in pairs)],
    ]


def _matrix(counts: NDArray[np.int64], names: Sequence[str]) -> str:
    sizes = counts.sum(axis=1)
    titles = "".join(f'<th scope="col"><span>{html.escape(name)}</span></th>' for name in names)
    lines = []
    for k, row in enumerate(counts):
        cells = "".join(_cell(int(number), int(sizes[k]), k == column) for column, number in enumerate(row))
        share = f"{100 * row[k] / sizes[k]:.0f} %" if sizes[k] else ""
        lines.append(f'<tr><th scope="row">{html.escape(names[k])}</th>{cells}<td>{share}</td></tr>')
    head = f"<tr><td></td>{titles}<td></td></tr>"
    body = "\n".join(lines)
    return scrolling(f'<table class="confusion"><thead>{head}</thead>\n<tbody>{body}</tbody></table>')


def _cell(number: int, size: int, right: bool) -> str:
    mark = ' class="right"' if right else ""
    if not number:
        return f'<td{mark} style="--share:0%"></td>'
    return f'<td{mark} style="--share:{SHADE * number / size:.0f}%">{number}</td>'
