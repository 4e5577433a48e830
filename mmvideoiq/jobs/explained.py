"""Which section of the documentation explains an error: commands end their line with it. Standard library alone."""

from __future__ import annotations

import re
from importlib import metadata

#: Fixed words of a message, ``…`` where a value is put in; and the page and section below ``docs/``.
SECTIONS = {
    "pip install 'mmvideoiq[": "troubleshooting.md#installation-and-mmaction2",
    "on Debian apt install libgl1": "troubleshooting.md#installation-and-mmaction2",
    "is a part of mmvideoiq that was not imported": "troubleshooting.md#configs",
    "actions ask for …, but the backbone's precisions are": "precisions.md#precisions",
    "latency table": "precisions.md#costs",
    "was measured on …, this machine has": "precisions.md#costs",
    "ann_file … does not exist; set": "troubleshooting.md#data",
    "does not exist; set …, from which it comes": "troubleshooting.md#data",
    "can be read; the log has the reasons": "troubleshooting.md#data",
    "was it trained with another config?": "troubleshooting.md#checkpoints",
    "lower the learning rate": "troubleshooting.md#training",
    "is not a video, or cut off": "videos.md#damaged-files",
    "no frame can be decoded": "videos.md#damaged-files",
    "codec that this FFmpeg does not know": "videos.md#formats",
    "unknown engine …; choose one of": "deployment.md#engines",
    "has version …, this mmvideoiq": "troubleshooting.md#bundles-and-the-runtime",
    "is damaged: its checksum does not fit": "troubleshooting.md#bundles-and-the-runtime",
    "a budget of … is out of reach": "deployment.md#budgets",
    "cannot be exported": "deployment.md#export",
}


def explained(line: str) -> str:
    """A line, at its end the section that explains it, if there is one; several lines as they are."""
    for words, section in SECTIONS.items():
        if re.fullmatch(".*?".join(map(re.escape, f"…{words}…".split("…"))), line):
            link = address(section)
            return line if link in line else f"{line} ({link})"
    return line


def address(section: str) -> str:
    """Of a section: on the web where the package's metadata name a ``Documentation``, else in the repository."""
    try:
        named = metadata.metadata("mmvideoiq").get_all("Project-URL") or []
    except metadata.PackageNotFoundError:
        named = []
    for entry in named:
        label, _, url = entry.partition(", ")
        if label == "Documentation":
            return f"{url.rstrip('/')}/{section.replace('.md', '.html')}"
    return f"docs/{section}"
