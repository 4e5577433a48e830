"""Names in braces, ``{float}``, which stand in the strings of a config for what is known only later."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

PLACEHOLDER = re.compile(r"\{(\w+)\}")


def placeholders(value: Any) -> Iterator[str]:
    """The names in braces in all strings of a nested value."""
    if isinstance(value, str):
        yield from PLACEHOLDER.findall(value)
    elif isinstance(value, Mapping):
        for item in value.values():
            yield from placeholders(item)
    elif isinstance(value, list | tuple):
        for item in value:
            yield from placeholders(item)


def fill(value: Any, known: Mapping[str, str | None]) -> Any:
    """Replace ``{name}`` in all strings of a nested value; a string of a placeholder alone may become None."""
    if isinstance(value, str):
        alone = PLACEHOLDER.fullmatch(value)
        if alone and alone[1] in known:
            return known[alone[1]]
        return PLACEHOLDER.sub(lambda match: str(known.get(match[1], match[0])), value)
    if isinstance(value, Mapping):
        return {key: fill(item, known) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(fill(item, known) for item in value)
    return value
