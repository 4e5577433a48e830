"""Print what a shell needs to complete this command: ``eval "$(mmvideoiq completion bash)"``."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from mmvideoiq.jobs.arguments import Parser, prog
from mmvideoiq.jobs.errors import one_line_errors

SHELLS = ("bash", "zsh", "fish")


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    parser = Parser(prog=prog(), description=__doc__)
    parser.example = "mmvideoiq completion bash"
    parser.add_argument("shell", choices=SHELLS)
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> int:
    with one_line_errors():
        args = parse_args(argv)
        import argcomplete

        print(argcomplete.shellcode(["mmvideoiq"], shell=args.shell))
    return 0
