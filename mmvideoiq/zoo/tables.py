"""Tables of models in Markdown files, between two markers, filled from the metafiles.

::

    <!-- zoo configs/videoiq/* -->
    <!-- end of zoo -->

holds a row for each model and dataset whose config fits the pattern. A model of which nothing was measured says so.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase
from pathlib import Path

from mmvideoiq.zoo import index
from mmvideoiq.zoo.index import ZooModel

BEGIN, END = re.compile(r"<!-- zoo (\S+) -->\n"), "<!-- end of zoo -->"
UNMEASURED = "not measured"


def files() -> list[Path]:
    """The files that may hold tables: README.md beside ``model-index.yml`` and below ``configs``."""
    root = index.root()
    return [
        path for path in (root / "README.md", *sorted(root.glob("configs/**/README.md"))) if path.is_file()
    ]


def filled(text: str, folder: Path, models: Mapping[str, ZooModel]) -> str:
    """``text``, of a file in ``folder``, with all its tables as the metafiles have them.

    Raises:
        ValueError: a marker without its end, or a pattern that fits no model.
    """
    done, place = [], 0
    for begin in BEGIN.finditer(text):
        end = text.find(END, begin.end())
        if end < 0 or BEGIN.search(text, begin.end(), end):
            raise ValueError(f"{begin[0].strip()} lacks its end: add a line {END}")
        chosen = [model for model in models.values() if fnmatchcase(model.config, begin[1])]
        if not chosen:
            raise ValueError(f"{begin[0].strip()} fits the config of no model in the zoo")
        done += [text[place : begin.end()], table(chosen, folder)]
        place = end
    return "".join(done) + text[place:]


def table(models: Sequence[ZooModel], folder: Path) -> str:
    """Markdown: a row for each model and dataset, a column for each figure."""
    metrics = list(dict.fromkeys(key for model in models for row in model.results for key in row["Metrics"]))
    columns = metrics or ["Result"]
    lines = [["Model", "Dataset", *columns, "Weights"], ["---"] * (len(columns) + 3)]
    for model in models:
        name, weights = _link(model.name, model.config, folder), _weights(model, folder)
        for row in model.results:
            figures = [str(row["Metrics"].get(key, "")) for key in columns]
            lines.append([name, row["Dataset"], *figures, weights])
        if not model.results:
            lines.append([name, _trained_on(model), UNMEASURED, *[""] * (len(columns) - 1), weights])
    return "".join(f"| {' | '.join(cell.replace('|', '&#124;') for cell in line)} |\n" for line in lines)


def _link(text: str, path: str, folder: Path) -> str:
    return f"[{text}]({Path(os.path.relpath(index.root() / path, folder)).as_posix()})"


def _weights(model: ZooModel, folder: Path) -> str:
    kind = "bundle" if model.is_bundle else "checkpoint"
    if model.weights is None:
        return "none"
    if "://" in model.weights:
        return f"[{kind}]({model.weights})"
    return _link(kind, model.weights, folder) if (index.root() / model.weights).is_file() else kind


def _trained_on(model: ZooModel) -> str:
    data = model.metadata.get("Training Data", "")
    return ", ".join(map(str, data)) if isinstance(data, list) else str(data)
