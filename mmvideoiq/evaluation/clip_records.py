"""What a test loop says of each clip, kept for a report.

Axes: V views, T frames, C H W.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmengine.dist import collect_results
from mmengine.hooks import Hook
from mmengine.runner import Runner
from numpy.typing import NDArray
from torch import Tensor

from mmvideoiq.evaluation.metrics import trace_entry


class ClipRecords(Hook):
    """Keeps an entry for each clip, in the order of the test loop, as in the trace of ``ComputeCostMetric``.

    ``actions`` is None where the model chooses none for each frame.

    Attributes:
        clips: the entries after a test; in a distributed one the first process has them.
    """

    priority = "LOWEST"

    def __init__(self) -> None:
        self.clips: list[dict[str, Any]] = []
        self._own: list[dict[str, Any]] = []  # of this process

    def before_test_epoch(self, runner: Runner) -> None:
        self._own = []

    def after_test_iter(
        self, runner: Runner, batch_idx: int, data_batch: Any = None, outputs: Sequence[Any] | None = None
    ) -> None:
        for sample in outputs or ():
            content = sample.to_dict()
            actions = content.get("policy_actions")
            if actions is not None and np.ndim(actions) != 1:
                actions = None
            self._own.append(trace_entry(content, actions))

    def after_test_epoch(self, runner: Runner, metrics: dict[str, float] | None = None) -> None:
        self.clips = collect_results(self._own, len(runner.test_dataloader.dataset)) or []


def class_names(dataset: Any) -> list[str]:
    """Names in the dataset's ``metainfo``, else in ``classes.txt`` beside its list; empty without both."""
    from mmvideoiq.deploy.export.from_config import CLASSES_FILE, read_classes

    named = dataset.metainfo.get("classes")
    if named and not isinstance(named, str):
        return [str(name) for name in named]
    beside = Path(getattr(dataset, "ann_file", None) or ".").parent / CLASSES_FILE
    return read_classes(beside) if beside.is_file() else []


def indices_of(dataset: Any, clips: Sequence[Mapping[str, Any]]) -> list[int]:
    """Where in the dataset each entry is: a loader may have shuffled it. Entries without a known file are in order.

    Args:
        clips: of :class:`ClipRecords`.
    """
    known: dict[str, int] = {}
    if hasattr(dataset, "get_data_info"):
        for index in reversed(range(len(dataset))):  # of equal files the first
            known[str(dataset.get_data_info(index).get("filename"))] = index
    return [known.get(str(clip["filename"]), place) for place, clip in enumerate(clips)]


def network_frames(dataset: Any, index: int) -> NDArray[np.uint8] | None:
    """The frames of a clip as the network gets them, (V*T, H, W, 3); None where its inputs are no frames."""
    try:
        inputs = dataset[index]["inputs"]
    except (KeyError, OSError, RuntimeError, ValueError):  # a report says what there is
        return None
    if not isinstance(inputs, Tensor) or inputs.dtype != torch.uint8:
        return None
    if inputs.ndim == 5:  # (V, C, T, H, W)
        inputs = inputs.transpose(1, 2).flatten(0, 1)
    if inputs.ndim != 4 or inputs.shape[1] != 3:
        return None
    return inputs.permute(0, 2, 3, 1).contiguous().numpy()
