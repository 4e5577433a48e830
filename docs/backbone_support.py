"""What works with which backbone of MMAction2: each is tried, and the results written as docs/backbones.md.

Each is built in a small config and then
*converted*: its layers follow a precision switch, and at 32 bits it equals the float network;
*trained*: one step of an any-precision recognizer on random clips; the loss at 2 bits alone reaches its weights;
*exported*: as a bundle, whose codes and features ONNX Runtime computes as the simulation does.
"""

from __future__ import annotations

import logging
import tempfile
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import contextmanager
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from mmvideoiq import compat

compat.apply()

import mmaction.models  # noqa: F401  registers MMAction2's parts
import torch
from mmaction.registry import MODELS
from mmaction.structures import ActionDataSample
from mmengine.logging import MMLogger
from mmengine.registry import init_default_scope
from torch import Tensor, nn
from torch.nn import functional as F

import mmvideoiq.models  # noqa: F401  registers mmvideoiq's parts
from mmvideoiq.deploy.bundle.bundle import Bundle
from mmvideoiq.deploy.engines.factory import open_engine
from mmvideoiq.deploy.export import ExportError, Preprocessing, export, verify
from mmvideoiq.jobs.errors import one_line
from mmvideoiq.models.any_precision_backbone import AnyPrecisionBackbone
from mmvideoiq.models.any_precision_recognizer import AnyPrecisionRecognizer, AnyPrecisionRecognizer3D
from mmvideoiq.models.host_backbones import known_names
from mmvideoiq.models.videoiq_recognizer import pool

PRECISIONS = (32, 4, 2)
CLASSES, CLIPS, FRAMES = 3, 2, 4
RESNET = dict(depth=18, pretrained=None)
OF_3D = dict(**RESNET, pretrained2d=False)
TSM = dict(num_segments=FRAMES, shift_div=8)

# The smallest sensible config of each backbone that MMAction2 registers; {} where it is refused with any.
HOST: dict[str, dict[str, Any]] = {
    "AAGCN": {},
    "C2D": RESNET,
    "C3D": {},
    "MViT": dict(
        arch=dict(embed_dims=24, num_layers=4, num_heads=1, downscale_indices=[1, 2]), temporal_size=8
    ),
    "MobileNetV2": dict(widen_factor=0.25),
    "MobileNetV2TSM": dict(widen_factor=0.25, pretrained2d=False, **TSM),
    "MobileOneTSM": dict(arch="s0", pretrained2d=False, **TSM),
    "OmniResNet": dict(layers=[1, 1, 1, 1]),
    "RGBPoseConv3D": {},
    "ResNet": RESNET,
    "ResNet2Plus1d": dict(**OF_3D, conv_cfg=dict(type="Conv2plus1d"), conv1_kernel=(3, 7, 7)),
    "ResNet3d": OF_3D,
    "ResNet3dCSN": dict(depth=50, pretrained=None, stage_blocks=(1, 1, 1, 1), pretrained2d=False),
    "ResNet3dLayer": RESNET,
    "ResNet3dSlowFast": dict(
        slow_pathway=dict(
            type="resnet3d",
            lateral=True,
            conv1_kernel=(1, 7, 7),
            conv1_stride_t=1,
            pool1_stride_t=1,
            **RESNET,
        ),
        fast_pathway=dict(
            type="resnet3d",
            lateral=False,
            base_channels=8,
            conv1_kernel=(5, 7, 7),
            conv1_stride_t=1,
            pool1_stride_t=1,
            **RESNET,
        ),
    ),
    "ResNet3dSlowOnly": dict(**OF_3D, lateral=False),
    "ResNetAudio": RESNET,
    "ResNetTIN": dict(depth=50, pretrained=None, num_segments=FRAMES),
    "ResNetTSM": dict(**RESNET, pretrained2d=False, **TSM),
    "STGCN": {},
    "SwinTransformer3D": dict(
        arch=dict(embed_dims=24, depths=[2, 2], num_heads=[2, 4]), pretrained2d=False, out_indices=(1,)
    ),
    "TANet": dict(depth=50, pretrained=None, num_segments=FRAMES),
    "TimeSformer": dict(
        num_frames=4, img_size=64, patch_size=16, embed_dims=48, num_heads=4, num_transformer_layers=2
    ),
    "UniFormer": dict(
        depth=[1, 1, 1, 1], embed_dim=[32, 64, 64, 64], head_dim=32, img_size=64, pretrained2d=False
    ),
    "UniFormerV2": dict(
        input_resolution=64,
        width=48,
        layers=2,
        heads=4,
        t_size=4,
        return_list=[1],
        n_layers=1,
        n_dim=48,
        n_head=4,
        mlp_dropout=[0.5],
        clip_pretrained=False,
    ),
    "VisionTransformer": dict(img_size=64, embed_dims=48, depth=2, num_heads=4, num_frames=4),
    "X3D": dict(gamma_w=1, gamma_b=2.25, gamma_d=1),
}
# Some of those that MMAction2 takes from other packages.
ELSEWHERE: dict[str, dict[str, Any]] = {
    "mmpretrain.ResNet": dict(depth=18),
    "mmpretrain.MobileNetV2": dict(widen_factor=0.25),
    "mmpretrain.RegNet": dict(arch="regnetx_400mf"),
    "mmpretrain.ConvNeXt": dict(arch="atto"),
    "mmpretrain.SwinTransformer": dict(
        arch=dict(embed_dims=24, depths=[2, 2], num_heads=[2, 4]), img_size=64
    ),
    "mmpretrain.VisionTransformer": dict(arch="deit-tiny", img_size=64, out_type="cls_token"),
    "timm.resnet18": {},
    "timm.mobilenetv3_small_050": {},
    "timm.efficientnet_b0": {},
    "timm.vit_tiny_patch16_224": {},
    "timm.swin_tiny_patch4_window7_224": dict(feature_shape="NHWC"),
    "torchvision.resnet18": {},
    "torchvision.mobilenet_v2": {},
    "torchvision.efficientnet_b0": {},
    "torchvision.vit_b_32": {},
    "torchvision.swin_t": dict(feature_shape="NHWC"),
}
PACKAGES = ("mmaction2", "mmcv-lite", "mmcv", "mmpretrain", "timm", "torchvision", "torch", "onnxruntime")


