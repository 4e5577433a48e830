"""VideoInit and VideoDecode are registered; the converters' command, for a list in its published format."""

from collections.abc import Callable
from pathlib import Path

import pytest

import mmvideoiq.data.video_transforms  # noqa: F401
from mmvideoiq.data.convert_command import convert
from tests.data.published import class_file


@pytest.fixture
def run(tmp_path: Path, capsys) -> Callable[..., str]:
    """Convert ``text`` as the validation list of a benchmark into ``tmp_path / "out"``; what was printed."""

    def go(name: str, text: str, *options: str) -> str:
        source = tmp_path / "list.txt"
        source.write_text(text)
        classes = class_file(tmp_path, name)
        convert(
            name, None, [str(tmp_path / "out"), "--val", str(source), "--classes", str(classes), *options]
        )
        return capsys.readouterr().out

    return go
