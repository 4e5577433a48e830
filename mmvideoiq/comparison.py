"""The table's rows, each of them the host's test loop on its config's ``test_dataloader`` and ``test_evaluator``.

A recipe's rows (:func:`compare`): float network, each fixed precision, a random policy of equal usage, the learned
policy. Rows of any other choice (:func:`test_rows`) are described in ``rows.py``.
"""

from __future__ import annotations

import platform
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

import mmengine
import torch
from mmengine.config import Config
from mmengine.hooks import Hook
from mmengine.model import is_model_wrapper
from mmengine.runner import Runner

from mmvideoiq.actions import ActionSpace
from mmvideoiq.cost import ModelCost, count_model
from mmvideoiq.dial import set_budget
from mmvideoiq.models.choosers import RandomActions
from mmvideoiq.recipe import write_json

FIGURES = ("top1", "cost", "gflops", "bitops")


def compare(job: Mapping[str, Any], progress: Callable[..., None]) -> dict[str, Any]:
    """Test the trained stages in every way the table has a row for.

    Args:
        job: ``float`` (config, checkpoint) or None, ``videoiq`` (list of config, checkpoint, seed),
            ``folder`` for traces, ``metric`` (the metric shown as top1), ``random_draws`` per seed.
        progress: called with a text and the share done.

    Returns: ``rows`` (means over their runs, ``*_std`` the sample standard deviation, 0 for one run),
        ``traces`` (one per policy seed) and ``source`` (versions and counts).
    """
    policies = job["videoiq"]
    actions = ActionSpace.from_cfg(Config.fromfile(policies[0]["config"]).model.actions)
    frozen = Config.fromfile(policies[0]["config"]).model.get("frozen", ["backbone"])
    fixed_runs = 1 if {"backbone", "cls_head"} <= set(frozen) else len(policies)
    passes = len(policies) * (1 + job["random_draws"]) + fixed_runs * len(actions.precisions) + 1
    runs: dict[str, list[dict]] = {"float": []}
    runs |= {f"fixed-{bits}": [] for bits in actions.precisions} | {"random": [], "videoiq": []}
    done = 0

    def record(row: str, figures: dict) -> None:
        nonlocal done
        done += 1
        runs[row].append(figures)
        progress(f"{row}  top1 {figures['top1']:.3f}  cost {figures['cost']:.3f}", done / passes)

    traces = []
    for number, policy in enumerate(policies):
        trace = Path(job["folder"]) / f"trace_seed{policy['seed']}.json"
        tester = _Tester(policy, Path(job["folder"]), job["metric"], actions, trace)
        learned = tester.test()
        tester.stop_trace()
        traces.append(str(trace))
        record("videoiq", learned)
        usage = [learned["usage"][name] for name in actions.names]
        for draw in range(job["random_draws"]):
            tester.choose_randomly(usage, seed=1000 * policy["seed"] + draw)
            record("random", tester.test())
        for bits in actions.precisions if number < fixed_runs else ():
            tester.model.set_fixed_action(bits=bits)
            record(f"fixed-{bits}", tester.test())
    if job["float"]:
        record("float", _float_row(job, actions))
    rows = [_row(name, results) for name, results in runs.items() if results]
    source = tester.source() | {"random_draws_per_seed": job["random_draws"]}
    return {"rows": rows, "traces": traces, "source": source}


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
    """A trained recognizer in the host's runner, tested again and again without building anything twice."""

    def __init__(
        self, trained: Mapping, folder: Path, metric: str, actions: ActionSpace, trace: Path | None = None
    ) -> None:
        config = Config.fromfile(trained["config"])
        config.merge_from_dict(dict(work_dir=str(folder), load_from=trained["checkpoint"], resume=False))
        if trace is not None:
            evaluators = (
                config.test_evaluator if isinstance(config.test_evaluator, list) else [config.test_evaluator]
            )
            for evaluator in evaluators:
                if evaluator["type"] == "ComputeCostMetric":
                    evaluator["trace_file"] = str(trace)
            config.test_evaluator = evaluators
        self.runner = Runner.from_cfg(config)
        self.metric = metric
        model = self.runner.model
        self.model = model.module if is_model_wrapper(model) else model
        self.actions = actions or self.model.actions
        self.built = (Path(trained["config"]).read_text(), trained["checkpoint"])
        self.shown = _TestProgress()
        self.runner.register_hook(self.shown)
        self.bits = getattr(self.model, "fixed_bits", None)
        self.multiplier = getattr(getattr(self.model, "policy", None), "cost_multiplier", 0.0)

    def metrics(self) -> dict[str, float]:
        metrics = self.runner.test()
        if self.metric not in metrics:
            raise KeyError(f"evaluate metric '{self.metric}' is not among the test metrics {sorted(metrics)}")
        return metrics

    def test(self) -> dict[str, Any]:
        metrics = self.metrics()
        return {
            "top1": metrics[self.metric],
            "cost": metrics["cost/mean_cost"],
            "gflops": metrics["cost/gflops"],
            "bitops": metrics["cost/bitops"],
            "usage": {name: metrics[f"cost/usage_{name}"] for name in self.actions.names},
        }

    def stop_trace(self) -> None:
        for metric in self.runner.test_evaluator.metrics:
            if hasattr(metric, "trace_file"):
                metric.trace_file = None

    def has(self, config: str, checkpoint: str) -> bool:
        """Whether it was built from this config and checkpoint."""
        return self.built == (Path(config).read_text(), checkpoint)

    def choose(self, way: str | None, value: Any, usage: Mapping[str, float], *, seed: int) -> None:
        """Test as ``way`` says (see ``rows.py``), or as the config does, whatever was chosen before."""
        if hasattr(self.model, "policy"):
            self.model.chooser, self.model.policy.cost_multiplier = None, self.multiplier
        elif hasattr(self.model, "fixed_bits"):
            self.model.set_fixed_action(bits=self.bits)
        if way == "precision":
            self.model.set_fixed_action(bits=value)
        elif way == "usage_of":
            self.choose_randomly([usage.get(name, 0.0) for name in self.actions.names], seed=seed)
        elif way == "budget":
            self.runner.load_or_resume()
            batches = self.runner.build_dataloader(self.runner.cfg.val_dataloader)
            set_budget(self.model.eval(), str(value), batches)

    def choose_randomly(self, usage: Sequence[float], *, seed: int) -> None:
        never_empty = self.model.all_skip == "likeliest"
        self.model.chooser = RandomActions(
            actions=self.model.actions, usage=usage, seed=seed, never_empty=never_empty
        )

    def source(self) -> dict[str, Any]:
        """Versions and counts."""
        return {
            "test_clips": self.clips,
            "frames": self.frames,
            "metric": self.metric,
            "torch": torch.__version__,
            "mmengine": mmengine.__version__,
            "python": platform.python_version(),
            "threads": torch.get_num_threads(),
            "device": str(next(self.model.parameters()).device),
        }

    @property
    def clips(self) -> int:
        return len(self.runner.test_dataloader.dataset)

    @property
    def frames(self) -> int:
        return int(self.runner.test_dataloader.dataset[0]["inputs"].shape[0])


