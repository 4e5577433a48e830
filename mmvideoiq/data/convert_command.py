"""The command line that the four converters in ``tools/data/<benchmark>/`` share."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from mmvideoiq.data.activitynet import read_activitynet_json
from mmvideoiq.data.annotations import BENCHMARKS, read_lists
from mmvideoiq.data.lists import write_lists
from mmvideoiq.jobs.arguments import Parser

SPLITS = ("train", "val", "test")


def convert(name: str, description: str | None, arguments: Sequence[str] | None = None) -> None:
    """Read the annotations that the command line names, write MMAction2's lists, print the counts.

    Args:
        name: of a benchmark in ``BENCHMARKS``.
        arguments: default: ``sys.argv``.

    Raises:
        ValueError, OSError: what :mod:`annotations` and :mod:`lists` raise, or arguments that exclude each
        other.
    """
    benchmark = BENCHMARKS[name]
    parser = _parser(name, description)
    args = parser.parse_args(arguments)
    files = {split: path for split in SPLITS if (path := getattr(args, split)) is not None}
    if getattr(args, "json", None):
        if files or args.separator:
            raise ValueError(
                "--json holds all splits: it goes without --train, --val, --test and --separator"
            )
        annotations = read_activitynet_json(args.json, args.classes)
    elif files and args.classes:
        annotations = read_lists(files, args.classes, benchmark, separator=args.separator)
    else:
        lists = "--classes FILE and at least one of --train, --val, --test FILE"
        raise ValueError(f"name {lists}{', or --json FILE' if name == 'activitynet' else ''}")

    written = write_lists(
        args.out,
        annotations,
        benchmark,
        rawframes=args.rawframes,
        pattern=args.pattern,
        media=args.media,
        existing=args.existing,
        underscores=args.underscores,
        overwrite=args.overwrite,
        progress=True,
    )
    print(f"{benchmark.title}: {len(annotations.classes)} classes -> {Path(args.out) / 'classes.txt'}")
    for split, result in written.items():
        several = f", {result.several_labels:,} of several classes" if benchmark.multi_class else ""
        print(f"{split}: {len(result.names):,} clips{several} -> {result.file}")
        if result.missing:
            total = len(result.names) + len(result.missing)
            example = result.missing[0]
            print(
                f"{split}: {len(result.missing):,} of {total:,} are missing and left out, "
                f"the first is {example.path} ({example.where})"
            )
    for note in annotations.notes:
        print(f"note: {note}")


def _parser(name: str, description: str | None) -> Parser:
    parser = Parser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", metavar="OUT", help="folder to write the lists into")
    if name == "activitynet":
        parser.add_argument("--json", metavar="FILE", help="the official activity_net.v1-3.min.json")
    for split in SPLITS:
        parser.add_argument(f"--{split}", metavar="FILE", help=f"published list of the {split} split")
    parser.add_argument("--classes", metavar="FILE", help="class names, one a line, or 'number,name'")
    parser.add_argument("--separator", help=f"of the columns, default {BENCHMARKS[name].separator!r}")
    parser.add_argument("--rawframes", action="store_true", help="lists for extracted frames, not for videos")
    parser.add_argument(
        "--pattern", help="name of a file: {path}, {id}, {class}; default {path}.mp4, of frames {path}"
    )
    parser.add_argument(
        "--underscores", action="store_true", help="the files have _ where names have spaces (frames: always)"
    )
    parser.add_argument("--media", metavar="DIR", help="their folder; default OUT/videos or OUT/rawframes")
    parser.add_argument("--existing", action="store_true", help="keep only existing files, count frames anew")
    parser.add_argument("--overwrite", action="store_true", help="replace existing lists")
    return parser
