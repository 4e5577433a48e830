"""Checkpoints of others as ours: float zoo weights and the authors' release, from state dict to state dict.

A ``Layer`` is one convolution with its batch norm and knows its name in every layout; the readers below only
list which tensor goes where. Names of ours: ``backbone.net.<host name>``, ``policy.*``, ``cls_head.*``, ``teacher.*``.
"""

import json
import pickle
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

State = Mapping[str, Tensor]

RESNETS = {  # depth -> (convolutions per block, blocks per stage)
    18: (2, (2, 2, 2, 2)),
    34: (2, (3, 4, 6, 3)),
    50: (3, (3, 4, 6, 3)),
    101: (3, (3, 4, 23, 3)),
    152: (3, (3, 8, 36, 3)),
}
MOBILENET_V2 = (
    (1, 16, 1),
    (6, 24, 2),
    (6, 32, 3),
    (6, 64, 4),
    (6, 96, 3),
    (6, 160, 3),
    (6, 320, 1),
)  # expand, C, n
TEACHER = "32fp"
IMAGENET = dict(
    type="mmaction.ActionDataPreprocessor",  # with its scope: the host looks it up in the engine's registry
    mean=[123.675, 116.28, 103.53],
    std=[58.395, 57.12, 57.375],
    format_shape="NCHW",
)
NORM_LEAVES = ("weight", "bias", "running_mean", "running_var", "num_batches_tracked")
HEADS = ("cls_head.fc_cls", "head.fc", "fc", "classifier.1")  # of the host, MMPretrain, torchvision's two


@dataclass(frozen=True, kw_only=True)
class Layer:
    """One convolution and its batch norm: ``host`` (a ConvModule), ``conv`` and ``norm`` (torchvision), weight shape.

    ``index`` is the convolution's place in a residual block (1, 2, ...); None for a stem, a shortcut, MobileNetV2.
    """

    host: str
    conv: str
    norm: str
    shape: tuple[int, ...]
    index: int | None = None


@dataclass(frozen=True)
class Entry:
    """``target`` is filled from ``sources`` (several must be equal) of ``shape``."""

    target: str
    sources: tuple[str, ...]
    shape: tuple[int, ...]


@dataclass(frozen=True, kw_only=True)
class ReleaseSpec:
    """What a file of the release holds. ``rows``: the row of its action head for each of our actions."""

    depth: int
    precisions: tuple[int, ...]
    skips: tuple[int, ...]
    separate: bool
    num_classes: int
    hidden: int
    teacher: bool
    policy_classifier: bool
    rows: tuple[int, ...]


@dataclass(frozen=True, kw_only=True)
class FloatSpec:
    """What a float file holds: the host's backbone; depth None: it has one size; classes None: no classifier."""

    backbone: str
    depth: int | None
    num_classes: int | None

    @property
    def features(self) -> int:
        return 1280 if self.depth is None else _resnet_features(self.depth)


def resnet_layers(depth: int) -> Iterator[Layer]:
    """The layers of a ResNet in forward order, shortcut last in its block."""
    convs, blocks = RESNETS[depth]
    yield Layer(host="conv1", conv="conv1", norm="bn1", shape=(64, 3, 7, 7))
    expansion = 1 if convs == 2 else 4
    channels = 64
    for stage, count in enumerate(blocks):
        width = 64 * 2**stage
        out = width * expansion
        kernels = (3, 3) if convs == 2 else (1, 3, 1)
        for block in range(count):
            name = f"layer{stage + 1}.{block}"
            sizes = (channels, *[width] * (convs - 1), out)
            for i, k in enumerate(kernels, start=1):
                shape = (sizes[i], sizes[i - 1], k, k)
                yield Layer(
                    host=f"{name}.conv{i}", conv=f"{name}.conv{i}", norm=f"{name}.bn{i}", shape=shape, index=i
                )
            if block == 0 and (channels != out or stage > 0):
                shortcut = f"{name}.downsample"
                yield Layer(
                    host=shortcut, conv=f"{shortcut}.0", norm=f"{shortcut}.1", shape=(out, channels, 1, 1)
                )
            channels = out


