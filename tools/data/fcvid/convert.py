"""Turn the annotations of FCVID into lists for MMAction2.

python tools/data/fcvid/convert.py OUT --train LIST --val LIST --classes classInd.txt
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
        convert("fcvid", __doc__)
