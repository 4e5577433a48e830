"""Reports as one HTML page that needs no other file."""

from __future__ import annotations

import base64
import html
from collections.abc import Sequence

from matplotlib.figure import Figure

from mmvideoiq.visualization.tables import png

STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; color: #1d2733; background: white }
body { max-width: 62rem; margin: 2rem auto; padding: 0 1rem }
h1 { margin-bottom: 0 } h2 { margin-top: 2.2rem } p.sub, small { color: #5c6875 }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; display: block; overflow-x: auto }
th, td { padding: .35rem .8rem; text-align: right; border-bottom: 1px solid #e4e8ed; white-space: nowrap }
th:first-child, td:first-child { text-align: left } tr.own { background: #fff3ea; font-weight: 600 }
img { max-width: 100%; height: auto } pre { background: #f4f6f8; padding: .8rem; overflow-x: auto }
"""


def image(figure: Figure, alt: str) -> str:
    """A drawing, in the page itself."""
    data = base64.b64encode(png(figure)).decode()
    return f'<img alt="{html.escape(alt)}" src="data:image/png;base64,{data}">'


def items(lines: Sequence[str]) -> str:
    return f"<ul>{''.join(f'<li>{html.escape(line)}</li>' for line in lines)}</ul>"


def page(title: str, subtitle: str, parts: Sequence[str]) -> str:
    """A page of ``parts``, which are HTML."""
    title = html.escape(title)
    head = f'<meta charset="utf-8"><meta name="viewport" content="width=device-width"><title>{title}</title>'
    head += f"<style>{STYLE}</style>"
    body = "\n".join([f"<h1>{title}</h1>", f'<p class="sub">{html.escape(subtitle)}</p>', *parts])
    return f'<!doctype html>\n<html lang="en"><head>{head}</head><body>\n{body}\n</body></html>\n'
