"""Reports as one HTML page that needs no other file: light and dark, on a phone, and printed."""

from __future__ import annotations

import html
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from importlib.resources import files
from pathlib import Path

from mmvideoiq.fileio import replace_file, to_bytes

LIMIT = 3_000_000  # bytes of a page
NAME_LENGTH = 80  # characters of a name that others chose


@dataclass(frozen=True, kw_only=True)
class Thumbnails:
    """How much the filmstrips of a page may take.

    Attributes:
        clips: of each group.
        frames: of a clip.
        height: pixels.
        quality: of JPEG, 0 to 100.
    """

    clips: int
    frames: int
    height: int
    quality: int

    def all_of(self, clips: int) -> Thumbnails:
        """The same with ``clips`` in a group where the best step has :data:`BEST`'s."""
        return replace(self, clips=clips * self.clips // BEST.clips)


BEST = Thumbnails(clips=6, frames=16, height=112, quality=80)
#: From the best to the least; then none.
STEPS = (
    BEST,
    Thumbnails(clips=6, frames=16, height=88, quality=70),
    Thumbnails(clips=6, frames=12, height=72, quality=60),
    Thumbnails(clips=4, frames=8, height=64, quality=50),
    Thumbnails(clips=2, frames=8, height=48, quality=40),
    None,
)


def items(lines: Sequence[str]) -> str:
    return f"<ul>{''.join(f'<li>{html.escape(line)}</li>' for line in lines)}</ul>"


def note(text: str) -> str:
    """A paragraph in small letters."""
    return f'<p class="note">{html.escape(" ".join(text.split()))}</p>'


def short(name: str) -> str:
    """A name of a class or file, shortened in the middle where it is very long."""
    half = NAME_LENGTH // 2
    return name if len(name) <= NAME_LENGTH else f"{name[: half - 1]}…{name[-half:]}"


def section(title: str, *parts: str) -> str:
    """A part of the page with a heading; '' without content."""
    content = "\n".join(part for part in parts if part)
    if not content:
        return ""
    place = re.sub(r"\W+", "-", title.lower()).strip("-")
    return f'<section id="{place}">\n<h2>{html.escape(title)}</h2>\n{content}\n</section>'


def page(title: str, subtitle: str, sections: Sequence[str]) -> str:
    """A page of :func:`section`s, with links to them at its top."""
    found = [each for each in sections if each]
    links = re.findall(r'^<section id="([^"]*)">\n<h2>(.*)</h2>', "\n".join(found), re.MULTILINE)
    menu = "".join(f'<a href="#{place}">{name}</a>' for place, name in links)
    style = files(__package__).joinpath("page.css").read_text(encoding="utf-8")
    head = (
        '<meta charset="utf-8">\n<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{html.escape(title)}</title>\n<style>\n{style}</style>"
    )
    body = "\n".join(
        [
            f"<header>\n<h1>{html.escape(title)}</h1>",
            f'<p class="sub">{html.escape(subtitle)}</p>',
            *([f'<nav aria-label="Sections">{menu}</nav>'] if len(links) > 2 else []),
            "</header>\n<main>",
            *found,
            "</main>",
        ]
    )
    return f'<!doctype html>\n<html lang="en">\n<head>\n{head}\n</head>\n<body>\n{body}\n</body>\n</html>\n'


def fit(render: Callable[[Thumbnails | None], str], *, limit: int = LIMIT) -> str:
    """The page with the best thumbnails with which it has at most ``limit`` bytes; without any if need be.

    Args:
        render: makes the page with such thumbnails, or without any.
    """
    for step in STEPS:
        text = render(step)
        if len(to_bytes(text)) <= limit:
            break
    return text


def write_page(path: Path, text: str) -> None:
    """Write a page: readers see the old one or the new one, never a part."""
    replace_file(path, to_bytes(text))
