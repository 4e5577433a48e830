"""Tested clips as parts of a page: the confusion matrix, and the easiest and hardest clips. No matplotlib, no torch."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import cache
from typing import Any

from mmvideoiq.visualization.confusion import confusion_parts, count_confusions
from mmvideoiq.visualization.filmstrips import (
    Frames,
    Strip,
    easiest_and_hardest,
    group,
    is_right,
    left_out,
    legend,
)
from mmvideoiq.visualization.page import BEST, Thumbnails, note, section, short

ORDER = (
    "Easiest: right, and most certain of it. Hardest: wrong, the most certain first; then right, the least certain "
    "first. Skipped frames are faded: the network never sees them."
)
SEVERAL = "Clips have several labels, or none: there is no confusion matrix."


def confusion_section(clips: Sequence[Mapping[str, Any]], classes: Sequence[str], more: str = "") -> str:
    """The section of the confusion matrix; a sentence in its place where labels are not single ones.

    Args:
        more: HTML, below its heading.
    """
    counts = count_confusions(clips, len(classes))
    if counts is None:
        return section("Confusion matrix", note(SEVERAL)) if clips else ""
    return section("Confusion matrix", more, *confusion_parts(counts, classes))


class ClipStrips:
    """The easiest and hardest of some clips.

    Args:
        clips: as in the trace of ``ComputeCostMetric``: ``pred_label``, ``pred_score``, ``gt_label``, ``actions``
            (indices (T,), or None), ``filename`` (or None).
        classes: the name of each class; numbers where there are fewer.
        names: of the actions.
        frames_of: the frames (T, H, W, 3) of the clip at a place; None where there are none.
        kinds: a word for each frame, clip by clip, where known.
    """

    def __init__(
        self,
        clips: Sequence[Mapping[str, Any]],
        *,
        classes: Sequence[str],
        names: Sequence[str],
        frames_of: Callable[[int], Frames | None],
        kinds: Sequence[Sequence[str]] | None = None,
    ) -> None:
        self._clips, self._classes, self._names, self._kinds = clips, classes, names, kinds
        self._frames = cache(frames_of)
        most = BEST.clips
        self._easiest, self._hardest = easiest_and_hardest(clips, 2 * most)  # some may have no frames

    def section(self, thumbnails: Thumbnails | None) -> str:
        """The section with such thumbnails."""
        if thumbnails is None:
            return section("Easiest and hardest clips", left_out()) if self._clips else ""
        parts = [
            group(title, places, self._strip, self._names, thumbnails)
            for title, places in (("Hardest", self._hardest), ("Easiest", self._easiest))
        ]
        if not any(parts):
            return ""
        return section("Easiest and hardest clips", note(ORDER), legend(self._names), *parts)

    def _strip(self, place: int) -> Strip | None:
        frames, clip = self._frames(place), self._clips[place]
        if frames is None or not len(frames):
            return None
        score, file = clip.get("pred_score"), clip.get("filename")
        answer = self._class(clip.get("pred_label"))
        actions = clip.get("actions")
        return Strip(
            title=self._class(clip.get("gt_label")),
            answer=answer if score is None else f"{answer} {100 * score:.0f} %",
            right=is_right(clip),
            details=short("/".join(str(file).split("/")[-2:])) if file else "",
            frames=frames,
            actions=None if actions is None else [self._names[action] for action in actions],
            kinds=None if self._kinds is None else self._kinds[place],
        )

    def _class(self, label: Any) -> str:
        if isinstance(label, list):
            return ", ".join(map(self._class, label))
        known = isinstance(label, int) and 0 <= label < len(self._classes)
        return short(self._classes[label]) if known else str(label)
