"""Conversion of the authors' release to a ``VideoIQRecognizer``."""

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from mmvideoiq.checkpoint.files import IMAGENET
from mmvideoiq.checkpoint.layers import mobilenet_layers, resnet_depth, resnet_features, resnet_layers
from mmvideoiq.checkpoint.tensors import (
    Entry,
    State,
    collect,
    few,
    layer_entries,
    linear_entries,
    norm_entries,
    refuse_unknown,
    require,
)

TEACHER = "32fp"
# The release's policy is a float network except for these two convolutions, whose weights it quantizes to 32 bits.
POLICY_QUANTIZED = ("conv1.conv", "conv2.conv")


@dataclass(frozen=True, kw_only=True)
class ReleaseSpec:
    """Content of a file of the release. ``rows``: the row of its action head for each action of mmvideoiq."""

    depth: int
    precisions: tuple[int, ...]
    skips: tuple[int, ...]
    separate: bool
    num_classes: int
    hidden: int
    teacher: bool
    policy_classifier: bool
    rows: tuple[int, ...]


def is_release(state: State) -> bool:
    """Whether the names are those of the authors' release: clips ``q_alpha<i>_<bits>`` in the blocks."""
    return any(re.search(r"\.q_alpha\d+_\d+$", name) for name in state)


def read_release(
    state: State,
    *,
    skip_list: Sequence[int] | None = None,
    precisions: Sequence[int] | None = None,
    separate_fp32_action: bool = False,
) -> ReleaseSpec:
    """Depth, precisions, actions and classes of a state dict of the release.

    Its action head has one row per action: the separate FP32 network if there is one, the precisions, the skips.

    Args:
        skip_list: frames that each skip action skips, in the order of the rows; None: the count must be 0 or 1.
        precisions: bits in the order of the rows; None: descending.

    Raises:
        ValueError: unknown layout or depth, names missing, or a list that does not fit the file.
    """
    if not is_release(state):
        raise ValueError(f"unknown layout: no clips q_alpha<i>_<bits>; the first names are {few(state)}")
    found = _bits(state, r"backbone\.layer1\.0\.q_alpha1_(\d+)$")
    norms = _bits(state, r"backbone\.layer1\.0\.bn1_(\d+)\.weight$")
    if found != norms:
        raise ValueError(f"precisions differ: clips q_alpha1 for {found}, batch norms bn1 for {norms}")
    order = tuple(precisions) if precisions is not None else found
    if tuple(sorted(order, reverse=True)) != found:
        raise ValueError(f"precisions {list(order)} do not match the file: it holds {list(found)}")
    depth = resnet_depth(state, "backbone.layer{}.")
    needed = ("fc.weight", "policy_net.linear.weight", "policy_net.rnn.weight_hh")
    require(state, needed)
    actions = state["policy_net.linear.weight"].shape[0]
    teacher = any(TEACHER in name for name in state)
    if separate_fp32_action and not teacher:
        raise ValueError(
            "a separate FP32 action needs the FP32 network (names with 32fp), which the file lacks"
        )
    count = actions - len(order) - separate_fp32_action
    skips = tuple(skip_list) if skip_list is not None else (1,) * min(max(count, 0), 1)
    if len(skips) != count:
        raise ValueError(
            f"skip list {list(skips)} does not match the file: {actions} actions less {len(order)} precisions"
            f"{' and the FP32 action' if separate_fp32_action else ''} leave {count} skips; give --skip-list"
            f"{'' if separate_fp32_action or not teacher else ', or --separate-fp32-action if one action is FP32'}"
        )
    if any(not isinstance(k, int) or k < 1 for k in skips) or len(set(skips)) != len(skips):
        raise ValueError(f"skip list {list(skips)}: distinct whole numbers >= 1 are allowed")
    first = int(separate_fp32_action)
    by_bits = sorted(range(len(order)), key=lambda i: -order[i])
    by_skip = sorted(range(count), key=lambda i: skips[i])
    return ReleaseSpec(
        depth=depth,
        precisions=found,
        skips=tuple(sorted(skips)),
        separate=separate_fp32_action,
        num_classes=state["fc.weight"].shape[0],
        hidden=state["policy_net.rnn.weight_hh"].shape[1],
        teacher=teacher,
        policy_classifier="policy_net.fc.weight" in state,
        rows=(*range(first), *(first + i for i in by_bits), *(first + len(order) + i for i in by_skip)),
    )


def convert_release(state: State, spec: ReleaseSpec) -> dict[str, Tensor]:
    """The release's tensors under the names of a ``VideoIQRecognizer``, action rows in the order of mmvideoiq.

    Raises:
        ValueError: a name is missing or unknown, a shape is not that of the depth, a shared weight differs.
    """
    entries = list(_release_entries(spec))
    known = {source for entry in entries for source in entry.sources} | {"policy_net.temperature"}
    refuse_unknown(state, known)
    out = collect(state, entries)
    for leaf in ("weight", "bias"):
        out[f"policy.head.fc_policy.{leaf}"] = out[f"policy.head.fc_policy.{leaf}"][list(spec.rows)].clone()
    return out


