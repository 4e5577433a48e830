"""Small models as after training, and their bundles."""

from pathlib import Path

import torch
from mmaction.registry import MODELS
from torch import Tensor, nn
from torch.nn import functional as F

import mmvideoiq.data.dataset
import mmvideoiq.models  # noqa: F401  registers what the configs name
from mmvideoiq.deploy.bundle.bundle import Bundle
from mmvideoiq.deploy.export import Preprocessing, export
from mmvideoiq.models.videoiq_recognizer import pool
from mmvideoiq.quant import Pact
from tests.models.toys import any_precision, any_precision_recognizer, build, lived_in, videoiq
from tests.reference.run_graph import run_graph

FRAMES = 4


IMAGENET = dict(
    type="ActionDataPreprocessor",
    mean=[123.675, 116.28, 103.53],
    std=[58.395, 57.12, 57.375],
    format_shape="NCHW",
)


UNIT = dict(IMAGENET, mean=[0.0] * 3, std=[255.0] * 3)  # frames in [0, 1]


MOBILENET = dict(type="MobileNetV2", widen_factor=0.25)


RESNET = dict(type="ResNet", depth=18, pretrained=None)


TSM = dict(num_segments=FRAMES, shift_div=8, pretrained2d=False)


@MODELS.register_module()
class Oddments(nn.Module):
    """What MMAction2's backbones do not do, and a graph can: a norm before a convolution, biases, other pools."""

    def __init__(self, width: int = 8) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, width, 3, stride=2, padding=1)
        self.drop = nn.Dropout(0.3)
        self.norm1 = nn.BatchNorm2d(width)
        self.conv1 = nn.Conv2d(width, width, (3, 1), padding=(1, 0), groups=2)
        self.norm2 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, padding=2, dilation=2, bias=False)
        self.act = nn.Hardtanh(-0.5, 2.0)
        self.max_pool = nn.MaxPool2d(3, stride=2, ceil_mode=True)
        self.avg_pool = nn.AvgPool2d(2, padding=1, count_include_pad=False)
        self.global_pool = nn.AdaptiveAvgPool2d(1)
        self.flatten = nn.Flatten()
        self.fc = nn.Linear(width, 2 * width)

    def init_weights(self) -> None:
        """Those of torch."""

    def forward(self, x: Tensor) -> Tensor:
        x = self.drop(self.stem(x))
        y = self.conv1(F.relu(self.norm1(x)))
        y = torch.add(y, self.conv2(self.norm2(self.act(y))))
        y = self.avg_pool(self.max_pool(y + x))
        return self.fc(self.flatten(self.global_pool(y)))


def recognizer(backbone: dict | None = None, *, features: int = 16, **options) -> dict:
    """A VideoIQRecognizer over an any-precision ``backbone``."""
    options.setdefault("weight", dict(type="nested"))
    precisions = options.setdefault("precisions", (32, 4, 2))
    cfg = videoiq(
        backbone=any_precision(backbone, **options),
        actions=[*(dict(bits=bits) for bits in precisions if isinstance(bits, int)), dict(skip=1)],
        data_preprocessor=UNIT if options.get("input_range") == (0.0, 1.0) else IMAGENET,
    )
    cfg["cls_head"]["in_channels"] = features
    return cfg


def whole_clips(backbone: dict, *, features: int, **options) -> dict:
    """An AnyPrecisionRecognizer, which may shift features between frames."""
    cfg = any_precision_recognizer(backbone=any_precision(backbone, **options), data_preprocessor=IMAGENET)
    return dict(cfg, cls_head=dict(type="TSNHead", num_classes=3, in_channels=features))


def frames_for(size: int, num: int = FRAMES, seed: int = 0) -> Tensor:
    """uint8 (num, size, size, 3), smooth, each of its own contrast."""
    generator = torch.Generator().manual_seed(seed)
    coarse = torch.rand(num, 3, 6, 6, generator=generator) * torch.rand(num, 1, 1, 1, generator=generator)
    fine = F.interpolate(coarse, size=(size, size), mode="bilinear")
    return (255 * fine).round().to(torch.uint8).permute(0, 2, 3, 1).contiguous()


def trained(cfg: dict, size: int) -> nn.Module:
    """A model with norms of its own, and clips that suit what its layers see."""
    model = lived_in(build(cfg)).eval()
    model.backbone.calibrate_(normalized(model, frames_for(size, seed=5)))
    return model


def normalized(model: nn.Module, frames: Tensor) -> Tensor:
    return model.data_preprocessor.preprocess([frames.permute(0, 3, 1, 2)], None)[0][0]


def exported(model: nn.Module, path: Path, size: int, **options) -> Bundle:
    classes = [f"class {k}" for k in range(3)]
    export(model, path, classes=classes, preprocessing=Preprocessing(frames=FRAMES, crop=size), **options)
    return Bundle.open(path)


