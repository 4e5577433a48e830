"""The command: what it says when it starts and ends."""

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import requests

from mmvideoiq.service.serve.command import main, parse_args
from tests.service.serve.load import end
from tests.service.serve.serving import parsed


@contextmanager
def running(repo: Path, *args: object) -> Iterator[tuple[subprocess.Popen, str]]:
    """The command, and the address that it prints."""
    process = subprocess.Popen(
        [sys.executable, "-m", "mmvideoiq", "serve", *map(str, args), "--workers", "1"],
        cwd=repo,
        env=os.environ | {"PYTHONPATH": str(repo)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        line = process.stdout.readline()
        assert line.startswith("mmvideoiq serve: http://127.0.0.1:"), process.stderr.read()
        yield process, line.split()[2]
    finally:
        end(process)


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGTERM, 0), pytest.param(signal.SIGINT, 130, marks=pytest.mark.slow)]
)
def test_a_signal_drains_and_ends(repo, demo_bundle, grating, tmp_path, monkeypatch, number, code):
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    with running(repo, demo_bundle, "--port", 0) as (process, address):
        with grating.open("rb") as file:
            video = requests.post(f"{address}/v1/videos", files={"file": file}, timeout=20).json()
        events = requests.get(f"{address}/v1/videos/{video['id']}/events", stream=True, timeout=20)
        assert [path.name[:16] for path in tmp_path.iterdir()] == ["mmvideoiq-serve-"]
        process.send_signal(number)
        assert parsed(events.text)[-1][0] == "result"  # it had begun
        out, err = process.communicate(timeout=30)
        assert (process.returncode, out) == (code, "")
        assert "POST /v1/videos 201" in err and "Traceback" not in err
        assert not list(tmp_path.iterdir())
        with pytest.raises(requests.ConnectionError):
            requests.get(address, timeout=5)


def test_mistakes_are_one_line(demo_bundle, tmp_path, capsys):
    def error(*args: object) -> str:
        assert main([*map(str, args), "--workers", "1"]) == 2
        said = capsys.readouterr()
        (line,) = said.err.splitlines()
        assert said.out == ""
        return line

    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        assert f"cannot listen on 127.0.0.1 port {port}" in error(demo_bundle, "--port", port)
    assert "manifest.json" in error(tmp_path, "--port", 0)
    assert "there is no such folder" in error(demo_bundle, "--port", 0, "--samples", tmp_path / "none")


def test_a_machine_that_cannot_decode_serves_nothing(demo_bundle, tmp_path, monkeypatch, capsys):
    (tmp_path / "av.py").write_text("raise ImportError('libav.so: cannot open')\n")
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path}{os.pathsep}{os.environ.get('PYTHONPATH', '')}")
    assert main([str(demo_bundle), "--port", "0", "--workers", "1"]) == 2
    said = capsys.readouterr().err
    assert said.endswith(": error: videos: no decoder can be started: libav.so: cannot open\n")
    assert said.count("\n") == 1


@pytest.mark.parametrize(
    "args", [["--port", "65536"], ["--max-upload", "0"], ["--workers", "0"], ["--streams", "x"]]
)
def test_bad_arguments_are_refused(args, capsys):
    with pytest.raises(SystemExit) as stop:
        parse_args(["bundle", *args])
    assert stop.value.code == 2 and len(capsys.readouterr().err.splitlines()) == 1
