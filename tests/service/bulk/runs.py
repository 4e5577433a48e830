"""Runs of bulk in a process of their own, and the rows that they wrote."""

import subprocess
import sys
import time
from pathlib import Path

import pyarrow as pa
from pyarrow import parquet

from mmvideoiq.jobs.environment import child_environment

PATIENCE_S = 240.0


def rows(out: Path) -> list[dict]:
    return pa.concat_tables(
        parquet.read_table(file) for file in sorted((out / "results").iterdir())
    ).to_pylist()


def start(bundle: Path, folder: Path, out: Path, *options: str) -> subprocess.Popen:
    code = "import sys; from mmvideoiq.service.main import main; sys.exit(main())"
    given = ["bulk", str(bundle), str(folder), "--out", str(out), "--threads", "1", *options]
    return subprocess.Popen(
        [sys.executable, "-c", code, *given],
        env=child_environment(threads=1),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def wait_for_shards(out: Path, count: int, process: subprocess.Popen) -> None:
    due = time.monotonic() + PATIENCE_S
    while len(list(out.glob("results/0*.parquet"))) < count:
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < due
        time.sleep(0.02)
