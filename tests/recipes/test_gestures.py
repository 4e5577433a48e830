"""The recipe of the gesture clips on the real photos, from composing to the bundle."""

import json
import os
import subprocess
import sys

import pytest

from tests.conftest import ROOT


@pytest.mark.slow
def test_fast(shared_dir, tmp_path):
    photos, weights = shared_dir / "data/gestures", shared_dir / "weights/mobilenet_v2_imagenet_mmcv.pth"
    if not (photos.is_dir() and weights.is_file()):
        pytest.skip(f"no {photos} or {weights}")
    command = [sys.executable, "tools/train_stages.py", "configs/videoiq/gestures_recipe.py", "--fast"]
    environment = os.environ | dict(GESTURES=str(photos), MOBILENET_V2_WEIGHTS=str(weights))
    run = subprocess.run(
        [*command, "--work-dir", str(tmp_path)], cwd=ROOT, env=environment, capture_output=True, text=True
    )
    assert run.returncode == 0, run.stderr
    summary = json.loads((tmp_path / "summary.json").read_text())
    names = ["float", "fixed-8", "fixed-8@160", "fixed-8@96", "random", "videoiq"]
    assert [row["name"] for row in summary["rows"]] == names
    assert set(summary["rows"][-1]["usage"]) == {"8", "8@160", "8@96", "skip"}
    assert (tmp_path / "features.safetensors").stat().st_size > 0
    assert (tmp_path / "bundle/manifest.json").is_file()
