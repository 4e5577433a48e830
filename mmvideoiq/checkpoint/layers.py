"""The layers of a ResNet and of a MobileNetV2, each with its name in every layout."""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

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


@dataclass(frozen=True, kw_only=True)
class Layer:
    """One convolution and its batch norm: names in MMAction2 (a ConvModule) and torchvision, and the weight's shape.

    ``index`` is the convolution's place in a residual block (1, 2, ...); None for a stem, a shortcut, MobileNetV2.
    """

    mmaction: str
    conv: str
    norm: str
    shape: tuple[int, ...]
    index: int | None = None


def resnet_layers(depth: int) -> Iterator[Layer]:
    """The layers of a ResNet in forward order, shortcut last in its block."""
    convs, blocks = RESNETS[depth]
    yield Layer(mmaction="conv1", conv="conv1", norm="bn1", shape=(64, 3, 7, 7))
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
                    mmaction=f"{name}.conv{i}",
                    conv=f"{name}.conv{i}",
                    norm=f"{name}.bn{i}",
                    shape=shape,
                    index=i,
                )
            if block == 0 and (channels != out or stage > 0):
                shortcut = f"{name}.downsample"
                yield Layer(
                    mmaction=shortcut, conv=f"{shortcut}.0", norm=f"{shortcut}.1", shape=(out, channels, 1, 1)
                )
            channels = out


def mobilenet_layers(*, release: bool = False) -> Iterator[Layer]:
    """The layers of a MobileNetV2 of width 1 in forward order; ``release``: plain names as in its policy network."""
    yield Layer(mmaction="conv1", conv="features.0.0", norm="features.0.1", shape=(32, 3, 3, 3))
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
                mmaction = f"layer{stage}.{block}.conv.{i}"
                yield Layer(mmaction=mmaction, conv=f"{plain}.{conv}", norm=f"{plain}.{norm}", shape=shape)
            channels = out
    conv, norm = ("conv.0", "conv.1") if release else ("features.18.0", "features.18.1")
    yield Layer(mmaction="conv2", conv=conv, norm=norm, shape=(1280, channels, 1, 1))


def resnet_depth(names: Iterable[str], prefix: str) -> int:
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


def resnet_features(depth: int) -> int:
    return 512 if RESNETS[depth][0] == 2 else 2048
