"""Lists for a user's own videos: ``folder/<class>/<video>`` to train, validation and test lists."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from mmvideoiq.data.probe import find_unreadable
from mmvideoiq.fileio import write_text

EXTENSIONS = (".mp4", ".avi", ".mkv", ".mov", ".webm", ".m4v", ".mpg", ".mpeg", ".wmv", ".flv", ".3gp", ".ts")


@dataclass
class FolderLists:
    """What :func:`make_lists` found and wrote.

    ``splits``: {``train``, ``val``, ``test``: [(path below the folder, label)]}; ``unreadable``: {path:
    reason}.
    """

    classes: list[str]
    splits: dict[str, list[tuple[str, int]]]
    warnings: list[str] = field(default_factory=list)
    unreadable: dict[str, str] = field(default_factory=dict)


def make_lists(
    folder: str | Path,
    *,
    val: float = 0.2,
    test: float = 0.0,
    seed: int = 0,
    check: bool = False,
    overwrite: bool = False,
    progress: bool = False,
) -> FolderLists:
    """Write ``train.txt``, ``val.txt``, ``classes.txt`` and, with ``test > 0``, ``test.txt`` into ``folder``.

    Each class is split by itself: shares ``val`` and ``test`` of its videos, rounded, at least one each where
    the class has enough, and always at least one to train. Classes are numbered in the order of their names;
    lines are ``path label``, paths relative to ``folder``. Files are written atomically.

    Args:
        val, test: shares in (0, 1) and [0, 1), together below 1.
        check: try to decode each video, in worker processes, and leave out those that fail.
        overwrite: replace lists that differ from these.

    Raises:
        NotADirectoryError: no such folder.
        ValueError: a share is out of range, fewer than two class folders with videos, a name that a list
        cannot hold.
        FileExistsError: other lists exist, and ``overwrite`` is False.
    """
    if not 0 < val < 1 or not 0 <= test < 1 or val + test >= 1:
        raise ValueError(
            f"val must be in (0, 1), test in [0, 1) and their sum below 1, got val={val}, test={test}"
        )
    folder = Path(folder)
    videos = _find_videos(folder)
    unreadable: dict[str, str] = {}
    if check:
        paths = [path for paths in videos.values() for path in paths]
        bad = find_unreadable([folder / path for path in paths], progress=progress)
        unreadable = {paths[i]: reason for i, reason in bad.items()}
        videos = {name: [p for p in paths if p not in unreadable] for name, paths in videos.items()}
    empty = sorted(name for name, paths in videos.items() if not paths)
    videos = {name: paths for name, paths in videos.items() if paths}
    if len(videos) < 2:
        raise ValueError(
            f"{folder} has {len(videos)} class folders with videos, needs 2 ({folder}/<class>/<video>)"
        )

    lists = FolderLists(classes=list(videos), splits=dict(train=[], val=[], test=[]), unreadable=unreadable)
    lists.warnings += [f"class folder {name} holds no videos and is left out" for name in empty]
    rng = np.random.default_rng(seed)
    for label, (name, paths) in enumerate(videos.items()):
        if len(paths) == 1:
            lists.warnings.append(f"class {name} has one video: it goes to train, none to val")
        shuffled = [paths[i] for i in rng.permutation(len(paths))]
        for split, part in _split(shuffled, val=val, test=test).items():
            lists.splits[split] += [(path, label) for path in sorted(part)]
    if not lists.splits["val"]:
        raise ValueError(f"no class of {folder} has two videos, so that none is left to validate on")
    texts = {folder / "classes.txt": "".join(f"{name}\n" for name in lists.classes)}
    for split in ("train", "val", "test")[: 2 + (test > 0)]:
        texts[folder / f"{split}.txt"] = "".join(f"{path} {label}\n" for path, label in lists.splits[split])
    write_texts(texts, overwrite=overwrite)
    return lists


def _find_videos(folder: Path) -> dict[str, list[str]]:
    if not folder.is_dir():
        raise NotADirectoryError(f"{folder} is not a folder")
    classes = sorted(p for p in folder.iterdir() if p.is_dir() and not p.name.startswith("."))
    found = {c.name: sorted(f"{c.name}/{p.name}" for p in c.iterdir() if _is_video(p)) for c in classes}
    if not any(found.values()):
        here = sum(_is_video(p) for p in folder.iterdir())
        hint = (
            f"; {here} videos are in {folder} itself, put them into a folder for each class" if here else ""
        )
        raise ValueError(
            f"no videos in {folder}/<class>/, {len(found)} folders; endings {' '.join(EXTENSIONS)}{hint}"
        )
    for path in (path for paths in found.values() for path in paths):
        if path != path.strip() or len(path.splitlines()) != 1:
            raise ValueError(
                f"{path!r}: a list cannot hold a name with a line break or a space at its start; rename it"
            )
    return found


def _is_video(path: Path) -> bool:
    return path.is_file() and not path.name.startswith(".") and path.suffix.lower() in EXTENSIONS


def _split(paths: Sequence[str], *, val: float, test: float) -> dict[str, Sequence[str]]:
    """Cut one class: at least one to train, then one to val, then one to test, then by the shares."""
    count = len(paths)
    n_val = min(max(1, round(count * val)), count - 1)
    n_test = min(max(1, round(count * test)), count - 1 - n_val) if test > 0 else 0
    return dict(val=paths[:n_val], test=paths[n_val : n_val + n_test], train=paths[n_val + n_test :])


def write_texts(texts: Mapping[Path, str], *, overwrite: bool) -> None:
    """Write text files, each by an atomic rename.

    Raises:
        FileExistsError: one exists with other lines, and ``overwrite`` is False; none is written.
    """
    for path, text in texts.items():
        if path.exists() and not overwrite and path.read_text(encoding="utf-8") != text:
            raise FileExistsError(
                f"{path} exists with other lines; remove it, or overwrite it with --overwrite"
            )
    for path, text in texts.items():
        write_text(path, text)
