"""Hooks of mkdocs: the generated pages and pictures.

- ``figures/*``: drawn by ``figures.py``.
- ``api/*.md``: a page for each room of the package; mkdocstrings renders the docstrings.
- ``benchmarks/*.md``, ``data/**.md``: notes and READMEs from other folders.
- ``<!-- registered: HOOKS -->`` in a page: signatures and docstrings of the parts of mmvideoiq in that registry.
- ``backbones.md``: a placeholder if the table has not been generated.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

from api_pages import PAGES, page, registered
from figures import FIGURES, draw
from mkdocs.structure.files import File

if TYPE_CHECKING:
    from mkdocs.config.defaults import MkDocsConfig
    from mkdocs.structure.files import Files
    from mkdocs.structure.pages import Page

ROOT = Path(__file__).resolve().parents[1]
COPIED = {"benchmarks": "benchmarks", "tools/data": "data"}  # folder of the repository -> of the pages


def copied(folder: str) -> dict[str, str]:
    """The Markdown files below a folder, by path; links to a folder become links to its README."""
    found = {}
    for path in sorted((ROOT / folder).rglob("*.md")):
        text = re.sub(r"\]\((\w+)/?\)", r"](\1/README.md)", path.read_text(encoding="utf-8"))
        found[path.relative_to(ROOT / folder).as_posix()] = text
    return found


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the generated files."""
    made: dict[str, str | bytes] = {f"figures/{name}": draw(name) for name in FIGURES}
    made |= {f"api/{name}.md": page(name) for name in PAGES}
    for folder, place in COPIED.items():
        made |= {f"{place}/{name}": text for name, text in copied(folder).items()}
    if files.get_file_from_path("backbones.md") is None:
        made["backbones.md"] = "# Backbones\n\nThe table of backbones has not been generated in this copy.\n"
    for path, content in made.items():
        files.append(File.generated(config, path, content=content))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Fill in the parts of a registry."""
    return re.sub(r"<!-- registered: (\w+) -->", lambda match: registered(match[1]), markdown)
