"""The published lists of the four benchmarks, read into clips.

Two layouts are known, their columns split by a separator that differs from publisher to publisher::

    path frames label [label ...]          one line a video; AR-Net and those who follow it
    path start end label [label ...]       frames start..end, start 0 or 1; action-recognition-pytorch, AdaMML

ActivityNet's own JSON is read in ``activitynet.py``. Every error is a ValueError of one line that names file,
line and value.
"""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from mmvideoiq.data.folder import EXTENSIONS

SEPARATORS = {",": "','", ";": "';'", " ": "a space", "\t": "a tab"}


@dataclass(frozen=True)
class Benchmark:
    """The properties of one benchmark.

    ``separator`` splits the columns of its published lists, ``delimiter`` path and labels in the lists that
    are written: MMAction2's ``VideoDataset`` splits at every delimiter, so it is ``;`` where names hold spaces.
    """

    title: str
    num_classes: int
    multi_class: bool
    separator: str
    delimiter: str


BENCHMARKS = {
    "activitynet": Benchmark(
        title="ActivityNet-v1.3", num_classes=200, multi_class=True, separator=",", delimiter=" "
    ),
    "fcvid": Benchmark(title="FCVID", num_classes=239, multi_class=True, separator=" ", delimiter=" "),
    "mini_sports1m": Benchmark(
        title="Mini-Sports1M", num_classes=487, multi_class=True, separator=";", delimiter=";"
    ),
    "mini_kinetics": Benchmark(
        title="Mini-Kinetics", num_classes=200, multi_class=False, separator=" ", delimiter=";"
    ),
}


@dataclass(frozen=True)
class Clip:
    """One annotated video.

    ``path``: as published, without a video's suffix; ``labels``: without repeats, in order of first
    appearance; ``frames``: None where the annotation has no count; ``where``: file and line.
    """

    path: str
    labels: tuple[int, ...]
    frames: int | None
    where: str


@dataclass
class Annotations:
    """``splits``: {"train": clips, ...}; ``notes``: remarks for the user, a sentence each."""

    classes: list[str]
    splits: dict[str, list[Clip]]
    notes: list[str] = field(default_factory=list)


def read_classes(path: str | Path, benchmark: Benchmark) -> list[str]:
    """Class names in the order of their numbers, from lines ``name`` or ``number,name``.

    Raises:
        FileNotFoundError: no such file.
        ValueError: not as many names as the benchmark has classes, a name twice, an empty line, numbers that
        are not 0, 1, 2, ...
    """
    lines = read_text(path, "class names").rstrip("\n").split("\n")
    numbered = [re.match(r"(\d+)\s*[,;\t ]\s*(.+)", line) for line in lines]
    if all(numbered):
        for i, match in enumerate(numbered):
            if match and int(match[1]) != i:
                raise ValueError(
                    f"{path}, line {i + 1}: class number {match[1]}, expected {i}; "
                    "numbers begin at 0 and follow each other"
                )
        lines = [match[2] for match in numbered if match]
    first: dict[str, int] = {}
    for i, name in enumerate(map(str.strip, lines), 1):
        if not name:
            raise ValueError(f"{path}, line {i}: empty; each line is the name of a class")
        if name in first:
            raise ValueError(f"{path}, line {i}: class {name!r} is also in line {first[name]}")
        first[name] = i
    check_count(list(first), benchmark, where=str(path))
    return list(first)


def read_lists(
    files: dict[str, str | Path],
    classes_file: str | Path,
    benchmark: Benchmark,
    *,
    separator: str | None = None,
) -> Annotations:
    """Read one text list for each split, and the class names.

    Args:
        files: {"train": file, ...}
        separator: of columns; default: the benchmark's.

    Raises:
        FileNotFoundError: a file is missing.
        ValueError: a wrong line, see :func:`read_list`, or wrong class names.
    """
    found = Annotations(read_classes(classes_file, benchmark), {})
    first: dict[str, Clip] = {}
    for split, path in files.items():
        clips = read_list(path, benchmark, separator=separator)
        found.splits[split] = clips
        shared = [clip for clip in clips if clip.path in first]
        if shared:
            found.notes.append(
                f"{len(shared)} videos of {split} are in another split too, the first is {shared[0].path} "
                f"({shared[0].where}, {first[shared[0].path].where})"
            )
        first.update((clip.path, clip) for clip in clips if clip.path not in first)
        found.notes += _folder_notes(clips, found.classes, benchmark)
    return found


