"""The cost of inference: mmvideoiq beside its peers, interleaved in one run.

Every contender, made in ``prepared.py``, has a process of its own (``latency/contenders.py``); one computes at a time.
All take the same frames, uint8 (T, H, W, 3), to a label, or a video file to a label.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np

from mmvideoiq.benchmark.inference_settings import FP32, MIXES, InferSettings
from mmvideoiq.benchmark.prepared import prepared
from mmvideoiq.deploy.engines.cpu import cpu_name
from mmvideoiq.latency.environment import describe_environment
from mmvideoiq.latency.interleave import interleave, paired
from mmvideoiq.latency.workers import Worker, started

#: What the ratios compare with.
FASTER_THAN = ("mmaction2-eager", "best-fp32", "openvino-auto", "openvino-int8")


def measure_inference(
    settings: InferSettings,
    folder: Path,
    *,
    log: Callable[[str], None] = lambda text: None,
    begin: Callable[[str, int], Callable[[], None]] = lambda label, total: lambda: None,
) -> dict[str, Any]:
    """Time every contender; see ``tools/benchmark.py infer``.

    Args:
        folder: for the contenders' files and logs.
        log: called with what is being prepared.
        begin: called with a label and a number of steps; returns what is called after each.
    """
    specs = prepared(settings, folder, log)
    specs = {name: spec for name, spec in specs.items() if name in (settings.only or specs)}
    with started(specs, folder, begin("starting", len(specs))) as workers:
        rounds = {
            task: interleave(
                {name: partial(worker.seconds, task) for name, worker in workers.items()},
                warmup=settings.warmup,
                repeats=settings.repeats,
                advance=begin(label, (settings.warmup + settings.repeats) * len(workers)),
            )
            for task, label in (("model", "frames to label"), ("total", "file to label"))
        }
        sizes = {name: worker.ask("size") for name, worker in workers.items()}
        own = {name: workers[name] for name in MIXES if name in workers}
        advance = begin("parts of mmvideoiq", (settings.warmup + settings.repeats) * len(own))
        parts = measure_parts(own, settings, advance)
        usages = {name: worker.ask("usage") for name, worker in own.items()}
    rows = [make_row(name, rounds, sizes[name]) for name in specs]
    for row in rows:
        if row["name"] in own:
            name = row["name"]
            row |= usages[name] | predicted_latency(
                usages[name]["usage"], parts[name], row["ms_per_clip_model"], settings.frames
            )
    return dict(
        rows=rows,
        times_faster={
            task: {name: times_faster(name, seconds) for name in own} for task, seconds in rounds.items()
        },
        settings=asdict(settings) | dict(video=settings.video and str(settings.video)),
        **environment(),
    )


def environment() -> dict[str, Any]:
    """Processor and versions."""
    found = describe_environment()
    found["cpu"]["name"] = cpu_name()
    for name in ("openvino", "onnxruntime", "nncf"):
        with suppress(PackageNotFoundError):
            found["versions"][name] = version(name)
    return found


def times_faster(name: str, seconds: Mapping[str, Sequence[float]]) -> dict[str, dict[str, Any]]:
    """How many times faster ``name`` is than MMAction2, the faster of the float engines, and static INT8."""
    floats = [peer for peer in FP32 if peer in seconds]
    best = {"best-fp32": min(floats, key=lambda peer: statistics.median(seconds[peer]))} if floats else {}
    peers = {label: best.get(label, label) for label in FASTER_THAN}
    return {
        label: dict(paired(seconds[peer], seconds[name]), name=peer)
        for label, peer in peers.items()
        if peer in seconds
    }


def measure_parts(
    workers: Mapping[str, Worker], settings: InferSettings, advance: Callable[[], None]
) -> dict[str, dict[str, Any]]:
    """Medians of ``parts`` and ``push`` of mmvideoiq's contenders."""
    runs = {name: lambda w=worker: w.ask("parts") | w.ask("push") for name, worker in workers.items()}
    found = interleave(runs, warmup=settings.warmup, repeats=settings.repeats, advance=advance)
    return {
        name: dict(
            ms={
                key: 1e3 * statistics.median(a["seconds"][key] for a in answers)
                for key in answers[0]["seconds"]
            },
            push=statistics.median(a["pushed"] / a["bare"] for a in answers),
        )
        for name, answers in found.items()
    }


