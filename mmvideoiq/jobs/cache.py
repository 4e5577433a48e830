"""Results on disk, used again while what they were made from is the same."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from mmvideoiq.fileio import DamagedFile, read_json, sha256_of, write_json


def hash_of(*parts: Any) -> str:
    """16 hexadecimal digits that change with ``parts``: values that JSON holds, others by their ``str``."""
    text = json.dumps(parts, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def load(path: Path, hash: str) -> dict[str, Any] | None:
    """What :func:`store` wrote to ``path`` with this ``hash``; None where it is missing, damaged or of another hash."""
    try:
        content = read_json(path, keys=("hash",))
    except DamagedFile:
        return None
    return content if content and content["hash"] == hash else None


def store(path: Path, hash: str, **content: Any) -> dict[str, Any]:
    """Write ``content`` with the ``hash`` of what it was made from; returns what :func:`load` will."""
    content = {"hash": hash} | content
    write_json(path, content)
    return content


def digests(paths: Iterable[Path]) -> dict[str, str]:
    """The SHA-256 of each file, by path."""
    return {str(path): sha256_of(path) for path in paths}


def changed(files: Mapping[str, str]) -> str | None:
    """The first file of :func:`digests` that is missing or has other content; None where none is."""
    return next(
        (
            name
            for name, digest in files.items()
            if not Path(name).is_file() or sha256_of(Path(name)) != digest
        ),
        None,
    )
