"""Milliseconds of rows: bundles as they are, a float network without one on the same clips."""

from pathlib import Path

import pytest

from mmvideoiq.data.synthetic import make_synthetic
from mmvideoiq.latency.rows import time_rows

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.slow
def test_rows_are_timed(tmp_path, monkeypatch):
    pytest.importorskip("openvino")
    make_synthetic(tmp_path / "data", train=3, val=3, test=3, seed=0)
    monkeypatch.setenv("DATA_ROOT", str(tmp_path / "data"))
    bundle = str(ROOT / "zoo/demo/demo_videoiq_bundle")
    network = dict(
        config=str(ROOT / "configs/baselines/demo_uniform.py"),
        checkpoint=str(ROOT / "zoo/demo/demo_float.pth"),
    )
    rows = dict(policy=dict(bundle=bundle), fixed=dict(bundle=bundle, usage={"4": 1.0}), float=network)
    shares = []
    found = time_rows(
        dict(rows=rows, config=network["config"], engine="openvino", clips=2, folder=str(tmp_path)),
        lambda text, share: shares.append(share),
    )
    assert list(found) == list(rows) and min(found.values()) > 0
    assert shares == sorted(shares) and shares[-1] <= 1