@torch.no_grad()
def simulate(model: nn.Module, frames: Tensor, bits: int) -> tuple[Tensor, dict[str, Tensor]]:
    """Features (N, D), and what each activation quantizer gave."""
    seen: dict[str, Tensor] = {}
    names = {module: name for name, module in model.backbone.net.named_modules() if isinstance(module, Pact)}
    handles = [
        module.register_forward_hook(lambda module, _, output: seen.update({names[module]: output.clone()}))
        for module in names
    ]
    handles.append(
        model.backbone.net.register_forward_pre_hook(lambda _, args: seen.update(input=args[0].clone()))
    )
    features = pool(model.backbone.forward_at(normalized(model, frames), bits))
    for handle in handles:
        handle.remove()
    return features, seen


def decibels(signal: Tensor, other: Tensor) -> float:
    noise = (signal.double() - other.double()).square().sum().clamp_min(1e-300)
    return float(10 * torch.log10(signal.double().square().sum() / noise))


def check_simulation(model: nn.Module, bundle: Bundle, frames: Tensor) -> None:
    """Every node, given what the simulation gives it, computes what the simulation computes."""
    for bits in bundle.precisions:
        features, seen = simulate(model, frames, bits)
        graph = bundle.graphs["recognition"]
        values = run_graph(bundle, "recognition", bits, {"frames": frames}, known=seen)
        quantizers = [node for node in graph if node.op == "quantize"]
        assert {node.name for node in quantizers} | {"input"} == {*seen, "input"}
        for node in quantizers:
            grid = node.grid(bits)
            if grid is None:
                continue
            place = (values[node.inputs[0]].double() - grid.origin) / grid.step
            differs = (values[node.name] - seen[node.name]).abs() > grid.step / 2
            tie = (place - place.floor() - 0.5).abs()[differs]
            # float32 rounds sums of thousands of products: seen up to 1.4e-4 of the range, ResNet-50 on DoReFa's grid
            assert (tie < 2e-4 * 2**bits).all() and differs.float().mean() < 1e-3, (
                bits,
                node.name,
                tie.max(),
            )
        assert decibels(features, values[graph.outputs[0]]) > 60, bits


def check_codes(model: nn.Module, bundle: Bundle) -> int:
    """Stored codes are the simulation's, and scale and offset give its weights; how many layers were compared."""
    quantized = [node for node in bundle.graphs["recognition"] if node.attrs.get("quantized")]
    for node in quantized:
        layer = model.backbone.net.get_submodule(node.name)
        for bits in bundle.precisions:
            stored = bundle.layer("recognition", node, bits)
            if bits == 32:
                assert torch.equal(torch.from_numpy(stored.weight), layer.weight)
                continue
            codes = torch.from_numpy(stored.codes)
            assert torch.equal(codes, layer.weight_quantizer.to_codes(layer.weight, bits).to(torch.uint8))
            shape = (-1, *[1] * (codes.dim() - 1))
            scale, offset = (torch.from_numpy(a).view(shape) for a in (stored.scale, stored.offset))
            torch.testing.assert_close(
                scale * codes + offset, layer.weight_quantizer(layer.weight, bits), rtol=0, atol=1e-6
            )
    assert len(quantized) == len(model.backbone.report.converted)
    return len(quantized)


SIMULATED = {
    "slim-nested": (recognizer(), 24),
    "slim-nested-8": (recognizer(precisions=(8, 4, 2)), 24),
    "slim-lsq": (recognizer(precisions=(32, 8, 5, 2, 1), weight=dict(type="lsq")), 24),
    "slim-dorefa": (recognizer(weight=dict(type="dorefa")), 24),
    "slim-dorefa-8": (recognizer(precisions=(8, 4, 2), weight=dict(type="dorefa")), 24),
    "slim-float-left": (recognizer(exclude=["stages.0.*"]), 24),
    "slim-stem": (recognizer(quantize_stem=True, input_range=(0.0, 1.0)), 24),
    "slim-stem-8": (
        recognizer(
            precisions=(8, 4), quantize_stem=True, input_range=(-2.2, 2.7), weight=dict(type="dorefa")
        ),
        24,
    ),
    "oddments": (recognizer(dict(type="Oddments"), precisions=(32, 8, 4)), 24),
    "resnet18": (recognizer(RESNET, features=512), 64),
    "mobilenet_v2": (recognizer(MOBILENET, features=1280, precisions=(8, 4)), 64),
    "resnet_tsm": (
        whole_clips(dict(RESNET, type="ResNetTSM", **TSM), features=512, precisions=(4, 2)),
        32,
    ),
    "resnet_tsm-block": (
        whole_clips(
            dict(RESNET, type="ResNetTSM", shift_place="block", **TSM), features=512, precisions=(4, 2)
        ),
        32,
    ),
    "mobilenet_v2_tsm": (
        whole_clips(dict(MOBILENET, type="MobileNetV2TSM", **TSM), features=1280),
        64,
    ),
}
