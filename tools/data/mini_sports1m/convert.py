"""Turn the annotations of Mini-Sports1M into lists for MMAction2.

python tools/data/mini_sports1m/convert.py OUT --train LIST --val LIST --classes labels.txt
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[3]))

from mmvideoiq.jobs.errors import one_line_errors
from mmvideoiq.jobs.signals import restore_signals
from mmvideoiq.service.main import imports_of

with imports_of("train"):
    from mmvideoiq.data.convert_command import convert

if __name__ == "__main__":
    restore_signals()
    with one_line_errors():
        convert("mini_sports1m", __doc__)
