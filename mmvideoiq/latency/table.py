"""Milliseconds per frame of every action on this machine: the table that ``cost="latency.json"`` reads."""

from __future__ import annotations

import copy
import statistics
import tempfile
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from mmengine.config import Config

from mmvideoiq.deploy.engines.cpu import cpu_name
from mmvideoiq.deploy.export.from_config import export_from_config
from mmvideoiq.deploy.session import VideoSession
from mmvideoiq.fileio import write_json
from mmvideoiq.latency.interleave import interleave, timed

WARMUP, REPEATS = 3, 15


def measure_table(
    bundle: str | Path, *, engine: str = "openvino", threads: int | None = None
) -> dict[str, Any]:
    """Medians of frames that are processed as half a clip, all actions in turn.

    Returns: ``engine``, ``threads``, ``float_precision``, ``cpu``, ``frames`` (processed together), ``actions``
        {name: milliseconds per frame, 0 for a skip} and ``policy``, its milliseconds per frame.
    """
    with VideoSession.open(bundle, engine=engine, threads=threads) as session:
        graphs, space = session.bundle.graphs, session.actions
        whole = any(node.op == "shift" for node in graphs["recognition"])
        count = session.preprocessing.frames if whole else max(1, session.preprocessing.frames // 2)
        frames = np.full((count, *session.frame_shape), 128, np.uint8)
        runs: dict[str, Callable[[], Any]] = {
            name: partial(session.run, frames, actions=np.full(count, index))
            for index, name in enumerate(space.names)
            if not space.skip_mask[index]
        }
        if "policy" in graphs:
            runs["policy"] = partial(session.choose, frames)
        timings = {name: partial(timed, run) for name, run in runs.items()}
        times = interleave(timings, warmup=WARMUP, repeats=REPEATS)
        ms = {name: 1e3 * statistics.median(t.clock for t in spent) / count for name, spent in times.items()}
        engine_used = session.engine
        place = dict(
            engine=engine_used.name,
            threads=engine_used.threads,
            float_precision=engine_used.float_precision,
            cpu=cpu_name(),
        )
        actions = {name: ms.get(name, 0.0) for name in space.names}
        return dict(place, frames=count, actions=actions, policy=ms.get("policy", 0.0))


def measure_config(config: Config, *, engine: str, threads: int | None = None) -> dict[str, Any]:
    """:func:`measure_table` of a config's model, untrained: training does not change times.

    The table that the config's cost may name is not read: it may not exist yet.
    """
    config = copy.deepcopy(config)
    if isinstance(config.model.get("actions"), dict):
        config.model.actions.pop("cost", None)
    with tempfile.TemporaryDirectory() as folder:
        bundle = Path(folder, "bundle")
        export_from_config(config, None, bundle, calibrate_with=None)
        return measure_table(bundle, engine=engine, threads=threads)


def measure_stage(config: str, out: str, options: Mapping[str, Any]) -> dict[str, float]:
    """A recipe's stage: writes the table of a stage's config to ``out``; returns its milliseconds."""
    table = measure_config(Config.fromfile(config), **options)
    write_json(Path(out), table)
    return table["actions"]
