"""A bundle holds what the trained model computes: codes, scales, folded norms, graphs; the rest is refused."""

import copy
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from mmaction.registry import DATASETS, MODELS
from mmengine.config import Config
from mmengine.logging import MMLogger
from mmengine.registry import DefaultScope, init_default_scope
from safetensors.numpy import load_file
from torch import Tensor, nn
from torch.nn import functional as F

import mmvideoiq.data.dataset
import mmvideoiq.models  # noqa: F401  registers what the configs name
from mmvideoiq.deploy.bundle.bundle import Bundle
from mmvideoiq.deploy.export import ExportError, Preprocessing, export
from mmvideoiq.deploy.export.from_config import find_classes, read_pipeline
from mmvideoiq.deploy.export.trace import GraphWriter, Value, trace
from mmvideoiq.models.videoiq_recognizer import pool
from mmvideoiq.quant import Pact
from tests.models.toys import any_precision, any_precision_recognizer, build, lived_in, policy, slim, videoiq
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


@pytest.fixture(autouse=True)
def _mmaction_scope():
    before = DefaultScope.get_current_instance()
    init_default_scope("mmaction")
    MMLogger.get_current_instance().setLevel("ERROR")
    yield
    if before is not None:
        init_default_scope(before.scope_name)


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


@pytest.mark.parametrize(
    "name",
    [pytest.param(name, marks=pytest.mark.slow) if "resnet_tsm" in name else name for name in SIMULATED],
)
def test_a_bundle_computes_what_the_simulation_computes(name, tmp_path):
    cfg, size = copy.deepcopy(SIMULATED[name])
    model = trained(cfg, size)
    if name == "slim-lsq":
        for module in model.modules():
            if hasattr(module, "ratio"):
                nn.init.uniform_(module.ratio, -1.2, -0.5)
    if name == "oddments":  # as BatchNorm2d(affine=False)
        for norm in model.backbone.net.norm2.norms.values():
            norm.affine, norm.weight, norm.bias = False, None, None
    bundle = exported(model, tmp_path / "bundle", size)
    assert check_codes(model, bundle) > 0
    check_simulation(model, bundle, frames_for(size))


@pytest.mark.slow
@pytest.mark.parametrize("weight", ["dorefa", "nested", "lsq"])
@pytest.mark.parametrize("precisions", [(32, 4, 2), (8, 4, 2)])
def test_resnet50(precisions, weight, tmp_path):
    backbone = dict(RESNET, depth=50)
    cfg = recognizer(backbone, features=2048, precisions=precisions, weight=dict(type=weight))
    model = trained(cfg, 64)
    bundle = exported(model, tmp_path / "bundle", 64)
    assert check_codes(model, bundle) == 52
    check_simulation(model, bundle, frames_for(64))


@pytest.mark.parametrize("weight", ["nested", "lsq"])
@pytest.mark.parametrize("precisions", [(32, 4, 2), (8, 4, 2)])
def test_one_scale_for_a_layer(precisions, weight, tmp_path):
    cfg = recognizer(precisions=precisions, weight=dict(type=weight, per_channel=False))
    model = trained(cfg, 24)
    bundle = exported(model, tmp_path / "bundle", 24)
    assert check_codes(model, bundle) > 0
    check_simulation(model, bundle, frames_for(24))


def test_a_float_model_has_no_codes(tmp_path):
    model = trained(recognizer(precisions=(32,)), 24)
    bundle = exported(model, tmp_path / "bundle", 24)
    assert not any(node.attrs.get("quantized") for node in bundle.graphs["recognition"])
    check_simulation(model, bundle, frames_for(24))


def test_actions_may_leave_precisions_out(tmp_path):
    """The parent is then the highest precision in use, and smaller."""
    cfg = recognizer(precisions=(32, 8, 4, 2), weight=dict(type="dorefa"))
    cfg["actions"] = [dict(bits=4), dict(bits=2), dict(skip=1), dict(skip=2)]
    model = trained(cfg, 24)
    bundle = exported(model, tmp_path / "bundle", 24)
    assert bundle.manifest["precisions"] == [4, 2] and bundle.manifest["parent_bits"] == 4
    check_codes(model, bundle)
    check_simulation(model, bundle, frames_for(24))


