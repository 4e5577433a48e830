"""The parts of a convolution's output around which padding is met."""

import numpy as np
import pytest

from mmvideoiq.deploy.bundle.geometry import ConvGeometry

GEOMETRIES = [
    ConvGeometry((3, 3), (2, 2), (1, 1)),
    ConvGeometry((3, 3), (1, 1), (1, 1)),
    ConvGeometry((7, 5), (2, 3), (3, 1)),
    ConvGeometry((3, 3), (1, 2), (2, 3), (2, 3)),
    ConvGeometry((3, 1), (1, 1), (1, 0)),
]


@pytest.mark.parametrize("geometry", GEOMETRIES, ids=str)
@pytest.mark.parametrize("size", [(12, 13), (9, 8)])
def test_regions_make_up_the_output(geometry, size):
    weight = np.random.default_rng(0).uniform(1, 2, (1, 1, *geometry.kernel))
    whole = geometry.window_sums(weight, size)[0]  # smaller where a window meets padding
    if geometry.padding[1] == 0:
        whole = np.broadcast_to(whole, geometry.output_size(size))
    times = np.zeros(geometry.output_size(size), int)
    rows = geometry.regions(size)
    for part in (part for row in rows for part in row):
        (top, bottom), (left, right) = part.seen
        inner = ConvGeometry(geometry.kernel, geometry.stride, (0, 0), geometry.dilation)
        padded = (
            bottom - top + part.before[0] + part.behind[0],
            right - left + part.before[1] + part.behind[1],
        )
        shape = times[part.rows, part.columns].shape
        assert inner.output_size(padded) == shape
        times[part.rows, part.columns] += 1
        sums = whole[part.rows, part.columns]
        assert part.inside == np.allclose(sums, weight.sum())
        assert 0 <= top < bottom <= size[0] and 0 <= left < right <= size[1]
    assert (times == 1).all() and sum(part.inside for row in rows for part in row) == 1


def test_where_every_window_meets_padding_or_one_nothing_else_there_are_no_regions():
    assert ConvGeometry((7, 3), (1, 1), (3, 1)).regions((6, 8)) == []
    assert ConvGeometry((1, 1), (2, 2), (2, 0)).regions((6, 8)) == []
