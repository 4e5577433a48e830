"""Tests rows in MMAction2's test loop, on the test list and evaluator of their configs; see ``config.py``."""

from __future__ import annotations

import copy
import json
import platform
from collections.abc import Callable, Mapping
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

import mmengine
import numpy as np
import torch
from mmengine.config import Config
from mmengine.hooks import Hook
from mmengine.model import is_model_wrapper
from mmengine.runner import Runner
from torch import Tensor
from torch.utils.data import DataLoader

from mmvideoiq.data.frame_kinds import WITHOUT_EVIDENCE, kinds_of_trace
from mmvideoiq.deploy.budget import multiplier_for, parse_budget
from mmvideoiq.deploy.export.budget_curve import measure_curve
from mmvideoiq.deploy.export.static_int8 import (
    CALIBRATION_FRAMES,
    FramesToScores,
    open_static_int8,
    write_static_int8,
)
from mmvideoiq.evaluation.frame_outcomes import right_alone
from mmvideoiq.evaluation.kept_features import KeptFeatures
from mmvideoiq.evaluation.overrides import role_of
from mmvideoiq.evaluation.policy_quality import mean_quality, policy_quality
from mmvideoiq.fileio import write_json
from mmvideoiq.models.choosers import (
    FrameDifference,
    GivenActions,
    RandomActions,
    UniformFrames,
    oracle_actions,
    threshold_for,
)
from mmvideoiq.models.feature_cache import digest

FIGURES = ("top1", "cost", "gflops", "bitops")


def test_rows(job: Mapping[str, Any], progress: Callable[..., None]) -> dict[str, Any]:
    """Test each row, writing each result at once.

    Args:
        job: ``rows``, each with ``name``, ``config`` (with costs, see ``config.py``), ``checkpoints``, ``override``,
            ``value``, ``draws``, ``traces`` (files to write, one per run), ``out`` (the file to write)
            and, for random actions, ``usage``: shares by action name, one mapping per checkpoint; or ``usage_of``, a
            row of this job that is tested before. ``folder`` for logs, ``metric``, ``kinds`` (a folder, or None).
        progress: called with a text and the share done.

    Returns: ``{}``; each ``out`` holds ``hash`` (the job's own for the row), ``row`` (means over its runs, ``*_std``
        the sample standard deviation, 0 for one run; of policies also ``quality``), the usage of each run as
        ``usages``, and ``source``. A trace is that of ``ComputeCostMetric``.
    """
    total = sum(len(row["checkpoints"]) * row["draws"] for row in job["rows"])
    passed = 0
    tester: _Tester | None = None
    usages: dict[str, list[dict[str, float]]] = {}
    for row in job["rows"]:
        if tester is None or tester.config != Path(row["config"]).read_text():
            tester = _Tester(row["config"], Path(job["folder"]), job["metric"], job.get("kinds"))
        runs = []
        given = row.get("usage") or (usages[row["value"]] if row["override"] == "usage_of" else [])
        for number, checkpoint in enumerate(row["checkpoints"]):
            tester.load(checkpoint)
            for draw in range(row["draws"]):
                _show_progress(tester, progress, row["name"], passed, total)
                usage = given[number % len(given)] if given else {}
                file = Path(row["out"]).with_name(f"network_{number}.xml")
                tester.override(row["override"], row["value"], usage, seed=1000 * number + draw, file=file)
                runs.append(tester.test(Path(row["traces"][len(runs)])))
                passed += 1
        result = _row(row["name"], runs) | {"role": role_of(row["override"], tester.model)}
        if all("quality" in run for run in runs):
            result["quality"] = mean_quality([run["quality"] for run in runs])
        if row["override"] == "difference":
            result["gate"] = tester.gate()
        usages[row["name"]] = [run["usage"] for run in runs]
        content = {"hash": row["hash"], "row": result, "usages": usages[row["name"]]}
        write_json(Path(row["out"]), content | {"source": tester.source()})
        text = f"{row['name']}  {100 * result['top1']:.1f} %  cost {result['cost']:.3f}"
        progress(text, passed / total)
    return {}


def _row(name: str, results: list[dict]) -> dict[str, Any]:
    row: dict[str, Any] = {"name": name}
    for key in FIGURES:
        values = [result[key] for result in results]
        row[key] = fmean(values)
        row[f"{key}_std"] = stdev(values) if len(values) > 1 else 0.0
    names = results[0]["usage"]
    row["usage"] = {key: fmean(result["usage"][key] for result in results) for key in names}
    row["runs"] = len(results)
    return row


