"""A trained recognizer as a bundle: trace its parts, store their numbers, write down how to use them."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import numpy as np
from mmaction.models.data_preprocessors import ActionDataPreprocessor
from mmaction.models.heads import TSMHead, TSNHead
from torch import nn

from mmvideoiq.actions import COST_RULES, GRID_SHIFT, ActionSpace, action_of, paper_cost
from mmvideoiq.cost import ModelCost
from mmvideoiq.deploy.bundle.bundle import write_bundle
from mmvideoiq.deploy.bundle.graph import Graph, Grid
from mmvideoiq.deploy.export.trace import (
    MAX_CODE_BITS,
    ExportError,
    GraphWriter,
    Source,
    Value,
    mean_pool,
    trace,
)
from mmvideoiq.deploy.export.weights import array, policy_tensors, recognition_tensors
from mmvideoiq.models.any_precision_backbone import AnyPrecisionBackbone
from mmvideoiq.models.any_precision_recognizer import AnyPrecisionRecognizer
from mmvideoiq.models.clip_cost import count_recognizer
from mmvideoiq.models.heads import FrameAverageHead
from mmvideoiq.models.policy import PolicyHead, PrecisionPolicy
from mmvideoiq.models.random_frames import RandomFramesPreprocessor
from mmvideoiq.models.videoiq_recognizer import VideoIQRecognizer
from mmvideoiq.quant.precision import FLOAT_BITS
from mmvideoiq.video.preprocessing import Preprocessing

CHANNELS = 3
Tensors = dict[str, np.ndarray]


def export(
    model: nn.Module,
    out: str | Path,
    *,
    classes: Sequence[str],
    preprocessing: Preprocessing,
    frame_size: tuple[int, int] | None = None,
    budget: Sequence[Mapping[str, Any]] | None = None,
    latency_ms: Mapping[str, Any] | None = None,
) -> None:
    """Write ``model`` as the bundle ``out``. The model is not changed.

    Args:
        model: a ``VideoIQRecognizer``, or an ``AnyPrecisionRecognizer``, which has no policy: its precisions
            become its actions.
        classes: a name for each class, in the order of the classifier's rows.
        frame_size: (height, width) that the network sees; needed by, and only by, pipelines that do not crop.
        budget: rows of the budget curve, of :func:`mmvideoiq.deploy.budget.calibrate`.
        latency_ms: measured milliseconds per frame.

    Raises:
        ExportError: something that a bundle cannot hold; one line that names it.
        RuntimeError: what would be stored does not equal the simulation.
    """
    parts = export_parts(model, classes=classes, preprocessing=preprocessing, frame_size=frame_size)
    parts["manifest"] |= dict(budget=None if budget is None else [*budget], latency_ms=latency_ms)
    write_bundle(out, **parts)


def export_parts(
    model: nn.Module,
    *,
    classes: Sequence[str],
    preprocessing: Preprocessing,
    frame_size: tuple[int, int] | None = None,
) -> dict[str, Any]:
    """What :func:`export` writes: ``manifest``, ``graphs`` and ``tensors`` for ``write_bundle``."""
    if not isinstance(model, (VideoIQRecognizer, AnyPrecisionRecognizer)):
        raise ExportError(
            f"model.type={type(model).__name__!r} cannot be exported; use VideoIQRecognizer or AnyPrecisionRecognizer"
        )
    size = _frame_size(preprocessing, frame_size)
    backbone, head, policy = copy.deepcopy((model.backbone, model.cls_head, getattr(model, "policy", None)))
    for part in (backbone, head, policy):
        if part is not None:
            part.cpu().float().eval()
    if backbone.mixes_frames and preprocessing.frames % backbone.num_segments:
        raise ExportError(
            f"the backbone shifts features within clips of {backbone.num_segments} frames, "
            f"and {preprocessing.frames} frames are no multiple of that"
        )
    actions = _actions(model, backbone, size)
    normalize = _normalize(model.data_preprocessor)
    frames = {"frames": (-1, *size, CHANNELS)}

    writer = GraphWriter(frames, actions.precisions)
    graphs = {"recognition": recognition_graph(writer, backbone, normalize)}
    tensors = {"recognition": recognition_tensors(writer.sources, actions.precisions, actions.modes)}
    tensors["recognition"] |= _classifier(model, head, classes)
    if policy is not None:
        policy.check_frames(*size)
        for name in getattr(policy, "quantize_32", ()):  # a bundle's policy is a float network, or has 8 bits
            policy.backbone.set_submodule(name, policy.backbone.get_submodule(name).to_float())
        quantized = isinstance(policy.backbone, AnyPrecisionBackbone)
        writer = GraphWriter({**frames, **_state(policy)}, policy.backbone.precisions if quantized else ())
        graphs["policy"] = policy_graph(writer, policy, normalize)
        tensors["policy"] = policy_tensors(writer.sources, writer.precisions)
    cost = count_recognizer(backbone, head.fc_cls, policy, (CHANNELS, *size))
    manifest = dict(
        classes=[str(name) for name in classes],
        actions=[action.to_cfg() for action in actions],
        cost=dict(rule=actions.cost if actions.cost in COST_RULES else "table", values=list(actions.costs)),
        all_skip=getattr(model, "all_skip", "likeliest"),
        precisions=list(actions.precisions),
        parent_bits=actions.precisions[0],
        preprocessing=dict(
            frames=preprocessing.frames,
            short_side=preprocessing.short_side,
            crop=preprocessing.crop,
            clip_len=1,
            **sampling_of(preprocessing),
            **normalize,
        ),
        **_costs(cost, actions),
        latency_ms=None,
        budget=None,
    )
    return dict(manifest=manifest, graphs=graphs, tensors=tensors)


# --- graphs -------------------------------------------------------------------------------------------------------


def recognition_graph(
    writer: GraphWriter, backbone: AnyPrecisionBackbone, normalize: Mapping[str, Any]
) -> Graph:
    """frames (N, H, W, C) -> features (N, D), averaged over space."""
    x = Value(writer.add("normalize", "normalize", "frames", **normalize), CHANNELS)
    return writer.finish(_features(writer, backbone, x).name)


def _features(writer: GraphWriter, backbone: AnyPrecisionBackbone, x: Value, prefix: str = "") -> Value:
    if backbone.input_range is not None:
        low, high = backbone.input_range
        grids = {}
        for bits in writer.precisions:
            if bits <= MAX_CODE_BITS:
                step = (high - low) / (2**bits - 1)
                grids[str(bits)] = Grid(step, 0, 2**bits - 1, low - GRID_SHIFT * step * backbone.resized)
        x = Value(writer.add("quantize", "input", x.name, grids=grids), CHANNELS)
    return mean_pool(writer, "features", trace(backbone.net, writer, x, prefix))


def policy_graph(writer: GraphWriter, policy: PrecisionPolicy, normalize: Mapping[str, Any]) -> Graph:
    """frames (N, H, W, C) of one clip, h and c (1, hidden) -> logits (N, A), and the new h and c."""
    head = policy.head
    x = Value(writer.add("normalize", "normalize", "frames", **normalize), CHANNELS)
    if policy.input_size is not None:
        x = Value(writer.add("resize", "resize", x.name, size=(policy.input_size,) * 2), CHANNELS)
    if isinstance(policy.backbone, AnyPrecisionBackbone):
        x = _features(writer, policy.backbone, x, "backbone.")
    else:
        x = mean_pool(writer, "features", trace(policy.backbone, writer, x, "backbone."))
    lstm = writer.add("lstm", "lstm", x.name, "h", "c", layer="lstm", hidden=head.lstm.hidden_size)
    writer.sources["lstm"] = Source(head.lstm)
    hidden = Value(lstm, head.lstm.hidden_size, True)
    logits = writer.add_layer("linear", "fc_policy", hidden, head.fc_policy, True)
    return writer.finish(logits.name, f"{lstm}.h", f"{lstm}.c")


def _state(policy: nn.Module) -> dict[str, tuple[int, ...]]:
    if type(policy) is not PrecisionPolicy or type(policy.head) is not PolicyHead:
        kind = type(policy).__name__ if type(policy) is not PrecisionPolicy else type(policy.head).__name__
        raise ExportError(f"the policy's {kind} cannot be exported; use PrecisionPolicy with a PolicyHead")
    if policy.head.holds and not policy.head.hold_cell:
        raise ExportError(
            "policy.head.hold_cell=False with skips of several frames cannot be exported: "
            "a bundle's policy does not look at skipped frames; use hold_cell=True"
        )
    return dict.fromkeys(("h", "c"), (1, policy.head.lstm.hidden_size))


# --- parts of the manifest ----------------------------------------------------------------------------------------


def sampling_of(preprocessing: Preprocessing) -> dict[str, Any]:
    """What the manifest says of it: nothing where it is exact."""
    if preprocessing.checked().sampling == "exact":
        return {}
    tolerance = {"tolerance_s": preprocessing.tolerance_s} if preprocessing.sampling == "keyframe" else {}
    return {"sampling": preprocessing.sampling, **tolerance}


def _frame_size(preprocessing: Preprocessing, frame_size: tuple[int, int] | None) -> tuple[int, int]:
    if (preprocessing.crop is None) == (frame_size is None):
        raise ExportError(
            f"crop={preprocessing.crop} and frame_size={frame_size}: the pipeline crops, or give the frame's size"
        )
    return frame_size or (cast(int, preprocessing.crop),) * 2


def _actions(model: Any, backbone: AnyPrecisionBackbone, size: tuple[int, int]) -> ActionSpace:
    """The actions a bundle offers for frames of ``size``; refuses those without an engine."""
    if isinstance(model, VideoIQRecognizer):
        actions = model.actions
        actions.check_frames(*size)
    else:
        actions = ActionSpace([action_of(str(mode)) for mode in backbone.modes], frame_size=min(size))
    separate = [action.name for action in actions if action.separate]
    if separate:
        raise ExportError(f"action {separate[0]} runs a separate float network, which a bundle does not hold")
    odd = [bits for bits in actions.precisions if MAX_CODE_BITS < bits < FLOAT_BITS]
    if odd:
        raise ExportError(
            f"precision {odd[0]} cannot be exported: integers have at most {MAX_CODE_BITS} bits, {FLOAT_BITS} is float"
        )
    return actions


def _normalize(preprocessor: nn.Module) -> dict[str, list[float]]:
    known = (ActionDataPreprocessor, RandomFramesPreprocessor)  # the same in testing
    if type(preprocessor) not in known or preprocessor.format_shape != "NCHW":
        raise ExportError(
            f"data_preprocessor {type(preprocessor).__name__} cannot be exported; "
            "use ActionDataPreprocessor with format_shape='NCHW'"
        )
    if preprocessor.to_rgb:
        raise ExportError("data_preprocessor.to_rgb=True cannot be exported: frames are decoded as RGB")
    if not preprocessor._enable_normalize:
        return dict(mean=[0.0] * CHANNELS, std=[1.0] * CHANNELS)
    return {key: getattr(preprocessor, key).flatten().tolist() for key in ("mean", "std")}


def _classifier(model: nn.Module, head: Any, classes: Sequence[str]) -> Tensors:
    """The linear layer on features averaged over space and frames."""
    neck = getattr(model, "with_neck", False)
    if neck or type(head) not in (FrameAverageHead, TSNHead, TSMHead):
        kind = "a neck" if neck else f"cls_head {type(head).__name__}"
        raise ExportError(f"{kind} cannot be exported; use FrameAverageHead, TSNHead or TSMHead alone")
    if getattr(head, "spatial_type", "avg") != "avg" or getattr(head, "temporal_pool", False):
        raise ExportError(f"cls_head {type(head).__name__} does not average over space and frames")
    if len(classes) != head.num_classes:
        raise ExportError(f"{len(classes)} class names for a classifier of {head.num_classes} classes")
    return {"head.weight": array(head.fc_cls.weight), "head.bias": array(head.fc_cls.bias)}


def _costs(cost: ModelCost, actions: ActionSpace) -> dict[str, dict[str, float]]:
    """Of one frame under each action, without the policy, and of the policy."""
    alone = replace(cost, policy_macs=0, policy_quantized_macs=0, classifier_macs=0)
    gflops = {a.name: alone.paper_gflops(paper_cost(a.bits or 0), 1, a.size) for a in actions}
    bitops = {a.name: float(alone.bitops([a.bits or 0], a.size)) for a in actions}
    if cost.policy_macs:
        gflops["policy"] = cost.billed_policy_macs / 1e9
        bitops["policy"] = float(cost.policy_bitops)
    return dict(gflops=gflops, bitops=bitops)
