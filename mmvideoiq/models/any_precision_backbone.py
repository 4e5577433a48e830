"""Any-precision versions of MMAction2's backbones over frames or clips."""

from collections.abc import Sequence
from functools import partial
from typing import Any

import torch
from mmaction.registry import MODELS
from mmcv.cnn.bricks.wrappers import Conv2d, Conv3d, Linear
from mmengine.logging import MMLogger
from mmengine.model import BaseModule
from torch import Tensor, nn
from torch.nn import functional as F

from mmvideoiq.actions import GRID_SHIFT, resized_shape
from mmvideoiq.models import host_backbones
from mmvideoiq.models.host_backbones import BLOCKS, LibraryBackbone
from mmvideoiq.models.stem import after_stem, find_stem
from mmvideoiq.quant import (
    PrecisionSwitch,
    SampleError,
    calibrate_clips_,
    calibrate_norms_,
    to_any_precision_,
)
from mmvideoiq.quant.convert import evaluating
from mmvideoiq.quant.functional import uniform
from mmvideoiq.quant.precision import FLOAT_BITS, Mode


@MODELS.register_module()
class AnyPrecisionBackbone(BaseModule):
    """One backbone whose weights are read at any of several precisions (arXiv:2108.10394, section 3.2).

    Convolutions and linear layers quantize their weight and input at the active precision; batch norms have one set
    per mode, that is per precision and size of the frame. The first convolution stays float and is shared by all
    precisions, as is its batch norm, of which each size has its own.
    Residual blocks quantize their input once, for their first convolution, the shortcut and its convolution.
    In transformers the linear layers follow the precision; products of attention, layer norms and embeddings
    stay float. Networks over clips (3D convolutions, attention over time) have one precision per clip.
    docs/backbones.md lists the supported backbones.

    In a mode with a size the frame is resized first (:func:`resize`). Learned clips belong to the precision, whatever
    the size.

    Float checkpoints load into it (``load_from``, ``init_cfg`` or ``pretrained`` of the inner config): every
    mode's batch norm starts from the float one.

    Args:
        backbone: config of a backbone of MMAction2, e.g. ``dict(type='ResNet', depth=50)``, or of another library
            that its recognizers accept, e.g. ``dict(type='timm.resnet18')``.
        precisions: high to low; 32 is float. A mode of a smaller frame is ``dict(bits=8, size=112)``.
        weight: weight quantizer, ``dict(type='dorefa' | 'nested' | 'lsq')``.
        activation: activation quantizer, ``dict(type='pact', init_clip=2.0)``.
        include, exclude: name patterns of the layers to convert and to leave float.
        quantize_stem: also quantize the frame itself and the first convolution.
        input_range: lowest and highest value of a normalized frame; required if and only if ``quantize_stem`` is set.
        sample_shape: (C, H, W) of a frame or (C, T, H, W) of a clip that the backbone accepts, to trace it once;
            by default derived from its config.

    Attributes:
        resized: whether the frames it is given were resized, as a policy's are; their levels then lie as in a mode of a
            smaller frame.

    Raises:
        ValueError: an option is out of range, or the inner config uses something that cannot be converted.
        ImportError: the backbone needs a package that is not installed.
    """

    def __init__(
        self,
        *,
        backbone: dict[str, Any],
        precisions: Sequence[int | str | dict[str, int]] = (32, 4, 2),
        weight: dict[str, Any] = dict(type="dorefa"),
        activation: dict[str, Any] = dict(type="pact"),
        include: Sequence[str] | None = None,
        exclude: Sequence[str] = (),
        quantize_stem: bool = False,
        input_range: tuple[float, float] | None = None,
        sample_shape: Sequence[int] | None = None,
        init_cfg: dict | list | None = None,
    ) -> None:
        super().__init__(init_cfg=init_cfg)
        host_backbones.check(backbone)
        if quantize_stem != (input_range is not None):
            raise ValueError(
                f"quantize_stem={quantize_stem} and input_range={input_range}: give both "
                "(the range of a normalized frame, e.g. (0, 1)) or neither"
            )
        if input_range is not None and not input_range[0] < input_range[1]:
            raise ValueError(f"input_range={input_range} must go from low to high")
        self.switch = PrecisionSwitch(precisions)
        self.input_range = input_range
        self.resized = False
        self._float_cfg = backbone
        self.net = host_backbones.build(backbone)
        self.num_segments = getattr(self.net, "num_segments", None)
        self.sample_shape = tuple(sample_shape or host_backbones.sample_shape(backbone, self.net))
        devices = [] if not torch.cuda.is_available() else [torch.cuda.current_device()]
        with torch.random.fork_rng(devices):
            sample = torch.randn(self.num_segments or 1, *self.sample_shape)
        try:
            self.report = to_any_precision_(
                self.net,
                switch=self.switch,
                sample=sample,
                weight=weight,
                activation=activation,
                blocks=BLOCKS,
                plain=(Conv2d, Conv3d, Linear),
                include=include,
                exclude=exclude,
                quantize_stem=quantize_stem,
            )
        except SampleError as error:
            raise ValueError(
                f"backbone.type={backbone['type']!r} does not run on {self.reads} of shape {self.sample_shape}: "
                f"{str(error).partition(': ')[2]}; give sample_shape if it needs another"
            ) from error
        except ImportError as error:
            raise ImportError(f"backbone.type={backbone['type']!r} cannot run here: {error}") from error
        self._stem = find_stem(self.net, partial(self._run, self.net), sample, self.report.converted)
        self._check_sizes(sample)
        self.net.train(self.training)
        self.register_load_state_dict_pre_hook(_accept_float_names)

    def _check_sizes(self, sample: Tensor) -> None:
        """ValueError for a size below the network's stride."""
        sizes = [size for size in self.switch.sizes if size]
        if not sizes:
            return
        with evaluating(self.net):
            features = self._run(self.net, sample)
        side = features.shape[-1] if isinstance(features, Tensor) and features.dim() == sample.dim() else 1
        stride = sample.shape[-1] // side if side > 1 else 1
        if min(sizes) < stride:
            raise ValueError(
                f"size {min(sizes)} is smaller than the stride of {type(self.net).__name__}: use at least {stride}"
            )

    @property
    def precisions(self) -> tuple[int, ...]:
        """Bits, high to low."""
        return self.switch.precisions

    @property
    def modes(self) -> tuple[Mode, ...]:
        """Precisions and sizes, high to low: ``(8, "8@112", 4)``."""
        return self.switch.modes

    @property
    def reads(self) -> str:
        """'clips' (N, C, T, H, W) or 'frames' (N, C, H, W)."""
        return "clips" if len(self.sample_shape) == 4 else "frames"

    @property
    def mixes_frames(self) -> bool:
        """Whether a frame's features depend on its neighbours in the clip (temporal shift, 3D, attention over time)."""
        return self.reads == "clips" or host_backbones.mixes_frames(self.net)

    def init_weights(self) -> None:
        """Initialize a float network of the same config as MMAction2 does, and copy its weights."""
        if self.init_cfg is not None:
            super().init_weights()
            return
        twin = host_backbones.build(self._float_cfg)
        twin.init_weights()
        self.load_state_dict({f"net.{k}": v for k, v in twin.state_dict().items()}, strict=False)
        MMLogger.get_current_instance().info(f"{type(self.net).__name__}: {self.report}")
        self._is_init = True

    def calibrate_(self, frames: Tensor) -> None:
        """Fit clips and the lower precisions' batch norms to normalized frames, or clips."""
        clips = calibrate_clips_(self, frames)
        norms = calibrate_norms_(self, self.switch, frames)
        MMLogger.get_current_instance().info(
            f"fitted the clips of {clips} quantizers and {norms} batch norms to {len(frames)} frames"
        )

    def check_frames(self, height: int, width: int) -> None:
        """ValueError if a frame of this size is smaller than a mode's."""
        for size in self.switch.sizes:
            if size is not None:
                resized_shape(height, width, size)

    def forward(self, frames: Tensor) -> Any:
        """Features in the active mode: (N, C, H, W) -> (N, D, h, w).

        For clips (N, C, T, H, W) the shape depends on the backbone; MMAction2's heads accept it.
        """
        return self._run(self.net, self.resize(frames))

    def resize(self, frames: Tensor) -> Tensor:
        """Frames, or clips, at the active size."""
        return frames if self.switch.size is None else resize(frames, self.switch.size)

    def input_levels(self) -> tuple[float, float]:
        """The lowest and highest level of a quantized frame in the active mode; needs ``input_range``."""
        low, high = self.input_range
        step = (high - low) / (2**self.switch.bits - 1)
        shift = GRID_SHIFT * step if self.resized or self.switch.size is not None else 0.0
        return low - shift, high - shift

    def _run(self, net: nn.Module, frames: Tensor) -> Any:
        """Features of resized frames or clips from ``net``, the network or the part of it after the stem."""
        if frames.dim() != 1 + len(self.sample_shape):
            axes = "(N, C, T, H, W)" if self.reads == "clips" else "(N, C, H, W)"
            raise ValueError(
                f"{type(self.net).__name__} reads {self.reads} {axes}, got {tuple(frames.shape)}"
                + "; use AnyPrecisionRecognizer3D" * (self.reads == "clips")
            )
        if self.input_range is not None and self.switch.bits != FLOAT_BITS:
            frames = uniform(frames, *self.input_levels(), self.switch.bits)
        features = net(frames)
        if self.reads == "clips":
            return features
        if isinstance(features, (tuple, list)):
            if len(features) > 1:
                raise ValueError(
                    f"{type(self.net).__name__} returns {len(features)} feature maps; one is supported (out_indices)"
                )
            features = features[0]  # of mmpretrain
        return features[..., None, None] if features.dim() == 2 else features

    def forward_at(self, frames: Tensor, mode: Mode) -> Any:
        """Features in ``mode``."""
        with self.switch.at(mode):
            return self(frames)

    def forward_all(self, frames: Tensor, modes: Sequence[Mode] | None = None) -> dict[Mode, Any]:
        """Features in each of ``modes`` (None: all, high to low).

        The common part of the weights of all modes is computed once; frames of a size and a float stem on them, once
        per size.
        """
        wanted = self.modes if modes is None else tuple(modes)
        stems: dict[int | None, tuple[Tensor, nn.Module]] = {}  # size -> frames, what comes after the stem
        maps = {}
        with self.switch.together():
            for mode in wanted:
                with self.switch.at(mode):
                    if self.switch.size not in stems:
                        resized = self.resize(frames)
                        stems[self.switch.size] = resized, after_stem(self.net, self._stem, resized)
                    resized, rest = stems[self.switch.size]
                    maps[mode] = self._run(rest, resized)
        return maps


