"""Turn the annotations of ActivityNet-v1.3 into lists for MMAction2.

python tools/data/activitynet/convert.py OUT --json activity_net.v1-3.min.json
python tools/data/activitynet/convert.py OUT --train LIST --val LIST --classes classInd.txt
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
        convert("activitynet", __doc__)
