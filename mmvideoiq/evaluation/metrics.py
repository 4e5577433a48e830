"""The cost of a tested model, and the action of its policy for every frame."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmaction.registry import METRICS
from mmengine.evaluator import BaseMetric

from mmvideoiq.actions import ActionSpace
from mmvideoiq.fileio import write_text

COSTS = ("mean_cost", "gflops", "bitops")


@METRICS.register_module()
class ComputeCostMetric(BaseMetric):
    """Mean cost of the tested clips, and the share of each action over all their frames.

    Reads ``policy_actions`` (T,) and ``cost`` from each data sample. Returns ``mean_cost``, ``gflops``,
    ``bitops`` (means over clips; see ``mmvideoiq.cost`` for their conventions), the same for whatever else
    ``cost`` holds (``peak_activation_bytes``: the maximum over clips), and ``usage_<action name>`` in [0, 1].

    Args:
        actions: the action space of the model: a list of actions or ``dict(actions=[...], cost=...)``.
        collect_device: where ranks exchange results, ``"cpu"`` or ``"gpu"``.
        prefix: put before every name, as in ``cost/gflops``.
        trace_file: a ``.json`` file to write, atomically: one object per clip with ``filename``,
            ``frame_inds``, ``actions`` (indices, length T), ``probs`` (T, A), ``pred_label``, ``pred_score``
            (of that label) and ``gt_label``; what a data sample lacks is null.

    Raises:
        ValueError: an argument is not allowed, or an action lies outside of the action space.
        KeyError: a data sample lacks what is read; names it.
    """

    default_prefix = "cost"

    def __init__(
        self,
        *,
        actions: ActionSpace | Sequence | dict,
        collect_device: str = "cpu",
        prefix: str = "cost",
        trace_file: str | None = None,
    ) -> None:
        if collect_device not in ("cpu", "gpu"):
            raise ValueError(
                f"ComputeCostMetric collect_device must be 'cpu' or 'gpu', got {collect_device!r}"
            )
        if trace_file is not None and not str(trace_file).endswith(".json"):
            raise ValueError(f"ComputeCostMetric trace_file must end with .json, got {trace_file!r}")
        super().__init__(collect_device=collect_device, prefix=prefix)
        self.space = ActionSpace.from_cfg(actions)
        self.trace_file = trace_file

    def process(self, data_batch: Any, data_samples: Sequence[dict]) -> None:
        for sample in data_samples:
            for key in ("policy_actions", "cost"):
                if key not in sample:
                    raise KeyError(
                        f"data sample lacks {key!r}; ComputeCostMetric needs a recognizer that predicts it: "
                        "VideoIQRecognizer"
                    )
            missing = [key for key in COSTS if key not in sample["cost"]]
            if missing:
                raise KeyError(
                    f"data sample's cost lacks {', '.join(missing)}; it has {sorted(sample['cost'])}"
                )
            indices = self.space.indices(sample["policy_actions"])
            result = {
                "actions": indices.reshape(-1),
                "cost": {key: float(value) for key, value in sample["cost"].items()},
            }
            if self.trace_file is not None:
                result["trace"] = trace_entry(sample, result["actions"])
            self.results.append(result)

    def compute_metrics(self, results: list) -> dict[str, float]:
        if not results:
            raise ValueError("ComputeCostMetric got no clip; the test list is empty")
        metrics = {}
        for key in results[0]["cost"]:
            values = [result["cost"][key] for result in results]
            metrics[key] = float(np.max(values) if key == "peak_activation_bytes" else np.mean(values))
        usage = self.space.usage(np.concatenate([result["actions"] for result in results]))
        metrics.update(
            {f"usage_{name}": float(share) for name, share in zip(self.space.names, usage, strict=True)}
        )
        if self.trace_file is not None:
            write_text(Path(self.trace_file), json.dumps([result["trace"] for result in results], indent=1))
        return metrics


def trace_entry(sample: dict, actions: Any) -> dict[str, Any]:
    """A tested clip in a trace, of its data sample as a dict; what that lacks is null."""
    score = sample.get("pred_score")
    return {
        "filename": _plain(sample.get("filename")),
        "frame_inds": _plain(sample.get("frame_inds")),
        "actions": _plain(actions),
        "probs": _plain(sample.get("policy_probs")),
        "pred_label": _label(sample.get("pred_label")),
        "pred_score": None if score is None else float(torch.as_tensor(score).max()),
        "gt_label": _label(sample.get("gt_label")),
    }


def _plain(value: Any) -> Any:
    """Tensors, arrays and sequences as nested lists; JSON's own types as they are."""
    if isinstance(value, torch.Tensor):
        value = value.detach().cpu().float().numpy() if value.is_floating_point() else value.cpu().numpy()
    if isinstance(value, (np.ndarray, np.generic, list, tuple)):
        return np.asarray(value).tolist()
    return value if value is None or isinstance(value, (str, int, float)) else str(value)


def _label(value: Any) -> Any:
    """A single label as int, a multi-label as the list it is."""
    plain = _plain(value)
    return plain[0] if isinstance(plain, list) and len(plain) == 1 else plain