def predicted_latency(
    usage: Mapping[str, float], parts: Mapping[str, Any], measured: float, frames: int
) -> dict[str, Any]:
    """The latency predicted from the engine's own times per frame for this usage, beside what was measured.

    Returns: ``ms_per_frame`` of each network; ``promised_ms`` of a clip without the policy and with it;
        ``overhead``, what policy, grouping, dispatch and averaging add to the former, as a share of it;
        ``share_of_promise``, the prediction with the policy over what was measured;
        ``push_overhead``, what ``push`` adds to the networks' own time for the same frames one by one.
    """
    per_frame = {name: ms / frames for name, ms in parts["ms"].items()}
    predicted = sum(share * frames * per_frame.get(name, 0.0) for name, share in usage.items())
    with_policy = predicted + parts["ms"]["policy"]
    return dict(
        ms_per_frame=per_frame,
        promised_ms=predicted,
        promised_ms_with_policy=with_policy,
        overhead=measured / predicted - 1,
        share_of_promise=with_policy / measured,
        push_overhead=parts["push"] - 1,
    )


def make_row(
    name: str, rounds: Mapping[str, Mapping[str, list[float]]], size: Mapping[str, int]
) -> dict[str, Any]:
    """A row of the table; ``top1`` is None where weights are random."""
    row: dict[str, Any] = dict(name=name)
    for task, seconds in rounds.items():
        low, middle, high = (
            1e3 * value for value in statistics.quantiles(seconds[name], n=4, method="inclusive")
        )
        row |= {f"ms_per_clip_{task}": middle, f"ms_per_clip_{task}_quartiles": [low, high]}
    return row | dict(
        clips_per_second=1e3 / row["ms_per_clip_total"],
        peak_rss_mb=size["peak_rss"] / 2**20,
        file_mb=size["file_bytes"] / 1e6,
        top1=None,
    )


# --- trained models -------------------------------------------------------------------------------------------------


def measure_trained(
    bundles: Mapping[str, Path],
    videos: Sequence[tuple[str, int]],
    folder: Path,
    *,
    engine: str,
    threads: int,
    begin: Callable[[str, int], Callable[[], None]] = lambda label, total: lambda: None,
) -> list[dict[str, Any]]:
    """Accuracy against time of exported models: as trained, and at several budgets.

    Args:
        bundles: name -> path.
        videos: path and label of each.

    Returns: rows as :func:`make_row`'s, with ``top1``, ``cost``, ``usage`` and ``budget`` (None: as trained).
    """
    from mmvideoiq.deploy.bundle.bundle import Bundle

    specs = {}
    for name, path in bundles.items():
        bundle = Bundle.open(path)
        spec = dict(
            kind="ours",
            bundle=str(path),
            engine=engine,
            threads=threads,
            videos=[video for video, _ in videos],
            preprocessing=bundle.preprocessing._asdict(),
        )
        specs[name] = spec
        for budget in budgets(bundle.manifest["budget"]):
            specs[f"{name}@{budget:.3g}"] = dict(spec, budget=budget)
    labels = np.array([label for _, label in videos])
    rows = []
    advance = begin("trained models", len(specs))
    for name, spec in specs.items():  # one at a time: a list of videos is long enough to average over
        with started({name: spec}, folder) as workers:
            worker = workers[name]
            for _ in range(3):
                worker.ask("model")
            worker.ask("usage")
            answer = worker.ask("each")
            totals = {name: [worker.ask("total")["seconds"] for _ in range(min(len(videos), 50))]}
            row = make_row(name, {"model": {name: answer["seconds"]}, "total": totals}, worker.ask("size"))
            rows.append(
                row
                | dict(top1=float((np.array(answer["labels"]) == labels).mean()), budget=spec.get("budget"))
                | worker.ask("usage")
            )
        advance()
    return rows


def budgets(curve: Sequence[Mapping[str, Any]] | None, count: int = 5) -> list[float]:
    """Mean costs spread evenly over the range of a bundle's budget curve; none where it has no curve."""
    if not curve:
        return []
    return [float(cost) for cost in np.linspace(curve[-1]["cost"], curve[0]["cost"], count)]
