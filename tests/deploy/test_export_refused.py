"""Models that a bundle cannot hold are refused with one line."""

import copy

import pytest
import torch
from mmaction.registry import MODELS
from torch import Tensor, nn

import mmvideoiq.data.dataset
import mmvideoiq.models  # noqa: F401  registers what the configs name
from mmvideoiq.deploy.export import ExportError
from mmvideoiq.deploy.export.trace import GraphWriter, Value, trace
from tests.deploy.exported_models import MOBILENET, exported, recognizer, whole_clips
from tests.models.toys import build, slim

pytestmark = pytest.mark.usefixtures("mmaction_scope")


def half_bits(cfg):
    cfg["backbone"]["precisions"] = (32, 16, 4)
    cfg["actions"] = [dict(bits=32), dict(bits=16), dict(bits=4)]


def separate(cfg):
    cfg["actions"] = [dict(bits=32, separate=True), *cfg["actions"]]
    head = dict(type="TSNHead", num_classes=3, in_channels=16)
    cfg["teacher"] = dict(type="Recognizer2D", backbone=slim(), cls_head=head)


def quantizer_32(field, **options):
    return lambda cfg: cfg["backbone"].update({field: dict(options, quantize_32=True)})


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


def test_policy_weights_that_are_not_finite(tmp_path):
    model = build(recognizer())
    with torch.no_grad():
        model.policy.head.lstm.weight_hh_l0[0, 0] = torch.inf
    with pytest.raises(ExportError, match="weight_hh holds numbers that are not finite"):
        exported(model, tmp_path / "bundle", 24)
