"""Reads a report's page strictly: everything is closed, ids are unique, links lead somewhere, nothing is loaded."""

import base64
import re
from html.parser import HTMLParser

VOID = {"meta", "img", "br", "hr", "wbr"}
SECTIONED = {
    "tr": {"thead", "tbody"},
    "td": {"tr"},
    "th": {"tr"},
    "li": {"ul", "ol"},
    "figcaption": {"figure"},
}


class ReportPage(HTMLParser):
    """A parsed page; AssertionError where it is not well formed.

    Attributes:
        texts: section id -> its text; tables: section id -> tables, each a list of rows of cells.
        images: section id -> (alt, JPEG).
        kinds: section id -> the class of each ``li``.
    """

    def __init__(self, text: str) -> None:
        super().__init__()
        self.source = text
        self.texts: dict[str, str] = {}
        self.tables: dict[str, list[list[list[str]]]] = {}
        self.images: dict[str, list[tuple[str, bytes]]] = {}
        self.kinds: dict[str, list[str]] = {}
        self.title = ""
        self._open: list[str] = []
        self._ids: list[str] = []
        self._links: list[str] = []
        self._section = "top"
        self.feed(text)
        self.close()
        assert text.startswith("<!doctype html>") and self._open == []
        assert len(set(self._ids)) == len(self._ids), "an id is not unique"
        assert set(self._links) <= set(self._ids), "a link leads nowhere"

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        given = dict(attributes)
        assert len(given) == len(attributes), f"an attribute of {tag} is repeated"
        assert tag not in SECTIONED or self._open[-1] in SECTIONED[tag], f"{tag} in {self._open[-1]}"
        assert "p" not in self._open or tag in {"b", "code", "small", "span"}, f"{tag} in a paragraph"
        assert tag not in {"script", "link", "iframe"}
        self._note(given)
        if tag == "section":
            self._section = given["id"] or ""
        if tag == "table":
            self.tables.setdefault(self._section, []).append([])
        elif tag == "tr":
            self.tables[self._section][-1].append([])
        elif tag in ("td", "th"):
            self.tables[self._section][-1][-1].append("")
        elif tag == "li":
            self.kinds.setdefault(self._section, []).append(given.get("class") or "")
        elif tag == "img":
            head, _, data = (given["src"] or "").partition(",")
            assert head == "data:image/jpeg;base64" and given["alt"]
            self.images.setdefault(self._section, []).append((given["alt"], base64.b64decode(data)))
        if tag not in VOID:
            self._open.append(tag)

    def handle_startendtag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        assert "svg" in self._open, f"<{tag}/>"
        self._note(dict(attributes))

    def handle_endtag(self, tag: str) -> None:
        assert self._open and self._open[-1] == tag, f"</{tag}> closes {self._open}"
        self._open.pop()
        if tag == "section":
            self._section = "top"

    def handle_data(self, data: str) -> None:
        if "style" in self._open:
            assert not re.search(r"@import|url\(|//", data), "a style loads something"
            return
        assert "<" not in data or self._open[-1] in {
            "title",
            "h1",
            "h2",
            "h3",
            "li",
            "p",
            "td",
            "th",
            "pre",
        } | {*("b", "span", "small", "a", "text", "figcaption")}
        self.texts[self._section] = self.texts.get(self._section, "") + data
        if self._open and self._open[-1] == "title":
            self.title += data
        if "td" in self._open or "th" in self._open:
            self.tables[self._section][-1][-1][-1] += data

    def _note(self, given: dict[str, str | None]) -> None:
        if given.get("id"):
            self._ids.append(given["id"])
        assert not given.keys() & {"srcset", "poster", "action", "background"}
        for key in ("href", "xlink:href"):
            if key in given:
                assert (given[key] or "").startswith("#")
                self._links.append(given[key][1:])
        for key, value in given.items():
            self._links += re.findall(r"url\(#([^)]*)\)", value or "")
            assert key != "style" or not re.search(r"url\((?!#)", value or "")


def columns_of(table: list[list[str]]) -> dict[str, list[str]]:
    """A table by its titles."""
    head, *rows = table
    return {title: [row[place] for row in rows] for place, title in enumerate(head)}