def mobilenet_layers(*, release: bool = False) -> Iterator[Layer]:
    """The layers of a MobileNetV2 of width 1 in forward order; ``release``: plain names as in its policy network."""
    yield Layer(host="conv1", conv="features.0.0", norm="features.0.1", shape=(32, 3, 3, 3))
    channels, feature = 32, 0
    for stage, (expand, out, count) in enumerate(MOBILENET_V2, start=1):
        for block in range(count):
            feature += 1
            wide = channels * expand
            shapes = [(wide, channels, 1, 1)] * (expand != 1) + [(wide, 1, 3, 3), (out, wide, 1, 1)]
            for i, shape in enumerate(shapes):
                if release:
                    conv, norm = f"{3 * i}", f"{3 * i + 1}"
                else:  # torchvision nests all but the last
                    conv, norm = (f"{i}.0", f"{i}.1") if i + 1 < len(shapes) else (f"{i}", f"{i + 1}")
                plain = f"features.{feature}.conv"
                host = f"layer{stage}.{block}.conv.{i}"
                yield Layer(host=host, conv=f"{plain}.{conv}", norm=f"{plain}.{norm}", shape=shape)
            channels = out
    conv, norm = ("conv.0", "conv.1") if release else ("features.18.0", "features.18.1")
    yield Layer(host="conv2", conv=conv, norm=norm, shape=(1280, channels, 1, 1))


