"""The page of recognized videos: ``mmvideoiq infer --report``. Runs where the runtime alone is installed."""

from __future__ import annotations

import html
import os
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from pathlib import Path
from statistics import fmean, median
from typing import Any

from mmvideoiq.visualization.environment import environment_table
from mmvideoiq.visualization.filmstrips import (
    Frames,
    Strip,
    group,
    left_out,
    legend,
    most_and_least_certain,
)
from mmvideoiq.visualization.page import BEST, Thumbnails, fit, items, note, page, section, short, write_page
from mmvideoiq.visualization.tables import html_table

LISTED = 500  # videos in the table
ALL = 12  # up to so many videos each gets a filmstrip
PARTS = ("decode", "policy", "recognition")
TIMES = (
    "Milliseconds of a video; decoding overlaps the rest, and the first frames in a mode also build its network. Cost: "
    "mean over all frames, 0 for a skipped one."
)
FADED = "Skipped frames are faded: the network never sees them."


def write_answers(
    path: Path,
    entries: Sequence[Mapping[str, Any]],
    *,
    bundle: str,
    knowledge: str,
    names: Sequence[str],
    frames_of: Callable[[int], Frames | None],
    command: str,
    machine: Mapping[str, str],
) -> None:
    """Write the page, atomically.

    Args:
        entries: of :class:`mmvideoiq.service.answers.Report`, a video each.
        bundle: its name; ``knowledge``: a line about its classes.
        names: of its actions.
        frames_of: frames (T, H, W, 3) of the video at a place, of a stream the last ones; None where there are none.
        command: that made it.
        machine: more lines of the environment.
    """
    frames = cache(frames_of)
    folder, entries = _in_folder(entries)
    good = [place for place, entry in enumerate(entries) if "label" in entry]
    bad = [entry for entry in entries if "error" in entry]
    before = [
        section(
            "Summary",
            items([knowledge, *([f"videos in {short(folder)}"] if folder else []), *_summary(entries)]),
        ),
        section("Answers", *_answers([entries[place] for place in good])),
        section(
            "Videos that could not be read", html_table(_errors(bad), wrapped=("video", "why"), marked="")
        )
        if bad
        else "",
    ]
    after = [
        section("Environment", environment_table(machine)),
        section("To run it again", f"<pre>{html.escape(command)}</pre>"),
    ]

    def render(thumbnails: Thumbnails | None) -> str:
        strips = _filmstrips(entries, good, names, frames, thumbnails)
        return page(f"mmvideoiq: {bundle}", _count(len(entries), "video"), [*before, strips, *after])

    write_page(path, fit(render))


def _in_folder(entries: Sequence[Mapping[str, Any]]) -> tuple[str, list[Mapping[str, Any]]]:
    """The folder that holds all the videos, or "", and the entries with their names in it."""
    folders = {os.path.dirname(entry["video"]) for entry in entries}
    if any("://" in folder for folder in folders) or len({os.path.isabs(folder) for folder in folders}) != 1:
        return "", list(entries)
    folder = os.path.commonpath(folders)
    if not folder:
        return "", list(entries)
    return folder, [dict(entry, video=os.path.relpath(entry["video"], folder)) for entry in entries]


def _summary(entries: Sequence[Mapping[str, Any]]) -> list[str]:
    """What happened, in sentences."""
    known = [entry for entry in entries if "label" in entry]
    lines = []
    if known:
        labels = Counter(entry["name"] for entry in known).most_common(5)
        usage = Counter(name for entry in known for name in entry["actions"])
        total = sum(usage.values())
        lines = [
            "labels: " + ", ".join(f"{short(name)} ({count})" for name, count in labels),
            f"mean cost {fmean(entry['cost'] for entry in known):.3f}; frames: "
            + ", ".join(f"{name} {100 * count / total:.0f} %" for name, count in usage.most_common()),
            "median ms of a video: "
            + ", ".join(
                f"{part} {median(entry['ms'].get(part, 0.0) for entry in known):.1f}" for part in PARTS
            ),
        ]
    bad = sum("error" in entry for entry in entries)
    return [*lines, *([f"{_count(bad, 'video')} could not be read"] if bad else [])]


def _answers(entries: Sequence[Mapping[str, Any]]) -> list[str]:
    if not entries:
        return []
    shown = entries[:LISTED]
    columns = [
        ["video", *(short(entry["video"]) for entry in shown)],
        ["label", *(short(entry["name"]) for entry in shown)],
        ["%", *(f"{100 * entry['score']:.1f}" for entry in shown)],
        ["cost", *(f"{entry['cost']:.3f}" for entry in shown)],
        ["frames", *(str(entry["frames"]) for entry in shown)],
        *([f"{part} ms", *(f"{entry['ms'].get(part, 0.0):.1f}" for entry in shown)] for part in PARTS),
    ]
    rest = len(entries) - len(shown)
    more = note(f"{rest} more videos are not listed; --json writes all.") if rest else ""
    return [html_table(columns, wrapped=("video", "label"), marked=""), more, note(TIMES)]


def _errors(entries: Sequence[Mapping[str, Any]]) -> list[list[str]]:
    shown = entries[:LISTED]
    return [
        ["video", *(short(entry["video"]) for entry in shown)],
        ["why", *(entry["error"] for entry in shown)],
    ]


def _filmstrips(
    entries: Sequence[Mapping[str, Any]],
    good: Sequence[int],
    names: Sequence[str],
    frames_of: Callable[[int], Frames | None],
    thumbnails: Thumbnails | None,
) -> str:
    if thumbnails is None:
        return section("Frames", left_out()) if good else ""

    def strip_of(place: int) -> Strip | None:
        frames, entry = frames_of(place), entries[place]
        if frames is None or not len(frames):
            return None
        ms = sum(entry["ms"].get(part, 0.0) for part in PARTS[1:])
        return Strip(
            title=entry["name"],
            answer=f"{100 * entry['score']:.0f} %",
            right=None,
            details=f"{short(entry['video'])} · cost {entry['cost']:.3f} · {ms:.1f} ms",
            frames=frames,
            actions=entry["actions"][-len(frames) :],
            first=entry["frames"] - len(frames),
            total=entry["frames"],
        )

    if len(good) <= ALL:
        everything = thumbnails.all_of(ALL)
        parts = [group("", good, strip_of, names, everything)]
        if everything.clips < len(good):
            parts.append(
                note(f"The first {everything.clips} of {len(good)} videos: more would be too large.")
            )
    else:
        most = 2 * BEST.clips  # some may have no frames
        certain, uncertain = most_and_least_certain([entries[place]["score"] for place in good], most)
        parts = [
            group(title, [good[place] for place in places], strip_of, names, thumbnails)
            for title, places in (("Least certain", uncertain), ("Most certain", certain))
        ]
    return section("Frames", note(FADED), legend(names), *parts) if any(parts) else ""


def _count(number: int, what: str) -> str:
    return f"{number} {what}" + "s" * (number != 1)
