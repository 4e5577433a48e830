"""What a run came to, of all its shards."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path
from typing import Any

import pyarrow.compute as pc

from mmvideoiq.service.bulk.shards import Shards
from mmvideoiq.service.bulk.starts import Starts

KINDS_SHOWN = 8
MISSING = "there is no such file"


def summarize(shards: Shards, starts: Starts, *, dearest: float) -> dict[str, Any]:
    """Figures of the whole run, and the time of this start and of all of them.

    Args:
        dearest: cost of the most expensive action; a run in which all frames take it saves nothing.

    Returns: ``videos``, ``done``, ``errors``, ``error_kinds`` {kind: videos}, ``error_examples`` {kind: path},
    ``mean_cost`` and ``share_saved`` (None where no video was recognized), ``actions`` {name: share of the frames},
    ``now`` {videos, seconds, clips_per_s}, ``total`` {starts, videos, seconds, clips_per_s}.
    """
    kinds: Counter[str] = Counter()
    examples: dict[str, str] = {}
    actions: Counter[str] = Counter()
    total, good = 0.0, 0
    for shard in sorted(shards.done):
        table = shards.columns(shard, ["path", "cost", "actions", "error"])
        for row in table.select(["path", "error"]).filter(pc.is_valid(table["error"])).to_pylist():
            kind = error_kind(row["error"])
            kinds[kind] += 1
            examples.setdefault(kind, row["path"])
        total += pc.sum(table["cost"]).as_py() or 0.0
        good += len(table["cost"].drop_null())
        for counted in pc.value_counts(pc.list_flatten(table["actions"])).to_pylist():
            actions[counted["values"]] += counted["counts"]
    mean, frames = total / good if good else None, sum(actions.values())
    return dict(
        videos=len(shards.plan),
        done=good + sum(kinds.values()),
        errors=sum(kinds.values()),
        error_kinds=dict(kinds.most_common()),
        error_examples={kind: examples[kind] for kind, _ in kinds.most_common()},
        mean_cost=mean,
        share_saved=None if mean is None else 1 - mean / dearest,
        actions={name: count / frames for name, count in actions.most_common()},
        now=starts.now(),
        total=starts.total(),
    )


def nothing_recognized(summary: dict[str, Any], *, of_lists: bool) -> str | None:
    """The line of a run that has ended with errors alone, else None.

    Args:
        of_lists: whether a list named some of the videos.
    """
    if summary["errors"] < summary["videos"]:
        return None
    kind = next(iter(summary["error_kinds"]))
    first = summary["error_examples"][kind]
    line = f"none of the {summary['videos']} videos could be recognized: {kind}, first {first}"
    if of_lists and kind == MISSING:
        line += "; give --data-root, at which relative paths of lists begin, and another --out"
    return line


def error_kind(reason: str) -> str:
    """Reasons that differ in figures and details alone are one kind."""
    return re.sub(r"\d+(?:\.\d+)?", "N", re.sub(r"\s*\(.*\)", "", reason))


def lines(summary: dict[str, Any], results: Path) -> list[str]:
    """For people; ``results`` is the folder of the shards."""
    now, total = summary["now"], summary["total"]
    if summary["done"] == summary["videos"] and not now["videos"]:
        told = [f"all {summary['videos']} videos were done before; their rows are in {results}"]
    else:
        told = [
            f"{summary['done']} of {summary['videos']} videos done; now {now['videos']} in {now['seconds']:.1f} s, "
            f"{now['clips_per_s']:.2f} clips/s"
        ]
    if total["starts"] > 1:
        told.append(
            f"all {total['starts']} starts: {total['videos']} in {total['seconds']:.1f} s, "
            f"{total['clips_per_s']:.2f} clips/s"
        )
    if summary["mean_cost"] is not None:
        told.append(f"mean cost {summary['mean_cost']:.3f}, {summary['share_saved']:.0%} of the work saved")
        used = ", ".join(f"{name} {share:.0%}" for name, share in summary["actions"].items())
        told.append(f"frames: {used}")
    if summary["errors"]:
        told.append(f"errors: {summary['errors']}")
        kinds = list(summary["error_kinds"].items())
        for kind, count in kinds[:KINDS_SHOWN]:
            told.append(f"  {count}  {kind}, first {summary['error_examples'][kind]}")
        if kinds[KINDS_SHOWN:]:
            told.append(f"  {sum(count for _, count in kinds[KINDS_SHOWN:])}  others")
    return told