def unwrap(checkpoint: Mapping, name: str = "checkpoint") -> dict[str, Tensor]:
    """The state dict in a loaded checkpoint, without wrappers: ``{'state_dict': ...}`` and the prefix ``module.``.

    Raises:
        ValueError: it holds no tensors by name.
    """
    state = checkpoint.get("state_dict", checkpoint) if isinstance(checkpoint, Mapping) else None
    if not isinstance(state, Mapping) or not state or not all(isinstance(v, Tensor) for v in state.values()):
        raise ValueError(
            f"{name}: unknown layout: neither a state dict nor a dict with one under 'state_dict'"
        )
    return {str(key).removeprefix("module."): value for key, value in state.items()}


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
        skip_list: frames each skip action leaves out, in the order of the rows; None: the count must be 0 or 1.
        precisions: bits in the order of the rows; None: descending.

    Raises:
        ValueError: unknown layout or depth, names missing, or a list that does not fit the file.
    """
    if not is_release(state):
        raise ValueError(f"unknown layout: no clips q_alpha<i>_<bits>; the first names are {_few(state)}")
    found = _bits(state, r"backbone\.layer1\.0\.q_alpha1_(\d+)$")
    norms = _bits(state, r"backbone\.layer1\.0\.bn1_(\d+)\.weight$")
    if found != norms:
        raise ValueError(f"precisions differ: clips q_alpha1 for {found}, batch norms bn1 for {norms}")
    order = tuple(precisions) if precisions is not None else found
    if tuple(sorted(order, reverse=True)) != found:
        raise ValueError(f"precisions {list(order)} do not match the file: it holds {list(found)}")
    depth = _resnet_depth(state, "backbone.layer{}.")
    needed = ("fc.weight", "policy_net.linear.weight", "policy_net.rnn.weight_hh")
    _require(state, needed)
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
    """The release's tensors under the names of a ``VideoIQRecognizer``, action rows in our order.

    Raises:
        ValueError: a name is missing or unknown, a shape is not that of the depth, a shared weight differs.
    """
    entries = list(_release_entries(spec))
    known = {source for entry in entries for source in entry.sources} | {"policy_net.temperature"}
    _refuse_unknown(state, known)
    out = _collect(state, entries)
    for leaf in ("weight", "bias"):
        out[f"policy.head.fc_policy.{leaf}"] = out[f"policy.head.fc_policy.{leaf}"][list(spec.rows)].clone()
    return out


def read_float(state: State) -> FloatSpec:
    """Backbone, depth and classes of a float ResNet or MobileNetV2 (also TSM), in the host's or torchvision's names.

    Raises:
        ValueError: unknown layout or depth.
    """
    body, head = _float_parts(state)
    num_classes = len(state[head["weight"]]) if head else None
    tsm = "TSM" if any(".net." in source for source in body.values()) else ""
    if "layer4.0.conv1.conv.weight" in body or "layer4.0.conv1.weight" in body:
        return FloatSpec(
            backbone=f"ResNet{tsm}", depth=_resnet_depth(body, "layer{}."), num_classes=num_classes
        )
    if "conv2.conv.weight" in body or "features.18.0.weight" in body:
        return FloatSpec(backbone=f"MobileNetV2{tsm}", depth=None, num_classes=num_classes)
    raise ValueError(f"unknown layout: neither a ResNet nor a MobileNetV2; the first names are {_few(state)}")


def convert_float(state: State, spec: FloatSpec, precisions: Sequence[int]) -> dict[str, Tensor]:
    """A float network under the names of an ``AnyPrecisionRecognizer``; every precision's batch norm is the float one.

    The stem keeps its one batch norm. Quantizers have no float counterpart: see ``complete``.

    Raises:
        ValueError: a name is missing or unknown, or a shape is not that of the backbone.
    """
    body, head = _float_parts(state)
    layers = list(mobilenet_layers() if spec.depth is None else resnet_layers(spec.depth))
    host_names = f"{layers[0].host}.conv.weight" in body
    entries = []
    for layer in layers:
        conv, norm = (f"{layer.host}.conv", f"{layer.host}.bn") if host_names else (layer.conv, layer.norm)
        source = body.get(f"{conv}.weight", f"{conv}.weight")
        wrapped = source.replace("backbone.", "") if host_names else f"{layer.host}.conv.weight"
        entries.append(Entry(f"backbone.net.{wrapped}", (source,), layer.shape))
        # MobileNetV2TSM wraps the whole ConvModule, ResNetTSM only its convolution
        home = f"{layer.host}.net.bn" if f"{layer.host}.net." in wrapped else f"{layer.host}.bn"
        homes = [home] if layer is layers[0] else [f"{home}.norms.{bits}" for bits in precisions]
        for leaf in NORM_LEAVES:
            source = body.get(f"{norm}.{leaf}", f"{norm}.{leaf}")
            entries += [Entry(f"backbone.net.{h}.{leaf}", (source,), _norm_shape(leaf, layer)) for h in homes]
    for leaf, source in head.items():
        shape = (spec.num_classes, spec.features) if leaf == "weight" else (spec.num_classes,)
        entries.append(Entry(f"cls_head.fc_cls.{leaf}", (source,), shape))
    _refuse_unknown(state, {source for entry in entries for source in entry.sources})
    return _collect(state, entries)


def complete(converted: State, fresh: State, allow: Sequence[str]) -> dict[str, Tensor]:
    """``converted`` in the order of ``fresh``, a newly built model's state, which also gives what ``allow`` names.

    Raises:
        ValueError: names that only one of them has (unless a part of ``allow`` is in the name), or other shapes.
    """
    missing = [n for n in fresh if n not in converted and not any(part in n for part in allow)]
    if missing:
        raise ValueError(f"names missing: {_few(missing)}")
    _refuse_unknown(converted, set(fresh))
    for name, value in converted.items():
        if value.shape != fresh[name].shape:
            raise ValueError(f"{name} has shape {tuple(value.shape)}, the model {tuple(fresh[name].shape)}")
    return {name: converted.get(name, value).clone() for name, value in fresh.items()}


def load_state(path: str | Path) -> dict[str, Tensor]:
    """The state dict in a file, read with pickle's safe subset (``weights_only=True``).

    Raises:
        FileNotFoundError: no such file.
        ValueError: not a checkpoint, or one that holds other objects than tensors and plain values; names them.
    """
    if not Path(path).is_file():
        raise FileNotFoundError(f"checkpoint not found: {path}")
    try:
        checkpoint = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        found = re.search(r"GLOBAL (\S+)", str(error))
        if not found:
            raise ValueError(f"{path} is not a checkpoint that torch can read") from error
        raise ValueError(
            f"{path} holds an object of {found[1]}, which safe loading refuses: "
            "save its state dict alone, as {'state_dict': ...}"
        ) from error
    except Exception as error:  # junk makes the unpickler raise almost anything
        raise ValueError(f"{path} is not a checkpoint that torch can read") from error
    return unwrap(checkpoint, str(path))


def release_model(spec: ReleaseSpec) -> dict[str, Any]:
    """Config of the ``VideoIQRecognizer`` that ``convert_release`` fills; its arithmetic is the release's."""
    resnet = dict(type="ResNet", depth=spec.depth, pretrained=None)
    sizes = dict(num_classes=spec.num_classes, in_channels=_resnet_features(spec.depth))
    head = dict(type="PolicyHead", in_channels=1280, hidden=spec.hidden)
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
            type="PrecisionPolicy", backbone=dict(type="MobileNetV2"), head=head, input_size=84, enlarge=True
        ),
        cls_head=dict(type="FrameAverageHead", **sizes),
        actions=actions,
        teacher=teacher if spec.teacher else None,
        all_skip="zero",
        data_preprocessor=IMAGENET,
    )


