"""A narrow ResNet for demos, tests and small machines: MMAction2's ResNet has a fixed width of 64 channels."""

from collections.abc import Sequence

from mmaction.models.backbones.resnet import BasicBlock, make_res_layer
from mmaction.registry import MODELS
from mmcv.cnn import ConvModule
from mmengine.model import BaseModule
from torch import Tensor, nn


@MODELS.register_module()
class SlimResNet(BaseModule):
    """MMAction2's basic blocks at any width; each stage after the first doubles the channels and halves the size.

    Args:
        base_channels: channels of the first stage, >= 1. (With 6, training on a CPU corrupted memory in the backward
            pass of torch 2.13's oneDNN; 8 and 10 train.)
        stage_blocks: number of blocks of each stage.
        stem_stride: stride of the 3x3 stem.
        in_channels: channels of a frame.
    """

    def __init__(
        self,
        *,
        base_channels: int = 16,
        stage_blocks: Sequence[int] = (1, 1),
        stem_stride: int = 2,
        in_channels: int = 3,
        init_cfg: dict | list | None = None,
    ) -> None:
        super().__init__(init_cfg=init_cfg or [dict(type="Kaiming", layer="Conv2d")])
        if base_channels < 1 or not stage_blocks or min(stage_blocks) < 1:
            raise ValueError(
                f"SlimResNet needs base_channels >= 1 and at least one block per stage, "
                f"got base_channels={base_channels}, stage_blocks={tuple(stage_blocks)}"
            )
        norm_cfg, act_cfg = dict(type="BN"), dict(type="ReLU", inplace=True)
        self.conv1 = ConvModule(
            in_channels,
            base_channels,
            kernel_size=3,
            stride=stem_stride,
            padding=1,
            bias=False,
            norm_cfg=norm_cfg,
            act_cfg=act_cfg,
        )
        stages, width = [], base_channels
        for i, blocks in enumerate(stage_blocks):
            planes = base_channels * 2**i
            stages.append(
                make_res_layer(
                    BasicBlock,
                    width,
                    planes,
                    blocks,
                    stride=1 if i == 0 else 2,
                    norm_cfg=norm_cfg,
                    act_cfg=act_cfg,
                )
            )
            width = planes
        self.stages = nn.Sequential(*stages)
        self.feat_dim = width

    def forward(self, frames: Tensor) -> Tensor:
        """(N, C, H, W) -> (N, base_channels * 2**(stages - 1), h, w)."""
        return self.stages(self.conv1(frames))
