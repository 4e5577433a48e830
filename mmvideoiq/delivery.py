"""The last step of a recipe: one trained policy becomes a bundle, which runs the test list and is timed.

Labels and decisions are held against the host's own testing of the same model. Milliseconds are measured for every
row of the table, in turn on the same decoded clips: the float network as MMAction2 runs it, all others in the bundle.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from mmaction.apis import init_recognizer
from mmaction.structures import ActionDataSample
from mmengine.config import Config
from mmengine.runner import Runner

from mmvideoiq.actions import ActionSpace
from mmvideoiq.deploy.export.from_config import export_from_config
from mmvideoiq.deploy.session import Result, VideoSession
from mmvideoiq.deploy.video import read_frames

TIMED_CLIPS, WARMUP = 60, 5


def deliver(job: Mapping[str, Any], progress: Callable[..., None]) -> dict[str, Any]:
    """Export, run, time.

    Args:
        job: ``float`` (config, checkpoint) or None, ``videoiq`` (of which the first policy is exported), ``out``,
            ``engine``, ``usage`` of the random row by action name.
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
        ms = _time_rows(session, [path for path, _ in clips[:TIMED_CLIPS]], job)
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


def _time_rows(session: VideoSession, paths: Sequence[str], job: Mapping[str, Any]) -> dict[str, float]:
    """Median milliseconds of a clip for each row, without decoding."""
    clips = [read_frames(path, session.preprocessing) for path in paths]
    rng = np.random.default_rng(0)
    shares = np.array([job["usage"][name] for name in session.actions.names])
    runs: dict[str, Callable[[np.ndarray], Any]] = {"videoiq": session.run}
    runs["random"] = lambda frames: session.run(
        frames, actions=_draw(rng, shares, len(frames), session.actions)
    )
    for index, action in enumerate(session.actions):
        if not action.is_skip:
            runs[f"fixed-{action.name}"] = lambda frames, index=index: session.run(
                frames, actions=np.full(len(frames), index)
            )
    if job["float"]:
        runs["float"] = _host(job["float"])
    seconds: dict[str, list[float]] = {name: [] for name in runs}
    for turn, frames in enumerate([*clips[:WARMUP], *clips]):
        for name, run in runs.items():
            began = time.perf_counter()
            run(frames)
            if turn >= WARMUP:
                seconds[name].append(time.perf_counter() - began)
    return {name: 1e3 * statistics.median(values) for name, values in seconds.items()}


def _draw(rng: np.random.Generator, shares: np.ndarray, frames: int, actions: ActionSpace) -> np.ndarray:
    """Actions (T,), some of them processed."""
    while True:
        drawn = rng.choice(len(shares), frames, p=shares / shares.sum())
        if not np.all(np.array(actions.skip_mask)[drawn]):
            return drawn


def _host(trained: Mapping[str, Any]) -> Callable[[np.ndarray], Any]:
    """The float recognizer as the host runs it."""
    model = init_recognizer(Config.fromfile(trained["config"]), trained["checkpoint"], device="cpu")

    @torch.inference_mode()
    def run(frames: np.ndarray) -> None:
        inputs = torch.from_numpy(frames).permute(0, 3, 1, 2)
        model.test_step(dict(inputs=[inputs], data_samples=[ActionDataSample()]))

    return run
