"""What each frame of composed clips is: synthetic ones and those of gestures, of which this is known."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mmvideoiq.data import gestures, synthetic

KINDS = (*synthetic.KINDS, "idle", "signal")
WITHOUT_EVIDENCE = ("blank", "idle")
"""Kinds of frames that say nothing of the clip's class."""


def load_frame_kinds(root: str | Path) -> dict[str, list[str]]:
    """``{path in the lists: [kind of each frame]}`` of a generated or composed folder.

    Raises:
        FileNotFoundError: the folder has neither ``kinds.json`` nor ``frames.json``.
    """
    root = Path(root)
    if (root / "kinds.json").is_file():
        return synthetic.load_kinds(root)
    if (root / "frames.json").is_file():
        return {
            name: [frame["kind"] for frame in frames] for name, frames in gestures.load_frames(root).items()
        }
    raise FileNotFoundError(
        f"{root} has neither kinds.json nor frames.json: the kinds of frames are not known"
    )


def kinds_of_trace(trace: Sequence[Mapping[str, Any]], root: str | Path) -> list[list[str]]:
    """The kinds of the frames that a test run saw, clip by clip.

    Args:
        trace: entries with ``filename`` (of a clip below ``root``) and ``frame_inds``.

    Raises:
        KeyError: a clip is not of this set; names it.
    """
    kinds = load_frame_kinds(root)
    rows = []
    for entry in trace:
        name = "/".join(Path(entry["filename"]).parts[-2:])
        if name not in kinds:
            raise KeyError(f"{entry['filename']} is not a clip of {root}")
        rows.append([kinds[name][i] for i in entry["frame_inds"]])
    return rows