def cases(names: Sequence[str] = ()) -> dict[str, dict[str, Any]]:
    """Name -> config of the backbones asked for; () is all.

    Raises:
        ValueError: a name without a config here.
    """
    configs = {name: dict(type=name, **options) for name, options in (HOST | ELSEWHERE).items()}
    unconfigured = [name for name in known_names() if name not in HOST]
    if unconfigured:
        raise ValueError(f"MMAction2 registers {', '.join(unconfigured)}, which has no config in {__name__}")
    unknown = [name for name in names if name not in configs]
    if unknown:
        raise ValueError(f"no config for {', '.join(unknown)}; there are {', '.join(configs)}")
    return {name: configs[name] for name in names or configs}


def measure(
    configs: Mapping[str, Mapping[str, Any]], progress: Callable[[Iterable], Iterable] = iter
) -> dict[str, Any]:
    """Try each backbone; a failure does not stop the others.

    Returns: ``rows``, and ``versions`` of the packages that matter.
    """
    init_default_scope("mmaction")
    return dict(versions=versions(), rows=[try_out(configs[name]) for name in progress(list(configs))])


def versions() -> dict[str, str | None]:
    """Installed versions of what the results depend on; None where a package is not installed."""
    found: dict[str, str | None] = {}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = None
    return found


def try_out(config: Mapping[str, Any]) -> dict[str, Any]:
    """One row.

    ``refused`` is None or the reason. Else: ``reads``, ``mixes_frames``, ``converted`` (layers), ``norms``,
    ``left`` (reason -> how many), ``layer_norms``, ``equals_float``, and of ``trains`` and ``exports`` None where
    they work, else the reason.
    """
    row: dict[str, Any] = dict(name=config["type"], config=_text(config), refused=None)
    with _quiet():
        torch.manual_seed(0)
        try:
            backbone = convert(config)
        except Exception as error:
            return row | dict(refused=one_line(error))
        row |= describe(backbone)
        for field, attempt in ATTEMPTS.items():
            try:
                row[field] = attempt(backbone, config)
            except Exception as error:
                row[field] = one_line(error)
    return row


