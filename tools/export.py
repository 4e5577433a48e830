"""Export a trained model as a bundle: ``mmvideoiq export``, from a clone of the repository."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from mmvideoiq.jobs.signals import restore_signals

try:
    from mmvideoiq.service.export import main
except ModuleNotFoundError as missing:
    print(
        f"error: export needs the training packages, {missing.name} is missing: pip install -e '.[train]'",
        file=sys.stderr,
    )
    sys.exit(2)

if __name__ == "__main__":
    restore_signals()
    sys.exit(main())
