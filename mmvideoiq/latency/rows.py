"""Milliseconds of a comparison's rows, all measured in turn on the same decoded clips; see ``evaluation/config.py``."""

from __future__ import annotations

import json
import statistics
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from mmengine.config import Config
from mmengine.registry import init_default_scope
from mmengine.runner import Runner

from mmvideoiq.deploy.bundle.bundle import Bundle
from mmvideoiq.latency.interleave import interleave
from mmvideoiq.latency.workers import started

WARMUP = 5  # clips


def time_rows(job: Mapping[str, Any], progress: Callable[..., None]) -> dict[str, float]:
    """Median milliseconds of a clip for each row, without decoding; runs in a process of its own.

    Args:
        job: ``rows``: name -> ``bundle``, by itself or with ``usage`` (shares by action name; then the policy does not
            run), ``budget``, ``trace`` (a file with the actions of the test list; ``policy``: whether it runs all the
            same) or ``gate`` (of :class:`~mmvideoiq.latency.contenders.Gated`); or ``network``, a file of OpenVINO
            for ``frames`` of a clip, None for all; or ``config`` and ``checkpoint`` of a float recognizer. ``config``,
            whose test list is used; ``engine``, ``clips``, ``threads`` of each, ``folder``.
        progress: called with a text and the share done.
    """
    progress("the test list", 0.0)
    config = Config.fromfile(job["config"])
    init_default_scope(config.get("default_scope", "mmaction"))
    dataset = Runner.build_dataloader(config.test_dataloader, seed=0).dataset
    places = np.unique(np.linspace(0, len(dataset) - 1, min(job["clips"], len(dataset))).round().astype(int))
    videos = [dataset.get_data_info(int(place))["filename"] for place in places]
    bundles = {name: Bundle.open(row["bundle"]) for name, row in job["rows"].items() if "bundle" in row}
    first = next(iter(bundles.values()))
    common = dict(threads=job["threads"], videos=videos, preload=len(videos))
    specs: dict[str, dict[str, Any]] = {}
    for name, row in job["rows"].items():
        preprocessing = bundles.get(name, first).preprocessing
        if "network" in row:
            preprocessing = preprocessing._replace(frames=row["frames"] or preprocessing.frames)
            spec = dict(kind="openvino", model=row["network"], precision="f32")
        elif name in bundles:
            spec = _bundle_spec(row, bundles[name], places) | dict(engine=job["engine"])
        else:
            spec = dict(kind="mmaction2", compile=False, config=row["config"], checkpoint=row["checkpoint"])
        specs[name] = common | dict(preprocessing=preprocessing._asdict()) | spec
    turns, total = 0, len(specs) * (len(videos) + WARMUP)

    def advance() -> None:
        nonlocal turns
        turns += 1
        if turns % len(specs) == 0:
            progress(f"milliseconds  clip {turns // len(specs)}", turns / total)

    with started(specs, Path(job["folder"])) as workers:
        runs = {name: partial(worker.seconds, "model") for name, worker in workers.items()}
        seconds = interleave(runs, warmup=WARMUP, repeats=len(videos), advance=advance)
    return {name: 1e3 * statistics.median(values) for name, values in seconds.items()}


def _bundle_spec(row: Mapping[str, Any], bundle: Bundle, places: np.ndarray) -> dict[str, Any]:
    spec: dict[str, Any] = dict(kind="ours", bundle=row["bundle"], budget=row.get("budget"))
    if "usage" in row:
        spec |= dict(policy=False, usage=[row["usage"].get(name, 0.0) for name in bundle.actions.names])
    elif "gate" in row:
        spec |= dict(kind="gated", gate=row["gate"])
    elif "trace" in row:
        trace = json.loads(Path(row["trace"]).read_text())
        actions = [trace[int(place)]["actions"] for place in places]
        spec |= dict(kind="given", actions=actions, policy=row["policy"])
    return spec
