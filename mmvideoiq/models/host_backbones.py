"""Knowledge of MMAction2's backbones: their names, input shapes and residual blocks."""

import copy
import importlib
import inspect
from collections.abc import Iterable, Mapping
from difflib import get_close_matches
from types import ModuleType
from typing import Any

from mmaction.models.backbones.c2d import C2D
from mmaction.models.backbones.c3d import C3D
from mmaction.models.backbones.mobilenet_v2 import InvertedResidual
from mmaction.models.backbones.resnet import BasicBlock, Bottleneck
from mmaction.models.backbones.resnet3d import BasicBlock3d, Bottleneck3d
from mmaction.models.backbones.resnet_omni import BottleNeck as OmniBottleneck
from mmaction.models.backbones.resnet_tin import TemporalInterlace
from mmaction.models.backbones.resnet_tsm import NL3DWrapper, TemporalShift
from mmaction.models.backbones.tanet import TABlock
from mmaction.models.backbones.timesformer import TimeSformer
from mmaction.models.backbones.uniformer import UniFormer
from mmaction.models.backbones.vit_mae import VisionTransformer
from mmaction.models.backbones.x3d import BlockX3D
from mmaction.models.common import TAM
from mmaction.registry import MODELS
from torch import Tensor, nn

# class of residual block -> its children that read the block's input
BLOCKS: dict[type[nn.Module], tuple[str, ...]] = {
    BasicBlock: ("conv1", "downsample"),
    Bottleneck: ("conv1", "downsample"),
    TABlock: ("block.conv1", "block.downsample"),
    InvertedResidual: ("conv.0",),
    BasicBlock3d: ("conv1", "downsample"),
    Bottleneck3d: ("conv1", "downsample"),
    OmniBottleneck: ("conv1", "downsample"),
    BlockX3D: ("conv1", "downsample"),
}
# modules through which a frame's features come to depend on its neighbours in the clip
MIXERS = (TemporalShift, TemporalInterlace, TAM, NL3DWrapper)
# options that do not work with a precision that changes within a step, and why
REFUSED = {
    "with_cp": "gradient checkpointing recomputes in backward, when the active precision has changed",
    "partial_bn": "it counts batch norms, and there is one per precision",
}
# backbones of MMAction2 that do not read the frames of a video
NOT_FRAMES = {
    "AAGCN": "it reads skeletons as graphs (N, M, T, V, C), not frames",
    "STGCN": "it reads skeletons as graphs (N, M, T, V, C), not frames",
    "ResNetAudio": "it reads spectrograms of sound, not frames",
    "RGBPoseConv3D": "it reads heat maps of poses beside the frames, two inputs",
    "ResNet3dLayer": "it reads the feature maps of another network, not frames",
}
LIBRARIES = ("mmpretrain", "mmcls", "torchvision", "timm")  # prefixes that MMAction2's recognizers accept
SIDES = ("img_size", "image_size", "input_resolution")  # names of the option that fixes the frame size
LENGTHS = ("num_frames", "temporal_size", "t_size")  # and of the one that fixes the number of frames
ANY_SIDE = (UniFormer, VisionTransformer)  # these have such an option too, but accept other sizes
SIDE, LENGTH, CHANNELS = 64, 8, 3  # of samples for the others


def check(cfg: Mapping[str, Any]) -> None:
    """ValueError, with the reason, for a backbone or an option that cannot become any-precision."""
    name = _name(cfg)
    if name in NOT_FRAMES:
        raise ValueError(f"backbone.type={name!r} cannot be made any-precision: {NOT_FRAMES[name]}")
    for field, value in _fields(cfg):
        if field.rpartition(".")[2] in REFUSED and value:
            why = REFUSED[field.rpartition(".")[2]]
            raise ValueError(f"backbone.{field}={value} cannot be made any-precision: {why}")
    if len(cfg.get("out_indices") or ()) > 1:
        raise ValueError(f"backbone.out_indices={cfg['out_indices']}: only one feature map is supported")


def build(cfg: Mapping[str, Any]) -> nn.Module:
    """The float network of a config: of MMAction2, ``mmpretrain.``, ``torchvision.`` or ``timm.``.

    Raises:
        ImportError: the package before the dot is not installed.
        ValueError: there is no backbone of this name; the message lists the closest ones.
    """
    cfg = copy.deepcopy(dict(cfg))
    name = _name(cfg)
    library, _, inner = name.partition(".")
    if library in ("torchvision", "timm") and inner:
        return LibraryBackbone(cfg)
    if library in LIBRARIES and inner:
        _need(f"{library}.models", name)
    if isinstance(cfg["type"], str) and MODELS.get(name) is None:
        try:
            MODELS.build(dict(type=name))
        except KeyError as error:
            if type(error) is not KeyError:  # from mmvideoiq.compat, which explains the cause
                raise
        raise ValueError(unknown(name, known_names(library if inner else "mmaction")))
    return MODELS.build(cfg)


def known_names(package: str = "mmaction") -> list[str]:
    """The backbones that ``mmaction``, or another OpenMMLab package, registers, sorted.

    Those of MMAction2 are listed even if a package that they need is not installed.
    """
    registry = MODELS if package == "mmaction" else MODELS.get_child(package)
    home, prefix = f"{package}.models.backbones.", "" if package == "mmaction" else f"{package}."
    parts = registry.module_dict.items()
    registered = {prefix + name for name, part in parts if getattr(part, "__module__", "").startswith(home)}
    return sorted(registered | ({"MobileOneTSM"} if package == "mmaction" else set()))