# --- policy -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("backbone", ["slim", "mobilenet_v2", "quantized"])
def test_the_policy_computes_what_the_simulation_computes(backbone, tmp_path):
    cfg = recognizer()
    if backbone == "quantized":
        cfg["policy"]["quantize_32"] = ["conv1.conv"]
    elif backbone == "mobilenet_v2":
        cfg["policy"] = policy(input_size=40)
        cfg["policy"] |= dict(backbone=MOBILENET, head=dict(cfg["policy"]["head"], in_channels=1280))
    model = trained(cfg, 48)
    bundle = exported(model, tmp_path / "bundle", 48)
    graph, frames = bundle.graphs["policy"], frames_for(48, num=6)
    with torch.no_grad():
        expected = model.policy(normalized(model, frames).unsqueeze(0)).log_probs[0]  # (T, A)
    state = {name: torch.zeros(1, 12) for name in ("h", "c")}
    logits, h, c = graph.outputs
    whole = run_graph(bundle, "policy", 32, {"frames": frames, **state})
    assert decibels(expected, whole[logits].log_softmax(-1)) > 60
    assert torch.equal(expected.argmax(-1), whole[logits].argmax(-1))

    rows = []
    for frame in frames:  # a stream: the state goes from one call to the next
        values = run_graph(bundle, "policy", 32, {"frames": frame.unsqueeze(0), **state})
        rows.append(values[logits])
        state = {"h": values[h], "c": values[c]}
    torch.testing.assert_close(torch.cat(rows), whole[logits])


def test_policy_weights_take_16_bits(tmp_path):
    bundle = exported(trained(recognizer(), 24), tmp_path / "bundle", 24)
    layers = [node for node in bundle.graphs["policy"] if node.op in ("conv", "linear")]
    assert layers
    tensors = load_file(tmp_path / "bundle/policy.safetensors")
    for node in layers:
        assert tensors[f"{node.attrs['layer']}.int16"].dtype == np.int16


# --- manifest -----------------------------------------------------------------------------------------------------


def test_manifest(tmp_path):
    model = trained(recognizer(), 24)
    row = dict(multiplier=0.0, cost=0.3, accuracy=0.5, usage=[0.1, 0.2, 0.3, 0.4])
    latency = dict(
        engine="openvino", threads=1, cpu="a CPU", actions={"32": 3.0, "4": 2.0, "2": 1.0}, policy=0.5
    )
    out = tmp_path / "deep" / "bundle"
    export(
        model,
        str(out),
        classes=["a", "b", "c"],
        preprocessing=Preprocessing(frames=5, short_side=28, crop=24),
        budget=[row],
        latency_ms=latency,
    )
    bundle = Bundle.open(out)
    manifest = bundle.manifest
    assert manifest["classes"] == ["a", "b", "c"]
    assert bundle.actions == model.actions and bundle.costs.tolist() == list(model.actions.costs)
    preprocessing = dict(manifest["preprocessing"])
    np.testing.assert_allclose(preprocessing.pop("mean"), IMAGENET["mean"], rtol=1e-6)
    np.testing.assert_allclose(preprocessing.pop("std"), IMAGENET["std"], rtol=1e-6)
    assert preprocessing == dict(frames=5, clip_len=1, short_side=28, crop=24)
    assert manifest["budget"] == [row] and manifest["latency_ms"] == latency
    assert manifest["parent_bits"] == 32 and manifest["all_skip"] == "likeliest"

    cost = model._model_cost((3, 24, 24), with_policy=True)
    ours, policy_cost = manifest["gflops"], manifest["gflops"]["policy"]
    for action, share in zip(model.actions.names, (1, 1 / 4, 1 / 16, 0), strict=True):
        assert ours[action] + policy_cost == pytest.approx(cost.paper_gflops(share, 1))
    strict = manifest["bitops"]
    assert strict["4"] + strict["policy"] + 1024 * cost.classifier_macs == pytest.approx(cost.bitops([4]))
    weight, bias = bundle.head()
    assert torch.equal(torch.from_numpy(weight), model.cls_head.fc_cls.weight)
    assert torch.equal(torch.from_numpy(bias), model.cls_head.fc_cls.bias)


