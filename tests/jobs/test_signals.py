"""Signals end a command also where its parent ignored them."""

import signal
import subprocess
import sys

import pytest

CHILD = """
import sys, time
from mmvideoiq.jobs.signals import exit_code, restore_signals
restore_signals()
try:
    print("ready", flush=True)
    time.sleep(60)
except KeyboardInterrupt as stop:
    try:
        raise KeyboardInterrupt("where") from stop
    except KeyboardInterrupt as wrapped:
        sys.exit(exit_code(wrapped))
"""


def ignore_signals() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_ends_a_command_that_was_started_with_it_ignored(repo, number, code):
    command = [sys.executable, "-c", CHILD]
    with subprocess.Popen(command, cwd=repo, stdout=subprocess.PIPE, preexec_fn=ignore_signals) as child:
        assert child.stdout.readline() == b"ready\n"
        child.send_signal(number)
        assert child.wait(30) == code
