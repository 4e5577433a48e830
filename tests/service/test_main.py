"""``mmvideoiq``: its table of commands, what is imported when, what it says where an extra is missing, completion."""

import importlib
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from mmvideoiq import __version__
from mmvideoiq.jobs.arguments import Parser
from mmvideoiq.service import main as command
from tests.conftest import ROOT

HEAVY = {"torch", "numpy", "mmengine", "mmcv", "mmaction", "rich", "openvino", "av", "cv2", "ray"}


@pytest.fixture(autouse=True)
def _left_as_found(monkeypatch):
    """Signal handlers and ``sys.argv``, which the command changes."""
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    monkeypatch.setattr(sys, "argv", ["mmvideoiq"])
    yield
    for number, handler in handlers.items():
        signal.signal(number, handler)


def python(*args: str, cwd: Path = ROOT, **environment: str) -> subprocess.CompletedProcess[str]:
    env = os.environ | {"PYTHONPATH": str(ROOT)} | environment
    return subprocess.run([sys.executable, *args], capture_output=True, text=True, cwd=cwd, env=env)


def test_help_lists_the_commands_and_imports_none(tmp_path):
    code = "import sys; from mmvideoiq.service.main import main\ntry: main(['--help'])\nfinally: print(*sys.modules)"
    done = python("-c", code, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert not HEAVY & set(done.stdout.splitlines()[-1].split())
    for name, row in command.COMMANDS.items():
        assert f"\n  {name:<12}{row.help}" in done.stdout
    assert "\nexample:\n  mmvideoiq infer " in done.stdout


def test_version(capsys):
    with pytest.raises(SystemExit) as ended:
        command.main(["--version"])
    assert (ended.value.code, capsys.readouterr().out) == (0, f"mmvideoiq {__version__}\n")


@pytest.mark.parametrize("name", command.COMMANDS)
def test_each_command_helps_with_an_example_that_it_reads(name, capsys, monkeypatch):
    """The example below ``--help`` is what its own parser takes; so the command exists and keeps the contract."""
    with pytest.raises(SystemExit) as ended:
        command.main([name, "--help"])
    printed = capsys.readouterr().out
    assert ended.value.code == 0 and printed.startswith(f"usage: mmvideoiq {name} ")
    example = printed.split("\nexample:\n")[1].split()
    assert example[:2] == ["mmvideoiq", name]

    class Understood(Exception): ...

    def parse_args(self, args=None, namespace=None):
        super(Parser, self).parse_args(args, namespace)
        raise Understood

    monkeypatch.setattr(Parser, "parse_args", parse_args)
    with pytest.raises(Understood):
        importlib.import_module(command.COMMANDS[name].module).main(example[2:])


def test_a_command_gets_its_arguments_and_its_name(monkeypatch):
    seen = []

    class Module:
        @staticmethod
        def main(argv):
            seen.append((list(sys.argv), argv))
            return 7

    monkeypatch.setattr(command.importlib, "import_module", lambda name: Module)
    assert command.main(["infer", "a", "--b"]) == 7
    assert seen == [(["mmvideoiq infer", "a", "--b"], ["a", "--b"])]


@pytest.mark.parametrize("argv", [[], ["infr"], ["--wrong"]])
def test_mistakes(argv, capsys):
    with pytest.raises(SystemExit) as ended:
        command.main(argv)
    printed = capsys.readouterr().err
    assert ended.value.code == 2 and printed.count("\n") == 1 and printed.startswith("mmvideoiq: error: ")


def test_without_arguments_the_commands_are_named(capsys):
    with pytest.raises(SystemExit):
        command.main([])
    assert capsys.readouterr().err == (
        f"mmvideoiq: error: give a command: {', '.join(command.COMMANDS)}; mmvideoiq --help describes them\n"
    )


def test_errors_begin_with_the_command(capsys):
    assert command.main(["infer", "nowhere", "a.mp4"]) == 2
    printed = capsys.readouterr().err
    assert (
        printed.startswith("mmvideoiq infer: error: nowhere: there is no such folder")
        and printed.count("\n") == 1
    )


@pytest.mark.parametrize("line", ["zoo root", "zoo list --json", "doctor --json", "--help"])
def test_a_reader_who_left_is_no_error(line):
    """As after ``| head``: whether it is written at once or at the end, nothing is said about it."""
    reading, writing = os.pipe()
    os.close(reading)
    done = subprocess.run(
        [sys.executable, "-m", "mmvideoiq", *line.split()],
        stdout=writing,
        stderr=subprocess.PIPE,
        text=True,
        cwd=ROOT,
    )
    os.close(writing)
    assert done.stderr == "" and done.returncode == (0 if line == "--help" else 141)


def test_errors_are_told_when_nobody_reads_the_output():
    reading, writing = os.pipe()
    os.close(reading)
    line = [sys.executable, "-m", "mmvideoiq", "infer", "nowhere", "a.mp4"]
    done = subprocess.run(line, stdout=writing, stderr=subprocess.PIPE, text=True, cwd=ROOT)
    os.close(writing)
    assert done.stderr.startswith("mmvideoiq infer: error: nowhere: ") and done.stderr.count("\n") == 1


def test_ctrl_c_while_a_command_is_imported(monkeypatch):
    def interrupted(_):
        raise KeyboardInterrupt

    monkeypatch.setattr(command.importlib, "import_module", interrupted)
    assert command.main(["infer"]) == 130


def test_a_missing_extra_is_one_line_that_installs_it(capsys, monkeypatch):
    monkeypatch.setattr(command, "find_spec", lambda name: None if name in ("torch", "mmcv") else object())
    with pytest.raises(SystemExit) as ended:
        command.main(["export", "--help"])
    assert ended.value.code == 2
    message = "mmvideoiq export: error: torch, mmcv not installed: pip install 'mmvideoiq[train]' (docs/"
    said = capsys.readouterr().err
    assert said.startswith(message) and said.count("\n") == 1
    with pytest.raises(SystemExit):
        command.main(["--help"])
    printed = capsys.readouterr().out
    assert printed.count("pip install 'mmvideoiq[train]'") == 2 and "mmvideoiq[runtime]" not in printed


def test_a_package_that_is_missing_beside_those_says_what_to_install(capsys):
    with pytest.raises(SystemExit) as ended, command.imports_of("runtime", "tool.py"):
        import nothing_of_this_name  # noqa: F401
    said = capsys.readouterr().err
    message = (
        "tool.py: error: No module named 'nothing_of_this_name': pip install 'mmvideoiq[runtime]' (docs/"
    )
    assert ended.value.code == 2 and said.startswith(message) and said.count("\n") == 1


def test_a_package_that_does_not_load_is_one_line(capsys, monkeypatch):
    def fails(_):
        raise ImportError("libGL.so.1: cannot open shared object file: No such file or directory")

    monkeypatch.setattr(command.importlib, "import_module", fails)
    with pytest.raises(SystemExit) as ended:
        command.main(["doctor"])
    assert ended.value.code == 2
    said = capsys.readouterr().err
    assert said.startswith("mmvideoiq doctor: error: libGL.so.1: cannot open shared object file")
    assert "on Debian apt install libgl1 (docs/troubleshooting.md#" in said and said.count("\n") == 1
    monkeypatch.setenv("MMVIDEOIQ_TRACEBACK", "1")
    with pytest.raises(ImportError):
        command.main(["doctor"])


def test_the_extras_are_those_of_the_package():
    text = (ROOT / "setup.py").read_text()
    for extra in {row.extra for row in command.COMMANDS.values()} - {""}:
        assert extra in command.EXTRAS and f'"{extra}": ' in text


# --- completion -----------------------------------------------------------------------------------------------------


def completions(line: str, tmp_path: Path) -> set[str]:
    pytest.importorskip("argcomplete")
    out = tmp_path / "words"
    shell = dict(
        _ARGCOMPLETE="1", COMP_LINE=line, COMP_POINT=str(len(line)), COMP_TYPE="9", _ARGCOMPLETE_IFS="\n"
    )
    done = python(
        "-c",
        "from mmvideoiq.service.main import main; main()",
        cwd=tmp_path,
        **shell,
        _ARGCOMPLETE_STDOUT_FILENAME=str(out),
    )
    assert done.returncode == 0, done.stderr
    return {word.strip() for word in out.read_text().split("\n")}


@pytest.mark.parametrize(
    ("line", "some", "none"),
    [
        ("mmvideoiq in", {"infer"}, "zoo"),
        ("mmvideoiq ", {"infer", "zoo", "bundle"}, "list"),
        ("mmvideoiq infer --en", {"--engine"}, "--json"),
        ("mmvideoiq infer x.mp4 --sampling ", {"exact", "nearby", "keyframe"}, "infer"),
        ("mmvideoiq zoo d", {"download"}, "doctor"),
        ("mmvideoiq zoo list --a", {"--all"}, "--json"),
        ("mmvideoiq zoo download demo_vi", {"demo_videoiq", "demo_videoiq_bundle"}, "demo_float"),
        ("mmvideoiq bundle info zoo://d", {"zoo://demo_videoiq_bundle"}, "zoo://demo_videoiq"),
        ("mmvideoiq bulk zoo://d", {"zoo://demo_videoiq_bundle"}, "zoo://demo_videoiq"),
        ("mmvideoiq serve zoo://d", {"zoo://demo_videoiq_bundle"}, "zoo://demo_videoiq"),
    ],
)
def test_completion(line, some, none, tmp_path):
    found = completions(line, tmp_path)
    assert some <= found and none not in found
