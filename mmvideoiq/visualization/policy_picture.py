"""A filmstrip: small frames of some clips, under each the action chosen for it. Drawn in milliseconds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import matplotlib
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from mmvideoiq.visualization.action_style import action_colours, action_label, ink_on
from mmvideoiq.visualization.figures import FAINT, INK

HEIGHT = 64  # of a frame
WIDTHS = (56, 128)  # of a frame, at least and at most
SIDE, HEAD, GAP, PILL = 128, 30, 6, 16  # the column of titles, the line above, between frames, of an action
RIGHT, WRONG = "#1a7f4b", "#b3261e"


@dataclass(frozen=True, kw_only=True)
class FilmClip:
    """A clip to draw.

    Args:
        frames: (T, H, W, 3) uint8, RGB.
        actions: the index of each frame's action, length T.
        title: beside the frames.
        verdict: below the title, in the colour of ``right``.
        right: whether the clip was recognized.
        note: below the verdict.
    """

    frames: np.ndarray
    actions: Sequence[int]
    title: str
    verdict: str
    right: bool
    note: str = ""


def draw_filmstrip(clips: Sequence[FilmClip], names: Sequence[str], *, title: str) -> np.ndarray:
    """A row for each clip, in the colours and words of the report's timeline.

    Args:
        clips: at least one.
        names: of the actions, in the order of their indices.
        title: above the rows.

    Returns: (H, W, 3) uint8, RGB.
    """
    height, width = clips[0].frames.shape[1:3]
    cell = min(max(round(HEIGHT * width / height), WIDTHS[0]), WIDTHS[1])
    row = HEIGHT + PILL + 3 * GAP
    columns = max(len(clip.actions) for clip in clips)
    size = (max(SIDE + columns * (cell + GAP) + GAP, round(_width(title)) + 4 * GAP), HEAD + row * len(clips))
    picture = Image.new("RGB", size, "white")
    pen = ImageDraw.Draw(picture)
    pen.text((2 * GAP, HEAD / 2), title, fill=INK, font=_font(13), anchor="lm")
    colours = action_colours(names)
    for number, clip in enumerate(clips):
        y = HEAD + number * row
        _draw_title(pen, clip, y)
        for place, index in enumerate(clip.actions):
            frame = Image.fromarray(clip.frames[place]).resize((cell, HEIGHT), Image.Resampling.BILINEAR)
            x = SIDE + place * (cell + GAP)
            _draw_frame(picture, pen, frame, x, y, names[index], colours[names[index]])
    return np.asarray(picture)


def _draw_title(pen: ImageDraw.ImageDraw, clip: FilmClip, y: int) -> None:
    colour = RIGHT if clip.right else WRONG
    for line, (text, size, ink) in enumerate(
        ((clip.title, 12, INK), (clip.verdict, 11, colour), (clip.note, 11, FAINT))
    ):
        while _width(text, size) > SIDE - 3 * GAP:
            text = text[:-2] + "\u2026"
        pen.text((2 * GAP, y + 12 + 19 * line), text, fill=ink, font=_font(size), anchor="lm")


def _draw_frame(
    picture: Image.Image, pen: ImageDraw.ImageDraw, frame: Image.Image, x: int, y: int, name: str, colour: str
) -> None:
    skipped = name.startswith("skip")
    if skipped:  # fades
        frame = Image.blend(frame, Image.new("RGB", frame.size, "white"), 0.65)
    picture.paste(frame, (x, y))
    box = (x, y, x + frame.width - 1, y + HEIGHT - 1)
    pen.rectangle(box, outline=colour, width=1 if skipped else 2)
    top = y + HEIGHT + GAP // 2
    pill = (x, top, x + frame.width - 1, top + PILL - 1)
    pen.rounded_rectangle(pill, radius=PILL // 2, fill="white" if skipped else colour, outline=colour)
    text = name if skipped else action_label(name).partition(" (")[0]
    size = next((size for size in (11, 10, 9) if _width(text, size) < frame.width - 4), 8)
    middle = (x + frame.width / 2, top + PILL / 2)
    pen.text(middle, text, fill=FAINT if skipped else ink_on(colour), font=_font(size), anchor="mm")


@cache
def _font(size: int) -> ImageFont.FreeTypeFont:
    """Matplotlib's own font, which every installation has."""
    return ImageFont.truetype(Path(matplotlib.get_data_path(), "fonts/ttf/DejaVuSans.ttf"), size)


def _width(text: str, size: int = 13) -> float:
    return _font(size).getlength(text)
