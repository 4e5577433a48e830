"""Check the videos of a list: are they there, readable and long enough?

python tools/data/check_videos.py LIST --data-root DIR [--min-frames 16] [--json REPORT] [--resume]

Exit code: 0 all good, 1 something was found, 2 it could not run.
"""

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from mmvideoiq.jobs.arguments import Parser
from mmvideoiq.jobs.errors import traceback_wanted, write_any_text
from mmvideoiq.jobs.signals import exit_code, restore_signals
from mmvideoiq.service.main import imports_of

with imports_of("train"):
    from mmvideoiq.data.check import KINDS, check_list

SHOWN = 10


def main() -> int:
    parser = Parser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("list", metavar="LIST", help="lines 'path label'")
    parser.add_argument(
        "--data-root", metavar="DIR", help="what paths start from; default: the list's folder"
    )
    parser.add_argument("--min-frames", type=int, default=1, help="fewer frames are too short")
    parser.add_argument("--workers", type=int, help="processes; default: one for each core")
    parser.add_argument(
        "--decode",
        action="store_true",
        help="decode frames of each, too: finds damage inside; many times slower",
    )
    parser.add_argument("--timeout", type=float, default=300, help="seconds that one video may take")
    parser.add_argument("--json", metavar="REPORT", help="write everything that was found into this file")
    parser.add_argument(
        "--resume", action="store_true", help="go on from REPORT, or look at what has changed"
    )
    write_any_text()
    args = parser.parse_args()
    found = check_list(
        args.list,
        args.data_root or Path(args.list).parent,
        min_frames=args.min_frames,
        workers=args.workers,
        decode=args.decode,
        timeout=args.timeout,
        report=args.json,
        resume=args.resume,
        progress=sys.stderr.isatty(),
    )
    print(f"{found['lines']:,} lines, {found['videos']:,} videos, {found['good']:,} good")
    for kind in KINDS:
        if not found[kind]:
            continue
        print(f"{kind.replace('_', ' ')}: {len(found[kind]):,}")
        for item in found[kind][:SHOWN]:
            place = (
                f"lines {', '.join(map(str, item['lines']))}" if "lines" in item else f"line {item['line']}"
            )
            counts = (
                f"{item[key]} frames{of}" for key, of in (("frames", ""), ("lost", " lost")) if key in item
            )
            detail = item.get("reason") or next(counts, "")
            print(f"  {place}: {item['path']}{f' ({detail})' if detail else ''}")
        if len(found[kind]) > SHOWN:
            print(f"  and {len(found[kind]) - SHOWN:,} more{'' if args.json else ', see --json REPORT'}")
    return int(any(found[kind] for kind in KINDS))


if __name__ == "__main__":
    restore_signals()
    try:
        code = main()
    except (
        OSError,
        ValueError,
    ) as error:  # not one_line_errors of cli: it loads MMAction2, which takes seconds
        if traceback_wanted():
            raise
        print(f"check_videos.py: error: {error}", file=sys.stderr)
        code = 2
    except KeyboardInterrupt as stop:
        print("check_videos.py: stopped; with --json REPORT go on with --resume", file=sys.stderr)
        code = exit_code(stop)
    raise SystemExit(code)
