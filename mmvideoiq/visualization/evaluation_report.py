"""The page of one tested checkpoint: ``tools/test.py --report``."""

from __future__ import annotations

import html
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from mmvideoiq.visualization.clips_report import ClipStrips, confusion_section
from mmvideoiq.visualization.environment import environment_table
from mmvideoiq.visualization.filmstrips import Frames
from mmvideoiq.visualization.page import Thumbnails, fit, note, page, section, write_page
from mmvideoiq.visualization.tables import html_table
from mmvideoiq.visualization.training_curves import curves_parts

SHARES = ("acc/", "cost/usage_")  # figures that are shown in percent
FOUND = "Of the checkpoint's folder, from what MMEngine logged there."


def write_evaluation(
    path: Path,
    *,
    name: str,
    checkpoint: str,
    metrics: Mapping[str, Any],
    clips: Sequence[Mapping[str, Any]],
    classes: Sequence[str],
    names: Sequence[str],
    frames_of: Callable[[int], Frames | None],
    command: str,
    machine: Mapping[str, str],
) -> None:
    """Write the page, atomically.

    Args:
        name: of the model.
        checkpoint: its path or address; training curves are looked for beside a path.
        metrics: of the test loop, by name.
        clips, classes, names, frames_of: as :class:`ClipStrips` takes them.
        command: that made it.
        machine: more lines of the environment.
    """
    shown = ClipStrips(clips, classes=classes, names=names, frames_of=frames_of)
    columns = _metric_columns(metrics)
    before = [
        section("Figures", html_table(columns, marked="")) if columns[0][1:] else "",
        confusion_section(clips, classes),
    ]
    curves = (
        curves_parts([(Path(checkpoint).stem, Path(checkpoint).parent)]) if "://" not in checkpoint else []
    )
    after = [
        section("Training", note(FOUND), *curves) if curves else "",
        section("Environment", environment_table(machine)),
        section("To run it again", f"<pre>{html.escape(command)}</pre>"),
    ]
    subtitle = f"{len(clips)} test clips, {checkpoint}"

    def render(thumbnails: Thumbnails | None) -> str:
        return page(f"mmvideoiq: {name}", subtitle, [*before, shown.section(thumbnails), *after])

    write_page(path, fit(render))


def _metric_columns(metrics: Mapping[str, Any]) -> list[list[str]]:
    numbers = {key: value for key, value in metrics.items() if isinstance(value, int | float)}
    return [["", *map(_title, numbers)], ["value", *(_figure(key, value) for key, value in numbers.items())]]


def _in_percent(name: str, value: float) -> bool:
    return name.startswith(SHARES) and 0 <= value <= 1


def _title(name: str) -> str:
    return name.replace("cost/usage_", "usage of ") if name.startswith("cost/usage_") else name


def _figure(name: str, value: float) -> str:
    return f"{100 * value:.1f} %" if _in_percent(name, value) else f"{value:.4g}"
