"""Clips as rows of small frames, under each the action chosen for it. Needs neither matplotlib nor torch.

Axes: T frames, H W.
"""

from __future__ import annotations

import base64
import html
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mmvideoiq.visualization.action_style import action_colours, action_label, in_the_dark, ink_on, light_dark
from mmvideoiq.visualization.page import Thumbnails, note, short

TINY = 48  # pixels of height below which a frame is shown in squares, not blurred
ONE_ROW = 10  # frames that stand in one row, two such clips side by side
Frames = NDArray[np.uint8]  # (T, H, W, 3), RGB


@dataclass(frozen=True, kw_only=True)
class Strip:
    """A clip to show.

    Attributes:
        title: its class, or its file.
        answer: what was said of it, and ``right``, whether that is so; None where nobody knows.
        details: the rest, in small letters.
        frames: those that the network saw; of a stream the last ones.
        actions: a name for each frame, or None.
        kinds: a word for each frame, or None.
        first: number of the first frame in the clip.
        total: frames of the clip.
    """

    title: str
    answer: str
    right: bool | None
    details: str
    frames: Frames
    actions: Sequence[str] | None = None
    kinds: Sequence[str] | None = None
    first: int = 0
    total: int | None = None


def easiest_and_hardest(clips: Sequence[Mapping[str, Any]], count: int) -> tuple[list[int], list[int]]:
    """Places of up to ``count`` clips each; none is in both lists.

    Easiest: right, and most certain of it. Hardest: wrong, the most certain first, then right and least certain.
    Certainty is ``pred_score``.

    Args:
        clips: entries with ``gt_label``, ``pred_label`` and ``pred_score``.
    """
    scores = [clip.get("pred_score") or 0.0 for clip in clips]
    right = [is_right(clip) for clip in clips]
    order = sorted(range(len(clips)), key=lambda place: (not right[place], -scores[place]))
    easiest = [place for place in order if right[place]][: min(count, (len(clips) + 1) // 2)]
    order.sort(key=lambda place: (bool(right[place]), scores[place] if right[place] else -scores[place]))
    return easiest, [place for place in order if place not in easiest][:count]


def most_and_least_certain(scores: Sequence[float], count: int) -> tuple[list[int], list[int]]:
    """Places of up to ``count`` clips each where nobody knows what is right; none is in both lists."""
    order = sorted(range(len(scores)), key=lambda place: -scores[place])
    most = order[: min(count, (len(order) + 1) // 2)]
    return most, [place for place in reversed(order) if place not in most][:count]


def is_right(clip: Mapping[str, Any]) -> bool:
    """Whether the answer is the clip's label, or one of them."""
    label = clip.get("gt_label")
    return clip.get("pred_label") in label if isinstance(label, list) else clip.get("pred_label") == label


def legend(names: Iterable[str]) -> str:
    """The actions and their colours."""
    cells = "".join(f"<li>{_pill(name, colour)}</li>" for name, colour in action_colours(list(names)).items())
    return f'<ul class="legend">{cells}</ul>' if cells else ""


def group(
    title: str,
    places: Sequence[int],
    strip_of: Callable[[int], Strip | None],
    names: Sequence[str],
    thumbnails: Thumbnails,
) -> str:
    """Clips under a heading; '' where none of them has frames.

    Args:
        title: "" for no heading.
        places: of the clips, of which the first ``thumbnails.clips`` with frames are shown.
        strip_of: the clip at a place, None where it has no frames.
        names: of all actions.
    """
    shown: list[str] = []
    for place in places:
        strip = strip_of(place) if len(shown) < thumbnails.clips else None
        if strip is not None:
            shown.append(draw_strip(strip, names, thumbnails))
    if not shown:
        return ""
    heading = f"<h3>{html.escape(title)}</h3>\n" if title else ""
    strips = "\n".join(shown)
    return f'{heading}<div class="strips">\n{strips}\n</div>'


def left_out() -> str:
    """In place of all groups."""
    return note("Frames are left out: with them the page would be larger than 3 MB.")


def draw_strip(strip: Strip, names: Sequence[str], thumbnails: Thumbnails) -> str:
    """The HTML of a clip: evenly chosen frames of it, in the order of time."""
    count, colours = len(strip.frames), action_colours(names)
    places = sorted({round(place) for place in np.linspace(0, count - 1, min(thumbnails.frames, count))})
    total = count if strip.total is None else strip.total
    details = [strip.details] if strip.details else []
    if len(places) < total:
        details.append(f"{len(places)} of {total} frames shown")
    sign, mark = {True: ("✓ ", "good"), False: ("✗ ", "bad"), None: ("", "answer")}[strip.right]
    caption = f"<b>{html.escape(short(strip.title))}</b>"
    if strip.answer:
        caption += f' <span class="{mark}">{html.escape(sign + strip.answer)}</span>'
    if details:
        caption += f" <small>{html.escape(' · '.join(details))}</small>"
    cells = "\n".join(_cell(strip, place, colours, thumbnails) for place in places)
    kind = "frames long" if len(places) > ONE_ROW else "frames"
    return f'<figure class="strip"><figcaption>{caption}</figcaption>\n<ol class="{kind}">\n{cells}\n</ol></figure>'


def _cell(strip: Strip, place: int, colours: Mapping[str, str], thumbnails: Thumbnails) -> str:
    name = strip.actions[place] if strip.actions is not None and place < len(strip.actions) else None
    frame = strip.frames[place]
    tiny = ' class="tiny"' if frame.shape[0] < TINY else ""
    image = f'<img{tiny} alt="frame {strip.first + place}" src="{thumbnail(frame, thumbnails)}">'
    if name is None:
        content, kind, style = image, "plain", ""
    else:
        kind = "skip" if name.startswith("skip") else "done"
        content, style = image + _pill(name), f' style="{_colours(colours[name])}"'
    if strip.kinds is not None:
        content += f" <small>{html.escape(strip.kinds[place])}</small>"
    return f'<li class="{kind}"{style}>{content}</li>'


def _pill(name: str, colour: str = "") -> str:
    kind = "pill skip" if name.startswith("skip") else "pill"
    style = f' style="{_colours(colour)}"' if colour else ""
    text = name if "@" in name and not colour else action_label(name)  # under a frame there is little room
    return f'<span class="{kind}"{style}>{html.escape(text)}</span>'


def _colours(colour: str) -> str:
    ink = f"light-dark({ink_on(colour)}, {ink_on(in_the_dark(colour))})"
    return f"--colour:{light_dark(colour)};--on:{ink}"


def thumbnail(frame: Frames, thumbnails: Thumbnails) -> str:
    """A frame (H, W, 3), RGB, as the address of a small JPEG in the page itself; it is never made larger."""
    import cv2

    height, width = frame.shape[:2]
    scale = min(1.0, thumbnails.height / height)
    if scale < 1:
        size = (max(1, round(width * scale)), max(1, round(height * scale)))
        frame = cv2.resize(frame, size, interpolation=cv2.INTER_AREA)
    done, data = cv2.imencode(
        ".jpg", np.ascontiguousarray(frame[..., ::-1]), [cv2.IMWRITE_JPEG_QUALITY, thumbnails.quality]
    )
    assert done
    return f"data:image/jpeg;base64,{base64.b64encode(data.tobytes()).decode()}"