def float_model(
    spec: FloatSpec,
    precisions: Sequence[int],
    *,
    weight: str,
    num_frames: int,
    num_classes: int | None = None,
) -> dict[str, Any]:
    """Config of the ``AnyPrecisionRecognizer`` that ``convert_float`` fills.

    Raises:
        ValueError: ``num_classes`` contradicts the file, or is missing where the file has no classifier.
    """
    classes = spec.num_classes or num_classes
    if classes is None:
        raise ValueError("the file has no classifier: give --num-classes")
    if num_classes not in (None, classes):
        raise ValueError(f"--num-classes {num_classes} does not match the file's classifier of {classes}")
    net: dict[str, Any] = dict(type=spec.backbone)
    if spec.depth is not None:
        net |= dict(depth=spec.depth, pretrained=None)
    if spec.backbone.endswith("TSM"):
        net["num_segments"] = num_frames
    return dict(
        type="AnyPrecisionRecognizer",
        backbone=dict(
            type="AnyPrecisionBackbone",
            backbone=net,
            precisions=list(precisions),
            weight=dict(type=weight),
            activation=dict(type="pact"),
        ),
        cls_head=dict(type="TSNHead", num_classes=classes, in_channels=spec.features),
        data_preprocessor=IMAGENET,
    )


def write_config(model: Mapping[str, Any], *, num_frames: int, source: str) -> str:
    """A config file that stands alone: ``model`` and ``num_frames``."""
    return (
        f'"""Converted from {source}."""\n\n'
        'default_scope = "mmaction"\n'
        'custom_imports = dict(imports=["mmvideoiq.plugin"], allow_failed_imports=False)\n'
        f"num_frames = {num_frames}\n"
        f"model = {_python(model)}\n"
    )


def _python(value: Any, indent: str = "") -> str:
    """Config values as the host's configs write them: ``dict(type="ResNet", depth=18)``, short ones on one line."""
    if isinstance(value, Mapping):
        parts = [f"{key}={_python(item, indent + '    ')}" for key, item in value.items()]
        opening, closing = "dict(", ")"
    elif isinstance(value, (list, tuple)):
        parts = [_python(item, indent + "    ") for item in value]
        opening, closing = "[", "]"
    else:
        return json.dumps(value) if isinstance(value, str) else repr(value)
    line = f"{opening}{', '.join(parts)}{closing}"
    if "\n" not in line and len(indent) + len(line) < 80:
        return line
    return "\n".join([opening, *(f"{indent}    {part}," for part in parts), f"{indent}{closing}"])


def _release_entries(spec: ReleaseSpec) -> Iterator[Entry]:
    layers = list(resnet_layers(spec.depth))
    for layer in layers:
        if layer is layers[0]:
            yield from _entries("backbone.net.conv1", "backbone.conv1", "backbone.bn1", layer)
            continue
        shortcut = layer.index is None
        named = [layer.conv.replace("downsample", f"downsample_{bits}") for bits in spec.precisions]
        convs = tuple(dict.fromkeys(f"backbone.{name}.weight" for name in named))
        target = f"backbone.net.{layer.host}"
        yield Entry(f"{target}.conv.weight", convs, layer.shape)
        for bits in spec.precisions:
            norm = (
                layer.norm.replace("downsample", f"downsample_{bits}") if shortcut else f"{layer.norm}_{bits}"
            )
            yield from _norm_entries(f"{target}.bn.norms.{bits}", f"backbone.{norm}", layer)
            if not shortcut:
                block = layer.host.rpartition(".")[0]
                home = f"{block}.input_quantizer" if layer.index == 1 else f"{layer.host}.conv.act_quantizer"
                source = f"backbone.{block}.q_alpha{layer.index}_{bits}"
                yield Entry(f"backbone.net.{home}.clip.{bits}", (source,), (1,))
    for layer in mobilenet_layers(release=True):
        names = f"policy_net.{layer.conv}", f"policy_net.{layer.norm}"
        yield from _entries(f"policy.backbone.{layer.host}", *names, layer)
    features, hidden = _resnet_features(spec.depth), spec.hidden
    for side, width in (("ih", 1280), ("hh", hidden)):
        yield Entry(
            f"policy.head.lstm.weight_{side}_l0", (f"policy_net.rnn.weight_{side}",), (4 * hidden, width)
        )
        yield Entry(f"policy.head.lstm.bias_{side}_l0", (f"policy_net.rnn.bias_{side}",), (4 * hidden,))
    yield from _linear_entries("policy.head.fc_policy", "policy_net.linear", len(spec.rows), hidden)
    if spec.policy_classifier:
        yield from _linear_entries("policy.head.fc_cls", "policy_net.fc", spec.num_classes, hidden)
    yield from _linear_entries("cls_head.fc_cls", "fc", spec.num_classes, features)
    if spec.teacher:
        for layer in layers:
            conv, norm = (_teacher_name(n) for n in (layer.conv, layer.norm))
            yield from _entries(
                f"teacher.backbone.{layer.host}", f"backbone.{conv}", f"backbone.{norm}", layer
            )
        yield from _linear_entries(
            "teacher.cls_head.fc_cls", f"backbone.fc_{TEACHER}", spec.num_classes, features
        )


