"""What all commands share: one line for a mistake, its traceback on request, files of another kind."""

import ast
import runpy
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from mmvideoiq.jobs.errors import TRACEBACK
from mmvideoiq.service import main
from tests.conftest import ROOT
from tests.test_import_rules import imports

CHECKPOINT, BUNDLE = "zoo/demo/demo_videoiq.pth", "zoo/demo/demo_videoiq_bundle"
MODEL, RECIPE = "configs/videoiq/demo_videoiq.py", "configs/videoiq/demo_recipe.py"
ROWS = "configs/baselines/demo_compare.py"
#: A mistake for each command.
MISTAKES = {
    "mmvideoiq": "infer nowhere video.mp4",
    "mmvideoiq.jobs.launch": "2 nowhere.py",
    "mmvideoiq.zoo": "download nobody",
    "tools/backbones.py": "nobody",
    "tools/benchmark.py": "infer --only-bundles",
    "tools/compare.py": "nowhere.py",
    "tools/convert_checkpoint.py": "nowhere.pth out.pth",
    "tools/export.py": "nowhere.py nowhere.pth out",
    "tools/infer.py": "nowhere video.mp4",
    "tools/publish_model.py": "nowhere.pth out.pth",
    "tools/test.py": "nowhere.py nowhere.pth",
    "tools/train.py": "nowhere.py",
    "tools/train_stages.py": "nowhere.py",
    "tools/zoo_tables.py": "nowhere.md",
    "tools/data/check_videos.py": "nowhere.txt",
    "tools/data/make_lists.py": "nowhere",
    "tools/data/make_lmdb.py": "nowhere out.lmdb",
    "tools/data/make_synthetic.py": "out --frames 0",
    "tools/data/shrink_videos.py": "nowhere out",
    "tools/data/activitynet/convert.py": "out",
    "tools/data/gestures/compose.py": "nowhere out",
    "tools/data/fcvid/convert.py": "out",
    "tools/data/mini_kinetics/convert.py": "out",
    "tools/data/mini_sports1m/convert.py": "out",
}


@pytest.fixture
def command(monkeypatch, capsys):
    """Run a command in this process, for importing torch again takes seconds; its exit code and stderr."""
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

    def run(name: str, *args: str) -> tuple[object, str]:
        monkeypatch.setattr(sys, "argv", [name, *args])
        with pytest.raises(SystemExit) as end:
            if name.startswith("mmvideoiq"):
                runpy.run_module(name, run_name="__main__")
            else:
                runpy.run_path(str(ROOT / name), run_name="__main__")
        return end.value.code, capsys.readouterr().err

    monkeypatch.setattr(sys, "path", list(sys.path))
    yield run
    for number, handler in handlers.items():
        signal.signal(number, handler)


def test_every_command_is_tried():
    tools = {path.relative_to(ROOT).as_posix() for path in (ROOT / "tools").rglob("*.py")}
    assert tools == {name for name in MISTAKES if name.startswith("tools/")}


@pytest.mark.parametrize("name", MISTAKES)
def test_every_command_restores_its_signals_first(name):
    """Else Ctrl-C and SIGTERM do not end it with 130 and 143 where a parent ignored them."""
    path = ROOT / name
    if name.startswith("mmvideoiq"):
        module = ROOT / name.replace(".", "/")
        path = module / "__main__.py" if module.is_dir() else module.with_suffix(".py")
    guard = next(node for node in ast.parse(path.read_text()).body[::-1] if isinstance(node, ast.If))
    assert [ast.unparse(part) for part in (guard.test, guard.body[0])] == [
        "__name__ == '__main__'",
        "restore_signals()",
    ]


TOOLS = [name for name in MISTAKES if name.startswith("tools/")]
RUNTIME_TOOLS = ("tools/infer.py", "tools/zoo_tables.py", "tools/data/make_synthetic.py")


@pytest.mark.parametrize("name", TOOLS)
def test_a_tool_says_what_to_install(name, command, monkeypatch):
    monkeypatch.setattr(main, "find_spec", lambda module: None if module in ("av", "torch") else object())
    code, printed = command(name, "--help")
    lacking, extra = ("av", "runtime") if name in RUNTIME_TOOLS else ("av, torch", "train")
    said = f"{Path(name).name}: error: {lacking} not installed: pip install 'mmvideoiq[{extra}]' (docs/"
    assert code == 2 and printed.startswith(said) and printed.count("\n") == 1


