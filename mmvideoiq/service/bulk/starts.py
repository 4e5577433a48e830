"""What each start of a run did, and in which time: ``OUT/starts.json``."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from mmvideoiq.fileio import DamagedFile, read_json, write_json
from mmvideoiq.service.bulk.plan import Plan

STARTS = "starts.json"
FIELDS = ("began", "videos", "seconds")


class Starts:
    """The account of time of a run; this start is the last of it, and begins now.

    The file is ``{"plan": digest, "starts": [{"began", "videos", "seconds"}, ...]}``; starts that did nothing are left
    out. One of another plan, or damaged, is begun anew: nothing but figures depends on it.
    """

    def __init__(self, plan: Plan) -> None:
        self._plan, self._file = plan, plan.folder / STARTS
        self._earlier = _starts(self._file, plan)
        self._began, self._clock = datetime.now(UTC).isoformat(timespec="seconds"), time.perf_counter()
        self._videos, self._seconds = 0, 0.0

    def record(self, videos: int) -> None:
        """So many videos have been done by this start, up to now."""
        self._videos, self._seconds = videos, time.perf_counter() - self._clock
        if videos:
            write_json(self._file, dict(plan=self._plan.digest, starts=self._all()))

    def now(self) -> dict[str, Any]:
        """``videos``, ``seconds`` and ``clips_per_s`` of this start."""
        return _figures(self._videos, self._seconds)

    def total(self) -> dict[str, Any]:
        """The same of all starts, and how many ``starts`` they are."""
        starts = self._all()
        videos, seconds = (sum(start[name] for start in starts) for name in ("videos", "seconds"))
        return dict(starts=len(starts), **_figures(videos, seconds))

    def _all(self) -> list[dict[str, Any]]:
        now = dict(began=self._began, videos=self._videos, seconds=self._seconds)
        return self._earlier + [now] * bool(self._videos)


def _figures(videos: int, seconds: float) -> dict[str, Any]:
    return dict(videos=videos, seconds=seconds, clips_per_s=videos / seconds if seconds else 0.0)


def _starts(file: Path, plan: Plan) -> list[dict[str, Any]]:
    try:
        known = read_json(file, keys=("plan", "starts"))
    except DamagedFile:
        known = None
    if known is None or known["plan"] != plan.digest or not isinstance(known["starts"], list):
        return []
    return [start for start in known["starts"] if isinstance(start, dict) and set(start) == set(FIELDS)]
