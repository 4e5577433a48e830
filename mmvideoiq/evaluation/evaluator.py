"""Tests rows in MMAction2's test loop, on the test list and evaluator of their configs; see ``config.py``."""

from __future__ import annotations

import platform
from collections.abc import Callable, Mapping
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

import mmengine
import torch
from mmengine.config import Config
from mmengine.hooks import Hook
from mmengine.model import is_model_wrapper
from mmengine.runner import Runner

from mmvideoiq.deploy.export.budget_curve import set_budget
from mmvideoiq.fileio import write_json
from mmvideoiq.models.choosers import RandomActions

FIGURES = ("top1", "cost", "gflops", "bitops")


def test_rows(job: Mapping[str, Any], progress: Callable[..., None]) -> dict[str, Any]:
    """Test each row, writing each result at once.

    Args:
        job: ``rows``, each with ``name``, ``config`` (with costs, see ``config.py``), ``checkpoints``, ``override``,
            ``value``, ``draws``, ``traces`` (files to write, one per checkpoint, or none), ``out`` (the file to write)
            and, for random actions, ``usage``: shares by action name, one mapping per checkpoint; or ``usage_of``, a
            row of this job that is tested before. ``folder`` for logs, ``metric``.
        progress: called with a text and the share done.

    Returns: ``{}``; each ``out`` holds ``hash`` (the job's own for the row), ``row`` (means over its runs, ``*_std``
        the sample standard deviation, 0 for one run), the usage of each run as ``usages``, and ``source``.
    """
    total = sum(len(row["checkpoints"]) * row["draws"] for row in job["rows"])
    passed = 0
    tester: _Tester | None = None
    usages: dict[str, list[dict[str, float]]] = {}
    for row in job["rows"]:
        if tester is None or tester.config != Path(row["config"]).read_text():
            tester = _Tester(row["config"], Path(job["folder"]), job["metric"])
        runs = []
        given = row.get("usage") or usages.get(row["value"], [])
        for number, checkpoint in enumerate(row["checkpoints"]):
            tester.load(checkpoint, trace=row["traces"][number] if row["traces"] else None)
            for draw in range(row["draws"]):
                _show_progress(tester, progress, row["name"], passed, total)
                usage = given[number % len(given)] if given else {}
                tester.override(row["override"], row["value"], usage, seed=1000 * number + draw)
                runs.append(tester.test())
                passed += 1
        result = _row(row["name"], runs)
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

    def __init__(self, config: str, folder: Path, metric: str) -> None:
        self.config = Path(config).read_text()
        settings = Config.fromfile(config)
        settings.merge_from_dict(dict(work_dir=str(folder), load_from=None, resume=False))
        self.runner = Runner.from_cfg(settings)
        self.metric = metric
        model = self.runner.model
        self.model = model.module if is_model_wrapper(model) else model
        self.shown = _TestProgress()
        self.runner.register_hook(self.shown)
        self.fixed = getattr(self.model, "fixed_mode", None)
        self.multiplier = getattr(getattr(self.model, "policy", None), "cost_multiplier", 0.0)

    def load(self, checkpoint: str, *, trace: str | None) -> None:
        """Test with these weights from now on, writing the action of each frame to ``trace``."""
        self.runner.load_checkpoint(checkpoint)
        for metric in self.runner.test_evaluator.metrics:
            if hasattr(metric, "trace_file"):
                metric.trace_file = trace

    def override(self, name: str | None, value: Any, usage: Mapping[str, float], *, seed: int) -> None:
        """Test with the override ``name`` (see ``config.py``), None for none, instead of the one before."""
        if hasattr(self.model, "policy"):
            self.model.chooser, self.model.policy.cost_multiplier = None, self.multiplier
        elif hasattr(self.model, "fixed_mode"):
            self.model.set_fixed_action(bits=self.fixed)
        if name == "precision":
            self.model.set_fixed_action(bits=value)
        elif name == "usage_of":
            actions, never_empty = self.model.actions, self.model.all_skip == "likeliest"
            shares = [usage.get(name, 0.0) for name in actions.names]
            self.model.chooser = RandomActions(
                actions=actions, usage=shares, seed=seed, never_empty=never_empty
            )
        elif name == "budget":
            batches = self.runner.build_dataloader(self.runner.cfg.val_dataloader)
            set_budget(self.model.eval(), str(value), batches)

    def test(self) -> dict[str, Any]:
        metrics = self.runner.test()
        if self.metric not in metrics:
            raise KeyError(f"metric '{self.metric}' is not among the test metrics {sorted(metrics)}")
        return {
            "top1": metrics[self.metric],
            "cost": metrics["cost/mean_cost"],
            "gflops": metrics["cost/gflops"],
            "bitops": metrics["cost/bitops"],
            "usage": {name: metrics[f"cost/usage_{name}"] for name in self.model.actions.names},
        }

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
