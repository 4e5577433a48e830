"""Mutated bundles give finite results or one line of error, without a crash, a hang or a warning."""

import json
import subprocess
import sys

import pytest

SEED = 3


@pytest.mark.parametrize(
    ("engine", "count"),
    [
        ("openvino", 15),
        ("onnxruntime", 40),
        pytest.param("openvino", 200, marks=pytest.mark.slow),
        pytest.param("onnxruntime", 200, marks=pytest.mark.slow),
    ],
)
def test_a_mutated_bundle_works_or_is_refused(repo, tmp_path, engine, count):
    pytest.importorskip(engine)
    bundle = repo / "zoo/demo/demo_videoiq_bundle"
    command = [sys.executable, "-W", "error::RuntimeWarning", "-m", "tests.deploy.mutated_bundles"]
    arguments = [str(bundle), str(count), str(SEED), engine, str(tmp_path)]
    done = subprocess.run(
        [*command, *arguments], cwd=repo, capture_output=True, text=True, timeout=600, check=False
    )
    assert done.returncode == 0, done.stderr[-2000:]
    found = json.loads(done.stdout)
    assert found["others"] == []
    assert sum(found["ends"].values()) == count
    assert found["ends"]["ran"] and found["ends"]["BundleError"]