def release_model(spec: ReleaseSpec) -> dict[str, Any]:
    """Config of the ``VideoIQRecognizer`` that ``convert_release`` fills; with the arithmetic of the release."""
    resnet = dict(type="ResNet", depth=spec.depth, pretrained=None)
    sizes = dict(num_classes=spec.num_classes, in_channels=resnet_features(spec.depth))
    head = dict(type="PolicyHead", in_channels=1280, hidden=spec.hidden, hold_cell=False)
    if spec.policy_classifier:
        head["num_classes"] = spec.num_classes
    actions = [dict(bits=32, separate=True)] * spec.separate
    actions += [dict(bits=bits) for bits in spec.precisions] + [dict(skip=skip) for skip in spec.skips]
    teacher = dict(type="Recognizer2D", backbone=resnet, cls_head=dict(type="TSNHead", **sizes))
    teacher["data_preprocessor"] = IMAGENET
    return dict(
        type="VideoIQRecognizer",
        backbone=dict(
            type="AnyPrecisionBackbone",
            backbone=resnet,
            precisions=list(spec.precisions),
            weight=dict(type="dorefa", quantize_32=True),
            activation=dict(type="pact", quantize_32=True),
        ),
        policy=dict(
            type="PrecisionPolicy",
            backbone=dict(type="MobileNetV2"),
            head=head,
            input_size=84,
            enlarge=True,
            quantize_32=list(POLICY_QUANTIZED),
        ),
        cls_head=dict(type="FrameAverageHead", **sizes),
        actions=actions,
        teacher=teacher if spec.teacher else None,
        all_skip="zero",
        data_preprocessor=IMAGENET,
    )


def _release_entries(spec: ReleaseSpec) -> Iterator[Entry]:
    layers = list(resnet_layers(spec.depth))
    for layer in layers:
        if layer is layers[0]:
            yield from layer_entries("backbone.net.conv1", "backbone.conv1", "backbone.bn1", layer)
            continue
        shortcut = layer.index is None
        named = [layer.conv.replace("downsample", f"downsample_{bits}") for bits in spec.precisions]
        convs = tuple(dict.fromkeys(f"backbone.{name}.weight" for name in named))
        target = f"backbone.net.{layer.mmaction}"
        yield Entry(f"{target}.conv.weight", convs, layer.shape)
        for bits in spec.precisions:
            norm = (
                layer.norm.replace("downsample", f"downsample_{bits}") if shortcut else f"{layer.norm}_{bits}"
            )
            yield from norm_entries(f"{target}.bn.norms.{bits}", f"backbone.{norm}", layer)
            if not shortcut:
                block = layer.mmaction.rpartition(".")[0]
                home = (
                    f"{block}.input_quantizer" if layer.index == 1 else f"{layer.mmaction}.conv.act_quantizer"
                )
                source = f"backbone.{block}.q_alpha{layer.index}_{bits}"
                yield Entry(f"backbone.net.{home}.clip.{bits}", (source,), (1,))
    for layer in mobilenet_layers(release=True):
        names = f"policy_net.{layer.conv}", f"policy_net.{layer.norm}"
        yield from layer_entries(f"policy.backbone.{layer.mmaction}", *names, layer)
    features, hidden = resnet_features(spec.depth), spec.hidden
    for side, width in (("ih", 1280), ("hh", hidden)):
        yield Entry(
            f"policy.head.lstm.weight_{side}_l0", (f"policy_net.rnn.weight_{side}",), (4 * hidden, width)
        )
        yield Entry(f"policy.head.lstm.bias_{side}_l0", (f"policy_net.rnn.bias_{side}",), (4 * hidden,))
    yield from linear_entries("policy.head.fc_policy", "policy_net.linear", len(spec.rows), hidden)
    if spec.policy_classifier:
        yield from linear_entries("policy.head.fc_cls", "policy_net.fc", spec.num_classes, hidden)
    yield from linear_entries("cls_head.fc_cls", "fc", spec.num_classes, features)
    if spec.teacher:
        for layer in layers:
            conv, norm = (_teacher_name(n) for n in (layer.conv, layer.norm))
            yield from layer_entries(
                f"teacher.backbone.{layer.mmaction}", f"backbone.{conv}", f"backbone.{norm}", layer
            )
        yield from linear_entries(
            "teacher.cls_head.fc_cls", f"backbone.fc_{TEACHER}", spec.num_classes, features
        )


def _teacher_name(name: str) -> str:
    head, dot, tail = name.replace("downsample", "downsample_32").partition(".")
    return f"{head}_{TEACHER}{dot}{tail}"


def _bits(names: Iterable[str], pattern: str) -> tuple[int, ...]:
    return tuple(sorted({int(m[1]) for m in (re.match(pattern, name) for name in names) if m}, reverse=True))
