"""``tools/benchmark.py bulk`` on a toy bundle."""

import json

import pytest

from mmvideoiq.jobs.errors import RunStopped
from tests.deploy.toy_bundle import make_toy_bundle

pytest.importorskip("ray")


@pytest.mark.slow
def test_bulk_is_measured_against_infer(load_tool, tmp_path):
    out = tmp_path / "out.json"
    make_toy_bundle(tmp_path / "toy", frames=6, size=32)
    tool, options = load_tool("benchmark.py"), ["--clips=60", "--workers=1", f"--json={out}"]
    tool.main(["bulk", str(tmp_path / "toy"), *options])
    rows = json.loads(out.read_text())["rows"]
    assert [row["name"] for row in rows] == ["infer", "bulk --no-ray", "bulk, 1 + 1 workers"]
    assert rows[0]["ratio"] == rows[0]["rate_ratio"] == 1.0
    assert all(row["clips_per_s"] > 0 and row["seconds"] > 0 for row in rows)
    assert rows[2]["start_s"] > 0  # Ray's own


def test_a_run_that_fails_is_no_measurement(tmp_path):
    from mmvideoiq.benchmark.bulk import run

    with pytest.raises(RunStopped, match=r"infer did 0 of 3 clips: .*error: "):
        run(["infer", str(tmp_path / "none"), str(tmp_path)], clips=3)
