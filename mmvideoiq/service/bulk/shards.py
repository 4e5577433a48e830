"""Results -> shards: each a fixed slice of the plan, written when all of its rows are there, and never again.

A row counts once: what a worker that was taken for dead delivers a second time is left out.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
from pyarrow import parquet

from mmvideoiq.fileio import atomic_write
from mmvideoiq.service.bulk.plan import RESULTS, Plan
from mmvideoiq.service.bulk.stages import RESULT
from mmvideoiq.video.errors import shown

PLAN_KEY = b"mmvideoiq.plan"
PATH = pa.field("path", pa.string())


class Shards:
    """The account of a run.

    Args:
        retry_errors: do videos again whose row is an error; the other rows of their shards stay.

    Attributes:
        plan: as given.
        folder: of the shards' files.
        done: shards that are written, of this start and of earlier ones.
        videos_done: rows that are there, in these and in shards that are not whole yet.
    """

    def __init__(self, plan: Plan, *, retry_errors: bool = False) -> None:
        self.plan = plan
        self.folder = plan.folder / RESULTS
        self.folder.mkdir(parents=True, exist_ok=True)
        for left in self.folder.glob(".*.part.parquet"):  # of a process that was killed
            left.unlink()
        self._rows: dict[int, dict[int, pa.Table]] = {}  # of shards in the making, by place
        self.done: set[int] = set()
        self.videos_done = 0
        for shard in range(plan.shards):
            if not self._is_whole(shard):
                continue
            good = self._good_rows(shard) if retry_errors else None
            if good is None:
                self.done.add(shard)
                self.videos_done += len(plan.places(shard))
            else:
                self._rows[shard] = good
                self.videos_done += len(good)

    def missing(self) -> Iterator[int]:
        """Places without a row, in order."""
        for shard in range(self.plan.shards):
            if shard not in self.done:
                known = self._rows.get(shard, {})
                yield from (place for place in self.plan.places(shard) if place not in known)

    def has(self, place: int) -> bool:
        shard = place // self.plan.shard_size
        return shard in self.done or place in self._rows.get(shard, {})

    def take(self, results: pa.Table) -> list[int]:
        """Rows of :data:`RESULT`, in any order; the shards that they completed, which are written now."""
        written = []
        for number, place in enumerate(results["place"].to_pylist()):
            if self.has(place):
                continue
            shard = place // self.plan.shard_size
            rows = self._rows.setdefault(shard, {})
            rows[place] = results.slice(number, 1)
            self.videos_done += 1
            if len(rows) == len(self.plan.places(shard)):
                self._write(shard)
                written.append(shard)
        return written

    def file(self, shard: int) -> Path:
        return self.folder / f"{shard:05d}.parquet"

    def columns(self, shard: int, names: Sequence[str]) -> pa.Table:
        return self._read(shard, columns=list(names))

    def _write(self, shard: int) -> None:
        rows = self._rows.pop(shard)
        places = self.plan.places(shard)
        table = pa.concat_tables(rows[place] for place in places)
        paths = [_text(self.plan.path(place)) for place in places]
        table = table.add_column(1, PATH, pa.array(paths, PATH.type))
        table = table.replace_schema_metadata({PLAN_KEY: self.plan.digest.encode()})
        with atomic_write(self.file(shard)) as part:
            parquet.write_table(table.combine_chunks(), part, compression="zstd")
        self.done.add(shard)

    def _is_whole(self, shard: int) -> bool:
        """Whether the shard's file is there and of this plan; a damaged one is done again."""
        try:
            footer = parquet.read_metadata(self.file(shard))
        except FileNotFoundError:
            return False
        except (OSError, ValueError) as error:
            if refused(error):
                raise
            return False
        of_plan = (footer.metadata or {}).get(PLAN_KEY) == self.plan.digest.encode()
        return of_plan and footer.num_rows == len(self.plan.places(shard))

    def _read(self, shard: int, columns: list[str] | None = None) -> pa.Table:
        """Raises ValueError where the file is damaged behind its footer."""
        try:
            return parquet.read_table(self.file(shard), columns=columns)
        except (OSError, ValueError) as error:
            if refused(error):
                raise
            why = " ".join(str(error).split())
            raise ValueError(
                f"{self.file(shard)} is damaged ({why}): delete it, and start again to do its videos again"
            ) from None

    def _good_rows(self, shard: int) -> dict[int, pa.Table] | None:
        """Rows without an error by place; None where no row has one."""
        if not pc.any(pc.is_valid(self.columns(shard, ["error"])["error"])).as_py():
            return None
        table = self._read(shard).select(RESULT.names).replace_schema_metadata()
        good = table.filter(pc.is_null(table["error"]))
        return {place: good.slice(number, 1) for number, place in enumerate(good["place"].to_pylist())}


def refused(error: Exception) -> bool:
    """Whether the system gave no access to a file; what Parquet says of its content has no number."""
    return isinstance(error, OSError) and error.errno is not None


def failed(rows: Sequence[Mapping[str, Any]]) -> pa.Table:
    return pa.Table.from_pylist(list(rows), RESULT)


def _text(path: str) -> str:
    """A path as text: without passwords, and with bytes that are no text escaped."""
    return shown(path).encode("utf-8", "backslashreplace").decode()
