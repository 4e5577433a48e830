"""State dicts in the layout of the authors' release, filled by rule (the parity README), and the parity input.

Written apart from ``mmvideoiq.checkpoint``, as the oracle of its tests: names are listed here the way the release
orders them, and filled from a generator seeded by the name.
"""

import re
import zlib

import numpy as np
import torch

BLOCKS = {18: (2, 2, 2, 2), 34: (3, 4, 6, 3), 50: (3, 4, 6, 3), 101: (3, 4, 23, 3), 152: (3, 8, 36, 3)}
Shapes = list[tuple[str, tuple[int, ...]]]


def batch_norm(name: str, channels: int) -> Shapes:
    vectors = [(f"{name}.{leaf}", (channels,)) for leaf in ("weight", "bias", "running_mean", "running_var")]
    return [*vectors, (f"{name}.num_batches_tracked", ())]


def residual_stages(depth: int, precisions: tuple[int, ...], suffix: str = "") -> Shapes:
    """The four stages; ``suffix="_32fp"`` gives the teacher's plain names."""
    out: Shapes = []
    bottleneck = depth >= 50
    channels = 64
    for stage, count in enumerate(BLOCKS[depth], start=1):
        width = 32 * 2**stage
        for block in range(count):
            name = f"backbone.layer{stage}{suffix}.{block}"
            if bottleneck:
                convs = [(width, channels, 1, 1), (width, width, 3, 3), (4 * width, width, 1, 1)]
            else:
                convs = [(width, channels, 3, 3), (width, width, 3, 3)]
            if not suffix:
                out += [(f"{name}.q_alpha{i + 1}_{b}", (1,)) for b in precisions for i in range(len(convs))]
            for i, shape in enumerate(convs, start=1):
                out.append((f"{name}.conv{i}.weight", shape))
                for norm in [f"bn{i}"] if suffix else [f"bn{i}_{b}" for b in precisions]:
                    out += batch_norm(f"{name}.{norm}", shape[0])
            if block == 0 and (stage > 1 or bottleneck):
                for b in (32,) if suffix else precisions:
                    out.append((f"{name}.downsample_{b}.0.weight", (convs[-1][0], channels, 1, 1)))
                    out += batch_norm(f"{name}.downsample_{b}.1", convs[-1][0])
            channels = convs[-1][0]
    return out


def mobilenet_v2() -> Shapes:
    out = [("policy_net.features.0.0.weight", (32, 3, 3, 3)), *batch_norm("policy_net.features.0.1", 32)]
    feature, channels = 1, 32
    for expand, width, count in [
        (1, 16, 1),
        (6, 24, 2),
        (6, 32, 3),
        (6, 64, 4),
        (6, 96, 3),
        (6, 160, 3),
        (6, 320, 1),
    ]:
        for _ in range(count):
            hidden = expand * channels
            name = f"policy_net.features.{feature}.conv"
            convs = [(hidden, 1, 3, 3), (width, hidden, 1, 1)]
            if expand > 1:
                convs.insert(0, (hidden, channels, 1, 1))
            for i, shape in enumerate(convs):
                out.append((f"{name}.{3 * i}.weight", shape))
                out += batch_norm(f"{name}.{3 * i + 1}", shape[0])
            feature, channels = feature + 1, width
    return [*out, ("policy_net.conv.0.weight", (1280, 320, 1, 1)), *batch_norm("policy_net.conv.1", 1280)]


def release_shapes(
    *,
    depth: int = 18,
    precisions: tuple[int, ...] = (32, 4, 2),
    actions: int = 4,
    num_classes: int = 10,
    teacher: bool = True,
    policy_classifier: bool = True,
) -> Shapes:
    """Names and shapes of a model of the release, in its order."""
    features = 2048 if depth >= 50 else 512
    out: Shapes = [("backbone.conv1.weight", (64, 3, 7, 7)), *batch_norm("backbone.bn1", 64)]
    out += residual_stages(depth, precisions)
    if teacher:
        out += [("backbone.conv1_32fp.weight", (64, 3, 7, 7)), *batch_norm("backbone.bn1_32fp", 64)]
        out += residual_stages(depth, precisions, "_32fp")
        out += [
            ("backbone.fc_32fp.weight", (num_classes, features)),
            ("backbone.fc_32fp.bias", (num_classes,)),
        ]
    out += [("policy_net.temperature", (1,)), *mobilenet_v2()]
    out += [("policy_net.rnn.weight_ih", (2048, 1280)), ("policy_net.rnn.weight_hh", (2048, 512))]
    out += [("policy_net.rnn.bias_ih", (2048,)), ("policy_net.rnn.bias_hh", (2048,))]
    out += [("policy_net.linear.weight", (actions, 512)), ("policy_net.linear.bias", (actions,))]
    if policy_classifier:
        out += [("policy_net.fc.weight", (num_classes, 512)), ("policy_net.fc.bias", (num_classes,))]
    return [*out, ("fc.weight", (num_classes, features)), ("fc.bias", (num_classes,))]


def fill(name: str, shape: tuple[int, ...]) -> torch.Tensor:
    """The tensor that the parity README gives to a name."""
    canonical = name if "32fp" in name else re.sub(r"downsample_\d+\.0\.", "downsample_*.0.", name)
    g = np.random.default_rng(zlib.crc32(canonical.encode()))
    leaf = name.rpartition(".")[2]
    if leaf == "num_batches_tracked":
        return torch.tensor(0)
    if leaf == "temperature":
        value = np.full(shape, 5.0)
    elif leaf.startswith("q_alpha"):
        value = 1 + g.random(shape)
    elif leaf == "running_var":
        value = 0.5 + g.random(shape)
    elif leaf == "running_mean" or leaf.startswith("bias"):
        value = 0.1 * g.standard_normal(shape)
    elif len(shape) == 1:
        value = 0.5 + g.random(shape)
    elif ".rnn." in name:
        value = 0.02 * g.standard_normal(shape)
    else:
        value = g.standard_normal(shape) * np.sqrt(2 / np.prod(shape[1:]))
    return torch.from_numpy(np.asarray(value, dtype=np.float32))


def filled_state(shapes: Shapes) -> dict[str, torch.Tensor]:
    return {name: fill(name, tuple(shape)) for name, shape in shapes}


def meta_state(shapes: Shapes) -> dict[str, torch.Tensor]:
    """Cheap zeros, one storage for all: for tests of names and shapes."""
    zero = torch.zeros(1)
    return {name: zero.expand(shape) if shape else zero[0] for name, shape in shapes}


def parity_input(seed: int, num_frames: int, size: int) -> torch.Tensor:
    """The fixture's clips, (2, T, 3, S, S)."""
    g = np.random.default_rng(seed)
    frames = (2, num_frames * 3, size, size)
    channels = (2, num_frames * 3, 1, 1)
    noise = g.standard_normal(frames)
    x = noise * np.exp(g.standard_normal(channels)) + 2 * g.standard_normal(channels)
    return torch.from_numpy(x.astype(np.float32)).reshape(2, num_frames, 3, size, size)
