"""Where convolutions and poolings look, and how large what they give is; pairs are (h, w)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from mmvideoiq.deploy.bundle.graph import Node


class Region(NamedTuple):
    """A rectangle of a convolution's output.

    Attributes:
        rows, columns: of the output.
        seen: rows, then columns of the input that its windows meet: (first, last + 1) of each.
        before, behind: the padding that they meet, of rows and of columns.
        inside: whether they meet none.
    """

    rows: slice
    columns: slice
    seen: list[tuple[int, int]]
    before: list[int]
    behind: list[int]
    inside: bool


@dataclass(frozen=True)
class ConvGeometry:
    """Where a convolution looks; pairs are (h, w)."""

    kernel: tuple[int, int] = (1, 1)
    stride: tuple[int, int] = (1, 1)
    padding: tuple[int, int] = (0, 0)
    dilation: tuple[int, int] = (1, 1)
    groups: int = 1

    @classmethod
    def of(cls, node: Node) -> ConvGeometry:
        """That of a conv node."""
        stride, padding, dilation = (tuple(node.attrs[key]) for key in ("stride", "padding", "dilation"))
        return cls(tuple(node.attrs["shape"][2:]), stride, padding, dilation, node.attrs["groups"])

    def output_size(
        self, size: Sequence[int], before: Sequence[int] | None = None, behind: Sequence[int] | None = None
    ) -> tuple[int, ...]:
        """Height and width of the output for an input of ``size``; ``before`` and ``behind``: other paddings."""
        ends = (before or self.padding, behind or self.padding)
        axes = zip(size, self.kernel, self.stride, *ends, self.dilation, strict=True)
        return tuple((n + p + q - d * (k - 1) - 1) // s + 1 for n, k, s, p, q, d in axes)

    def regions(self, size: Sequence[int]) -> list[list[Region]]:
        """The output for an input of ``size`` as rows of regions: the windows that meet no padding, and those around.

        Empty where all windows meet padding, or some meet nothing else.
        """
        axes = list(zip(size, self.kernel, self.stride, self.padding, self.dilation, strict=True))
        inside = [(-(-p // s), (n + p - d * (k - 1) - 1) // s + 1) for n, k, s, p, d in axes]
        only_padding = any(p > d * (k - 1) for _, k, _, p, d in axes)
        if only_padding or any(first >= end for first, end in inside):
            return []
        counts = self.output_size(size)
        rows, columns = (
            [places for places in ((0, first), (first, end), (end, count)) if places[0] < places[1]]
            for (first, end), count in zip(inside, counts, strict=True)
        )
        return [
            [
                self._region(size, row, each, inside=[row, each] == inside)
                for each in (columns if row == inside[0] else [(0, counts[1])])
            ]
            for row in rows
        ]

    def _region(self, size: Sequence[int], *places: tuple[int, int], inside: bool) -> Region:
        seen, before, behind = [], [], []
        axes = zip(places, size, self.kernel, self.stride, self.padding, self.dilation, strict=True)
        for (first, end), n, k, s, p, d in axes:
            low, high = first * s - p, (end - 1) * s - p + d * (k - 1) + 1
            seen.append((max(low, 0), min(high, n)))
            before.append(max(-low, 0))
            behind.append(max(high - n, 0))
        return Region(slice(*places[0]), slice(*places[1]), seen, before, behind, inside)

    def window_sums(self, weight: np.ndarray, size: Sequence[int]) -> np.ndarray:
        """The convolution of ones (I, *size): at each place the sum of the weights (O, I, kh, kw) that meet no padding.

        Returns: (O, h, w); (O, 1, 1) where there is no padding.
        """
        if self.padding == (0, 0):
            return weight.sum(axis=(1, 2, 3), keepdims=True)[:, 0]
        meets = []
        axes = (self.kernel, self.stride, self.padding, self.dilation, size, self.output_size(size))
        for k, s, p, d, n, count in zip(*axes, strict=True):
            place = np.arange(count)[:, None] * s - p + np.arange(k) * d
            meets.append(((place >= 0) & (place < n)).astype(np.float64))
        return np.einsum("oikl,hk,wl->ohw", weight, *meets)


def pooling_ends(node: Node, size: Sequence[int]) -> tuple[list[int], list[int]]:
    """Output size, and padding behind the input, of a pooling node; a window that would start there is left out."""
    counts, ends = [], []
    for n, k, s, p in zip(size, *(node.attrs[key] for key in ("kernel", "stride", "padding")), strict=True):
        count = (n + 2 * p - k + (s - 1 if node.attrs["ceil"] else 0)) // s + 1
        count -= (count - 1) * s >= n + p
        counts.append(count)
        ends.append(max((count - 1) * s + k - n - p, 0))
    return counts, ends
