"""Temporary folders of commands: which of them are removed."""

import os
import signal
import subprocess
import sys

import pytest

from mmvideoiq.jobs import temporary
from mmvideoiq.jobs.temporary import KEPT, lock_of, temporary_folder

HOLD = """
import sys, time
from pathlib import Path
from mmvideoiq.jobs.temporary import temporary_folder
with temporary_folder("mmvideoiq-x-", place=Path(sys.argv[1])) as folder:
    (folder / "session").mkdir()
    print(folder.name, flush=True)
    time.sleep(600)
"""


@pytest.fixture(autouse=True)
def place(tmp_path, monkeypatch):
    monkeypatch.setattr(temporary.tempfile, "tempdir", str(tmp_path))
    return tmp_path


def test_it_goes_with_its_block_unless_it_is_kept(place):
    with temporary_folder("mmvideoiq-x-") as folder:
        assert folder.stat().st_mode & 0o777 == 0o700
    assert list(place.iterdir()) == []
    with pytest.raises(ValueError, match="stopped"), temporary_folder("mmvideoiq-x-") as kept:
        (kept / KEPT).touch()
        raise ValueError("stopped")
    with temporary_folder("mmvideoiq-x-"):
        assert kept.is_dir()


def test_what_a_killed_run_left_is_removed_and_nothing_else(place):
    process = subprocess.Popen([sys.executable, "-c", HOLD, str(place)], stdout=subprocess.PIPE, text=True)
    held = place / process.stdout.readline().strip()
    (place / "elsewhere").mkdir()
    (place / "mmvideoiq-x-link").symlink_to(place / "elsewhere")
    (place / "mmvideoiq-x-file").touch()
    try:
        with temporary_folder("mmvideoiq-x-"):
            assert (held / "session").is_dir()  # its process lives
    finally:
        process.send_signal(signal.SIGKILL)
        process.communicate()
    with temporary_folder("mmvideoiq-x-") as folder:
        left = {"elsewhere", "mmvideoiq-x-link", "mmvideoiq-x-file", folder.name}
        assert {path.name for path in place.iterdir()} == left


def test_folders_of_other_users_are_let_alone(place, monkeypatch):
    (place / "mmvideoiq-x-other").mkdir()
    other = os.getuid() + 1
    monkeypatch.setattr(os, "getuid", lambda: other)
    assert lock_of(place / "mmvideoiq-x-other") is None
    assert (place / "mmvideoiq-x-other").is_dir()