def convert(config: Mapping[str, Any]) -> AnyPrecisionBackbone:
    """The any-precision backbone over ``config``."""
    weight = dict(type="nested")
    return MODELS.build(
        dict(type="AnyPrecisionBackbone", backbone=dict(config), precisions=PRECISIONS, weight=weight)
    )


def describe(backbone: AnyPrecisionBackbone) -> dict[str, Any]:
    """The conversion report of ``backbone`` in numbers."""
    report = backbone.report
    return dict(
        reads=backbone.reads,
        sample_shape=list(backbone.sample_shape),
        mixes_frames=backbone.mixes_frames,
        converted=len(report.converted),
        block_inputs=len(report.block_inputs),
        norms=len(report.norms),
        layer_norms=sum(isinstance(module, nn.LayerNorm) for module in backbone.modules()),
        left=dict(Counter(report.left.values())),
    )


def equals_float(backbone: AnyPrecisionBackbone, config: Mapping[str, Any]) -> str | None:
    """Whether at 32 bits the converted network computes what the float one does in MMAction2's recognizer."""
    kind = "Recognizer2D" if backbone.reads == "frames" else "Recognizer3D"
    reference = MODELS.build(dict(type=kind, backbone=dict(config))).eval()
    names = backbone.load_state_dict(reference.backbone.state_dict(), strict=False)
    misfits = [*(name for name in names.missing_keys if ".clip." not in name), *names.unexpected_keys]
    if misfits:
        return f"float weights do not fit: {misfits[0]}"
    backbone.eval()
    inputs = random_inputs(backbone, 1)
    with torch.no_grad():
        expected = _tensors(reference.extract_feat(inputs, stage="backbone")[0])
        found = _tensors(backbone(inputs.flatten(0, 1)))
    if backbone.reads == "frames":  # MMAction2 averages some over space
        expected, found = [pool(each) for each in expected], [pool(each) for each in found]
    off = max(float((a - b).abs().max() / b.abs().max()) for a, b in zip(found, expected, strict=True))
    return None if off <= 1e-5 else f"differs from the float network by {off:.2g} of its largest feature"


def export_and_run(backbone: AnyPrecisionBackbone, config: Mapping[str, Any]) -> str | None:
    """A bundle of it, run in ONNX Runtime at each precision and compared layer by layer with the simulation."""
    model = recognizer(backbone)
    frames, side = backbone.num_segments or FRAMES, backbone.sample_shape[-1]
    images = smooth_images(frames, side)
    with tempfile.TemporaryDirectory() as folder, torch.no_grad():
        path = Path(folder, "bundle")
        if backbone.reads == "frames":
            settle_(backbone, _normalized(model, images))
        classes = [str(k) for k in range(CLASSES)]
        try:
            export(model.eval(), path, classes=classes, preprocessing=Preprocessing(frames=frames, crop=side))
        except ExportError as error:
            return one_line(error)
        bundle, engine = Bundle.open(path), open_engine("onnxruntime", threads=1)
        for bits in PRECISIONS:
            problem = verify.compare(model, bundle, engine, images.numpy(), bits).problem
            if problem is not None:
                return problem
    return None


def train_a_step(backbone: AnyPrecisionBackbone, config: Mapping[str, Any]) -> str | None:
    """One step of SGD on all precisions; the loss at the lowest one must reach what that at the highest reaches."""
    model = recognizer(backbone)
    inputs = random_inputs(backbone, CLIPS)
    settle_(backbone, inputs.flatten(0, 1))
    model.train()
    labels = [ActionDataSample().set_gt_label(i % CLASSES) for i in range(CLIPS)]
    weights = {name: backbone.net.get_submodule(name).weight for name in backbone.report.converted}
    before = {name: weight.detach().clone() for name, weight in weights.items()}
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    losses = model.loss(inputs, labels)
    highest, lowest = (
        {*reached(losses[f"loss_cls_{bits}"], weights)} for bits in (PRECISIONS[0], PRECISIONS[-1])
    )
    if lost := [name for name in weights if name in highest - lowest]:
        return f"no gradient at {PRECISIONS[-1]} bits reaches {len(lost)} of {len(weights)} layers: {lost[0]}"
    total = sum(value for name, value in losses.items() if "loss" in name)
    total.backward()
    optimizer.step()
    if not bool(total.isfinite()) or not all(bool(weight.isfinite().all()) for weight in weights.values()):
        return f"the loss is {float(total)}"
    still = [name for name in highest if torch.equal(weights[name], before[name])]
    return f"a step leaves {still[0]} as it was" if still else None


