"""Milliseconds of a comparison's rows, all measured in turn on the same decoded clips; see ``evaluation/config.py``."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
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
        job: ``rows``: name -> ``bundle`` with ``usage`` (shares by action name; then the policy does not run) or
            ``budget``, or ``config`` and ``checkpoint`` of a float recognizer; ``config``, whose test list is used;
            ``engine``, ``clips``, ``folder``.
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
    common = dict(threads=torch.get_num_threads(), videos=videos, preload=len(videos))
    specs: dict[str, dict[str, Any]] = {}
    for name, row in job["rows"].items():
        bundle = bundles.get(name, first)
        spec = dict(common, preprocessing=bundle.preprocessing._asdict())
        if name in bundles:
            spec |= dict(kind="ours", bundle=row["bundle"], engine=job["engine"], budget=row.get("budget"))
            if "usage" in row:
                shares = [row["usage"].get(action, 0.0) for action in bundles[name].actions.names]
                spec |= dict(policy=False, usage=shares)
        else:
            spec |= dict(kind="mmaction2", compile=False, config=row["config"], checkpoint=row["checkpoint"])
        specs[name] = spec
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