def _float_row(job: Mapping[str, Any], actions: ActionSpace) -> dict[str, Any]:
    """Every frame through the float network: cost 1, its own MACs at 32 x 32 bits, no policy."""
    tester = _Tester(job["float"], Path(job["folder"]) / "float", job["metric"], actions)
    metrics = tester.metrics()
    frames, *shape = tester.runner.test_dataloader.dataset[0]["inputs"].shape  # (T, C, H, W)
    classifier = getattr(tester.model.cls_head, "fc_cls", None)
    cost = ModelCost(
        layers=count_model(tester.model.backbone, tuple(shape), (), None),
        classifier_macs=0 if classifier is None else classifier.weight.numel(),
    )
    return {
        "top1": metrics[job["metric"]],
        "cost": 1.0,
        "gflops": float(cost.paper_gflops(1.0, frames)),
        "bitops": float(cost.bitops([32] * frames)),
        "usage": {name: float(name == actions.names[0]) for name in actions.names},
    }


def test_rows(job: Mapping[str, Any], progress: Callable[..., None]) -> dict[str, Any]:
    """Test each row, writing its result as soon as it is there.

    Args:
        job: ``rows``, each with ``name``, ``config`` (with costs, see ``rows.py``), ``checkpoints``, ``way``,
            ``value``, ``draws``, ``out`` (the file to write) and, for random actions, ``usage``: shares by action
            name, one mapping per checkpoint; or ``usage_of``, a row of this job that is tested before. ``folder`` for
            logs, ``metric``.
        progress: called with a text and the share done.

    Returns: ``{}``; each ``out`` holds ``hash`` (the job's own for the row), ``row``, the usage of each run as
        ``usages``, and ``source``.
    """
    total = sum(len(row["checkpoints"]) * row["draws"] for row in job["rows"])
    passed = 0
    tester: _Tester | None = None
    usages: dict[str, list[dict[str, float]]] = {}
    for row in job["rows"]:
        runs = []
        given = row.get("usage") or usages.get(row["value"], [])
        for number, checkpoint in enumerate(row["checkpoints"]):
            if tester is None or not tester.has(row["config"], checkpoint):
                trained = {"config": row["config"], "checkpoint": checkpoint}
                tester = _Tester(trained, Path(job["folder"]), job["metric"], None)
            for draw in range(row["draws"]):
                _show_progress(tester, progress, row["name"], passed, total)
                usage = given[number % len(given)] if given else {}
                tester.choose(row["way"], row["value"], usage, seed=1000 * number + draw)
                runs.append(tester.test())
                passed += 1
        result = _row(row["name"], runs)
        usages[row["name"]] = [run["usage"] for run in runs]
        content = {"hash": row["hash"], "row": result, "usages": usages[row["name"]]}
        write_json(Path(row["out"]), content | {"source": tester.source()})
        text = f"{row['name']}  {100 * result['top1']:.1f} %  cost {result['cost']:.3f}"
        progress(text, passed / total)
    return {}


def _show_progress(
    tester: _Tester, progress: Callable[..., None], name: str, passed: int, total: int
) -> None:
    tester.shown.show = lambda share: progress(name, (passed + share) / total)


class _TestProgress(Hook):
    """Tells ``show`` which share of the test batches is done."""

    def __init__(self) -> None:
        self.show: Callable[[float], None] = lambda share: None

    def after_test_iter(
        self, runner: Runner, batch_idx: int, data_batch: Any = None, outputs: Any = None
    ) -> None:
        self.show((batch_idx + 1) / len(runner.test_dataloader))
