"""``mmvideoiq serve BUNDLE``: a page and a JSON API that recognize videos."""

from __future__ import annotations

from collections.abc import Sequence


def main(argv: Sequence[str] | None = None) -> int:
    """The command; its exit code. Nothing of the server is imported before."""
    from mmvideoiq.service.serve.command import main as command

    return command(argv)
