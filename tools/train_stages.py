"""Train all stages of a recipe in order: ``mmvideoiq recipe``, from a clone of the repository.

python tools/train_stages.py RECIPE [--work-dir D] [--resume] [--fast] [--for-this-machine]
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from mmvideoiq.jobs.signals import restore_signals
from mmvideoiq.service.main import imports_of

with imports_of("train"):
    from mmvideoiq.service.recipe import main

if __name__ == "__main__":
    restore_signals()
    sys.exit(main())
