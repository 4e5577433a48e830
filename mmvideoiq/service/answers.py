"""What ``infer`` tells of each video on the terminal, and keeps for ``--json``."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.text import Text

from mmvideoiq import fileio as atomic
from mmvideoiq.deploy.bundle import Bundle
from mmvideoiq.deploy.session import Result, VideoSession
from mmvideoiq.jobs.arguments import print_error
from mmvideoiq.video.errors import VideoError

COLOURS = ("white on red", "black on yellow", "black on green", "white on blue", "white on magenta")
LIVE_LINES = 3  # of a running timeline
CLASSES_SHOWN = 3  # by name


def write_json(path: str, entries: list[dict[str, Any]]) -> None:
    text = json.dumps(entries, indent=1, ensure_ascii=False) + "\n"
    # names of files that are not UTF-8 hold lone surrogates, which JSON can only escape
    atomic.write_text(Path(path), re.sub("[\ud800-\udfff]", lambda found: f"\\u{ord(found[0]):04x}", text))


def knowledge(bundle: Bundle) -> str:
    """One line: the number of classes of the bundle, and the first of them."""
    classes = bundle.manifest["classes"]
    more = ", ..." if len(classes) > CLASSES_SHOWN else ""
    name = bundle.path.resolve().name
    return f"{name} knows {len(classes)} classes: {', '.join(classes[:CLASSES_SHOWN])}{more}"


class Report:
    """Tells answers on stdout and errors on stderr, and keeps them for ``--json``.

    Args:
        lines: tell each entry as a line of JSON, and nothing else on stdout; none is kept.

    Attributes:
        entries: a video each: ``video``; ``label``, ``name``, ``score``, ``top`` [{label, name, score}], ``cost``,
            ``frames``, ``actions`` (a name for each frame; of a stream the last 1024), ``ms`` {decode, policy,
            recognition}, ``lost`` (frames that were damaged, their neighbours having been taken); of a live stream
            ``dropped`` (frames that came faster than they were recognized); ``error`` if it is bad, after these if a
            stream broke.
    """

    def __init__(self, session: VideoSession, *, top: int, lines: bool = False) -> None:
        self.entries: list[dict[str, Any]] = []
        self.console = Console(highlight=False, markup=False, emoji=False)
        self.lines = lines
        self._session, self._top, self._failed = session, top, False
        marks = ["." * action.skip if action.is_skip else action.name for action in session.actions]
        self._width = max(map(len, marks))
        self._cells = [
            (mark.rjust(self._width), "dim" if action.is_skip else COLOURS[place % len(COLOURS)])
            for place, (mark, action) in enumerate(zip(marks, session.actions, strict=True))
        ]

    @property
    def failed(self) -> bool:
        return self._failed or any("error" in entry for entry in self.entries)

    def legend(self) -> None:
        self._say(knowledge(self._session.bundle))
        text = Text("frames:")
        for cell, action in zip(self._cells, self._session.actions, strict=True):
            skipped = " skipped" if action.skip == 1 else f" {action.skip} skipped"
            processed = " bits" if action.size is None else " bits@size"
            text.append("  ").append(*cell).append(skipped if action.is_skip else processed)
        self._say(text)

    def answer(self, video: str, result: Result, **more: int) -> None:
        entry = self._entry(video, result) | more
        self.entries.append(entry)
        text = Text.assemble((video, "bold"), "  ", (result.name, "bold green"), f"  {result.score:.3f}\n")
        for row in entry["top"][1:]:
            text.append(f"  {row['name']}  {row['score']:.3f}\n")
        parts = ", ".join(f"{part} {ms:.1f}" for part, ms in entry["ms"].items())
        text.append_text(self.timeline(result.actions))
        text.append(f"\n  cost {result.cost:.3f}; ms: {parts}")
        for count, what in ((result.lost, "damaged"), (more.get("dropped", 0), "dropped")):
            text.append(f"; {count} frames {what}" * bool(count))
        self._say(text)

    def error(self, video: str, error: VideoError, *, answered: bool = False) -> None:
        entry = self.entries.pop() if answered else dict(video=video)
        self.entries.append(dict(entry, error=error.reason))
        print_error(error)

    def running(self, result: Result) -> Text:
        """A stream so far."""
        head = Text.assemble(
            (result.name, "bold green"), f"  {result.score:.3f}  after {result.frames} frames\n"
        )
        return head.append_text(self.timeline(result.actions, LIVE_LINES))

    def step(self, result: Result) -> None:
        """A stream's newest frame, on a line of its own."""
        action = self._session.actions.names[result.actions[-1]]
        self._say(f"frame {result.frames}: {action}, {result.name} {result.score:.3f}")

    def timeline(self, actions: Iterable[int], lines: int | None = None) -> Text:
        """A cell for each frame, as many in a line as the terminal is wide; the last ``lines``."""
        each = max(1, (self.console.width - 2) // (self._width + 1))
        cells = [self._cells[action] for action in actions]
        rows = [cells[start : start + each] for start in range(0, len(cells), each)]
        return Text("\n").join(
            Text(" ").join([Text(" "), *(Text(*cell) for cell in row)])
            for row in rows[-(lines or len(rows)) :]
        )

    def _entry(self, video: str, result: Result) -> dict[str, Any]:
        classes = self._session.bundle.manifest["classes"]
        order = (-result.scores).argsort(kind="stable")[: self._top].tolist()
        return dict(
            video=video,
            label=result.label,
            name=result.name,
            score=result.score,
            top=[dict(label=k, name=classes[k], score=float(result.scores[k])) for k in order],
            cost=result.cost,
            frames=result.frames,
            actions=[self._session.actions.names[action] for action in result.actions],
            ms={part: 1e3 * seconds for part, seconds in result.times.items()},
            lost=result.lost,
            float_precision=result.float_precision,
        )

    def end(self) -> None:
        """The newest entry will not change any more."""
        if self.lines:
            print(json.dumps(self.entries[-1]), flush=True)
            self._failed = self.failed
            self.entries.clear()  # memory stays as it is, however many come

    def _say(self, text: Text | str) -> None:
        if not self.lines:
            self.console.print(text, soft_wrap=True)
