"""The page of backbones: it lists what MMAction2 registers, and its counts are those of a run."""

import re
import runpy
import shutil
import subprocess
import sys

import pytest

from mmvideoiq.models.host_backbones import known_names
from tests.conftest import ROOT, load_module

backbones = load_module(ROOT / "docs/backbone_support.py")
PAGE = (ROOT / "docs/backbones.md").read_text(encoding="utf-8")
ROWS = {
    name: cells
    for name, *cells in (
        [cell.strip() for cell in line.strip("|").split("|")]
        for line in PAGE.splitlines()
        if re.match(r"\| [\w.]+ \|", line)
    )
    if name != "backbone"
}


def test_every_backbone_of_mmaction2_is_listed():
    host = [name for name in ROWS if "." not in name]
    assert sorted(host) == sorted(known_names())
    assert list(ROWS) == list(backbones.cases())


@pytest.mark.parametrize("name", ["ResNet", "MobileNetV2", "ResNet3d", "SwinTransformer3D"])
def test_counts_are_those_of_a_conversion(name):
    found = backbones.describe(backbones.convert(backbones.cases([name])[name]))
    assert ROWS[name][1:3] == [str(found["converted"]), str(found["norms"])]
    assert ROWS[name][-1] == ("clip" if found["mixes_frames"] else "frame")


@pytest.mark.slow
def test_a_backbone_that_is_refused_stops_nothing():
    rows = backbones.measure(backbones.cases(["STGCN", "ResNet"]))["rows"]
    refused, works = rows
    assert refused["refused"] and works["refused"] is None
    assert (works["equals_float"], works["trains"], works["exports"]) == (None, None, None)
    text = backbones.page(dict(rows=rows, versions=dict(torch="1")), "a command")
    assert "| STGCN | | | | refused [1](#reasons)" in text and refused["refused"] in text


def test_unknown_names():
    with pytest.raises(ValueError, match="no config for ResNext; there are AAGCN"):
        backbones.cases(["ResNext"])


def test_outside_of_a_clone_the_command_says_so_in_one_line(tmp_path, monkeypatch, capsys):
    """As in a wheel, which has no docs/."""
    (tmp_path / "tools").mkdir()
    tool = shutil.copy(ROOT / "tools/backbones.py", tmp_path / "tools")
    monkeypatch.setattr(sys, "argv", [str(tool)])
    monkeypatch.setattr(sys, "path", list(sys.path))
    with pytest.raises(SystemExit) as ended:
        runpy.run_path(str(tool), run_name="__main__")
    said = "backbones.py: error: this writes docs/backbones.md of the repository: run it in a clone\n"
    assert (ended.value.code, capsys.readouterr().err) == (2, said)


def test_the_command_patches_mmaction2_by_itself():
    command = [sys.executable, str(ROOT / "tools/backbones.py"), "ResNext"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 2 and "error: no config for ResNext" in done.stderr.splitlines()[-1]
