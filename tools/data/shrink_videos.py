"""Make small copies of videos, with their lists, for machines whose decoding is slow.

python tools/data/shrink_videos.py FOLDER OUT [--short-side 160] [--crf 18]

Then train with DATA_ROOT=OUT. Started again after an interruption, it goes on.
"""

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from mmvideoiq.jobs.arguments import Parser
from mmvideoiq.jobs.errors import one_line_errors, write_any_text
from mmvideoiq.jobs.signals import restore_signals
from mmvideoiq.service.main import imports_of

with imports_of("train"):
    from mmvideoiq import compat

    compat.apply()

    from mmvideoiq.data.shrink import shrink_folder


def main() -> None:
    write_any_text()
    parser = Parser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("source", metavar="FOLDER")
    parser.add_argument("out", metavar="OUT")
    parser.add_argument("--short-side", type=int, default=160, help="pixels")
    parser.add_argument("--crf", type=int, default=18, help="H.264 quality, 0 (best) to 51")
    args = parser.parse_args()
    bad = shrink_folder(**vars(args), progress=True)
    for path, reason in bad.items():
        print(f"copied as it is: {path} ({reason})")
    print(f"the small copies are in {args.out}")


if __name__ == "__main__":
    restore_signals()
    with one_line_errors():
        main()
