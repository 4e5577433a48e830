"""Measures what ``mmvideoiq bulk`` adds to ``mmvideoiq infer``: whole commands, from start to end."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from mmvideoiq.data.synthetic import make_clip, write_lossless
from mmvideoiq.jobs.environment import child_environment
from mmvideoiq.jobs.errors import RunStopped
from mmvideoiq.latency.environment import describe_environment

SHARDS = 50  # of a run: after each it says how far it is
ORIGINALS = 8  # clips that the benchmark makes


@dataclass(frozen=True, kw_only=True)
class BulkSettings:
    """``clips`` are links to a few videos; Ray is measured with 1 to ``workers`` decoders, and as many recognizers."""

    clips: int = 20_000
    workers: int = 2

    def __post_init__(self) -> None:
        if self.workers < 1 or self.clips < SHARDS:
            raise ValueError(
                f"clips={self.clips} must be at least {SHARDS}, workers={self.workers} at least 1"
            )


def measure_bulk(
    bundle: Path,
    videos: Sequence[Path],
    settings: BulkSettings,
    folder: Path,
    *,
    begin: Callable[[str, int], Callable[[], None]],
) -> dict[str, Any]:
    """Seconds of each command over all clips, its clips per second between its start and its end, and ratios to infer.

    Args:
        videos: those that the clips are links to; without any, small ones are made.
        folder: for links and results.
        begin: called with a label and the number of runs; what it returns is called after each run.
    """
    source = folder / "videos"
    source.mkdir()
    originals = [video.resolve() for video in videos] or make_clips(folder)
    for number in range(settings.clips):
        original = originals[number % len(originals)]
        (source / f"{number:07d}{original.suffix}").symlink_to(original)
    given = [str(bundle), str(source)]
    bulk = ["bulk", *given, "--json", "--shard-size", str(settings.clips // SHARDS)]
    commands = {"infer": ["infer", *given, "--json", "-"], "bulk --no-ray": [*bulk, "--no-ray"]}
    for count in range(1, settings.workers + 1):
        workers = ["--decoders", str(count), "--recognizers", str(count)]
        commands[f"bulk, {count} + {count} workers"] = [*bulk, *workers]
    advance, rows = begin("bulk", len(commands)), []
    for number, (name, words) in enumerate(commands.items()):
        out = ["--out", str(folder / f"run{number}")] if words[0] == "bulk" else []
        rows.append(dict(name=name, **run([*words, *out], clips=settings.clips)))
        advance()
    for row in rows:
        row["ratio"] = row["seconds"] / rows[0]["seconds"]
        row["rate_ratio"] = row["clips_per_s"] / rows[0]["clips_per_s"]
    return dict(settings=asdict(settings), environment=describe_environment(), rows=rows)


def make_clips(folder: Path) -> list[Path]:
    """Clips as the demo's bundle takes them."""
    rng, paths = np.random.default_rng(0), []
    for number in range(ORIGINALS):
        paths.append(folder / f"{number}.mkv")
        clip, _ = make_clip(rng, label=number % 3, kind="bold", frames=24)
        write_lossless(paths[-1], clip, rate=24)
    return paths


def run(words: Sequence[str], *, clips: int) -> dict[str, float]:
    """``seconds`` of a command that tells its clips in JSON lines; ``start_s`` are those that no clip accounts for.

    Raises:
        RunStopped: it fails, or does another number of clips; the message ends with its last line.
    """
    began, points, done = time.perf_counter(), [], 0
    command = [sys.executable, "-m", "mmvideoiq", *words]
    with (
        tempfile.TemporaryFile("w+") as err,
        subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=err, text=True, env=child_environment()
        ) as process,
    ):
        assert process.stdout
        for line in process.stdout:
            entry = json.loads(line)
            if entry.get("event", "shard") == "shard":  # infer tells each clip, and no events
                done = entry.get("done", done + 1)
                points.append((time.perf_counter() - began, done))
        process.wait()
        err.seek(0)
        said = err.read().strip()
    seconds = time.perf_counter() - began
    if process.returncode or done != clips:
        raise RunStopped(f"mmvideoiq {words[0]} did {done} of {clips} clips: {said.splitlines()[-1:]}")
    first, last = points[0], points[-1]
    rate = (last[1] - first[1]) / (last[0] - first[0])
    return dict(seconds=seconds, clips_per_s=rate, start_s=seconds - clips / rate)
