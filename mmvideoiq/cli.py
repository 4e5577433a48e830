"""What the commands share: one-line errors, reading a config, building the host's runner."""

import pickle
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from mmvideoiq import compat
from mmvideoiq.errors import RunStopped, disk_full, traceback_wanted, write_any_text
from mmvideoiq.launch import first_to_say
from mmvideoiq.signals import exit_code, restore_signals  # noqa: F401  for the commands

compat.apply()

from mmengine.config import Config, DictAction
from mmengine.hooks import Hook
from mmengine.model import is_model_wrapper
from mmengine.runner import Runner

CONFIGS = (".py", ".yml", ".yaml", ".json")
OTHER_CONFIGS = {"stages": "train_stages.py", "rows": "compare.py"}
USER_ERRORS = (
    AssertionError,  # the host states wrong settings so
    EOFError,
    ImportError,
    LookupError,
    OSError,
    RuntimeError,
    SyntaxError,
    TypeError,
    ValueError,
    pickle.UnpicklingError,
)


class Settings(DictAction):
    """The host's reading of ``--cfg-options key=value ...``, with a clear error for what has no ``=``."""

    def __call__(self, parser: Any, namespace: Any, values: Any, option_string: str | None = None) -> None:
        for value in values:
            if "=" not in value:
                raise ValueError(f"{option_string} takes key=value, got {value!r}")
        super().__call__(parser, namespace, values, option_string)


class Begun(Hook):
    """Looks at the first clip's size, then notes that building is over and the run itself has begun."""

    priority = "LOWEST"

    def __init__(self) -> None:
        self.happened = False

    def before_train(self, runner: Runner) -> None:
        check_frames(runner.model, runner.train_dataloader)
        self.happened = True

    def before_test(self, runner: Runner) -> None:
        check_frames(runner.model, runner.test_dataloader)
        self.happened = True


def check_frames(model: Any, loader: Any) -> None:
    """Ask a model that has ``check_frames(height, width)`` whether the loader's first clip suits it."""
    model = model.module if is_model_wrapper(model) else model
    if hasattr(model, "check_frames"):
        model.check_frames(*loader.dataset[0]["inputs"].shape[-2:])


def one_line(error: BaseException) -> str:
    """The message of an error as one line; an ImportError also tells what it came from."""
    text = str(error.args[0]) if isinstance(error, KeyError) and error.args else str(error)
    if isinstance(error, ImportError):
        while error.__context__ is not None:
            error = error.__context__
        text = str(error) if str(error) in text else f"{text}: {error}"
    if isinstance(error, (AssertionError, LookupError)) and not isinstance(error, compat.PartNotRegistered):
        text = f"{type(error).__name__}: {text}"
    return " ".join(text.split()) or type(error).__name__


@contextmanager
def one_line_errors() -> Iterator[Begun]:
    """Until the run has begun, end on an error of the user with one line on stderr and exit code 2.

    Gives the hook that notes the beginning; register it with the runner. From then on errors keep their
    traceback, but for ``RunStopped`` and a full disk: one line and exit code 1. The environment variable
    MMVIDEOIQ_TRACEBACK keeps it everywhere. Ctrl-C ends with 130, SIGTERM (after ``restore_signals``) with 143.
    """
    begun = Begun()
    write_any_text()
    try:
        yield begun
    except USER_ERRORS as error:
        stopped = isinstance(error, RunStopped) or disk_full(error)
        if (begun.happened and not stopped) or traceback_wanted():
            raise
        sys.stdout.flush()
        if first_to_say():
            print(f"{Path(sys.argv[0]).name}: error: {one_line(error)}", file=sys.stderr, flush=True)
        raise SystemExit(1 if stopped else 2) from None
    except KeyboardInterrupt as stop:
        raise SystemExit(exit_code(stop)) from None


def need_file(path: str, what: str) -> None:
    """Raise FileNotFoundError, or IsADirectoryError, unless ``path`` is a file or an address such as ``https://...``."""
    if Path(path).is_dir():
        kind = "a bundle" if Path(path, "manifest.json").is_file() else "a folder"
        raise IsADirectoryError(f"{what} {path} is {kind}, not a file")
    if "://" not in path and not Path(path).is_file():
        raise FileNotFoundError(f"{what} not found: {path}")


def read_config(path: str, *, options: dict | None, work_dir: str | None, launcher: str) -> Config:
    """Read a config and lay the command line over it.

    Args:
        options: what ``--cfg-options`` gave; wins over the file.
        work_dir: wins over the file; where both are silent it is ``work_dirs/<name of the config>``.

    Raises:
        FileNotFoundError: no such config.
        ValueError: not Python, no model in it, or an option that does not fit; the message names it.
    """
    need_file(path, "config")
    if Path(path).suffix not in CONFIGS:
        raise ValueError(f"config {path}: the name of a config ends in one of {', '.join(CONFIGS)}")
    try:
        config = Config.fromfile(path)
    except SyntaxError as error:
        raise ValueError(f"config {path} is not valid Python: {one_line(error)}") from error
    except (AttributeError, NameError, TypeError) as error:
        raise ValueError(f"config {path} cannot be read: {one_line(error)}") from error
    if "model" not in config:
        other = next((tool for key, tool in OTHER_CONFIGS.items() if key in config), None)
        raise ValueError(f"config {path} has no model" + (f": it is for tools/{other}" if other else ""))
    for key, value in (options or {}).items():
        try:
            config.merge_from_dict({key: value})
        except (AttributeError, AssertionError, IndexError, KeyError, TypeError) as error:
            raise ValueError(f"--cfg-options {key}={value} does not fit: {one_line(error)}") from error
    config.launcher = launcher
    if work_dir is not None:
        config.work_dir = work_dir
    elif config.get("work_dir") is None:
        config.work_dir = str(Path("work_dirs") / Path(path).stem)
    return config


def build_runner(config: Config, begun: Begun) -> Any:
    """Build the host's runner, or the one that ``runner_type`` names, and register ``begun`` with it."""
    compat.fit_launcher_to_cpu(config)
    if "runner_type" in config:
        from mmaction.registry import RUNNERS

        runner = RUNNERS.build(config)
    else:
        runner = Runner.from_cfg(config)
    from mmvideoiq.hooks import add_checks  # registers our hooks; a config has to name the plugin for itself

    add_checks(runner)
    runner.register_hook(begun)
    return runner