def resize(frames: Tensor, size: int) -> Tensor:
    """Frames whose short side is ``size``, their aspect kept: bilinear, half-pixel centres, no antialiasing.

    Args:
        frames: (N, C, H, W) or clips (N, C, T, H, W).

    Raises:
        ValueError: ``size`` is larger than the frame.
    """
    shape = resized_shape(*frames.shape[-2:], size)
    if shape == tuple(frames.shape[-2:]):
        return frames
    flat = F.interpolate(frames.flatten(1, -3), shape, mode="bilinear", align_corners=False)
    return flat.reshape(*frames.shape[:-2], *shape)


def require_any_precision(backbone: nn.Module, cfg: dict[str, Any], *, frame_by_frame: bool = False) -> None:
    """ValueError if a recognizer's backbone, built from ``cfg``, is not any-precision.

    With ``frame_by_frame`` also if a frame's features depend on its neighbours, which may run at other precisions.
    """
    if not isinstance(backbone, AnyPrecisionBackbone):
        raise ValueError(
            f"backbone.type={cfg['type']!r} is not any-precision: "
            "wrap it as dict(type='AnyPrecisionBackbone', backbone=...)"
        )
    if frame_by_frame and backbone.mixes_frames:
        raise ValueError(
            f"backbone {type(backbone.net).__name__} shifts features between neighbouring frames, "
            "which may run at other precisions or be skipped: use a backbone without temporal shift, "
            "or AnyPrecisionRecognizer"
        )


def _accept_float_names(
    module: AnyPrecisionBackbone, state_dict: dict[str, Any], prefix: str, *_: Any
) -> None:
    """Load hook: map the names of a float backbone, without ``net.``, to those of this module."""
    net, place = module.net, "net."
    if isinstance(net, LibraryBackbone):
        net, place = net.model, "net.model."
    inner = {
        f"{prefix}{name.split('.', 1)[0]}" for name, _ in (*net.named_parameters(), *net.named_buffers())
    }
    for key in list(state_dict):
        if key.startswith(prefix) and not key.startswith(prefix + "net."):
            head = prefix + key[len(prefix) :].split(".", 1)[0]
            if head in inner:
                state_dict[f"{prefix}{place}{key[len(prefix) :]}"] = state_dict.pop(key)