def test_actions_with_sizes(tmp_path):
    modes = [dict(bits=4), dict(bits=4, size=12)]
    cfg = recognizer(precisions=modes)
    cfg["actions"] = dict(actions=[*modes, dict(skip=1)], frame_size=24)
    model = trained(cfg, 24)
    bundle = exported(model, tmp_path / "bundle", 24)
    manifest = bundle.manifest
    assert manifest["actions"] == [*modes, dict(skip=1)] and manifest["precisions"] == [4]
    assert bundle.actions == model.actions and manifest["cost"]["values"] == [0.25, 0.0625, 0]
    cost = model._model_cost((3, 24, 24), with_policy=True)
    policy = manifest["gflops"]["policy"]
    assert manifest["gflops"]["4@12"] + policy == pytest.approx(cost.paper_gflops(1 / 4, 1, 12))
    assert manifest["bitops"]["4@12"] == pytest.approx(manifest["bitops"]["4"] / 4)
    with pytest.raises(ValueError, match="frames of 24, the frame is 28x28: set frame_size=28"):
        exported(model, tmp_path / "other", 28)


def test_a_latency_table_is_not_named_by_its_path(tmp_path):
    table = tmp_path / "table.json"
    table.write_text(json.dumps({"32": 4.0, "4": 2.0, "2": 1.0}))
    cfg = recognizer()
    cfg["actions"] = dict(actions=cfg["actions"], cost=str(table))
    bundle = exported(trained(cfg, 24), tmp_path / "bundle", 24)
    assert bundle.manifest["cost"] == dict(rule="table", values=[1.0, 0.5, 0.25, 0.0])


def test_a_model_without_a_policy(tmp_path):
    cfg, size = SIMULATED["mobilenet_v2_tsm"]
    model = trained(copy.deepcopy(cfg), size)
    bundle = exported(model, tmp_path / "bundle", size)
    assert set(bundle.graphs) == {"recognition"}
    assert bundle.actions.names == ("32", "4", "2")
    shifts = [node.attrs for node in bundle.graphs["recognition"] if node.op == "shift"]
    assert len(shifts) == 10 and shifts[0] == dict(frames=FRAMES, fold=1)
    frames = frames_for(size)
    features = run_graph(bundle, "recognition", 32, {"frames": frames})["features"]
    weight, bias = map(torch.from_numpy, bundle.head())
    with torch.no_grad():
        expected = model._forward(normalized(model, frames).unsqueeze(0))
    torch.testing.assert_close(features.mean(0) @ weight.T + bias, expected[0], rtol=1e-4, atol=1e-5)
    with pytest.raises(ExportError, match="within clips of 4 frames, and 6 frames are no multiple of that"):
        options = dict(classes=["a", "b", "c"], preprocessing=Preprocessing(frames=6, crop=size))
        export(model, tmp_path / "other", **options)


def test_frames_may_go_in_unnormalized(tmp_path):
    model = trained(dict(recognizer(), data_preprocessor=None), 24)
    bundle = exported(model, tmp_path / "bundle", 24)
    assert bundle.manifest["preprocessing"]["mean"] == [0.0] * 3
    assert bundle.manifest["preprocessing"]["std"] == [1.0] * 3
    check_simulation(model, bundle, frames_for(24))


def test_the_model_is_left_as_it_is(tmp_path):
    model = trained(recognizer(), 24).train()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    modes = [module.training for module in model.modules()]
    exported(model, tmp_path / "bundle", 24)
    assert modes == [module.training for module in model.modules()]
    after = model.state_dict()
    assert before.keys() == after.keys()
    assert all(torch.equal(value, after[name]) for name, value in before.items())


def test_frames_that_are_not_cropped_have_a_size(tmp_path):
    model = trained(recognizer(), 24)
    options = dict(classes=["a", "b", "c"], preprocessing=Preprocessing(frames=FRAMES))
    export(model, tmp_path / "bundle", **options, frame_size=(20, 28))
    bundle = Bundle.open(tmp_path / "bundle")
    assert bundle.graphs["recognition"].inputs["frames"] == (-1, 20, 28, 3)
    with pytest.raises(ExportError, match="crop=None and frame_size=None: the pipeline crops, or give"):
        export(model, tmp_path / "other", **options)
    with pytest.raises(ExportError, match=r"crop=24 and frame_size=\(24, 24\)"):
        exported(model, tmp_path / "other", 24, frame_size=(24, 24))


