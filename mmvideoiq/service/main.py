"""The command ``mmvideoiq``: a table of its commands, of which only the one that runs is imported.

A command is a module with ``main(argv: Sequence[str] | None = None) -> int``, which returns its exit code. While it
runs ``sys.argv[0]`` is ``mmvideoiq NAME``, which is what its messages begin with. Its parser is a
:class:`mmvideoiq.jobs.arguments.Parser` with an example; that completes words, too.
"""

from __future__ import annotations

import argparse
import importlib
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec

from mmvideoiq import __version__
from mmvideoiq.jobs.arguments import BAD, COMPLETION, Parser
from mmvideoiq.jobs.errors import (
    READER_LEFT,
    drop_output,
    one_line,
    print_error,
    reader_left,
    traceback_wanted,
)
from mmvideoiq.jobs.signals import exit_code, restore_signals

PROG = "mmvideoiq"


@dataclass(frozen=True)
class Command:
    """A line of the table.

    Attributes:
        module: what is imported when the command runs.
        help: one line.
        extra: of the package, that installs what the command imports; "" where the package alone is enough.
    """

    module: str
    help: str
    extra: str


COMMANDS = {
    "infer": Command("mmvideoiq.service.infer", "recognize videos, a camera or a stream", "runtime"),
    "bulk": Command("mmvideoiq.service.bulk", "recognize folders, lists and buckets of videos", "bulk"),
    "serve": Command("mmvideoiq.service.serve", "a page and a JSON API that recognize videos", "serve"),
    "zoo": Command("mmvideoiq.zoo.__main__", "list and download the published models", "runtime"),
    "bundle": Command("mmvideoiq.service.bundle_info", "what a bundle holds: bundle info BUNDLE", "runtime"),
    "doctor": Command("mmvideoiq.service.doctor", "check this installation and this machine", ""),
    "export": Command("mmvideoiq.service.export", "make a bundle of a trained model", "train"),
    "recipe": Command("mmvideoiq.service.recipe", "train all stages of a recipe", "train"),
    "completion": Command(
        "mmvideoiq.service.completion", "what bash, zsh or fish need to complete words", "runtime"
    ),
}
RUNTIME = ("argcomplete", "av", "cv2", "filelock", "jsonschema", "rich", "safetensors", "yaml")
#: What an extra installs and its commands import.
EXTRAS: dict[str, tuple[str, ...]] = {
    "": (),
    "runtime": RUNTIME,
    "bulk": (*RUNTIME, "fsspec", "pyarrow"),
    "serve": (*RUNTIME, "starlette", "uvicorn", "python_multipart", "prometheus_client"),
    "train": (*RUNTIME, "torch", "mmengine", "mmcv", "mmaction"),
}


def missing(extra: str) -> list[str]:
    """Modules of an extra that are not installed."""
    return [module for module in EXTRAS[extra] if find_spec(module) is None]


def how_to_install(extra: str) -> str:
    return f"pip install '{PROG}[{extra}]'"


@contextmanager
def imports_of(extra: str, prog: str | None = None) -> Iterator[None]:
    """Around what a command imports: what is not installed, or does not load, ends it with one line and exit code 2.

    Args:
        extra: that installs it.
        prog: name of the command; None takes that of the script.
    """
    lacking = missing(extra)
    if lacking:
        print_error(ImportError(f"{', '.join(lacking)} not installed: {how_to_install(extra)}"), prog)
        raise SystemExit(BAD)
    try:
        yield
    except ImportError as error:
        if traceback_wanted():
            raise
        said = one_line(error)
        if isinstance(error, ModuleNotFoundError) and extra and "pip install" not in said:
            said = f"{said}: {how_to_install(extra)}"
        print_error(ImportError(said), prog)
        raise SystemExit(BAD) from None


def make_parser() -> Parser:
    lines = []
    for name, command in COMMANDS.items():
        install = f" ({how_to_install(command.extra)})" if missing(command.extra) else ""
        lines.append(f"  {name:<12}{command.help}{install}")
    parser = Parser(
        prog=PROG,
        usage=f"{PROG} COMMAND ... | COMMAND --help | --version",
        description="Dynamic-precision video recognition.\n\ncommands:\n" + "\n".join(lines),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.example = f"{PROG} infer zoo://demo_videoiq_bundle video.mp4"
    parser.add_argument("--version", action="version", version=f"{PROG} {__version__}")
    chosen = parser.add_argument(
        "command", nargs="?", choices=COMMANDS, metavar="COMMAND", help="one of the above"
    )
    chosen.completer = complete_command
    return parser


def complete_command(**_: object) -> dict[str, str]:
    """For a shell: the commands, with what fish and zsh show beside them."""
    return {name: command.help for name, command in COMMANDS.items()}


def completed_command() -> str | None:
    """Of a line that a shell completes, the command, if the word to complete comes after it."""
    from argcomplete.lexers import split_line

    start = int(os.environ[COMPLETION])
    words = split_line(os.environ["COMP_LINE"], int(os.environ["COMP_POINT"]))[3]
    if len(words) <= start or words[start] not in COMMANDS:
        return None
    os.environ[COMPLETION] = str(start + 1)  # the command is the program from here on
    return words[start]


def run(name: str, argv: Sequence[str]) -> int:
    command = COMMANDS[name]
    with imports_of(command.extra, f"{PROG} {name}"):
        sys.argv = [f"{PROG} {name}", *argv]
        module = importlib.import_module(command.module)
    return module.main(argv)


def main(argv: Sequence[str] | None = None) -> int:
    try:
        code = _main(argv)
    finally:
        left = reader_left()
        if left:
            drop_output()
    return READER_LEFT if left else code


def _main(argv: Sequence[str] | None) -> int:
    restore_signals()
    argv = sys.argv[1:] if argv is None else argv
    name = completed_command() if COMPLETION in os.environ else None
    try:
        if name is None:
            parser = make_parser()
            name = parser.parse_args(argv[:1]).command
            if name is None:
                parser.error(f"give a command: {', '.join(COMMANDS)}; {PROG} --help describes them")
        return run(name, argv[1:])
    except KeyboardInterrupt as stop:
        return exit_code(stop)
