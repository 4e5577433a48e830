"""What a policy does well and what it gains, in sentences and tables: parts of both reports."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from mmvideoiq.visualization.tables import action_names

QUALITY = {
    "blank_skipped": "frames without evidence skipped",
    "evidence_processed": "frames with evidence processed",
    "evidence_cheapest": "of these at their cheapest sufficient precision",
    "waste": "waste: right in the mode chosen, and in a cheaper one too",
    "regret": "regret: wrong in the mode chosen, right in a dearer one",
}
NOTE = (
    "One frame with evidence is enough for a clip. Waste and regret: shares of the processed frames (with evidence, "
    "where that is known), each frame classified by itself."
)


def quality_lines(quality: Mapping[str, Any] | None) -> list[str]:
    """Figures of ``evaluation.policy_quality`` in sentences; empty where nothing is known."""
    found = {key: (quality or {}).get(key) for key in QUALITY}
    return [
        f"{text}: {100 * found[key]:.1f} %"
        for key, text in QUALITY.items()
        if found[key] is not None and not math.isnan(found[key])
    ]


def usage_columns(quality: Mapping[str, Any] | None) -> list[list[str]]:
    """The usage of each kind of frame, column by column; empty where kinds are not known."""
    usage = (quality or {}).get("usage") or {}
    if not usage:
        return []
    names = action_names([dict(usage=shares) for shares in usage.values()])
    columns = [["frames", *usage]]
    return columns + [
        [f"{name} %", *(f"{100 * shares[name]:.1f}" for shares in usage.values())] for name in names
    ]


def gain_columns(row: Mapping[str, Any], rows: Sequence[Mapping[str, Any]]) -> list[list[str]]:
    """A policy's accuracy minus each other row's, with the interval; empty where none was computed."""
    against = row.get("against") or {}
    if not against:
        return []
    others = {other["name"]: other for other in rows}
    timed = [others[name].get("ms_per_clip") for name in against]
    columns = [
        [f"{row['name']} minus", *against],
        ["points", *(f"{100 * entry['gain']:+.1f}" for entry in against.values())],
        ["95 % interval", *(_interval(entry["interval"]) for entry in against.values())],
    ]
    if row.get("ms_per_clip") and any(timed):
        columns.append(["its ms / theirs", *(f"{row['ms_per_clip'] / ms:.2f}" if ms else "" for ms in timed)])
    return columns


def _interval(bounds: Sequence[float]) -> str:
    return f"{100 * bounds[0]:+.1f} to {100 * bounds[1]:+.1f}"


def advice_of(row: Mapping[str, Any]) -> str:
    """The sentence of advice; empty where there is none."""
    return (row.get("advice") or {}).get("text", "")


GAINS = (
    "Points of accuracy over each row on the same clips; the interval is a bootstrap over the clips (seeds and draws "
    "averaged), so it says what other clips would change."
)
