"""``python -m mmvideoiq`` is the command ``mmvideoiq``."""

from mmvideoiq.jobs.signals import restore_signals
from mmvideoiq.service.main import main

if __name__ == "__main__":
    restore_signals()
    raise SystemExit(main())
