"""Conversion of float networks of MMAction2, MMPretrain and torchvision to an ``AnyPrecisionRecognizer``."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from mmvideoiq.checkpoint.files import IMAGENET
from mmvideoiq.checkpoint.layers import mobilenet_layers, resnet_depth, resnet_features, resnet_layers
from mmvideoiq.checkpoint.tensors import NORM_LEAVES, Entry, State, collect, few, norm_shape, refuse_unknown

#: Of MMAction2, MMPretrain, and two of torchvision.
HEADS = ("cls_head.fc_cls", "head.fc", "fc", "classifier.1")


@dataclass(frozen=True, kw_only=True)
class FloatSpec:
    """Content of a float file: backbone, depth (None if there is a single size), classes (None: no classifier)."""

    backbone: str
    depth: int | None
    num_classes: int | None

    def __str__(self) -> str:
        depth = "" if self.depth is None else f"-{self.depth}"
        classes = "no classifier" if self.num_classes is None else f"{self.num_classes} classes"
        return f"{self.backbone}{depth}, {classes}"

    @property
    def features(self) -> int:
        return 1280 if self.depth is None else resnet_features(self.depth)


def read_float(state: State) -> FloatSpec:
    """Backbone, depth and classes of a float ResNet or MobileNetV2 (also TSM), with MMAction2's or torchvision's names.

    Raises:
        ValueError: unknown layout or depth.
    """
    body, head = _float_parts(state)
    num_classes = len(state[head["weight"]]) if head else None
    tsm = "TSM" if any(".net." in source for source in body.values()) else ""
    if "layer4.0.conv1.conv.weight" in body or "layer4.0.conv1.weight" in body:
        return FloatSpec(
            backbone=f"ResNet{tsm}", depth=resnet_depth(body, "layer{}."), num_classes=num_classes
        )
    if "conv2.conv.weight" in body or "features.18.0.weight" in body:
        return FloatSpec(backbone=f"MobileNetV2{tsm}", depth=None, num_classes=num_classes)
    raise ValueError(f"unknown layout: neither a ResNet nor a MobileNetV2; the first names are {few(state)}")


def convert_float(state: State, spec: FloatSpec, precisions: Sequence[int]) -> dict[str, Tensor]:
    """A float network under the names of an ``AnyPrecisionRecognizer``; every precision's batch norm is the float one.

    The stem keeps its one batch norm. Quantizers have no float counterpart: see ``complete``.

    Raises:
        ValueError: a name is missing or unknown, or a shape is not that of the backbone.
    """
    body, head = _float_parts(state)
    layers = list(mobilenet_layers() if spec.depth is None else resnet_layers(spec.depth))
    mmaction_names = f"{layers[0].mmaction}.conv.weight" in body
    entries = []
    for layer in layers:
        conv, norm = (
            (f"{layer.mmaction}.conv", f"{layer.mmaction}.bn") if mmaction_names else (layer.conv, layer.norm)
        )
        source = body.get(f"{conv}.weight", f"{conv}.weight")
        wrapped = source.replace("backbone.", "") if mmaction_names else f"{layer.mmaction}.conv.weight"
        entries.append(Entry(f"backbone.net.{wrapped}", (source,), layer.shape))
        # MobileNetV2TSM wraps the ConvModule, ResNetTSM only its convolution
        home = f"{layer.mmaction}.net.bn" if f"{layer.mmaction}.net." in wrapped else f"{layer.mmaction}.bn"
        homes = [home] if layer is layers[0] else [f"{home}.norms.{bits}" for bits in precisions]
        for leaf in NORM_LEAVES:
            source = body.get(f"{norm}.{leaf}", f"{norm}.{leaf}")
            entries += [Entry(f"backbone.net.{h}.{leaf}", (source,), norm_shape(leaf, layer)) for h in homes]
    for leaf, source in head.items():
        shape = (spec.num_classes, spec.features) if leaf == "weight" else (spec.num_classes,)
        entries.append(Entry(f"cls_head.fc_cls.{leaf}", (source,), shape))
    refuse_unknown(state, {source for entry in entries for source in entry.sources})
    return collect(state, entries)


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


def _float_parts(state: State) -> tuple[dict[str, str], dict[str, str]]:
    """Tensors of the backbone and of the classifier: {name without prefix and a TSM's ``.net.``: name in the file}."""
    head = next((h for h in HEADS if f"{h}.weight" in state), None)
    classifier = {leaf: f"{head}.{leaf}" for leaf in ("weight", "bias")} if head else {}
    prefix = "backbone." if any(name.startswith("backbone.") for name in state) else ""
    inside = [n for n in state if n.startswith(prefix) and n not in classifier.values()]
    return {n.removeprefix(prefix).replace(".net.", "."): n for n in inside}, classifier
