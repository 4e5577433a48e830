"""``mmvideoiq bundle info``: the manifest's figures, as tables and as JSON."""

import json
import shutil

import pytest

from mmvideoiq.deploy.bundle import Bundle
from mmvideoiq.service import bundle_info
from tests.conftest import ROOT

DEMO = ROOT / "zoo/demo/demo_videoiq_bundle"


def test_what_it_says_is_what_the_bundle_holds(capsys):
    assert bundle_info.main(["info", str(DEMO), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    bundle = Bundle.open(DEMO)
    assert [action["name"] for action in found["actions"]] == list(bundle.actions.names)
    assert [action["cost"] for action in found["actions"]] == bundle.costs.tolist()
    assert found["classes"] == bundle.manifest["classes"] and found["parts"]["recognition"] == [32, 4, 2]
    assert (found["frames"], found["height"], found["width"], found["sampling"]) == (6, 64, 64, "nearby")
    curve = [point["cost"] for point in bundle.manifest["budget"]]
    assert found["budget"] == dict(lowest=min(curve), highest=max(curve))
    assert found["files"] == {path.name: path.stat().st_size for path in DEMO.iterdir()}


def test_on_a_terminal(capsys):
    assert bundle_info.main(["info", "zoo://demo_videoiq_bundle"]) == 0
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert ["clips", "6", "frames", "of", "64x64,", "nearby"] in lines
    assert ["4", "0.25", "0.00494", "3.13e+08"] in lines


def test_a_long_path_is_told_whole(tmp_path, capsys):
    far = tmp_path / ("a" * 120) / ("b" * 120)
    shutil.copytree(DEMO, far)
    assert bundle_info.main(["info", str(far)]) == 0
    told = "".join(line.strip() for line in capsys.readouterr().out.splitlines())
    assert str(far) in told and "…" not in told


def test_what_is_no_bundle(tmp_path, capsys):
    with pytest.raises(SystemExit) as ended:
        bundle_info.main(["info", str(tmp_path)])
    printed = capsys.readouterr().err
    assert ended.value.code == 2 and printed.count("\n") == 1 and "is not a bundle: it holds no" in printed