class LibraryBackbone(nn.Module):
    """A network of torchvision or timm without its classifier, as MMAction2's 2D recognizer uses it.

    Args:
        cfg: ``dict(type='timm.resnet18', ...)``; ``feature_shape`` ('NCHW', 'NHWC' or 'NLC') is the layout of features;
            without it the first forward pass determines it, as in MMAction2.

    ``forward``: (N, C, H, W) -> a feature map (N, D, h, w), or (N, D) from networks that average over space.
    """

    def __init__(self, cfg: dict[str, Any]) -> None:
        super().__init__()
        self.feature_shape: str | None = cfg.pop("feature_shape", None)
        name = cfg.pop("type")
        library, _, kind = name.partition(".")
        self.library = library
        if library == "timm":
            timm = _need("timm", name)
            _need_name(name, "timm", timm.list_models())
            self.model = timm.create_model(kind, **dict(cfg, num_classes=0))
        else:
            models = _need("torchvision.models", name)
            _need_name(name, "torchvision", models.list_models(module=models))
            self.model = models.get_model(kind, **cfg)
            self.model.classifier = self.model.fc = nn.Identity()

    @property
    def fixed_side(self) -> int | None:
        """The side of a frame that the network was built for, if it accepts no other."""
        known = getattr(self.model, "pretrained_cfg", {})  # of timm
        return (
            known["input_size"][-1]
            if known.get("fixed_input_size")
            else getattr(self.model, "image_size", None)
        )

    def init_weights(self) -> None:
        """Nothing to do: libraries initialize, or load ``pretrained`` weights, when they build."""

    def forward(self, x: Tensor) -> Tensor:
        if self.library == "timm":
            x = self.model.forward_features(x)
        else:
            x = self.model.features(x) if hasattr(self.model, "features") else self.model(x)
        if self.feature_shape is None:
            self.feature_shape = {4: "NCHW", 3: "NLC"}.get(x.dim(), "NC")
        if self.feature_shape == "NHWC":
            return x.permute(0, 3, 1, 2)
        return x.transpose(1, 2).unsqueeze(-1) if self.feature_shape == "NLC" else x


def reads_clips(net: nn.Module) -> bool:
    """Whether ``net`` reads clips (N, C, T, H, W); else it reads frames (N, C, H, W)."""
    if isinstance(net, (C2D, TimeSformer)):
        return True
    return not hasattr(net, "num_segments") and any(isinstance(m, nn.Conv3d) for m in net.modules())


def mixes_frames(net: nn.Module) -> bool:
    """Whether a frame's features depend on its neighbours in the clip."""
    return reads_clips(net) or any(isinstance(module, MIXERS) for module in net.modules())


def sample_shape(cfg: Mapping[str, Any], net: nn.Module) -> tuple[int, ...]:
    """The shape of one frame (C, H, W) or clip (C, T, H, W) on which ``net`` runs, small if possible."""
    model = net.model if isinstance(net, LibraryBackbone) else net
    if isinstance(model, C3D):
        return CHANNELS, 16, 112, 112

    def option(names: Iterable[str], otherwise: int) -> int:
        """A number of the config, else the default of the network's constructor."""
        defaults = inspect.signature(type(model).__init__).parameters
        for name in names:
            for value in (cfg.get(name), getattr(defaults.get(name), "default", None)):
                if isinstance(value, int):
                    return value
        return otherwise

    channels = option(("in_channels", "in_chans"), CHANNELS)
    side = SIDE if isinstance(model, ANY_SIDE) else option(SIDES, SIDE)
    if isinstance(net, LibraryBackbone):
        side = option(SIDES, net.fixed_side or SIDE)
    return (channels, option(LENGTHS, LENGTH), side, side) if reads_clips(net) else (channels, side, side)


def _name(cfg: Mapping[str, Any]) -> str:
    if "type" not in cfg:
        raise ValueError(
            f"backbone={dict(cfg)} has no type: name a backbone, e.g. dict(type='ResNet', depth=50)"
        )
    return cfg["type"] if isinstance(cfg["type"], str) else cfg["type"].__name__


def _fields(cfg: Mapping[str, Any], prefix: str = "") -> Iterable[tuple[str, Any]]:
    """Every option, those of nested configs as ``slow_pathway.with_cp``."""
    for key, value in cfg.items():
        yield f"{prefix}{key}", value
        if isinstance(value, Mapping):
            yield from _fields(value, f"{prefix}{key}.")


def _need(module: str, name: str) -> ModuleType:
    package = module.partition(".")[0]
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        if error.name not in (package, module):
            raise
        raise ImportError(
            f"backbone.type={name!r} needs the package {package}, which is not installed: pip install {package}"
        ) from None


def _need_name(name: str, library: str, names: Iterable[str]) -> None:
    """ValueError, with the closest names, unless ``library.x`` is one of its networks."""
    if name.partition(".")[2] not in (names := list(names)):
        raise ValueError(unknown(name, [f"{library}.{each}" for each in names]))


def unknown(name: str, names: Iterable[str]) -> str:
    """Message for a backbone that does not exist."""
    names = list(names)
    by_case = {each.lower(): each for each in names}
    close = [by_case[each] for each in get_close_matches(name.lower(), by_case, n=3)]
    rest = f"closest are {', '.join(close)}" if close else f"there are {', '.join(names[:40])}"
    return f"backbone.type={name!r} is not in the model registry; {rest}"
