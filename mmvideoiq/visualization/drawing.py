"""A drawing of matplotlib as a part of a page: vectors whose colours follow light and dark, and whose text is text."""

from __future__ import annotations

import html
import io
import re

from matplotlib import rc_context
from matplotlib.figure import Figure

from mmvideoiq.visualization.action_style import light_dark

PLAIN = {"svg.fonttype": "none", "svg.hashsalt": "mmvideoiq"}
WIDEST = 115  # pixels of an inch, in a page that has room
NOTHING = dict.fromkeys(("Creator", "Date", "Format", "Type"))  # of matplotlib's own remarks


def png(figure: Figure) -> bytes:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png")
    return buffer.getvalue()


def drawing(figure: Figure, alt: str, *, name: str) -> str:
    """The drawing in the page itself.

    Args:
        alt: what it shows, for those who do not see it.
        name: of this drawing alone on its page, a word.
    """
    buffer = io.StringIO()
    with rc_context(PLAIN):
        figure.savefig(buffer, format="svg", transparent=True, metadata=NOTHING)
    text = buffer.getvalue()
    text = text[text.index("<svg") :].rstrip()
    text = re.sub(r"<defs>\s*<style.*?</style>\s*</defs>", "", text, count=1, flags=re.DOTALL)
    text = re.sub(r"<!--.*?-->", "", text, flags=re.DOTALL)
    text = re.sub(r'(\bid="|href="#|url\(#)', rf"\g<1>d-{name}-", text)
    text = re.sub(r"#[0-9a-fA-F]{6}\b", lambda found: light_dark(found[0].lower()), text)
    width = f"{WIDEST * figure.get_figwidth():.0f}px"
    text = re.sub(r'^<svg [^>]*?(viewBox="[^"]*")[^>]*>', rf'<svg \1 style="max-width:{width}">', text)
    text = re.sub(r"\n\s*", "\n", text)
    return f'<figure class="drawing" role="img" aria-label="{html.escape(alt)}">{text}</figure>'
