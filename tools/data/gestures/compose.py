"""Compose gesture clips from photos.

python tools/data/gestures/compose.py PHOTOS OUT [--train 1040 --val 260 --test 520 --seed 0]
"""

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[3]))

from mmvideoiq.jobs.arguments import Parser
from mmvideoiq.jobs.errors import one_line_errors, write_any_text
from mmvideoiq.jobs.signals import restore_signals
from mmvideoiq.service.main import imports_of

with imports_of("train"):
    from mmvideoiq import compat

    compat.apply()

    from mmvideoiq.data.gestures import load_frames, make_gestures


def main() -> None:
    write_any_text()
    parser = Parser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("photos", metavar="PHOTOS", help="folder of index.csv and photos/")
    parser.add_argument(
        "out", metavar="OUT", help="folder to make; one with the same settings is kept as it is"
    )
    parser.add_argument("--train", type=int, default=1040, help="clips to train on")
    parser.add_argument("--val", type=int, default=260, help="clips of val.txt, and of val_room_b.txt")
    parser.add_argument("--test", type=int, default=520, help="clips of test.txt, and of test_room_b.txt")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    make_gestures(**vars(args), progress=True)
    print(f"{len(load_frames(args.out)):,} clips are ready")


if __name__ == "__main__":
    restore_signals()
    with one_line_errors():
        main()
