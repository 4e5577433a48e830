"""The evaluation of a recipe: its rows, tested and timed as in ``tools/compare.py``, and its bundle."""

from __future__ import annotations

import shutil
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mmengine.config import Config
from rich.console import Console

from mmvideoiq.actions import ActionSpace
from mmvideoiq.deploy.export.from_config import find_classes
from mmvideoiq.evaluation.config import Comparison, Row
from mmvideoiq.evaluation.runner import Evaluation
from mmvideoiq.jobs import cache
from mmvideoiq.jobs.process import finished, log, run_process
from mmvideoiq.recipes.config import Recipe
from mmvideoiq.recipes.placeholders import fill
from mmvideoiq.recipes.plan import Run

EXPORT = "mmvideoiq.recipes.export_stage.export_and_verify"
LEARNED = "videoiq"  # the row of the trained policy


def evaluate(recipe: Recipe, runs: Sequence[Run], work_dir: Path, console: Console) -> dict[str, Any]:
    """Test the rows, and where the recipe names an ``engine`` also export a bundle, run and time it.

    Returns: ``rows``, ``traces`` (files, one per policy seed), ``policy_quality``, ``source``, the names of the
        ``classes``, and where there are any ``kinds`` and ``bundle``, as in ``summary.json``.

    Raises:
        RowError, StageFailed: as :func:`mmvideoiq.evaluation.runner.run_comparison`.
    """
    settings = dict(recipe.evaluate or {})
    bundle = work_dir / "bundle" if settings.get("engine") else None
    kinds = fill(settings["kinds"], {"work_dir": str(work_dir)}) if settings.get("kinds") else None
    comparison = Comparison(
        kinds=kinds,
        name=recipe.name,
        rows=make_rows(recipe, runs, bundle),
        metric=settings.get("metric", "acc/top1"),
        engine=settings.get("engine", "openvino"),
        threads=settings.get("threads"),
    )
    evaluation = Evaluation(comparison, work_dir / "evaluation", console=console)
    evaluation.test()
    summary: dict[str, Any] = {}
    if bundle is not None:
        policy = comparison.rows[-1]
        summary["bundle"] = _export(policy, bundle, comparison.engine, work_dir / "export", console)
        evaluation.time()
    evaluation.advise()
    names = evaluation.rows[-1]["usage"]
    rows = [row | {"usage": {name: row["usage"].get(name, 0.0) for name in names}} for row in evaluation.rows]
    draws = {"random_draws_per_seed": comparison.rows[-2].draws}
    summary["policy_quality"] = rows[-1].pop("quality")
    if kinds is not None:
        summary["kinds"] = kinds
    config = Config.fromfile(comparison.rows[-1].config)
    dataset = config.test_dataloader.dataset
    if "ann_file" in dataset:
        summary["classes"] = find_classes(dataset, config.model.cls_head.num_classes)
    return summary | dict(rows=rows, traces=evaluation.traces[LEARNED], source=evaluation.source | draws)


def make_rows(recipe: Recipe, runs: Sequence[Run], bundle: Path | None) -> tuple[Row, ...]:
    """Float, each fixed mode, random actions with the usage of the policy, and the policy, which comes last.

    Fixed modes of a frozen network are those of the first policy seed: the others' network is the same.
    """
    settings = dict(recipe.evaluate or {})
    policies = [run for run in runs if run.stage.name == settings.get(LEARNED) and run.state]
    config = policies[0].folder / "stage_config.py"
    model = Config.fromfile(config).model
    frozen = {"backbone", "cls_head"} <= set(model.get("frozen", ["backbone"]))
    checkpoints = tuple(run.state["checkpoint"] for run in policies if run.state)

    def row(name: str, **more: Any) -> Row:
        return Row(
            **dict(name=name, curve=name, config=config, checkpoints=checkpoints, bundle=bundle) | more
        )

    rows = [
        row(
            "float",
            config=run.folder / "stage_config.py",
            checkpoints=(run.state["checkpoint"],),
            bundle=None,
        )
        for run in runs
        if run.stage.name == settings.get("float") and run.state
    ][:1]
    once = dict(checkpoints=checkpoints[:1]) if frozen else {}
    for mode in ActionSpace.from_cfg(model.actions).modes:
        rows.append(row(f"fixed-{mode}", override="precision", value=mode, **once))
    rows.append(row("random", override="usage_of", value=LEARNED, draws=settings.get("random_draws", 3)))
    return (*rows, row(LEARNED))


def _export(policy: Row, bundle: Path, engine: str, folder: Path, console: Console) -> dict[str, Any]:
    """The bundle's part of the summary."""
    job = dict(config=str(policy.config), checkpoint=policy.checkpoints[0], out=str(bundle), engine=engine)
    hash, state = cache.hash_of(job, policy.config.read_text()), folder / "state.json"
    done = cache.load(state, hash)
    if done and done.get("files") and cache.changed(done["files"]) is None:
        log(console, "[dim]bundle: finished before[/]")
        return done["result"]
    if state.is_file():  # the bundle of an earlier run
        shutil.rmtree(bundle, ignore_errors=True)
    log(console, "[bold]bundle[/]  export, and a run of the test list without PyTorch")
    started = time.monotonic()
    result = run_process(EXPORT, {"job": job}, folder, console)
    files = cache.digests(path for path in bundle.rglob("*") if path.is_file())
    cache.store(state, hash, result=result, files=files)
    finished(console, "bundle", time.monotonic() - started, "")
    return result
