"""The plan of a run: which videos, in which order, with which settings. Made once, stored, never changed.

::

    OUT/manifest.json       settings, sources, how many videos; written last
    OUT/plan.parquet        the path of each video, as bytes: names of files need not be text
    OUT/results/00000.parquet ...
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
from pyarrow import parquet

from mmvideoiq import __version__
from mmvideoiq.fileio import DamagedFile, atomic_write, read_json, sha256_of, write_json
from mmvideoiq.service.bulk.sources import absolute, is_list, read_bytes
from mmvideoiq.video.errors import shown

MANIFEST, PLAN, RESULTS = "manifest.json", "plan.parquet", "results"
FORMAT = 1
WRITTEN = ("format", "given", "videos", "plan")


class OtherRun(ValueError):
    """The folder holds another run, or something else; one line."""


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What the results depend on; another start in the same folder has to bring the same.

    Attributes:
        bundle: its digest.
        engine, float_precision, budget, sampling, reader: of the session.
        shard_size: videos of a shard.
    """

    bundle: str
    engine: str
    float_precision: str
    budget: str | None
    sampling: str
    reader: str
    shard_size: int


@dataclass(frozen=True, kw_only=True)
class Plan:
    """A stored plan.

    Attributes:
        folder: of the run.
        paths: binary, the path or address of each video.
        shard_size: videos of a shard, of which the last may have fewer.
        digest: of the plan's file; stands in each shard.
    """

    folder: Path
    paths: pa.ChunkedArray
    shard_size: int
    digest: str

    def __len__(self) -> int:
        return len(self.paths)

    @property
    def shards(self) -> int:
        return -(-len(self) // self.shard_size)

    def places(self, shard: int) -> range:
        """The places in the plan of a shard's videos."""
        return range(shard * self.shard_size, min((shard + 1) * self.shard_size, len(self)))

    def path(self, place: int) -> str:
        return os.fsdecode(self.paths[place].as_py())


def open_plan(
    folder: Path,
    *,
    sources: Sequence[str],
    column: str,
    settings: Settings,
    data_root: str | None = None,
    find: Callable[[Sequence[str]], Sequence[str]],
) -> Plan:
    """The plan that the folder holds; where it is empty, one is made of ``find(sources)`` and stored.

    Raises:
        OtherRun: the folder holds one of other sources or settings, a damaged one, or results without a plan.
    """
    try:
        known = read_json(folder / MANIFEST)
    except DamagedFile:
        raise OtherRun(
            f"{folder / MANIFEST} is empty, cut short or of another kind: choose another --out"
        ) from None
    if known is None:
        if any((folder / RESULTS).glob("*")):
            raise OtherRun(f"{folder} holds results but no {MANIFEST}: choose another --out")
        given = _given(sources, column, data_root, settings)
        _store(folder, find(sources), given)
        known = read_json(folder / MANIFEST)
    else:
        _check_same(folder, known, _given(sources, column, data_root, settings))
    file = folder / PLAN
    if not file.is_file() or sha256_of(file) != known["plan"]:
        raise OtherRun(f"{file} is not the plan that {MANIFEST} names: choose another --out")
    paths = parquet.read_table(file)["path"]
    return Plan(folder=folder, paths=paths, shard_size=settings.shard_size, digest=known["plan"])


def _given(sources: Sequence[str], column: str, data_root: str | None, settings: Settings) -> dict[str, Any]:
    """The part of the manifest that another start has to repeat; passwords are left out of it."""
    digests = [
        hashlib.sha256(read_bytes(source)).hexdigest() if is_list(source) else "" for source in sources
    ]
    named = [f"{shown(absolute(source))}" for source in sources]
    root = None if data_root is None else shown(absolute(data_root))
    return dict(sources=named, lists=digests, column=column, data_root=root) | asdict(settings)


def _store(folder: Path, videos: Sequence[str], given: Mapping[str, Any]) -> None:
    paths = pa.array([os.fsencode(video) for video in videos], pa.binary())
    with atomic_write(folder / PLAN) as part:
        parquet.write_table(pa.table({"path": paths}), part)
    write_json(
        folder / MANIFEST,
        dict(
            format=FORMAT,
            given=given,
            videos=len(videos),
            plan=sha256_of(folder / PLAN),
            made_by=f"mmvideoiq {__version__}",
        ),
    )


def _check_same(folder: Path, known: Any, given: Mapping[str, Any]) -> None:
    whole = isinstance(known, dict) and set(WRITTEN) <= set(known) and isinstance(known["given"], dict)
    if not whole or known["format"] != FORMAT:
        raise OtherRun(f"{folder / MANIFEST} is not of this version of mmvideoiq bulk: choose another --out")
    for name, here in given.items():
        there = known["given"].get(name)
        if there != here:
            if name == "lists":
                what = "a list has changed since"
            elif name == "bundle":
                what = "it was made by another bundle"
            elif name == "data_root":
                what = f"its --data-root: {_short(there)}, given: {_short(here)}"
            else:
                what = f"its {name.replace('_', ' ')}: {_short(there)}, given: {_short(here)}"
            raise OtherRun(
                f"{folder} holds another run ({what}): give what it was begun with, or another --out"
            )


def _short(value: Any) -> str:
    text = " ".join(value) if isinstance(value, list) else str(value)
    return text if len(text) <= 120 else f"{text[:120]} ..."