class _Tester:
    """A config's recognizer in MMAction2's runner, tested again and again without building anything twice."""

    def __init__(self, config: str, folder: Path, metric: str, kinds: str | None) -> None:
        self.config = Path(config).read_text()
        settings = Config.fromfile(config)
        settings.merge_from_dict(dict(work_dir=str(folder), load_from=None, resume=False))
        self.runner = Runner.from_cfg(settings)
        self.metric, self.kinds = metric, kinds
        model = self.runner.model
        self.model = model.module if is_model_wrapper(model) else model
        self.shown = _TestProgress()
        self.runner.register_hook(self.shown)
        self.fixed = getattr(self.model, "fixed_mode", None)
        self.multiplier = getattr(getattr(self.model, "policy", None), "cost_multiplier", 0.0)
        self.role = "plain"
        self._checkpoint = ""
        self._curves: dict[str, list[dict[str, Any]]] = {}  # by checkpoint
        self._differences: Tensor | None = None
        self._right: dict[str, Tensor | None] = {}  # by the network's digest
        self._kept: KeptFeatures | None = None
        if hasattr(self.model, "policy"):
            dataset = self.runner.test_loop.dataloader.dataset
            self._kept = KeptFeatures(self.model, frames=len(dataset) * dataset[0]["inputs"].shape[0])

    def load(self, checkpoint: str) -> None:
        """Test with these weights from now on."""
        self.runner.load_checkpoint(checkpoint)
        self._checkpoint = checkpoint
        if self._kept is not None:
            self._kept.follow()

    def override(
        self, name: str | None, value: Any, usage: Mapping[str, float], *, seed: int, file: Path
    ) -> None:
        """Test with the override ``name`` (see ``overrides.py``), None for none, instead of the one before.

        Args:
            usage, seed: of random actions.
            file: where a quantized network is written (.xml).
        """
        model = self.model
        self.role = role_of(name, model)
        if hasattr(model, "policy"):
            model.chooser, model.policy.cost_multiplier = None, self.multiplier
        elif hasattr(model, "fixed_mode"):
            model.set_fixed_action(bits=self.fixed)
        if name == "precision":
            model.set_fixed_action(bits=value)
        elif name == "usage_of":
            never_empty = model.all_skip == "likeliest"
            shares = [usage.get(name, 0.0) for name in model.actions.names]
            model.chooser = RandomActions(
                actions=model.actions, usage=shares, seed=seed, never_empty=never_empty
            )
        elif name == "budget":
            model.policy.cost_multiplier = multiplier_for(self._curve(), parse_budget(str(value)))
        elif name == "multiplier":
            model.policy.cost_multiplier = float(value)
        elif name == "frames":
            model.chooser = UniformFrames(actions=model.actions, name=value["mode"], count=value["count"])
        elif name == "difference":
            model.chooser = self._gate(**value)
        elif name == "static_int8":
            model.network = self._quantized(file)
        elif name == "oracle":
            model.chooser = GivenActions(self._oracle())

    def _curve(self) -> list[dict[str, Any]]:
        """The budget curve of the checkpoint, on the val list."""
        if self._checkpoint not in self._curves:
            self._curves[self._checkpoint] = measure_curve(self.model.eval(), self._batches("val"))
        return self._curves[self._checkpoint]

    def _gate(
        self, mode: int | str, threshold: float = 0.0, processed: float | None = None
    ) -> FrameDifference:
        std = getattr(self.model.data_preprocessor, "std", 1.0)
        resize = self.model.policy.resize
        gate = FrameDifference(
            actions=self.model.actions, name=mode, threshold=threshold, resize=resize, std=std
        )
        if processed is not None:
            if self._differences is None:
                clips = (
                    self.model.data_preprocessor(batch, False)["inputs"] for batch in self._batches("val")
                )
                self._differences = torch.cat([gate.differences(inputs) for inputs in clips])
            gate.threshold = threshold_for(self._differences, processed)
        return gate

    def gate(self) -> dict[str, Any]:
        """What decides by frame differences at the moment: action, threshold, and side of the small frames."""
        chooser, side = self.model.chooser, self.model.policy.input_size
        return dict(action=chooser.index, threshold=chooser.threshold, side=side)

    def _quantized(self, file: Path) -> Callable[[np.ndarray], np.ndarray]:
        """The model's network in 8 bits, calibrated with clips of the val list."""
        model, dataset = self.model.eval(), self._batches("val").dataset
        model.network = None
        count = min(len(dataset), max(1, CALIBRATION_FRAMES // dataset[0]["inputs"].shape[0]))
        places = np.unique(np.linspace(0, len(dataset) - 1, count).round().astype(int))
        clips = [dataset[int(place)]["inputs"].permute(0, 2, 3, 1).contiguous().numpy() for place in places]
        prepared = model.data_preprocessor
        network = FramesToScores(
            copy.deepcopy(model.backbone).cpu(),
            copy.deepcopy(model.cls_head.fc_cls).cpu(),
            mean=prepared.mean.flatten().tolist() if hasattr(prepared, "mean") else [0.0] * 3,
            std=prepared.std.flatten().tolist() if hasattr(prepared, "std") else [1.0] * 3,
            size=model.size,
        ).eval()
        write_static_int8(network, [clip[model.places(len(clip))] for clip in clips], file)
        return open_static_int8(file, threads=torch.get_num_threads())

    def _oracle(self) -> Tensor:
        """Actions (V, T) of the test list."""
        right = self._right_alone()
        if right is None:
            raise ValueError("an oracle needs clips of one view and one label")
        evidence = torch.ones(right.shape[:2], dtype=torch.bool)
        if self.kinds is not None:
            names = np.array(kinds_of_trace(self._tested_frames(), self.kinds))
            evidence = torch.from_numpy(~np.isin(names, WITHOUT_EVIDENCE))
        return oracle_actions(right, evidence, self.model.actions)

    def _tested_frames(self) -> list[dict[str, Any]]:
        samples = [sample for batch in self._batches("test") for sample in batch["data_samples"]]
        lacks = [key for key in ("filename", "frame_inds") if key not in samples[0]]
        if lacks:
            raise ValueError(f"the kinds of frames: meta_keys of PackActionInputs lack {', '.join(lacks)}")
        return [dict(filename=each.filename, frame_inds=each.frame_inds.tolist()) for each in samples]

    def _right_alone(self) -> Tensor | None:
        model = self.model.eval()
        key = model.feature_source() + digest(model.cls_head)
        if key not in self._right:
            self._right[key] = right_alone(model, self._batches("test"))
        return self._right[key]

    def _batches(self, split: str) -> DataLoader:
        return self.runner.build_dataloader(self.runner.cfg[f"{split}_dataloader"])

    def test(self, trace: Path) -> dict[str, Any]:
        """Figures of the test list; the action of each frame is written to ``trace``."""
        for metric in self.runner.test_evaluator.metrics:
            if hasattr(metric, "trace_file"):
                metric.trace_file = str(trace)
        metrics = self.runner.test()
        if self.metric not in metrics:
            raise KeyError(f"metric '{self.metric}' is not among the test metrics {sorted(metrics)}")
        figures = {
            "top1": metrics[self.metric],
            "cost": metrics["cost/mean_cost"],
            "gflops": metrics["cost/gflops"],
            "bitops": metrics["cost/bitops"],
            "usage": {name: metrics[f"cost/usage_{name}"] for name in self.model.actions.names},
        }
        return figures if self.role != "policy" else figures | {"quality": self._quality(trace)}

    def _quality(self, trace: Path) -> dict[str, Any]:
        clips, right = json.loads(trace.read_text()), self._right_alone()
        return policy_quality(
            [clip["actions"] for clip in clips],
            self.model.actions,
            kinds=None if self.kinds is None else kinds_of_trace(clips, self.kinds),
            right=None if right is None else right.numpy(),
        )

    def source(self) -> dict[str, Any]:
        """Versions and counts."""
        dataset = self.runner.test_dataloader.dataset
        return {
            "test_clips": len(dataset),
            "frames": int(dataset[0]["inputs"].shape[0]),
            "metric": self.metric,
            "torch": torch.__version__,
            "mmengine": mmengine.__version__,
            "python": platform.python_version(),
            "threads": torch.get_num_threads(),
            "device": str(next(self.model.parameters()).device),
        }


def _show_progress(
    tester: _Tester, progress: Callable[..., None], name: str, passed: int, total: int
) -> None:
    tester.shown.show = lambda share: progress(name, (passed + share) / total)


class _TestProgress(Hook):
    """Calls ``show`` with the share of the test batches that is done."""

    def __init__(self) -> None:
        self.show: Callable[[float], None] = lambda share: None

    def after_test_iter(
        self, runner: Runner, batch_idx: int, data_batch: Any = None, outputs: Any = None
    ) -> None:
        self.show((batch_idx + 1) / len(runner.test_dataloader))
