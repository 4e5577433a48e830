"""The last step of a recipe: a trained policy is exported as a bundle, which runs the test list.

Labels and decisions are compared with MMAction2's own testing of the same model.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from mmaction.apis import init_recognizer
from mmengine.config import Config
from mmengine.runner import Runner

from mmvideoiq.deploy.export.from_config import export_from_config
from mmvideoiq.deploy.session import Result, VideoSession


def export_and_verify(job: Mapping[str, Any], progress: Callable[..., None]) -> dict[str, Any]:
    """Export a policy, run its bundle on the test list and compare with MMAction2's results.

    Args:
        job: ``config`` and ``checkpoint`` of a trained policy, ``out``, ``engine``.
        progress: called with a text and the share done.

    Returns: what ``summary.json`` holds as ``bundle``: path, size, accuracy, agreement.
    """
    config = Config.fromfile(job["config"])
    progress("export", 0.0)
    export_from_config(config, job["checkpoint"], job["out"])
    threads = torch.get_num_threads()
    with VideoSession.open(job["out"], engine=job["engine"], threads=threads) as session:
        progress("MMAction2's own testing", 0.1)
        clips, want = _simulate(config, job["checkpoint"])
        progress("the bundle on the test clips", 0.4)
        got = list(session.run_many(path for path, _ in clips))
        bundle = session.bundle
    found = [
        (clip, simulated, result)
        for clip, simulated, result in zip(clips, want, got, strict=True)
        if isinstance(result, Result)
    ]
    return dict(
        path=str(job["out"]),
        engine=job["engine"],
        threads=threads,
        file_mb=sum(bundle.file_bytes().values()) / 1e6,
        clips=len(clips),
        unreadable=len(clips) - len(found),
        top1=float(np.mean([result.label == label for (_, label), _, result in found])),
        simulated_top1=float(np.mean([simulated[0] == label for (_, label), simulated, _ in found])),
        same_labels=float(np.mean([simulated[0] == result.label for _, simulated, result in found])),
        same_actions=float(
            np.mean([np.mean(simulated[1] == result.actions) for _, simulated, result in found])
        ),
        cost=float(np.mean([result.cost for _, _, result in found])),
    )


@torch.inference_mode()
def _simulate(config: Config, checkpoint: str) -> tuple[list[tuple[str, int]], list[tuple[int, np.ndarray]]]:
    """The test list (path, label), and MMAction2's prediction of each clip: label and actions (T,)."""
    model = init_recognizer(config, checkpoint, device="cpu")
    loader = Runner.build_dataloader(config.test_dataloader, seed=0)
    infos = [loader.dataset.get_data_info(index) for index in range(len(loader.dataset))]
    found = [
        (int(sample.pred_label), sample.policy_actions.numpy())
        for batch in loader
        for sample in model.test_step(batch)
    ]
    return [(info["filename"], info["label"]) for info in infos], found
