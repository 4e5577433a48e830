"""Checks that every video of a list exists, is readable and long enough."""

from __future__ import annotations

import json
import os
import re
from contextlib import closing
from pathlib import Path
from typing import Any, TextIO

from mmvideoiq.data.probe import FRAMES, identity, probe_all, state_of, with_bar
from mmvideoiq.fileio import write_text
from mmvideoiq.jobs.environment import usable_cpus

KINDS = ("missing", "unreadable", "too_short", "damaged", "duplicates")


def check_list(
    ann_file: str | Path,
    data_root: str | Path,
    *,
    min_frames: int = 1,
    decode: bool = False,
    workers: int | None = None,
    timeout: float = 300.0,
    report: str | Path | None = None,
    resume: bool = False,
    progress: bool = False,
) -> dict[str, Any]:
    """Check every video of a list and report which are to be repaired or dropped.

    Lines are ``path label [label ...]`` with any one of ``;``, ``,``, space or tab between, as in the first
    line; a path without a suffix is an ``.mp4``, as in MMAction2.

    Args:
        data_root: folder that the paths start from (a config's ``data_root`` and ``data_prefix``).
        min_frames: fewer are too short; frames that a config samples from a video.
        decode: decode frames spread over the video as well; finds damage inside a file, takes many times as long.
        workers: processes; default: one for each CPU.
        timeout: seconds that a video may take.
        report: JSON file to write what is returned to. Until the end it is kept in ``report.partial``, a line
            for each video.
        resume: take over the findings of an interrupted or earlier run from there, for files of unchanged
            size and time and the same version of the reader.
        progress: show a bar on stderr.

    Returns: ``list``, ``data_root``, ``min_frames``, ``decoded``; the counts ``lines``, ``videos``, ``good``;
    ``missing``, ``unreadable``, ``too_short``, ``damaged`` (readable, with frames lost): dicts of ``line`` and
    ``path``, and ``reason``, ``frames`` or ``lost``; ``duplicates``: ``path`` and its ``lines``; ``checked``: {path:
    ``size``, ``mtime_ns``, ``decoded``, ``reader`` and ``frames`` or ``reason``}. A path in several lines is one video.

    Raises:
        FileNotFoundError: no such list. NotADirectoryError: no such folder.
        FileExistsError: a run was interrupted, and ``resume`` is False.
        ValueError: a number out of range, an empty list, a line that is not a path with labels, none of the
        videos exists, ``resume`` without ``report``, a report of something else.
    """
    workers = usable_cpus() if workers is None else workers
    for name, value in dict(min_frames=min_frames, workers=workers, timeout=timeout).items():
        if value <= 0:
            raise ValueError(f"{name} must be above 0, got {value}")
    if resume and report is None:
        raise ValueError("resume needs a report to take findings from (--json FILE)")
    root = Path(data_root)
    lines = read_paths(ann_file)
    if not root.is_dir():
        raise NotADirectoryError(f"data root {root} is not a folder")

    sizes = {path: identity(root / path) for path in lines}
    there = [path for path, identity in sizes.items() if identity is not None]
    if not there:
        raise ValueError(
            f"{ann_file}: none of its {len(sizes):,} videos is in {root}{_hint(root, next(iter(sizes)))}"
        )
    journal = _Journal(Path(report), resume=resume) if report is not None else None
    known = journal.known if journal else {}
    checked = {p: k for p in there if (k := known.get(p)) and _still_holds(k, sizes[p], decode=decode)}
    todo = [path for path in there if path not in checked]
    with closing(
        probe_all(
            [str(root / p) for p in todo], frames=FRAMES if decode else 0, workers=workers, timeout=timeout
        )
    ) as found:
        for i, finding in with_bar(found, done=len(checked), total=len(there), show=progress):
            about = dict(zip(("size", "mtime_ns"), sizes[todo[i]] or (), strict=True))
            checked[todo[i]] = dict(about, decoded=decode, reader=state_of("av"), **finding)
            if journal:
                journal.add(todo[i], checked[todo[i]])

    result = _result(lines, checked, min_frames)
    result = dict(list=str(ann_file), data_root=str(root), min_frames=min_frames, decoded=decode, **result)
    if journal:
        journal.finish(result)
    return result


