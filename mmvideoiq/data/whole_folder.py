"""A generated folder: written whole or not at all, and recognized by its manifest."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

MANIFEST = "manifest.json"


def check_ints(values: Mapping[str, Any], *, low: int) -> None:
    """TypeError or ValueError that names the first value which is not an int >= ``low``."""
    for name, value in values.items():
        if type(value) is not int:
            raise TypeError(f"{name} must be an int >= {low}, got {value!r}")
        if value < low:
            raise ValueError(f"{name} must be >= {low}, got {value}")


def make_once(
    out: Path,
    manifest: Mapping[str, Any],
    write: Callable[[Path], None],
    *,
    files: Callable[[Path], Iterable[str]],
    what: str,
) -> None:
    """Write a folder with its manifest; one with an equal manifest is kept as it is.

    Args:
        manifest: what the content follows from, as JSON.
        write: writes the content into an empty folder, which becomes ``out`` when it has returned.
        files: of the written folder, the paths below it that must be there for it to be kept.
        what: names the content in messages.

    Raises:
        FileExistsError: ``out`` holds something else, has another manifest or lacks files.
    """
    if _is_made(out, manifest, files=files, what=what):
        return
    out.parent.mkdir(parents=True, exist_ok=True)
    part = out.with_name(f".{out.name}.part-{os.getpid()}")
    shutil.rmtree(part, ignore_errors=True)
    try:
        part.mkdir()
        write(part)
        (part / MANIFEST).write_text(json.dumps(manifest, indent=2))
        part.rename(out)
    finally:
        shutil.rmtree(part, ignore_errors=True)


def _is_made(
    out: Path, manifest: Mapping[str, Any], *, files: Callable[[Path], Iterable[str]], what: str
) -> bool:
    if not out.exists() or (out.is_dir() and not any(out.iterdir())):
        return False
    try:
        found = json.loads((out / MANIFEST).read_text())
        names = list(files(out))
    except (OSError, ValueError):
        raise FileExistsError(f"{out} exists and is not a set of {what}; name a new folder") from None
    if found != manifest:
        raise FileExistsError(
            f"{out} holds clips made with {found}, asked for {manifest}; remove it or name a new folder"
        )
    if any(not (out / name).is_file() for name in names):
        raise FileExistsError(f"{out} has lost some of its clips; remove it and generate it again")
    return True
