"""Griffe extension: what docstrings write in the manner of reStructuredText, as Markdown."""

from __future__ import annotations

import re
from typing import Any

import griffe

ROLE = re.compile(r":(?:func|class|meth|mod|attr|data):`(~?)([^`]+)`")
LITERAL_BLOCK = re.compile(r"^( *)(\S.*?)?::\n\n((?:\1    ?.*\n?|\n)+)", re.MULTILINE)


def to_markdown(text: str) -> str:
    """Roles become code; what follows ``::`` becomes a block."""

    def role(match: re.Match[str]) -> str:
        name = match[2].lstrip(".")
        return f"`{name.rpartition('.')[2] if match[1] else name}`"

    def block(match: re.Match[str]) -> str:
        head = f"{match[1]}{match[2]}:\n\n" if match[2] else ""
        return f"{head}{match[1]}```text\n{match[3].rstrip()}\n{match[1]}```\n\n"

    return LITERAL_BLOCK.sub(block, ROLE.sub(role, text))


class Roles(griffe.Extension):
    """Rewrites every docstring before it is parsed."""

    def on_object(self, *, obj: griffe.Object, **_: Any) -> None:
        if obj.docstring is not None:
            obj.docstring.value = to_markdown(obj.docstring.value)