def read_paths(ann_file: str | Path) -> dict[str, list[int]]:
    """The paths of a list, each with the numbers of its lines.

    Raises:
        FileNotFoundError: no such list.
        ValueError: it is empty, or a line is not a path with labels; names file and line.
    """
    if not Path(ann_file).is_file():
        raise FileNotFoundError(f"list {ann_file} does not exist")
    lines: dict[str, list[int]] = {}
    pattern = None
    try:
        text = Path(ann_file).read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(f"list {ann_file} is not text in UTF-8: {error.reason}") from None
    for number, line in enumerate(map(str.strip, text.split("\n")), 1):
        if not line:
            continue
        if pattern is None:
            first = re.fullmatch(r".*?\S([;, \t])\s*-?\d+", line)
            separator = first[1] if first else " "
            pattern = re.compile(rf"(.+?)(?:{separator}\s*\d+)+")
        match = pattern.fullmatch(line)
        if match is None:
            raise ValueError(
                f"{ann_file}, line {number}: {line!r} is not a path and class numbers "
                f"with {separator!r} between"
            )
        path = match[1].strip()
        path = path if os.path.splitext(path)[1] else f"{path}.mp4"
        lines.setdefault(os.path.normpath(path), []).append(number)
    if not lines:
        raise ValueError(f"list {ann_file} is empty; it needs lines 'path label'")
    return lines


class _Journal:
    """Findings on disk: the finished report, and until then a line for each video."""

    def __init__(self, report: Path, *, resume: bool) -> None:
        self._report = report
        self._partial = report.with_name(f"{report.name}.partial")
        self.known: dict[str, dict] = {}
        if not report.parent.is_dir():
            raise NotADirectoryError(f"{report.parent}, the folder for the report, does not exist")
        if resume:
            self.known = self._read()
        elif self._partial.exists():
            raise FileExistsError(
                f"{self._partial} is left from an interrupted run; go on with --resume, or remove it"
            )
        self._stream: TextIO | None = None

    def _read(self) -> dict[str, dict]:
        known: dict[str, dict] = {}
        if self._report.is_file():
            try:
                known.update(json.loads(self._report.read_text(encoding="utf-8"))["checked"])
            except (ValueError, KeyError, TypeError):
                raise ValueError(
                    f"{self._report} is not a report of this checker; name another file"
                ) from None
        if self._partial.is_file():
            for line in self._partial.read_text(encoding="utf-8").splitlines():
                try:
                    known.update(json.loads(line))
                except ValueError:  # the line that was being written
                    continue
        return known

    def add(self, path: str, finding: dict) -> None:
        if self._stream is None:
            self._stream = open(self._partial, "a", encoding="utf-8")
            self._stream.write("\n")  # ends a line that an interruption cut
        self._stream.write(json.dumps({path: finding}) + "\n")
        self._stream.flush()

    def finish(self, result: dict) -> None:
        write_text(self._report, json.dumps(result, indent=1) + "\n")
        if self._stream is not None:
            self._stream.close()
        self._partial.unlink(missing_ok=True)


def _still_holds(finding: dict, identity: tuple[int, int] | None, *, decode: bool) -> bool:
    same = (finding.get("size"), finding.get("mtime_ns")) == identity and finding.get("reader") == state_of(
        "av"
    )
    return same and (finding.get("decoded") or not decode or "reason" in finding)


def _hint(root: Path, path: str) -> str:
    below = next((d for d in sorted(root.iterdir()) if d.is_dir() and (d / path).is_file()), None)
    return f"; did you mean --data-root {below}?" if below else f", for example {root / path}"


def _result(lines: dict[str, list[int]], checked: dict[str, dict], min_frames: int) -> dict[str, Any]:
    result: dict[str, Any] = dict(lines=sum(map(len, lines.values())), videos=len(lines), good=0)
    result.update({kind: [] for kind in KINDS})
    for path, numbers in lines.items():
        finding = checked.get(path)
        where = dict(line=numbers[0], path=path)
        if len(numbers) > 1:
            result["duplicates"].append(dict(path=path, lines=numbers))
        if finding is None:
            result["missing"].append(where)
        elif "reason" in finding:
            result["unreadable"].append(dict(where, reason=finding["reason"]))
        elif finding["frames"] < min_frames:
            result["too_short"].append(dict(where, frames=finding["frames"]))
        elif "lost" in finding:
            result["damaged"].append(dict(where, lost=finding["lost"]))
        else:
            result["good"] += 1
    return dict(result, checked=checked)
