"""A toy bundle, and many small videos: hard links to a few files."""

import os
from pathlib import Path

import numpy as np
import pytest

from tests.conftest import write_video
from tests.deploy.toy_bundle import make_toy_bundle

pytest.importorskip("openvino")
pytest.importorskip("pyarrow", reason="pip install 'mmvideoiq[bulk]'")

FRAMES, SIZE = 6, 32


@pytest.fixture(scope="session")
def bundle(tmp_path_factory) -> Path:
    return make_toy_bundle(tmp_path_factory.mktemp("bulk_bundle") / "toy", frames=FRAMES, size=SIZE)


@pytest.fixture(scope="session")
def originals(tmp_path_factory) -> list[Path]:
    """Three different videos, one of noise that is no video, and an empty file."""
    folder, rng = tmp_path_factory.mktemp("originals"), np.random.default_rng(0)
    for number in range(3):
        write_video(folder / f"{number}.mp4", rng.integers(0, 256, (9, 40, 48, 3), dtype=np.uint8))
    (folder / "3.mp4").write_bytes(rng.bytes(999))
    (folder / "4.mp4").write_bytes(b"")
    return sorted(folder.iterdir())


@pytest.fixture
def linked(originals, tmp_path):
    """``linked(n)``: a folder of n videos, in which each of the originals comes in its turn."""

    def make(count: int, *, good: bool = False, name: str = "videos") -> Path:
        folder = tmp_path / name
        folder.mkdir()
        files = originals[:3] if good else originals
        for number in range(count):
            os.link(files[number % len(files)], folder / f"{number:05d}.mp4")
        return folder

    return make
