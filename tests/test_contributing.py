"""CONTRIBUTING.md: its examples run as they stand there."""

import os
import subprocess
import sys

import numpy as np
import pytest

from tests.conftest import ROOT, write_video
from tests.test_docs import blocks

PAGE = ROOT / "CONTRIBUTING.md"
SECTIONS = ("A quantizer", "A backbone", "An engine", "A data set")


def sections() -> dict[str, str]:
    """Text of each section, by its heading."""
    parts = PAGE.read_text(encoding="utf-8").split("\n## ")[1:]
    return {part.split("\n", 1)[0]: part for part in parts}


def test_each_section_has_an_example_that_checks_something():
    found = sections()
    assert tuple(found) == SECTIONS
    for text in found.values():
        assert any("\nassert " in block or "\n    assert " in block for block in blocks(text, "python"))


def test_the_examples_run_in_the_order_of_the_page(tmp_path):
    pytest.importorskip("onnxruntime")
    found = sections()
    (listed,) = blocks(found["A data set"], "text")
    (tmp_path / "pets.csv").write_text(listed)
    (tmp_path / "names.txt").write_text("cat\ndog\n")
    for name in ("cat/a.mp4", "dog/b.mp4"):
        path = tmp_path / "pets/videos" / name
        path.parent.mkdir(parents=True)
        write_video(path, np.full((8, 32, 32, 3), 99, np.uint8))
    code = "\n".join(
        f"print({name!r}, flush=True)\n" + "\n".join(blocks(text, "python")) for name, text in found.items()
    )
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert [line for line in done.stdout.splitlines() if line in SECTIONS] == list(SECTIONS)
    assert "4 layers and 4 batch norms follow the precision switch" in done.stdout
