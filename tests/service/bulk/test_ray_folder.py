"""Folders of an embedded Ray: which of them a run removes."""

import os
import signal
import subprocess
import sys

import pytest

from mmvideoiq.service.bulk import ray_folder as folders
from mmvideoiq.service.bulk.ray_folder import KEPT, lock_of, ray_folder

HOLD = """
import sys, time
from pathlib import Path
from mmvideoiq.service.bulk import ray_folder as folders
folders.PLACE = Path(sys.argv[1])
with folders.ray_folder() as folder:
    (folder / "session").mkdir()
    print(folder.name, flush=True)
    time.sleep(600)
"""


@pytest.fixture(autouse=True)
def place(tmp_path, monkeypatch):
    monkeypatch.setattr(folders, "PLACE", tmp_path)
    return tmp_path


def test_it_goes_with_its_block_unless_it_is_kept(place):
    with ray_folder() as folder:
        assert folder.stat().st_mode & 0o777 == 0o700
    assert list(place.iterdir()) == []
    with pytest.raises(ValueError, match="stopped"), ray_folder() as kept:
        (kept / KEPT).touch()
        raise ValueError("stopped")
    with ray_folder():
        assert kept.is_dir()


def test_what_a_killed_run_left_is_removed_and_nothing_else(place):
    process = subprocess.Popen([sys.executable, "-c", HOLD, str(place)], stdout=subprocess.PIPE, text=True)
    held = place / process.stdout.readline().strip()
    (place / "elsewhere").mkdir()
    (place / "mmvideoiq-bulk-link").symlink_to(place / "elsewhere")
    (place / "mmvideoiq-bulk-file").touch()
    try:
        with ray_folder():
            assert (held / "session").is_dir()  # its process lives
    finally:
        process.send_signal(signal.SIGKILL)
        process.communicate()
    with ray_folder() as folder:
        left = {"elsewhere", "mmvideoiq-bulk-link", "mmvideoiq-bulk-file", folder.name}
        assert {path.name for path in place.iterdir()} == left


def test_folders_of_other_users_are_let_alone(place, monkeypatch):
    (place / "mmvideoiq-bulk-other").mkdir()
    other = os.getuid() + 1
    monkeypatch.setattr(os, "getuid", lambda: other)
    assert lock_of(place / "mmvideoiq-bulk-other") is None
    assert (place / "mmvideoiq-bulk-other").is_dir()
