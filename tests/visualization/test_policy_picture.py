import numpy as np
import pytest
from matplotlib.colors import to_rgb

from mmvideoiq.visualization.action_style import action_colours
from mmvideoiq.visualization.policy_picture import GAP, HEAD, HEIGHT, PILL, SIDE, FilmClip, draw_filmstrip

NAMES = ("32", "8@112", "4", "skip")
ROW = HEIGHT + PILL + 3 * GAP


def clip(actions=(0, 1, 2, 3), *, size=(48, 64), right=True, **texts):
    frames = np.full((len(actions), *size, 3), 90, dtype=np.uint8)
    texts = dict(title="class 3", verdict="\u2713 84 %", note="cost 0.212") | texts
    return FilmClip(frames=frames, actions=actions, right=right, **texts)


def cell(size):
    return round(HEIGHT * size[1] / size[0])


def pill_colour(picture, row, column, width):
    """The colour at the left end of the mark under a frame, where no letter stands."""
    x = SIDE + column * (width + GAP) + 4
    return picture[HEAD + row * ROW + HEIGHT + GAP // 2 + PILL // 2, x]


def test_a_row_for_each_clip_and_a_mark_in_the_actions_colour_under_each_frame():
    picture = draw_filmstrip([clip(), clip((3, 2))], NAMES, title="epoch 3")
    width = cell((48, 64))
    assert picture.dtype == np.uint8 and picture.shape == (HEAD + 2 * ROW, SIDE + 4 * (width + GAP) + GAP, 3)
    colours = action_colours(NAMES)
    for row, actions in enumerate(((0, 1, 2), (3, 2))):
        for column, index in enumerate(actions):
            name = NAMES[index]
            expected = (1, 1, 1) if name == "skip" else to_rgb(colours[name])  # a skip's is only an outline
            assert np.allclose(pill_colour(picture, row, column, width) / 255, expected, atol=0.005)


def test_frames_are_as_they_were_and_skipped_ones_fade():
    picture = draw_filmstrip([clip((0, 3))], NAMES, title="")
    middle = HEAD + HEIGHT // 2
    processed, skipped = (picture[middle, SIDE + 30 + column * (cell((48, 64)) + GAP)] for column in (0, 1))
    assert (processed == 90).all() and (skipped == round(0.35 * 90 + 0.65 * 255)).all()


@pytest.mark.parametrize("size", [(20, 400), (400, 20)])
def test_frames_of_odd_shapes_stay_visible(size):
    picture = draw_filmstrip([clip((0,), size=size)], NAMES, title="")
    assert picture.shape[1] in (SIDE + 56 + 2 * GAP, SIDE + 128 + 2 * GAP)


def test_long_names_stay_in_their_column_and_a_long_title_in_the_picture():
    long = draw_filmstrip(
        [clip((0,), title="a very long name of a class", verdict="x" * 60)], NAMES, title=""
    )
    short = draw_filmstrip([clip((0,), title="", verdict="", note="")], NAMES, title="")
    assert (long[:, SIDE - GAP :] == short[:, SIDE - GAP :]).all() and (long != short).any()
    wide = draw_filmstrip([clip((0,))], NAMES, title="usage " * 30)
    assert (wide[:, -GAP:] == 255).all() and (wide[:HEAD, -6 * GAP : -2 * GAP] < 255).any()
