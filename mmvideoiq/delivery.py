"""The last step of a recipe: one trained policy becomes a bundle, which runs the test list and is timed.

Labels and decisions are held against the host's own testing of the same model. Milliseconds are measured for every
row of the table, in turn on the same decoded clips: the float network as MMAction2 runs it, all others in the bundle.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmaction.apis import init_recognizer
from mmengine.config import Config
from mmengine.runner import Runner

from mmvideoiq.benchmark.inference import interleave, started
from mmvideoiq.deploy.export.from_config import export_from_config
from mmvideoiq.deploy.session import Result, VideoSession

TIMED_CLIPS, WARMUP = 60, 5


def deliver(job: Mapping[str, Any], progress: Callable[..., None]) -> dict[str, Any]:
    """Export, run, time.

    Args:
        job: ``float`` (config, checkpoint) or None, ``videoiq`` (of which the first policy is exported), ``out``,
            ``engine``, ``usage`` of the random row by action name, ``folder`` for logs.
        progress: called with a text and the share done.

    Returns: ``bundle`` (what it is and what it reached on the test list) and ``ms_per_clip`` (row name -> median).
    """
    trained = job["videoiq"][0]
    config = Config.fromfile(trained["config"])
    progress("export", 0.0)
    export_from_config(config, trained["checkpoint"], job["out"])
    threads = torch.get_num_threads()
    with VideoSession.open(job["out"], engine=job["engine"], threads=threads) as session:
        progress("the host's own testing", 0.1)
        clips, want = _simulate(config, trained["checkpoint"])
        progress("the bundle on the test clips", 0.4)
        got = list(session.run_many(path for path, _ in clips))
        progress("milliseconds", 0.7)
        ms = _time_rows(session, [path for path, _ in clips[:TIMED_CLIPS]], job, Path(job["folder"]))
        bundle = session.bundle
    found = [
        (clip, host, ours)
        for clip, host, ours in zip(clips, want, got, strict=True)
        if isinstance(ours, Result)
    ]
    summary = dict(
        path=str(job["out"]),
        engine=job["engine"],
        threads=threads,
        file_mb=sum(bundle.file_bytes().values()) / 1e6,
        clips=len(clips),
        unreadable=len(clips) - len(found),
        top1=float(np.mean([ours.label == label for (_, label), _, ours in found])),
        simulated_top1=float(np.mean([host[0] == label for (_, label), host, _ in found])),
        same_labels=float(np.mean([host[0] == ours.label for _, host, ours in found])),
        same_actions=float(np.mean([np.mean(host[1] == ours.actions) for _, host, ours in found])),
        cost=float(np.mean([ours.cost for _, _, ours in found])),
        timed_clips=min(len(clips), TIMED_CLIPS),
    )
    return dict(bundle=summary, ms_per_clip=ms)


@torch.inference_mode()
def _simulate(config: Config, checkpoint: str) -> tuple[list[tuple[str, int]], list[tuple[int, np.ndarray]]]:
    """The test list (path, label), and what the host's testing makes of it: label and actions (T,) of each."""
    model = init_recognizer(config, checkpoint, device="cpu")
    loader = Runner.build_dataloader(config.test_dataloader, seed=0)
    infos = [loader.dataset.get_data_info(index) for index in range(len(loader.dataset))]
    found = [
        (int(sample.pred_label), sample.policy_actions.numpy())
        for batch in loader
        for sample in model.test_step(batch)
    ]
    return [(info["filename"], info["label"]) for info in infos], found


def _time_rows(
    session: VideoSession, paths: Sequence[str], job: Mapping[str, Any], folder: Path
) -> dict[str, float]:
    """Median milliseconds of a clip for each row, without decoding; each row in a process of its own, in turn."""
    names = session.actions.names
    steps = session.preprocessing
    common = dict(
        threads=session.engine.threads,
        videos=list(paths),
        preload=len(paths),
        preprocessing=[steps.frames, steps.short_side, steps.crop, steps.size],
    )
    ours = dict(common, kind="ours", bundle=str(job["out"]), engine=session.engine.name)
    specs = {
        "videoiq": ours,
        "random": dict(ours, policy=False, usage=[job["usage"][name] for name in names]),
    }
    for action in session.actions:
        if not action.is_skip:
            specs[f"fixed-{action.name}"] = dict(
                ours, policy=False, usage=[float(name == action.name) for name in names]
            )
    if job["float"]:
        files = {key: job["float"][key] for key in ("config", "checkpoint")}
        specs["float"] = dict(common, kind="mmaction2", compile=False, **files)
    return time_specs(specs, folder, clips=len(paths))


def time_specs(
    specs: Mapping[str, Mapping[str, Any]],
    folder: Path,
    *,
    clips: int,
    advance: Callable[[], None] = lambda: None,
) -> dict[str, float]:
    """Median milliseconds of each contender over ``clips`` clips, in turn; ``advance`` is called after each."""
    with started(specs, folder) as workers:
        seconds = interleave(workers, "model", warmup=WARMUP, repeats=clips, advance=advance)
    return {name: 1e3 * statistics.median(values) for name, values in seconds.items()}
