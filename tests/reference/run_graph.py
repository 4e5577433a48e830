"""What a bundle computes: slow, obvious, the oracle of the engines.

Each node is computed in float64 and its value rounded to float32, so that sums have no order.
"""

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from mmvideoiq.deploy.bundle.bundle import Bundle, Layer
from mmvideoiq.deploy.bundle.graph import Node
from mmvideoiq.deploy.bundle.packing import signed_weights


def run_graph(
    bundle: Bundle,
    part: str,
    bits: int,
    inputs: Mapping[str, Tensor],
    known: Mapping[str, Tensor] = {},
) -> dict[str, Tensor]:
    """The values of all nodes of ``bundle.graphs[part]`` at ``bits``, inputs included, by name.

    Where a value is ``known``, later nodes read that one in place of the computed one. An integer code is a large
    thing at 2 bits: a sum that falls on the other side of a rounding step changes much of what comes after it.
    """
    values = dict(inputs)
    for node in bundle.graphs[part]:
        given = [known.get(name, values[name]).double() for name in node.inputs]
        outputs = run_node(bundle, part, bits, node, given)
        values.update(zip(node.outputs, (output.float() for output in outputs), strict=True))
    return values


def run_node(bundle: Bundle, part: str, bits: int, node: Node, given: list[Tensor]) -> tuple[Tensor, ...]:
    x, attrs = given[0], node.attrs
    if node.op == "normalize":
        return ((x.permute(0, 3, 1, 2) - per_channel(attrs["mean"])) / per_channel(attrs["std"]),)
    if node.op == "resize":
        return (F.interpolate(x, size=tuple(attrs["size"]), mode="bilinear", align_corners=False),)
    if node.op == "quantize":
        grid = node.grid(bits)
        if grid is None:
            return (x,)
        codes = ((x - grid.origin) / grid.step).round().clamp(grid.low, grid.high)
        return (grid.origin + grid.step * codes,)
    if node.op in ("conv", "linear", "affine"):
        layer = bundle.layer(part, node, bits)
        if node.op == "affine":
            y = x
        elif node.op == "linear":
            y = x @ weight_of(layer).T
        else:
            y = F.conv2d(
                x,
                weight_of(layer),
                stride=attrs["stride"],
                padding=attrs["padding"],
                dilation=attrs["dilation"],
                groups=attrs["groups"],
            )
        gain, bias = (double(a).view(-1, *[1] * (y.dim() - 2)) for a in (layer.gain, layer.bias))
        return (gain * y + bias,)
    if node.op == "relu":
        return (x.clamp(min=0),)
    if node.op == "clamp":
        return (x.clamp(attrs["low"], attrs["high"]),)
    if node.op == "add":
        return (x + given[1],)
    if node.op in ("max_pool", "avg_pool"):
        sizes = dict(kernel_size=attrs["kernel"], stride=attrs["stride"], padding=attrs["padding"])
        if node.op == "max_pool":
            return (F.max_pool2d(x, **sizes, ceil_mode=attrs["ceil"]),)
        return (F.avg_pool2d(x, **sizes, ceil_mode=attrs["ceil"], count_include_pad=False),)
    if node.op == "mean_pool":
        return (x.mean(dim=(2, 3)),)
    if node.op == "flatten":
        return (x.flatten(1),)
    if node.op == "shift":
        return (shift(x, attrs["frames"], attrs["fold"]),)
    if node.op == "lstm":
        return lstm(*given, *(double(a) for a in bundle.lstm(part, node)))
    raise NotImplementedError(node.op)


def per_channel(values: tuple[float, ...]) -> Tensor:
    return torch.tensor(values, dtype=torch.float64).view(-1, 1, 1)


def weight_of(layer: Layer) -> Tensor:
    if layer.weight is not None:
        return double(layer.weight)
    codes, scale, correction = map(double, signed_weights(layer.codes, layer.scale, layer.offset, layer.bits))
    shape = (-1, *[1] * (codes.dim() - 1))
    return scale.view(shape) * codes + correction.view(shape)


def double(array: np.ndarray) -> Tensor:
    return torch.from_numpy(array).double()


def shift(x: Tensor, frames: int, fold: int) -> Tensor:
    out = x.clone()
    for start in range(0, len(x), frames):
        for t in range(frames):
            now = start + t
            out[now, :fold] = x[now + 1, :fold] if t + 1 < frames else 0
            out[now, fold : 2 * fold] = x[now - 1, fold : 2 * fold] if t > 0 else 0
    return out


def lstm(
    x: Tensor, h: Tensor, c: Tensor, weight_ih: Tensor, weight_hh: Tensor, bias: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    outputs = []
    for row in x:  # (D,)
        i, f, g, o = (weight_ih @ row + weight_hh @ h[0] + bias).chunk(4)
        c = (f.sigmoid() * c[0] + i.sigmoid() * g.tanh()).unsqueeze(0)
        h = (o.sigmoid() * c[0].tanh()).unsqueeze(0)
        outputs.append(h[0])
    return torch.stack(outputs), h, c
