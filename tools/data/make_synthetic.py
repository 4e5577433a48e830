"""Generate synthetic clips whose right policy is known.

python tools/data/make_synthetic.py OUT [--train 1200 --val 300 --test 300 --seed 0 --size 64 --frames 6]
"""

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from mmvideoiq.jobs.arguments import Parser
from mmvideoiq.jobs.errors import one_line_errors, write_any_text
from mmvideoiq.jobs.signals import restore_signals
from mmvideoiq.service.main import imports_of

with imports_of("runtime"):
    from mmvideoiq.data.synthetic import make_synthetic


def main() -> None:
    write_any_text()
    parser = Parser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", help="folder to make; one with the same settings is kept as it is")
    parser.add_argument("--train", type=int, default=1200, help="clips to train on")
    parser.add_argument("--val", type=int, default=300)
    parser.add_argument("--test", type=int, default=300)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--size", type=int, default=64, help="height and width in pixels")
    parser.add_argument("--frames", type=int, default=6, help="frames of a clip")
    made = make_synthetic(**vars(parser.parse_args()), progress=True)
    print(f"{sum(made['splits'].values())} clips are ready")


if __name__ == "__main__":
    restore_signals()
    with one_line_errors():
        main()
