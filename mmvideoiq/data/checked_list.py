"""Lists of clips that are checked before a run, for datasets below MMAction2's."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any


class CheckedList:
    """Put before one of MMAction2's datasets: its options are named, and its list is checked when it is built.

    Args:
        ann_file: the list, local.
        pipeline: MMAction2's transforms.
        num_classes: labels are in [0, num_classes).
        data_root: folder before ``ann_file`` and before the prefix where these are relative.
        data_prefix: the folder before each path, by the name that MMAction2's dataset gives it.
        multi_class: several labels a clip, packed as 0/1 over the classes.
        metainfo: e.g. ``classes``, the names or a file with one a line.
        indices: use the first ``indices`` clips, or these.
        options: of MMAction2's dataset, from the dataset that is built.

    Raises:
        FileNotFoundError: the list, or what one of its lines names, is missing.
        ValueError: the list is empty, or a line or label is wrong; names file, line and value.
    """

    LAYOUT: str  # of a line
    PREFIX: str  # the key in data_prefix

    def __init__(
        self,
        *,
        ann_file: str,
        pipeline: Sequence[dict | Callable],
        num_classes: int,
        data_root: str = "",
        data_prefix: Mapping[str, str] | None = None,
        multi_class: bool = False,
        test_mode: bool = False,
        metainfo: Mapping[str, Any] | None = None,
        indices: int | Sequence[int] | None = None,
        **options: Any,
    ) -> None:
        if type(num_classes) is not int or num_classes < 1:
            raise ValueError(f"num_classes must be an int >= 1, got {num_classes!r}")
        super().__init__(
            ann_file,
            pipeline=pipeline,
            data_prefix=dict(data_prefix or {self.PREFIX: ""}),
            multi_class=multi_class,
            num_classes=num_classes,
            test_mode=test_mode,
            data_root=data_root,
            metainfo=metainfo,
            indices=indices,
            **options,
        )

    def load_data_list(self) -> list[dict]:
        layout = self.LAYOUT.replace(" ", getattr(self, "delimiter", " "))
        lines = read_lines(self.ann_file, layout=layout)
        samples = [self._parse(line, where=f"{self.ann_file}, line {number}") for number, line in lines]
        missing = [(i, what) for i, sample in enumerate(samples) if (what := self._missing(sample))]
        if missing:
            first, what = missing[0]
            raise FileNotFoundError(
                f"{self.ann_file}, line {lines[first][0]}: no {what} ({len(missing)} of {len(samples)} are missing); "
                "check DATA_ROOT or data_prefix"
            )
        return samples

    def _parse(self, line: str, *, where: str) -> dict:
        """The clip of a line."""
        raise NotImplementedError

    def _missing(self, sample: dict) -> str | None:
        """What a clip names and is not there, such as 'video a.mp4'."""
        raise NotImplementedError


def read_lines(ann_file: str, *, layout: str) -> list[tuple[int, str]]:
    """Numbers (from 1) and texts of a list's lines, without the empty ones.

    Raises:
        FileNotFoundError: no such file. ValueError: it has no line.
    """
    if not os.path.isfile(ann_file):
        raise FileNotFoundError(
            f"ann_file {ann_file} does not exist; set the environment variable DATA_ROOT to the "
            "folder with the lists, or data_root of the dataset with --cfg-options"
        )
    with open(ann_file, encoding="utf-8") as stream:
        lines = [(number, line.strip()) for number, line in enumerate(stream, 1) if line.strip()]
    if not lines:
        raise ValueError(f"ann_file {ann_file} is empty; it needs lines '{layout}'")
    return lines


def parse_labels(
    texts: Sequence[str], num_classes: int, *, multi_class: bool, delimiter: str, line: str, where: str
) -> int | list[int]:
    """The label, or with ``multi_class`` the labels, of one line.

    Raises:
        ValueError: none, one that is not a number, or one outside [0, num_classes); names ``line`` and ``where``.
    """
    try:
        numbers = [int(text) for text in texts]
    except ValueError:
        numbers = []
    if not numbers or (len(numbers) > 1 and not multi_class):
        labels_word = "class numbers" if multi_class else "a class number"
        raise ValueError(f"{where}: {line!r} is not a path and {labels_word} with {delimiter!r} between")
    for number in numbers:
        if not 0 <= number < num_classes:
            raise ValueError(
                f"{where}: label {number} is outside 0..{num_classes - 1} "
                f"(num_classes={num_classes}); correct the list or num_classes"
            )
    return numbers if multi_class else numbers[0]
