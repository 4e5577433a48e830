"""Filmstrips: which clips are shown, and that each frame stands over its action."""

import io

import numpy as np
import pytest
from PIL import Image

from mmvideoiq.visualization.action_style import action_label, in_the_dark, ink_on, light_dark, luminance
from mmvideoiq.visualization.filmstrips import (
    Strip,
    draw_strip,
    easiest_and_hardest,
    group,
    legend,
    most_and_least_certain,
    thumbnail,
)
from mmvideoiq.visualization.page import Thumbnails, page, section
from tests.visualization.html_page import ReportPage

NAMES = ("32", "8@112", "2", "skip")
SMALL = Thumbnails(clips=2, frames=4, height=16, quality=90)


def clip(true, given, score):
    return dict(gt_label=true, pred_label=given, pred_score=score)


def grey(levels, height=16, width=24):
    """Frames of one level each."""
    return np.stack([np.full((height, width, 3), level, np.uint8) for level in levels])


def strip(**changes):
    given = dict(
        title="a <class>", answer="b & c", right=False, details="x.mp4", frames=grey([0, 80, 160, 240])
    )
    return Strip(**given | dict(actions=["32", "skip", "8@112", "2"]) | changes)


def shown(*parts):
    return ReportPage(page("t", "s", [section("f", *parts)]))


def test_easiest_are_right_and_certain_hardest_wrong_and_certain():
    clips = [
        clip(0, 0, 0.9),
        clip(0, 1, 0.6),
        clip(1, 1, 0.4),
        clip(1, 1, 0.99),
        clip(2, 0, 0.8),
        clip(2, 2, 0.5),
    ]
    assert easiest_and_hardest(clips, 2) == ([3, 0], [4, 1])
    assert easiest_and_hardest(clips, 6) == ([3, 0, 5], [4, 1, 2])
    assert easiest_and_hardest(clips[:1], 6) == ([0], [])
    assert easiest_and_hardest([clip(0, 1, 0.5)] * 3, 2) == ([], [0, 1])
    assert easiest_and_hardest([], 2) == ([], [])


def test_one_of_several_labels_is_right():
    clips = [clip([0, 2], 2, 0.9), clip([0, 2], 1, 0.8)]
    assert easiest_and_hardest(clips, 1) == ([0], [1])


def test_most_and_least_certain():
    assert most_and_least_certain([0.3, 0.9, 0.1, 0.5], 1) == ([1], [2])
    assert most_and_least_certain([0.3, 0.9, 0.1], 6) == ([1, 0], [2])


def test_each_frame_stands_over_its_action_in_the_order_of_time():
    found = shown(draw_strip(strip(kinds=["bold", "blank", "faint", "<k>"]), NAMES, SMALL))
    assert found.kinds["f"] == ["done", "skip", "done", "done"]
    levels = [np.asarray(Image.open(io.BytesIO(data))).mean() for _, data in found.images["f"]]
    np.testing.assert_allclose(levels, [0, 80, 160, 240], atol=2)
    assert [alt for alt, _ in found.images["f"]] == [f"frame {n}" for n in range(4)]
    words = " ".join(found.texts["f"].split())
    assert "a <class> ✗ b & c x.mp4" in words
    order = [words.index(text) for text in ("32 bits bold", "skipped blank", "8@112 faint", "2 bits <k>")]
    assert order == sorted(order)


def test_long_clips_show_some_frames_evenly_and_say_so():
    frames, actions = grey(range(0, 250, 10)), ["2"] * 24 + ["32"]
    found = shown(draw_strip(strip(frames=frames, actions=actions, first=100, total=125), NAMES, SMALL))
    assert [alt for alt, _ in found.images["f"]] == ["frame 100", "frame 108", "frame 116", "frame 124"]
    assert "4 of 125 frames shown" in found.texts["f"]


def test_without_actions_or_a_verdict_frames_are_plain():
    found = shown(draw_strip(strip(actions=None, right=None, answer=""), NAMES, SMALL))
    assert (
        found.kinds["f"] == ["plain"] * 4 and "✗" not in found.texts["f"] and "bits" not in found.texts["f"]
    )


def test_a_group_takes_the_first_clips_that_have_frames():
    strips = [strip(title="zero"), None, strip(title="two"), strip(title="three")]
    found = shown(group("Some <clips>", range(4), strips.__getitem__, NAMES, SMALL))
    words = found.texts["f"]
    assert "Some <clips>" in words and "zero" in words and "two" in words and "three" not in words
    assert group("None", [1], strips.__getitem__, NAMES, SMALL) == ""


@pytest.mark.parametrize(
    ("height", "width", "expected"), [(64, 96, (24, 16)), (8, 9, (9, 8)), (4000, 10, (1, 16))]
)
def test_thumbnails_are_small_jpegs_and_never_enlarged(height, width, expected):
    frame = np.zeros((height, width, 3), np.uint8)
    frame[..., 0] = 200
    data = ReportPage(
        page("t", "s", [section("f", f'<img alt="x" src="{thumbnail(frame, SMALL)}">')])
    ).images["f"][0][1]
    image = Image.open(io.BytesIO(data))
    assert image.format == "JPEG" and image.size == expected
    red, green, blue = image.getpixel((0, 0))
    assert red > 190 and green < 10 and blue < 10


def test_the_legend_names_every_action():
    found = shown(legend(NAMES))
    assert len(found.kinds["f"]) == len(NAMES) and all(
        action_label(name) in found.texts["f"] for name in NAMES
    )
    assert legend(()) == ""


def contrast(one, other):
    bright, dark = sorted((luminance(one), luminance(other)), reverse=True)
    return (bright + 0.05) / (dark + 0.05)


@pytest.mark.parametrize(
    "colour", ["#43206f", "#1f6fb2", "#2fb58a", "#c2410c", "#b8c0ca", "#1d2733", "#8a9a2b"]
)
def test_colours_are_seen_and_read_on_both_grounds(colour):
    dark = in_the_dark(colour)
    assert light_dark(colour) == f"light-dark({colour}, {dark})"
    for each in (colour, dark):
        assert contrast(each, ink_on(each)) > 4.5
    if colour != "#b8c0ca":
        assert contrast(colour, "#ffffff") > 2.4 and contrast(dark, "#14171c") > 4.5
