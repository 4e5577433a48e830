"""Recognize many videos: folders, globs, lists, tables and buckets, into Parquet shards.

What is in finished shards is not done again: the same command goes on after an interruption. A video that cannot be
read is a row with an error.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from mmvideoiq.deploy.budget import parse_budget
from mmvideoiq.deploy.setting import MAX_COST
from mmvideoiq.jobs.arguments import Parser, count, count_or_auto, prog, rate
from mmvideoiq.service.options import add_engine, add_reader, add_sampling
from mmvideoiq.service.sources import complete_bundle

SHARD_SIZE = 500
TIME_LIMIT_S = 120.0
SIZE_LIMIT = "4G"
UNITS = {"": 1, "K": 2**10, "M": 2**20, "G": 2**30, "T": 2**40}


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    parser = Parser(prog=prog(), description=__doc__)
    parser.example = "mmvideoiq bulk zoo://demo_videoiq_bundle videos/ --out results"
    bundle = parser.add_argument("bundle", help="folder that mmvideoiq export wrote, or zoo://NAME")
    bundle.completer = complete_bundle
    parser.add_argument(
        "sources",
        nargs="+",
        metavar="SOURCE",
        help="file, folder, glob, list (.txt), table (.csv, .parquet), s3:// or http(s):// address",
    )
    parser.add_argument("--out", required=True, metavar="DIR", help="folder of the run")
    parser.add_argument("--column", default="path", help="of tables, that holds the paths (default path)")
    parser.add_argument(
        "--data-root", metavar="DIR", help="where relative paths of lists begin; default: the list's folder"
    )
    parser.add_argument("--json", action="store_true", help="tell what happens as JSON lines on stdout")
    parser.add_argument(
        "--retry-errors", action="store_true", help="do videos again that were errors in an earlier start"
    )
    model = parser.add_argument_group("recognition")
    add_engine(model)
    model.add_argument("--budget", metavar="B", help="mean cost of a frame, such as 0.4")
    add_sampling(model)
    add_reader(model)
    limits = parser.add_argument_group("limits")
    limits.add_argument(
        "--time-limit",
        type=rate,
        default=TIME_LIMIT_S,
        metavar="S",
        help=f"to fetch and decode a video (default {TIME_LIMIT_S:g} s)",
    )
    limits.add_argument(
        "--size-limit",
        type=size,
        default=SIZE_LIMIT,
        metavar="B",
        help=f"bytes of a video that is fetched, such as 500M (default {SIZE_LIMIT})",
    )
    limits.add_argument(
        "--shard-size",
        type=count,
        default=SHARD_SIZE,
        metavar="N",
        help=f"videos of a shard (default {SHARD_SIZE}); an interruption loses the work on unfinished ones",
    )
    work = parser.add_argument_group("processes")
    work.add_argument(
        "--decoders", type=count_or_auto, default="auto", metavar="N", help="that decode; default: auto"
    )
    work.add_argument(
        "--recognizers",
        type=count_or_auto,
        default="auto",
        metavar="N",
        help="that recognize; default: auto, so many that their threads fill the CPUs",
    )
    work.add_argument(
        "--threads", type=count, metavar="N", help="of each engine; default: 1, all with --no-ray"
    )
    where = work.add_mutually_exclusive_group()
    where.add_argument("--no-ray", action="store_true", help="one process, beside those that decode")
    where.add_argument("--address", metavar="A", help="of a Ray cluster: HOST:PORT, ray://HOST:PORT or auto")
    args = parser.parse_args(argv)
    if args.no_ray and args.recognizers != "auto":
        parser.error("--no-ray recognizes in one process: leave out --recognizers")
    try:
        budget = None if args.budget is None else parse_budget(args.budget)
    except ValueError as error:
        parser.error(str(error))
    if budget is not None and budget.unit == "ms":
        parser.error(f"--budget {args.budget}: times differ between machines: give a mean cost, such as 0.4")
    if budget is not None and budget.value > MAX_COST:
        parser.error(f"--budget {args.budget}: a mean cost of a frame is at most {MAX_COST:g}, such as 0.4")
    return args


def size(text: str) -> int:
    number, unit = (text[:-1], text[-1].upper()) if text[-1:].upper() in ("K", "M", "G", "T") else (text, "")
    if not number.isdecimal() or int(number) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of bytes, such as 500M")
    return int(number) * UNITS[unit]
