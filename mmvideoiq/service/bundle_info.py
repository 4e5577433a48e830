"""What a bundle holds, after it was checked as a whole: classes, actions with their costs, frames, budgets, files."""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from typing import Any

from rich.console import Console
from rich.table import Table

from mmvideoiq.deploy.bundle import Bundle
from mmvideoiq.jobs.arguments import Parser, prog
from mmvideoiq.jobs.errors import one_line_errors
from mmvideoiq.service.sources import complete_bundle, find_bundle

CLASSES_SHOWN = 12  # by name


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    parser = Parser(prog=prog(), description=__doc__)
    parser.example = "mmvideoiq bundle info zoo://demo_videoiq_bundle"
    commands = parser.add_subparsers(dest="command", required=True, metavar="info")
    info = commands.add_parser("info", help="what a bundle holds")
    info.example = parser.example
    bundle = info.add_argument("bundle", help="folder that mmvideoiq export wrote, or zoo://NAME")
    bundle.completer = complete_bundle
    info.add_argument("--json", action="store_true", help="one line of JSON")
    return parser.parse_args(argv)


def describe(bundle: Bundle) -> dict[str, Any]:
    """The figures of the manifest that say what the model does.

    Returns: ``path``, ``digest``, ``made_by``, ``version`` (of the format); ``classes`` [name]; ``actions``
        [{name, cost, gflops, bitops, latency_ms}]; ``parts`` {name: precisions}; ``frames`` (of a clip), ``height``,
        ``width``, ``sampling``; ``budget`` {lowest, highest} (mean cost of a frame) or None; ``files`` {name: bytes}.
    """
    manifest, steps = bundle.manifest, bundle.preprocessing
    curve = [point["cost"] for point in manifest["budget"] or ()]
    times = (manifest["latency_ms"] or {}).get("actions", {})
    actions = [
        dict(
            name=name,
            cost=float(cost),
            gflops=manifest["gflops"][name],
            bitops=manifest["bitops"][name],
            latency_ms=times.get(name),
        )
        for name, cost in zip(bundle.actions.names, bundle.costs, strict=True)
    ]
    parts = {
        part: [bundle.policy_bits] if part == "policy" else list(bundle.precisions) for part in bundle.graphs
    }
    return dict(
        path=str(bundle.path),
        digest=manifest["digest"],
        made_by=manifest["made_by"],
        version=manifest["version"],
        classes=list(manifest["classes"]),
        actions=actions,
        parts=parts,
        frames=steps.frames,
        height=steps.size[0],
        width=steps.size[1],
        sampling=steps.sampling,
        budget=dict(lowest=min(curve), highest=max(curve)) if curve else None,
        files=bundle.file_bytes(),
    )


def show(found: dict[str, Any], console: Console) -> None:
    budget, classes = found["budget"], found["classes"]
    more = len(classes) > CLASSES_SHOWN
    facts = Table.grid(padding=(0, 2))
    facts.add_column()
    facts.add_column(overflow="fold")  # a long path is folded, never cut
    for name, text in (
        ("bundle", found["path"]),
        ("made by", f"{found['made_by']}, format {found['version']}"),
        ("digest", found["digest"]),
        ("classes", f"{len(classes)}: {', '.join(classes[:CLASSES_SHOWN])}{', ...' * more}"),
        ("clips", f"{found['frames']} frames of {found['width']}x{found['height']}, {found['sampling']}"),
        *((part, f"{', '.join(map(str, bits))} bits") for part, bits in found["parts"].items()),
        ("budgets", "none" if budget is None else f"{budget['lowest']:.3g} to {budget['highest']:.3g}"),
        ("files", ", ".join(f"{name} {size / 1e6:.2f} MB" for name, size in found["files"].items())),
    ):
        facts.add_row(name, text)
    actions = Table("action", "cost", "GFLOPs", "BitOPs", "ms", box=None, pad_edge=False)
    for action in found["actions"]:
        ms = action["latency_ms"]
        actions.add_row(
            action["name"],
            f"{action['cost']:.3g}",
            f"{action['gflops']:.3g}",
            f"{action['bitops']:.3g}",
            "" if ms is None else f"{ms:.2f}",
        )
    console.print(facts)
    console.print()
    console.print(actions)


def main(argv: Sequence[str] | None = None) -> int:
    with one_line_errors():
        args = parse_args(argv)
        found = describe(Bundle.open(find_bundle(args.bundle)))
        if args.json:
            print(json.dumps(found))
        else:
            console = Console(highlight=False, markup=False, emoji=False)
            if not console.is_terminal:
                console.width = 160
            show(found, console)
    return 0
