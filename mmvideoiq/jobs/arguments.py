"""What the commands' parsers share: a mistake is one line, ``--help`` ends in an example, shells complete words."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NoReturn

from mmvideoiq.jobs.errors import one_line, unread
from mmvideoiq.jobs.explained import explained

BAD = 2  # exit code of a user's mistake
COMPLETION = "_ARGCOMPLETE"  # environment: a shell asks for completions, from this word of its line on


def prog() -> str:
    """The name of the command that runs: ``mmvideoiq infer``, or that of a tool's file."""
    return Path(sys.argv[0]).name


class Parser(argparse.ArgumentParser):
    """Says what is wrong in one line, and answers a shell that completes (argcomplete).

    Attributes:
        example: a command line, the last thing that ``--help`` shows; "" leaves it out.
    """

    example = ""

    def error(self, message: str) -> NoReturn:
        self.exit(BAD, f"{self.prog}: error: {message}\n")

    def format_help(self) -> str:
        return super().format_help() + (f"\nexample:\n  {self.example}\n" if self.example else "")

    def parse_args(self, args: Sequence[str] | None = None, namespace: Any = None) -> Any:
        if COMPLETION in os.environ:
            import argcomplete

            argcomplete.autocomplete(self)
        return super().parse_args(args, namespace)


def count(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number of at least 1")
    return int(text)


def count_or_auto(text: str) -> int | str:
    return text if text == "auto" else count(text)


def count_or_none(text: str) -> int:
    return 0 if text == "0" else count(text)


def rate(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value < float("inf"):
        raise argparse.ArgumentTypeError(f"{text!r} is not a number above 0")
    return value


def print_error(error: BaseException | str) -> None:
    """On stderr, as one line that begins with the command's name; nothing if only the reader of stdout has left."""
    if isinstance(error, BaseException) and unread(error):
        return
    text = error if isinstance(error, str) else one_line(error)
    print(explained(f"{prog()}: error: {' '.join(text.split())}"), file=sys.stderr, flush=True)


def print_warning(line: str) -> None:
    print(f"{prog()}: warning: {line}", file=sys.stderr, flush=True)