def _teacher_name(name: str) -> str:
    head, dot, tail = name.replace("downsample", "downsample_32").partition(".")
    return f"{head}_{TEACHER}{dot}{tail}"


def _entries(target: str, conv: str, norm: str, layer: Layer) -> Iterator[Entry]:
    yield Entry(f"{target}.conv.weight", (f"{conv}.weight",), layer.shape)
    yield from _norm_entries(f"{target}.bn", norm, layer)


def _norm_entries(target: str, source: str, layer: Layer) -> Iterator[Entry]:
    for leaf in NORM_LEAVES:
        yield Entry(f"{target}.{leaf}", (f"{source}.{leaf}",), _norm_shape(leaf, layer))


def _norm_shape(leaf: str, layer: Layer) -> tuple[int, ...]:
    return () if leaf == "num_batches_tracked" else layer.shape[:1]


def _linear_entries(target: str, source: str, rows: int, columns: int) -> Iterator[Entry]:
    yield Entry(f"{target}.weight", (f"{source}.weight",), (rows, columns))
    yield Entry(f"{target}.bias", (f"{source}.bias",), (rows,))


def _collect(state: State, entries: Sequence[Entry]) -> dict[str, Tensor]:
    """The tensors of ``state`` under the entries' targets, each checked."""
    _require(state, [s for e in entries for s in e.sources if not s.endswith(".num_batches_tracked")])
    out = {}
    for entry in entries:
        found = [
            state[s] if s in state else torch.tensor(0) for s in entry.sources
        ]  # batches: absent before torch 0.4.1
        value = found[0]
        if entry.shape == (1,) and value.ndim == 0:
            found = [value := value.reshape(1)]
        if tuple(value.shape) != entry.shape:
            raise ValueError(f"{entry.sources[0]} has shape {tuple(value.shape)}, expected {entry.shape}")
        if any(not torch.equal(value, other) for other in found[1:]):
            raise ValueError(
                f"{entry.sources[0]} is shared by all precisions, but the file holds different values"
            )
        out[entry.target] = value.detach().clone()
    return out


def _float_parts(state: State) -> tuple[dict[str, str], dict[str, str]]:
    """Where the backbone's and the classifier's tensors stand: {bare name, a TSM's ``.net.`` left out: source name}."""
    head = next((h for h in HEADS if f"{h}.weight" in state), None)
    classifier = {leaf: f"{head}.{leaf}" for leaf in ("weight", "bias")} if head else {}
    prefix = "backbone." if any(name.startswith("backbone.") for name in state) else ""
    inside = [n for n in state if n.startswith(prefix) and n not in classifier.values()]
    return {n.removeprefix(prefix).replace(".net.", "."): n for n in inside}, classifier


def _resnet_depth(names: Iterable[str], prefix: str) -> int:
    """Depth from the count of blocks in each stage and of convolutions in a block."""
    patterns = [re.compile(re.escape(prefix.format(stage)) + r"(\d+)\.conv(\d)\.") for stage in (1, 2, 3, 4)]
    found = [[m for m in map(p.match, names) if m] for p in patterns]
    blocks = tuple(len({m[1] for m in stage}) for stage in found)
    convs = max((int(m[2]) for stage in found for m in stage), default=0)
    for depth, shape in RESNETS.items():
        if shape == (convs, blocks):
            return depth
    raise ValueError(
        f"unknown depth: {blocks} blocks of {convs} convolutions; known are ResNets {list(RESNETS)}"
    )


def _resnet_features(depth: int) -> int:
    return 512 if RESNETS[depth][0] == 2 else 2048


def _bits(names: Iterable[str], pattern: str) -> tuple[int, ...]:
    return tuple(sorted({int(m[1]) for m in (re.match(pattern, name) for name in names) if m}, reverse=True))


def _require(state: State, names: Iterable[str]) -> None:
    missing = [name for name in names if name not in state]
    if missing:
        raise ValueError(f"names missing: {_few(missing)}")


def _refuse_unknown(state: State, known: set[str]) -> None:
    unknown = [name for name in state if name not in known]
    if unknown:
        raise ValueError(f"unknown layout: names not known: {_few(unknown)}")


def _few(names: Iterable[str]) -> str:
    names = list(names)
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
