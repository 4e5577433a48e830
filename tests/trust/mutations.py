"""Seeded changes of bytes, of texts line by line, and of nested values; the same ``random.Random`` makes the same."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from typing import Any

from tests.video.damage import MUTATIONS

#: Values that no field expects.
ODD: tuple[Any, ...] = (
    *(-1, 0, 1, 3, 255, 10**7, 2**31 - 1, 2**63, 10**400),
    *(0.5, -1e37, 1e-300, float("nan"), float("inf")),
    *(None, True, "", "x", "\x00", "é\u202e", "../../x", "x" * 10**5),
    *([], {}, [[]], [1, "a"], {"": None}),
)
WORDS = (
    "-1",
    "0",
    "99999999999999999999",
    "nan",
    "1e999",
    "None",
    "''",
    "\x00",
    "é\u202e",
    "a" * 10**4,
    "../..",
)
SMALLEST = 64  # bytes: shorter files are cut only


def change_bytes(data: bytes, rng: random.Random) -> tuple[str, bytes]:
    """Flipped bits, a cut, a hole, or parts that are missing or stand elsewhere."""
    if len(data) < SMALLEST:
        kept = rng.randrange(len(data) + 1)
        return f"cut to {kept} bytes", data[:kept]
    change = rng.choice(MUTATIONS)
    return change.__name__, change(data, rng)


# --- texts ----------------------------------------------------------------------------------------------------------


def _at(lines: list[str], rng: random.Random) -> int:
    return rng.randrange(max(1, len(lines)))


def missing_line(lines: list[str], rng: random.Random) -> list[str]:
    place = _at(lines, rng)
    return lines[:place] + lines[place + 1 :]


def repeated_line(lines: list[str], rng: random.Random) -> list[str]:
    place = _at(lines, rng)
    return lines[: place + 1] + lines[place:]


def swapped_lines(lines: list[str], rng: random.Random) -> list[str]:
    changed, one, two = list(lines), _at(lines, rng), _at(lines, rng)
    changed[one], changed[two] = changed[two], changed[one]
    return changed


def odd_word(lines: list[str], rng: random.Random) -> list[str]:
    """A word of a line becomes another one."""
    place = _at(lines, rng)
    words = lines[place].split(" ")
    words[rng.randrange(len(words))] = rng.choice(WORDS)
    return lines[:place] + [" ".join(words)] + lines[place + 1 :]


def missing_character(lines: list[str], rng: random.Random) -> list[str]:
    place = rng.choice([number for number, line in enumerate(lines) if line] or [0])
    character = rng.randrange(max(1, len(lines[place])))
    return lines[:place] + [lines[place][:character] + lines[place][character + 1 :]] + lines[place + 1 :]


LINE_CHANGES: tuple[Callable[[list[str], random.Random], list[str]], ...] = (
    missing_line,
    repeated_line,
    swapped_lines,
    odd_word,
    missing_character,
)
ENCODINGS: dict[str, Callable[[str], bytes]] = {
    "utf-16": lambda text: text.encode("utf-16"),
    "byte order mark": lambda text: b"\xef\xbb\xbf" + text.encode(),
    "windows": lambda text: text.replace("\n", "\r\n").encode(),
    "latin-1": lambda text: ("é" + text).encode("latin-1", "replace"),
    "one line": lambda text: text.replace("\n", " ").encode(),
    "empty": lambda text: b"",
}


def change_text(text: str, rng: random.Random) -> tuple[str, bytes]:
    """A line or a word that is missing, repeated or odd; or another encoding; or changed bytes."""
    if not text or (way := rng.random()) < 0.15:
        return change_bytes(text.encode(), rng)
    if way < 0.3:
        name = rng.choice(list(ENCODINGS))
        return name, ENCODINGS[name](text)
    lines, names = text.split("\n"), []
    for _ in range(rng.choice((1, 1, 3))):
        change = rng.choice(LINE_CHANGES)
        lines = change(lines, rng)
        names.append(change.__name__)
    return ", ".join(names), "\n".join(lines).encode()


# --- nested values --------------------------------------------------------------------------------------------------


def places(tree: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Paths to all values in nested dicts and lists."""
    for key, value in tree.items() if isinstance(tree, dict) else enumerate(tree):
        yield (*path, key)
        if isinstance(value, (dict, list)):
            yield from places(value, (*path, key))


def change_tree(tree: Any, rng: random.Random) -> str:
    """One value becomes an odd one, or another of the tree, or is missing; in place. Says what."""
    found = list(places(tree))
    path = rng.choice(found)
    parent, key = parent_of(tree, path), path[-1]
    way = rng.random()
    if way < 0.2:
        del parent[key]
        return f"{path} is missing"
    if way < 0.3:
        other = rng.choice(found)
        parent[key] = parent_of(tree, other)[other[-1]]
        return f"{path} is {other}"
    value = parent[key]
    near = [value + 1, value * 2, -value] if type(value) in (int, float) else []
    parent[key] = rng.choice([*ODD, *near])
    return f"{path} is {parent[key]!r:.40}"


def parent_of(tree: Any, path: tuple[Any, ...]) -> Any:
    for key in path[:-1]:
        tree = tree[key]
    return tree
