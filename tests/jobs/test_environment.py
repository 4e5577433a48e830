"""The environment of child processes."""

import subprocess
import sys

import mmvideoiq
from mmvideoiq.jobs.environment import child_environment, usable_cpus


def test_a_child_finds_this_package_first_and_what_its_parent_finds(tmp_path, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    (tmp_path / "other.py").touch()
    code = "import other, mmvideoiq; print(mmvideoiq.__file__)"
    done = subprocess.run(
        [sys.executable, "-c", code], env=child_environment(), cwd=tmp_path, capture_output=True, text=True
    )
    assert done.stdout.strip() == mmvideoiq.__file__, done.stderr


def test_threads_are_limited_where_asked(monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "7")
    assert child_environment()["OMP_NUM_THREADS"] == "7"
    limited = child_environment(threads=2)
    assert limited["OMP_NUM_THREADS"] == limited["MKL_NUM_THREADS"] == "2"
    assert usable_cpus() >= 1