# --- what is refused ----------------------------------------------------------------------------------------------


def half_bits(cfg):
    cfg["backbone"]["precisions"] = (32, 16, 4)
    cfg["actions"] = [dict(bits=32), dict(bits=16), dict(bits=4)]


def separate(cfg):
    cfg["actions"] = [dict(bits=32, separate=True), *cfg["actions"]]
    head = dict(type="TSNHead", num_classes=3, in_channels=16)
    cfg["teacher"] = dict(type="Recognizer2D", backbone=slim(), cls_head=head)


def quantizer_32(field, **options):
    return lambda cfg: cfg["backbone"].update({field: dict(options, quantize_32=True)})


def any_precision_policy(cfg):
    cfg["policy"]["backbone"] = any_precision(slim(4))


def moving_cell(cfg):
    cfg["actions"] = [*cfg["actions"], dict(skip=2)]
    cfg["policy"]["head"]["hold_cell"] = False


REFUSED = {
    "separate": (separate, "action 32fp runs a separate float network"),
    "16 bits": (half_bits, "precision 16 cannot be exported: integers have at most 8 bits, 32 is float"),
    "weight": (
        quantizer_32("weight", type="dorefa"),
        "stages.0.0.conv1.conv: quantize_32=True rounds weights to 32 bits",
    ),
    "activation": (
        quantizer_32("activation", type="pact"),
        "stages.0.0.input_quantizer: quantize_32=True rounds activations to 32 bits",
    ),
    "policy": (
        any_precision_policy,
        "AnyPrecisionBackbone decides on its values while it runs",
    ),
    "to_rgb": (lambda cfg: cfg["data_preprocessor"].update(to_rgb=True), "data_preprocessor.to_rgb=True"),
    "clips": (
        lambda cfg: cfg["data_preprocessor"].update(format_shape="NCTHW"),
        "data_preprocessor ActionDataPreprocessor cannot be exported",
    ),
    "swish": (
        lambda cfg: cfg["policy"].update(backbone=dict(MOBILENET, act_cfg=dict(type="Swish"))),
        r"backbone.conv1.activate \(Swish\): the operation 'sigmoid' cannot be exported",
    ),
    "moving cell": (
        moving_cell,
        r"policy\.head\.hold_cell=False with skips of several frames cannot be exported: .*; use hold_cell=True$",
    ),
    "frame": (
        lambda cfg: cfg["policy"].update(input_size=32),
        "policy input_size=32 is larger than the frame",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_a_bundle_cannot_hold_is_refused(name, tmp_path):
    change, message = REFUSED[name]
    cfg = copy.deepcopy(recognizer())
    change(cfg)
    model = MODELS.build(cfg).eval()
    with pytest.raises(ValueError, match=message) as caught:
        exported(model, tmp_path / "bundle", 24)
    assert "\n" not in str(caught.value)
    assert not list(tmp_path.iterdir())


def test_other_models_heads_and_classes_are_refused(tmp_path):
    cfg = whole_clips(slim(), features=16)
    cfg["cls_head"] = dict(type="TSNHead", num_classes=3, in_channels=16 * 36, spatial_type="max")
    with pytest.raises(ExportError, match="cls_head TSNHead does not average over space"):
        exported(MODELS.build(cfg), tmp_path / "bundle", 24)
    cfg["cls_head"] = dict(type="I3DHead", num_classes=3, in_channels=16)
    with pytest.raises(ExportError, match="cls_head I3DHead cannot be exported"):
        exported(MODELS.build(cfg), tmp_path / "bundle", 24)
    cfg["cls_head"] = dict(type="TSNHead", num_classes=4, in_channels=16)
    with pytest.raises(ExportError, match="3 class names for a classifier of 4 classes"):
        exported(MODELS.build(cfg), tmp_path / "bundle", 24)
    cfg = dict(cfg, type="Recognizer2D", backbone=slim())
    with pytest.raises(ExportError, match=r"model.type='Recognizer2D' cannot be exported"):
        exported(MODELS.build(cfg), tmp_path / "bundle", 24)


class Chain(nn.Module):
    """Runs its parts one after the other."""

    def __init__(self, *parts: nn.Module) -> None:
        super().__init__()
        self.parts = nn.ModuleList(parts)

    def forward(self, x: Tensor):
        for part in self.parts:
            x = part(x)
        return x


class Decides(Chain):
    def forward(self, x: Tensor):
        return x if x.sum() > 0 else -x


class TwoMaps(Chain):
    def forward(self, x: Tensor):
        return x, self.parts[0](x)


class ReadsTwice(Chain):
    def forward(self, x: Tensor):
        y = self.parts[0](x)
        return self.parts[1](y) + y


class Parameters(Chain):
    def forward(self, x: Tensor):
        return x + self.parts[0].weight


class Scaled(Chain):
    def forward(self, x: Tensor):
        return torch.add(x, self.parts[0](x), alpha=2)


def hooked() -> nn.Module:
    conv = nn.Conv2d(3, 4, 1)
    conv.register_forward_hook(lambda *_: None)
    return conv


CONV = nn.Conv2d(3, 3, 1)
UNTRACEABLE = {
    "decides": (Decides(), "Decides decides on its values while it runs: symbolically traced variables"),
    "two maps": (TwoMaps(CONV), "TwoMaps gives several feature maps; one can be exported"),
    "function": (Chain(nn.GELU()), r"backbone.parts.0 \(GELU\): the operation 'gelu' cannot be exported"),
    "method": (
        Chain(nn.Conv1d(3, 3, 1)),
        r"backbone.parts.0 \(Conv1d\): the parameter 'parts.0.weight' cannot",
    ),
    "parameter": (
        Parameters(CONV),
        r"backbone \(Parameters\): the parameter 'parts.0.weight' cannot",
    ),
    "add with factor": (Scaled(CONV), r"backbone \(Scaled\): the operation 'add' cannot be exported"),
    "twice": (Chain(CONV, CONV), r"backbone.parts.0 \(Conv2d\) runs more than once"),
    "reflect": (
        Chain(nn.Conv2d(3, 3, 3, padding=1, padding_mode="reflect")),
        "padding_mode='reflect'; only numbers",
    ),
    "same": (Chain(nn.Conv2d(3, 3, 3, padding="same")), "padding='same'"),
    "in place": (
        ReadsTwice(CONV, nn.ReLU(inplace=True)),
        r"parts.1 \(ReLU, inplace\) changes a value that others",
    ),
    "hooks": (Chain(hooked()), r"parts.0 \(Conv2d\) has hooks of its own"),
    "map": (Chain(nn.Linear(3, 3)), r"parts.0 \(Linear\) reads a feature map"),
    "flatten": (Chain(nn.Flatten()), r"parts.0 \(Flatten\) would mix positions and channels"),
    "average": (Chain(nn.AvgPool2d(2, padding=1)), r"parts.0 \(AvgPool2d\) counts its padding"),
    "largest": (Chain(nn.MaxPool2d(2, dilation=2)), r"parts.0 \(MaxPool2d\) has a dilation"),
    "adaptive": (Chain(nn.AdaptiveAvgPool2d(2)), r"parts.0 \(AdaptiveAvgPool2d\) has output_size=2; only 1"),
}


@pytest.mark.parametrize("name", UNTRACEABLE)
def test_what_has_no_node_is_refused(name):
    net, message = UNTRACEABLE[name]
    with pytest.raises(ExportError, match=message) as caught:
        trace(net.eval(), GraphWriter({"x": (-1, 3, 8, 8)}), Value("x", 3), prefix="backbone.")
    assert "\n" not in str(caught.value)


def test_a_norm_without_statistics_is_refused(tmp_path):
    model = build(recognizer()).eval()
    model.policy.backbone.conv1.bn = nn.BatchNorm2d(4, track_running_stats=False).eval()
    with pytest.raises(
        ExportError, match=r"backbone.conv1.conv: the norm after it has no running statistics"
    ):
        exported(model, tmp_path / "bundle", 24)


# --- from a config ------------------------------------------------------------------------------------------------

PIPELINE = (
    dict(type="DecordInit"),
    dict(type="SampleFrames", clip_len=1, num_clips=8, test_mode=True),
    dict(type="DecordDecode"),
    dict(type="Resize", scale=(-1, 32)),
    dict(type="CenterCrop", crop_size=24),
    dict(type="FormatShape", input_format="NCHW"),
    dict(type="PackActionInputs"),
)


def with_step(place: int, **step) -> list[dict]:
    return [*PIPELINE[:place], dict(PIPELINE[place], **step), *PIPELINE[place + 1 :]]


def test_a_pipeline_becomes_numbers():
    assert read_pipeline(PIPELINE) == Preprocessing(frames=8, short_side=32, crop=24)
    bare = [step for step in PIPELINE if step["type"] not in ("Resize", "CenterCrop")]
    assert read_pipeline(bare) == Preprocessing(frames=8)
    assert read_pipeline(with_step(3, type="mmaction.Resize", scale=[32, -1])).short_side == 32
    assert read_pipeline(with_step(4, crop_size=(24, 24))).crop == 24


@pytest.mark.parametrize(
    ("pipeline", "message"),
    [
        (
            with_step(0, type="PyAVInit"),
            "PyAVInit cannot be exported here; a bundle reads VideoInit or DecordInit, SampleFrames",
        ),
        (with_step(4, type="ThreeCrop"), "ThreeCrop cannot be exported"),
        (PIPELINE[::-1], "FormatShape cannot be exported here"),
        (PIPELINE[:1], "there is no SampleFrames"),
        (with_step(1, clip_len=8), "SampleFrames with clip_len=8 cannot be exported; it needs clip_len=1"),
        (with_step(1, test_mode=False), "SampleFrames with test_mode=False"),
        (with_step(1, twice_sample=True), "SampleFrames with twice_sample=True"),
        (with_step(3, scale=(340, 256)), r"Resize with {'scale': \(340, 256\)} cannot be exported; it needs"),
        (with_step(3, keep_ratio=False), "Resize with .*'keep_ratio': False"),
        (with_step(3, interpolation="bicubic"), "Resize with .*'interpolation': 'bicubic'"),
        (with_step(4, crop_size=(24, 32)), r"CenterCrop with \(24, 32\)"),
        (with_step(5, input_format="NCTHW"), "FormatShape with NCTHW"),
    ],
)
def test_other_pipelines_are_refused(pipeline, message):
    with pytest.raises(ExportError, match=f"^test pipeline: {message}"):
        read_pipeline(pipeline)


@pytest.mark.parametrize("path", sorted(Path("configs").glob("*/*_videoiq.py")), ids=lambda path: path.stem)
def test_shipped_pipelines_can_be_exported(path, repo):
    config = Config.fromfile(repo / path)
    assert read_pipeline(config.test_dataloader.dataset.pipeline).frames == config.num_frames


def test_names_of_classes(tmp_path):
    listed = dict(data_root=str(tmp_path), ann_file="val.txt")
    assert find_classes(listed, 3) == ["0", "1", "2"]
    (tmp_path / "classes.txt").write_text("fight\nno fight\n\n")
    assert find_classes(listed, 2) == ["fight", "no fight"]
    assert find_classes(dict(ann_file=str(tmp_path / "val.txt")), 2) == ["fight", "no fight"]
    assert find_classes(dict(listed, metainfo=dict(classes=("a", 2))), 2) == ["a", "2"]
    assert find_classes(dict(metainfo=dict(classes=str(tmp_path / "classes.txt"))), 2) == [
        "fight",
        "no fight",
    ]


@pytest.fixture
def trained_run(tiny_videos, tmp_path) -> tuple[nn.Module, Path, Path]:
    """A recognizer, its config on ``tiny_videos`` and its checkpoint."""
    pipeline = [step for step in PIPELINE if step["type"] not in ("Resize", "CenterCrop")]
    dataset = dict(
        type="CheckedVideoDataset",
        ann_file=str(tiny_videos / "list.txt"),
        data_prefix=dict(video=str(tiny_videos)),
        metainfo=dict(classes=["dark", "bright", "other"]),
        num_classes=3,
        test_mode=True,
        pipeline=pipeline,
    )
    loader = dict(
        batch_size=3, num_workers=0, sampler=dict(type="DefaultSampler", shuffle=False), dataset=dataset
    )
    config = Config(
        dict(
            default_scope="mmaction",
            custom_imports=dict(imports=["mmvideoiq.plugin"], allow_failed_imports=False),
            model=recognizer(),
            val_dataloader=loader,
            test_dataloader=loader,
        )
    )
    config.dump(tmp_path / "config.py")
    model = trained(recognizer(), 32)
    with torch.no_grad():
        model.policy.head.fc_policy.bias.zero_()
    torch.save(dict(state_dict=model.state_dict()), tmp_path / "model.pth")
    return model, tmp_path / "config.py", tmp_path / "model.pth"


def test_the_tool(trained_run, load_tool, tmp_path, capsys):
    pytest.importorskip("openvino")
    model, config, checkpoint = trained_run
    tool, out = load_tool("export.py"), tmp_path / "bundle"
    tool.main([str(config), str(checkpoint), str(out)])
    assert f"{out}: actions 32, 4, 2, skip; mean cost " in capsys.readouterr().out
    bundle = Bundle.open(out)
    assert bundle.manifest["classes"] == ["dark", "bright", "other"]
    assert bundle.graphs["recognition"].inputs["frames"] == (-1, 32, 32, 3)
    check_codes(model, bundle)

    dataset = DATASETS.build(Config.fromfile(config).val_dataloader.dataset)
    clips = [dataset[i] for i in range(8)]
    inputs = torch.stack([clip["inputs"] for clip in clips])
    labels = torch.tensor([int(clip["data_samples"].gt_label) for clip in clips])
    curve = bundle.manifest["budget"]
    assert len(curve) > 3 and curve[0]["multiplier"] < 0 < curve[-1]["multiplier"]
    for row in (curve[0], curve[len(curve) // 2], curve[-1]):
        model.policy.cost_multiplier = row["multiplier"]
        with torch.no_grad():
            prediction = model.recognize(model.data_preprocessor.preprocess([*inputs], None)[0])
        assert row["usage"] == pytest.approx(model.actions.usage(prediction.actions).tolist())
        assert row["cost"] == pytest.approx(np.dot(row["usage"], model.actions.costs))
        assert row["accuracy"] == pytest.approx(
            (prediction.logits.argmax(-1) == labels).double().mean().item()
        )

    names = tmp_path / "names.txt"
    names.write_text("a\nb\nc")
    options = ["--no-calibration", "--classes", str(names)]
    tool.main([str(config), str(checkpoint), str(out), *options, "--time-on", "openvino", "--threads", "1"])
    assert "no budget curve" in capsys.readouterr().out
    again = Bundle.open(out)
    assert again.manifest["budget"] is None and again.manifest["classes"] == ["a", "b", "c"]
    measured = again.manifest["latency_ms"]
    assert (measured["engine"], measured["threads"]) == ("openvino", 1)
    assert bundle.manifest["latency_ms"] is None  # nobody asked for it then
    assert set(measured["actions"]) == {"32", "4", "2"}
    assert min(measured["policy"], *measured["actions"].values()) > 0


def test_the_tool_says_what_is_wrong_in_one_line(trained_run, load_tool, tmp_path, capsys):
    model, config, checkpoint = trained_run
    tool = load_tool("export.py")

    def error(*argv: str) -> str:
        with pytest.raises(SystemExit) as ended:
            tool.main([*argv])
        assert ended.value.code == 2
        return capsys.readouterr().err.strip().splitlines()[-1]

    out = str(tmp_path / "bundle")
    assert error(str(config), "no.pth", out).endswith("error: checkpoint not found: no.pth")
    line = error(str(config), str(checkpoint), out, "--classes", "no.txt")
    assert line.endswith("error: list of classes not found: no.txt")
    line = error(str(config), str(checkpoint), out, "--time-on", "tensorrt")
    assert "unknown engine 'tensorrt'; choose one of openvino, onnxruntime" in line
    line = error(str(config), str(checkpoint), out, "--cfg-options", "val_dataloader.dataset.ann_file=no.txt")
    assert "no.txt does not exist" in line
    state = {name: value for name, value in model.state_dict().items() if not name.startswith("policy")}
    torch.save(state, tmp_path / "part.pth")
    line = error(str(config), str(tmp_path / "part.pth"), out)
    assert "part.pth does not fit: policy." in line and "was it trained with another config?" in line
    assert not Path(out).exists()