def read_list(path: str | Path, benchmark: Benchmark, *, separator: str | None = None) -> list[Clip]:
    """Read a published text list. The first line decides which of the two layouts it has.

    Where a video has one class and a space is the separator, the path is all but the last two columns, and
    may hold spaces. Empty lines are skipped.

    Raises:
        FileNotFoundError: no such file.
        ValueError: the list is empty; a line has too few columns, another separator, a count or a label that
        is not a number, an unknown class, several classes where one is allowed, or a path of an earlier
        line. The message names file, line and value.
    """
    separator = benchmark.separator if separator is None else separator
    if not separator:
        raise ValueError("separator must not be empty")
    clips: dict[str, Clip] = {}
    ranges: bool | None = None
    for number, line in enumerate(read_text(path, "annotations").split("\n"), 1):
        line = line.strip()
        if not line:
            continue
        where = f"{path}, line {number}"
        name, numbers = _columns(line, benchmark, separator, where=where)
        if ranges is None:
            ranges = len(numbers) > 2 and numbers[0] in (0, 1)
        if ranges:
            frames, labels = _from_range(line, numbers, where=where)
        else:
            frames, labels = numbers[0], numbers[1:]
        if frames < 0:
            raise ValueError(f"{where}: {line!r} has {frames} frames")
        labels = list(dict.fromkeys(labels))
        _check_labels(labels, benchmark, where=f"{where}: {line!r}")
        if name in clips:
            raise ValueError(f"{where}: {name!r} is also in line {clips[name].where.split()[-1]}")
        clips[name] = Clip(name, tuple(labels), frames, where)
    if not clips:
        raise ValueError(f"{path} is empty; it needs lines {_layout(separator)}")
    return list(clips.values())


def read_text(path: str | Path, what: str) -> str:
    """The text of a file; an error names ``what`` it should hold."""
    if not Path(path).is_file():
        raise FileNotFoundError(f"no file {path} ({what})")
    try:
        return Path(path).read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is not text in UTF-8: {error.reason} at byte {error.start}") from None


def _layout(separator: str) -> str:
    return "'" + separator.join(("path", "frames", "label[", "label...]")) + "'"


def _columns(line: str, benchmark: Benchmark, separator: str, *, where: str) -> tuple[str, list[int]]:
    """Path and numbers of one line; at least two numbers."""
    if separator == " ":
        columns = line.split() if benchmark.multi_class else line.rsplit(None, 2)
    else:
        columns = [column.strip() for column in line.split(separator)]
    name, texts = columns[0], columns[1:]
    if len(texts) >= 2 and name and all(re.fullmatch(r"-?\d+", text) for text in texts):
        root, ending = os.path.splitext(name)
        return root if ending.lower() in EXTENSIONS else name, [int(text) for text in texts]
    other = _other_separator(line, separator)
    if other is not None:
        raise ValueError(
            f"{where}: {line!r} is separated by {SEPARATORS[other]}, not by "
            f"{SEPARATORS.get(separator, repr(separator))}; use --separator {other!r}"
        )
    needs = f"{benchmark.title} needs {_layout(separator)}"
    if len(texts) < 2 or not name:
        raise ValueError(f"{where}: {line!r} has {len(columns)} columns; {needs}")
    wrong = next(i for i, text in enumerate(texts) if not re.fullmatch(r"-?\d+", text))
    what = "frame count" if wrong == 0 else "label"
    raise ValueError(f"{where}: {what} {texts[wrong]!r} (column {wrong + 2}) is not a number; {needs}")


def _other_separator(line: str, separator: str) -> str | None:
    for other in SEPARATORS:
        if other != separator and re.fullmatch(rf".+(?:{re.escape(other)}\s*\d+){{2,}}", line):
            return other
    return None


def _from_range(line: str, numbers: list[int], *, where: str) -> tuple[int, list[int]]:
    if len(numbers) < 3:
        raise ValueError(f"{where}: {line!r} lacks a column: the lines before are 'path start end label'")
    start, end, *labels = numbers
    if start not in (0, 1) or end < start:
        raise ValueError(
            f"{where}: {line!r} is frames {start} to {end}; the lists of whole videos begin at 0 or 1"
        )
    return end - start + 1, labels


def _check_labels(labels: Sequence[int], benchmark: Benchmark, *, where: str) -> None:
    for label in labels:
        if not 0 <= label < benchmark.num_classes:
            raise ValueError(
                f"{where}: class {label} is unknown; {benchmark.title} has classes 0..{benchmark.num_classes - 1}"
            )
    if len(labels) > 1 and not benchmark.multi_class:
        raise ValueError(f"{where}: {len(labels)} classes; a clip of {benchmark.title} has one")


def check_count(classes: Sequence[str], benchmark: Benchmark, *, where: str) -> None:
    """Raise ValueError unless there are as many classes as the benchmark has."""
    if len(classes) != benchmark.num_classes:
        raise ValueError(
            f"{where}: {len(classes)} classes, but {benchmark.title} has {benchmark.num_classes}"
        )


def _folder_notes(clips: Sequence[Clip], classes: Sequence[str], benchmark: Benchmark) -> list[str]:
    """Notes on folders with another name than their class; only where folders are classes."""
    if benchmark.multi_class:
        return []
    pairs = Counter((clip.path.split("/")[0], clip.labels[0]) for clip in clips if clip.path.count("/") == 1)
    odd = {key: count for key, count in pairs.items() if key[0].replace("_", " ") != classes[key[1]]}
    if len(odd) == len(pairs):  # the folders are something else
        return []
    return [
        f"{count} clips of class {label} {classes[label]!r} are published in folder {folder!r}"
        for (folder, label), count in odd.items()
    ]