def reached(loss: Tensor, weights: Mapping[str, Tensor]) -> list[str]:
    """Names of the weights that get a gradient from ``loss``; some never do, such as those before a zero."""
    grads = torch.autograd.grad(loss, list(weights.values()), retain_graph=True, allow_unused=True)
    return [
        name
        for name, grad in zip(weights, grads, strict=True)
        if grad is not None and bool(grad.abs().sum() > 0)
    ]


@torch.no_grad()
def settle_(backbone: AnyPrecisionBackbone, inputs: Tensor) -> None:
    """As if ``backbone`` had been trained on ``inputs``: norms have their statistics, clips suit the activations.

    Clips are then moved off the largest activation, which would put many others exactly on a tie.
    """
    norms = {m: m.momentum for m in backbone.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)}
    for norm in norms:
        norm.momentum = 1.0
    backbone.train()
    backbone.forward_all(inputs)
    for norm, momentum in norms.items():
        norm.momentum = momentum
    backbone.eval()
    backbone.calibrate_(inputs)
    for name, parameter in backbone.named_parameters():
        if ".clip." in name:
            parameter.mul_(0.9 + 0.2 * torch.rand(1))


def recognizer(backbone: AnyPrecisionBackbone) -> Any:
    """An any-precision recognizer around ``backbone``, with MMAction2's head for such features."""
    with torch.no_grad():
        head, channels = head_of(backbone.eval()(random_inputs(backbone, 1).flatten(0, 1)))
    clips = backbone.reads == "clips"
    preprocessor = dict(
        type="ActionDataPreprocessor",
        mean=[127.5] * 3,
        std=[60.0] * 3,
        format_shape="NCTHW" if clips else "NCHW",
    )
    kind = AnyPrecisionRecognizer3D if clips else AnyPrecisionRecognizer
    return kind(
        backbone=dict(type=lambda: backbone),
        cls_head=dict(type=head, num_classes=CLASSES, in_channels=channels),
        data_preprocessor=preprocessor,
    )


def head_of(features: Any) -> tuple[str, int]:
    """MMAction2's head for ``features``, and how many channels it reads."""
    if isinstance(features, Tensor):
        return {2: "TimeSformerHead", 4: "TSNHead", 5: "I3DHead"}[features.dim()], features.shape[1]
    tensors = _tensors(features)
    if len(features) == 1:  # patch tokens and class token
        return "MViTHead", tensors[-1].shape[1]
    return "SlowFastHead", sum(tensor.shape[1] for tensor in tensors)


def random_inputs(backbone: AnyPrecisionBackbone, count: int) -> Tensor:
    """Normalized clips as recognizers take them: (N, T, C, H, W), or (N, 1, C, T, H, W) of 3D ones."""
    views = 1 if backbone.reads == "clips" else backbone.num_segments or FRAMES
    return torch.randn(count, views, *backbone.sample_shape)


def smooth_images(count: int, side: int) -> Tensor:
    """uint8 (count, side, side, 3), each of its own contrast."""
    coarse = torch.rand(count, 3, 6, 6) * torch.rand(count, 1, 1, 1)
    fine = F.interpolate(coarse, size=(side, side), mode="bilinear")
    return (255 * fine).round().to(torch.uint8).permute(0, 2, 3, 1).contiguous()


def _normalized(model: Any, images: Tensor) -> Tensor:
    return model.data_preprocessor.preprocess([images.permute(0, 3, 1, 2)], None)[0][0]


def _tensors(features: Any) -> list[Tensor]:
    """The tensors of nested tuples and lists, in order."""
    if isinstance(features, Tensor):
        return [features]
    return [tensor for each in features for tensor in _tensors(each)]