@pytest.mark.parametrize("name", TOOLS)
def test_a_tool_imports_before_that_what_every_installation_has(name):
    """The standard library, and rooms that need no more than it."""
    outside = [node for node in ast.parse((ROOT / name).read_text()).body if not isinstance(node, ast.With)]
    found = imports(ast.Module(outside, []), Path(name).stem)
    imported = {module for module, inside, _ in found if not inside}
    others = {module for module in imported if module.split(".")[0] not in sys.stdlib_module_names}
    rooms = ("jobs.arguments", "jobs.errors", "jobs.signals", "service.main")
    assert others <= {f"mmvideoiq.{room}" for room in rooms}


@pytest.mark.parametrize("name", MISTAKES)
def test_a_mistake_is_one_line_and_a_traceback_on_request(name, command, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    code, printed = command(name, *MISTAKES[name].split())
    assert code == 2 and printed.count("\n") == 1 and "usage:" not in printed
    monkeypatch.setenv(TRACEBACK, "1")
    with pytest.raises((ValueError, OSError, LookupError)):
        command(name, *MISTAKES[name].split())


@pytest.mark.parametrize("name", TOOLS)
def test_an_unknown_option_is_one_line(name, command, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    code, printed = command(name, *MISTAKES[name].split(), "--nothing")
    assert code == 2 and printed.count("\n") == 1 and printed.endswith(": --nothing\n")


@pytest.mark.parametrize(
    ("name", "args", "message"),
    [
        ("tools/export.py", [BUNDLE, CHECKPOINT, "{tmp}/out"], f"config {BUNDLE} is a bundle, not a file"),
        ("tools/export.py", [MODEL, BUNDLE, "{tmp}/out"], f"checkpoint {BUNDLE} is a bundle, not a file"),
        ("tools/export.py", [MODEL, MODEL, "{tmp}/out"], f"checkpoint {MODEL} cannot be read: "),
        ("tools/export.py", [MODEL, "{tmp}/text", "{tmp}/out"], "text cannot be read: "),
        (
            "tools/export.py",
            [RECIPE, CHECKPOINT, "{tmp}/out"],
            "has no model: it is for tools/train_stages.py",
        ),
        ("tools/export.py", ["{tmp}/text", CHECKPOINT, "{tmp}/out"], "{tmp}/text"),
        ("tools/export.py", ["{tmp}/other.py", CHECKPOINT, "{tmp}/out"], "other.py has no model"),
        ("tools/export.py", ["{tmp}/code.py", CHECKPOINT, "{tmp}/out"], "code.py cannot be read: "),
        ("tools/benchmark.py", ["latency", "zoo://nothing"], "no bundle 'nothing' in the zoo"),
        ("tools/train.py", [RECIPE], "has no model: it is for tools/train_stages.py"),
        ("tools/train.py", [ROWS], ROWS),
        ("tools/train_stages.py", [MODEL], "is the config of one model; tools/train.py trains it"),
        ("tools/compare.py", [MODEL], f"{MODEL} is the config of a model, not a file of rows"),
        ("tools/compare.py", [RECIPE], f"{RECIPE} is a recipe, not a file of rows"),
        ("tools/infer.py", [CHECKPOINT, "a.mp4"], f"{CHECKPOINT} is a file; a bundle is a folder"),
    ],
)
def test_files_of_another_kind(name, args, message, command, monkeypatch, tmp_path):
    monkeypatch.chdir(ROOT)
    (tmp_path / "text").write_text("text\n" * 9)
    (tmp_path / "other.py").write_text("x = 1\n")
    (tmp_path / "code.py").write_text('import os\nx = os.environ["HOME"]\n')
    code, printed = command(name, *(word.format(tmp=tmp_path) for word in args))
    assert code == 2 and printed.count("\n") == 1
    assert message.format(tmp=tmp_path) in printed
    assert not (tmp_path / "out").exists()


def ignore_signals() -> None:
    """As in a background job."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)


@pytest.mark.slow
@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_ends_training_that_was_started_with_it_ignored(number, code, tsn_config, tmp_path):
    many = ["train_cfg.max_epochs=100000", "log_level=INFO"]
    tool = [sys.executable, ROOT / "tools/train.py", tsn_config, "--work-dir", tmp_path / "work"]
    with subprocess.Popen(
        [*tool, "--cfg-options", *many],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        cwd=ROOT,
        preexec_fn=ignore_signals,
    ) as child:
        for line in child.stdout:
            if "Epoch(train)" in line:
                break
        child.send_signal(number)
        child.stdout.read()
        assert child.wait(60) == code
    assert not list((tmp_path / "work").rglob("*.part*"))
