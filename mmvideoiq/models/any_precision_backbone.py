"""Any 2D backbone of the host, made any-precision."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from mmaction.models.backbones.mobilenet_v2 import InvertedResidual
from mmaction.models.backbones.resnet import BasicBlock, Bottleneck
from mmaction.models.backbones.resnet_tsm import TemporalShift
from mmaction.registry import MODELS
from mmcv.cnn.bricks.wrappers import Conv2d, Linear
from mmengine.logging import MMLogger
from mmengine.model import BaseModule
from torch import Tensor, nn

from mmvideoiq.quant import PrecisionSwitch, calibrate_clips_, calibrate_norms_, to_any_precision_
from mmvideoiq.quant.convert import evaluating
from mmvideoiq.quant.functional import uniform
from mmvideoiq.quant.precision import FLOAT_BITS

# class of residual block -> its children that read the block's input
BLOCKS: dict[type[nn.Module], tuple[str, ...]] = {
    BasicBlock: ("conv1", "downsample"),
    Bottleneck: ("conv1", "downsample"),
    InvertedResidual: ("conv.0",),
}
# options of the host's backbones that cannot live with a precision that changes within a step, and why
REFUSED = {
    "with_cp": "gradient checkpointing recomputes in backward, when the active precision has changed",
    "partial_bn": "it counts batch norms, and there is one per precision",
}
SAMPLE_SIZE = 64  # side of the frames that trace the network


@MODELS.register_module()
class AnyPrecisionBackbone(BaseModule):
    """One backbone whose weights are read at any of several precisions (arXiv:2108.10394, section 3.2).

    Convolutions and linear layers quantize their weight and input at the active precision; batch norms have one set
    per precision. The first convolution stays float and is shared by all precisions, as is its batch norm.
    Residual blocks quantize their input once, for their first convolution, the shortcut and its convolution.

    Float checkpoints load into it (``load_from``, ``init_cfg`` or ``pretrained`` of the inner config): every
    precision's batch norm starts from the float one.

    Args:
        backbone: config of a 2D backbone of the host, e.g. ``dict(type='ResNet', depth=50)``.
        precisions: high to low; 32 is float.
        weight: weight quantizer, ``dict(type='dorefa' | 'nested' | 'lsq')``.
        activation: activation quantizer, ``dict(type='pact', init_clip=2.0)``.
        include, exclude: name patterns of the layers to convert and to leave float.
        quantize_stem: also quantize the frame itself and the first convolution.
        input_range: lowest and highest value of a normalized frame; needed by, and only by, ``quantize_stem``.

    Raises:
        ValueError: an option above is out of range, or the inner config uses something that cannot be converted.
    """

    def __init__(
        self,
        *,
        backbone: dict[str, Any],
        precisions: Sequence[int] = (32, 4, 2),
        weight: dict[str, Any] = dict(type="dorefa"),
        activation: dict[str, Any] = dict(type="pact"),
        include: Sequence[str] | None = None,
        exclude: Sequence[str] = (),
        quantize_stem: bool = False,
        input_range: tuple[float, float] | None = None,
        init_cfg: dict | list | None = None,
    ) -> None:
        super().__init__(init_cfg=init_cfg)
        for option, why in REFUSED.items():
            if backbone.get(option):
                raise ValueError(f"backbone.{option}={backbone[option]} cannot be made any-precision: {why}")
        if quantize_stem != (input_range is not None):
            raise ValueError(
                f"quantize_stem={quantize_stem} and input_range={input_range}: give both "
                "(the range of a normalized frame, e.g. (0, 1)) or neither"
            )
        if input_range is not None and not input_range[0] < input_range[1]:
            raise ValueError(f"input_range={input_range} must go from low to high")
        if len(backbone.get("out_indices") or ()) > 1:
            raise ValueError(
                f"backbone.out_indices={backbone['out_indices']}: only one feature map is supported"
            )
        self.switch = PrecisionSwitch(precisions)
        self.input_range = input_range
        self._float_cfg = backbone
        self.net = MODELS.build(backbone)
        self.num_segments = getattr(self.net, "num_segments", None)
        devices = [] if not torch.cuda.is_available() else [torch.cuda.current_device()]
        with torch.random.fork_rng(devices):
            channels = backbone.get("in_channels", 3)
            sample = torch.randn(self.num_segments or 1, channels, SAMPLE_SIZE, SAMPLE_SIZE)
        try:
            self.report = to_any_precision_(
                self.net,
                switch=self.switch,
                sample=sample,
                weight=weight,
                activation=activation,
                blocks=BLOCKS,
                plain=(Conv2d, Linear),
                include=include,
                exclude=exclude,
                quantize_stem=quantize_stem,
            )
        except RuntimeError as error:
            raise ValueError(
                f"backbone.type={backbone['type']!r} does not run on frames of shape {tuple(sample.shape)}: "
                f"{str(error).splitlines()[0]}"
            ) from error
        self._shared_stem = self._find_shared_stem(sample)
        self.net.train(self.training)
        self.register_load_state_dict_pre_hook(_accept_float_names)

    @property
    def precisions(self) -> tuple[int, ...]:
        return self.switch.precisions

    @property
    def mixes_frames(self) -> bool:
        """Whether a frame's features depend on its neighbours in the clip (temporal shift)."""
        return any(isinstance(module, TemporalShift) for module in self.net.modules())

    def init_weights(self) -> None:
        """Let a float twin of the same config do the host's own initialization, and take its weights over."""
        if self.init_cfg is not None:
            super().init_weights()
            return
        twin = MODELS.build(self._float_cfg)
        twin.init_weights()
        self.load_state_dict({f"net.{k}": v for k, v in twin.state_dict().items()}, strict=False)
        MMLogger.get_current_instance().info(f"{type(self.net).__name__}: {self.report}")
        self._is_init = True

    def calibrate_(self, frames: Tensor) -> None:
        """Fit clips and the lower precisions' batch norms to what normalized frames (N, C, H, W) produce."""
        clips = calibrate_clips_(self, frames)
        norms = calibrate_norms_(self, self.switch, frames)
        MMLogger.get_current_instance().info(
            f"fitted the clips of {clips} quantizers and {norms} batch norms to {len(frames)} frames"
        )

    def forward(self, frames: Tensor) -> Tensor:
        """Features at the active precision: (N, C, H, W) -> (N, D, h, w)."""
        bits = self.switch.bits
        if self.input_range is not None and bits != FLOAT_BITS:
            frames = uniform(frames, *self.input_range, bits)
        return self.net(frames)

    def forward_at(self, frames: Tensor, bits: int) -> Tensor:
        """Features at ``bits``: (N, C, H, W) -> (N, D, h, w)."""
        with self.switch.at(bits):
            return self(frames)

    def forward_all(self, frames: Tensor, precisions: Sequence[int] | None = None) -> dict[int, Tensor]:
        """Features at each of ``precisions`` (None: all, high to low).

        A float stem, and what the weights of all precisions have in common, are computed once.
        """
        with self._stem_computed_once(frames), self.switch.together():
            return {bits: self.forward_at(frames, bits) for bits in precisions or self.precisions}

    def _find_shared_stem(self, sample: Tensor) -> list[str]:
        """Names of the float first children that run in a chain, from the frame on: convolution and pooling."""
        calls: list[tuple[str, Any, Any]] = []  # of every child: name, input, output
        handles = [
            child.register_forward_hook(lambda _, args, out, name=name: calls.append((name, args, out)))
            for name, child in self.net.named_children()
        ]
        try:
            with evaluating(self.net):
                self.net(sample)
        finally:
            for handle in handles:
                handle.remove()
        names: list[str] = []
        called = [name for name, _, _ in calls]
        before = sample
        for name, args, out in calls:
            quantized = any(layer == name or layer.startswith(name + ".") for layer in self.report.converted)
            if quantized or len(args) != 1 or args[0] is not before or called.count(name) > 1:
                break
            names.append(name)
            before = out
        return names

    @contextmanager
    def _stem_computed_once(self, frames: Tensor) -> Iterator[None]:
        stem = {name: self.net._modules[name] for name in self._shared_stem}
        output = frames
        for child in stem.values():
            output = child(output)
        self.net._modules.update(dict.fromkeys(stem, _Computed(output)))
        try:
            yield
        finally:
            self.net._modules.update(stem)


class _Computed(nn.Module):
    """Stands in for the modules of a chain whose last output is known."""

    def __init__(self, output: Tensor) -> None:
        super().__init__()
        self.output = output

    def forward(self, _: Tensor) -> Tensor:
        return self.output


def _accept_float_names(
    module: AnyPrecisionBackbone, state_dict: dict[str, Any], prefix: str, *_: Any
) -> None:
    """Load hook: a float backbone's names (no ``net.``) become ours."""
    inner = {f"{prefix}{name.split('.', 1)[0]}" for name, _ in module.net.named_parameters()}
    for key in list(state_dict):
        if key.startswith(prefix) and not key.startswith(prefix + "net."):
            head = prefix + key[len(prefix) :].split(".", 1)[0]
            if head in inner:
                state_dict[f"{prefix}net.{key[len(prefix) :]}"] = state_dict.pop(key)