def _text(config: Mapping[str, Any]) -> str:
    """As a config file holds it."""

    def show(value: Any) -> str:
        if isinstance(value, Mapping):
            return f"dict({', '.join(f'{key}={show(item)}' for key, item in value.items())})"
        return repr(value).replace("'", '"')

    return show(config)


@contextmanager
def _quiet():
    """Keep MMAction2's log of each model out of the output."""
    logger = MMLogger.get_current_instance()
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)


ATTEMPTS = {"equals_float": equals_float, "trains": train_a_step, "exports": export_and_run}


# --- as a page ----------------------------------------------------------------------------------------------------

HEAD = """\
# Backbones

What becomes any-precision, of the backbones that MMAction2 1.2.0 registers and of some that it takes from mmpretrain,
timm and torchvision. This page is written by a run, not by hand:

```bash
{command}
```

Each backbone is built in the small config below and tried out:

- **layers** follow the precision of the frame or clip, with **norms** (batch norms, one set per precision). What stays
  float stands beside, with the reason. Layer norms are shared by all precisions: they keep no statistics that could
  belong to one of them, and their scale and shift act on values that are not quantized.
- **equal at 32 bits**: with the float network's weights loaded, it computes what that network computes in MMAction2's
  recognizer.
- **trains**: one step of `AnyPrecisionRecognizer` (frames) or `AnyPrecisionRecognizer3D` (clips) on all precisions
  ends finite, changes the weights, and the loss at 2 bits alone reaches every layer that the loss at 32 bits reaches.
- **exports**: the bundle runs in ONNX Runtime and gives at 32, 4 and 2 bits what the simulation gives: each layer's
  codes, from those before it, unless a value lies within {tie} steps of a tie between two of them; and the features,
  from the last codes, to {floor:.0f} dB at least.
- **precision per**: *frame*: under `VideoIQRecognizer` the policy chooses for each frame. *clip*: frames are mixed, so
  that one precision holds for all of them: `set_fixed_action(bits)`, no policy.

Inputs that may be negative (behind a layer norm, a GELU, a linear bottleneck) get two-sided clips, as the pass of a
sample shows. Products of queries, keys and values stay float: they have no weights. A linear layer whose weight other
code reads past the layer, as `nn.MultiheadAttention` and some attention blocks do, stays float too; it "did not run".

Packages: {packages}.

| backbone | reads | layers | norms | stays float | equal at 32 bits | trains | exports | precision per |
|---|---|---|---|---|---|---|---|---|
"""


def page(result: Mapping[str, Any], command: str) -> str:
    """``result`` of :func:`measure` as Markdown."""
    found = [f"{name} {number}" for name, number in result["versions"].items() if number is not None]
    missing = [name for name, number in result["versions"].items() if number is None]
    packages = ", ".join(found) + (f"; not installed: {', '.join(missing)}" if missing else "")
    lines = [
        HEAD.format(command=command, tie=verify.TIE, floor=verify.FLOOR_DB, packages=packages).rstrip("\n")
    ]
    reasons: list[str] = []

    def note(reason: str) -> str:
        """The number of a reason, which is listed below the table."""
        if reason not in reasons:
            reasons.append(reason)
        return f"[{reasons.index(reason) + 1}](#reasons)"

    lines += [_line(row, note) for row in result["rows"]]
    lines += ["", "## Reasons", "", *(f"{i}. {reason}" for i, reason in enumerate(reasons, 1))]
    lines += ["", "## Configs", "", "As `backbone` of an `AnyPrecisionBackbone`:", "", "```python"]
    lines += [*(row["config"] for row in result["rows"]), "```"]
    return "\n".join(lines) + "\n"


def _line(row: Mapping[str, Any], note: Callable[[str], str]) -> str:
    if row["refused"]:
        return f"| {row['name']} | | | | refused {note(row['refused'])} | | | | |"
    left = "; ".join(f"{count} × {reason}" for reason, count in row["left"].items())
    works = ["yes" if row[field] is None else f"no {note(row[field])}" for field in ATTEMPTS]
    shape = " × ".join(map(str, row["sample_shape"]))
    cells = [row["name"], f"{row['reads']} {shape}", row["converted"], row["norms"], left, *works]
    return f"| {' | '.join(map(str, cells))} | {'clip' if row['mixes_frames'] else 'frame'} |"
