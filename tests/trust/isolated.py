"""Runs a command in a process that may crash, hang or take all memory, and judges how it ended.

It worked (exit code 0), or it was refused: exit code 1 or 2 and one line of error at the end. All else is unexplained:
a traceback, a signal, an error of several lines or none.
"""

from __future__ import annotations

import json
import math
import os
import re
import runpy
import sys
import traceback
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
WORKED, REFUSED, UNEXPLAINED, HANG = "worked", "refused", "unexplained", "hang"
ERROR = re.compile(r"(?:[\w./ -]+: )?error: \S")
TRACEBACK = "Traceback (most recent call last)"


def call(argv: Sequence[str], folder: Path) -> int:
    """Run ``mmvideoiq ...``, or a tool by its path, in this process, which is of no use afterwards; the exit code.

    What it prints goes to the files ``stdout`` and ``stderr`` of ``folder``.
    """
    for number, name in ((1, "stdout"), (2, "stderr")):
        file = os.open(folder / name, os.O_CREAT | os.O_WRONLY | os.O_TRUNC)
        os.dup2(file, number)
        os.close(file)
    try:
        if argv[0] == "mmvideoiq":
            from mmvideoiq.service.main import main

            code: object = main(list(argv[1:]))
        else:
            sys.argv = list(argv)
            runpy.run_path(str(ROOT / argv[0]), run_name="__main__")
            code = 0
    except SystemExit as ended:
        code = ended.code
    except BaseException:  # as Python itself would end
        traceback.print_exc()
        code = 1
    sys.stdout.flush()
    sys.stderr.flush()
    return code if isinstance(code, int) else int(code is not None)


def judge(code: int, out: str, err: str) -> tuple[str, str]:
    """How a command ended, and its line of error, or what is wrong with its end."""
    lines = [line for line in err.splitlines() if line.strip()]
    last = lines[-1] if lines else ""
    if TRACEBACK in out or TRACEBACK in err:
        return UNEXPLAINED, f"exit code {code} with a traceback: {last}"
    if "RuntimeWarning" in err:
        return UNEXPLAINED, next(line for line in lines if "RuntimeWarning" in line)
    if code == 0:
        return WORKED, ""
    errors = [line for line in lines if ERROR.match(line)]
    if code in (1, 2) and errors == [last]:
        return REFUSED, last
    return UNEXPLAINED, f"exit code {code} with {len(errors)} lines of error: {last}"


def finite_answers(out: str) -> str:
    """What is wrong with the JSON lines of ``infer --json -``; "" if all are finite."""
    answers = [json.loads(line) for line in out.splitlines() if line.startswith("{")]
    if not answers:
        return "no answer"
    figures = [answer[name] for answer in answers for name in ("score", "cost") if name in answer]
    return "" if all(map(math.isfinite, figures)) else f"not finite: {figures}"
