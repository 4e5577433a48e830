"""Milliseconds of rows: bundles as they are, a float network without one on the same clips."""

import json
from pathlib import Path

import numpy as np
import pytest

from mmvideoiq.data.synthetic import make_synthetic
from mmvideoiq.latency.contenders import Gated, Given
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
    trace = tmp_path / "trace.json"
    trace.write_text(json.dumps([dict(actions=[0, 3, 3, 3, 3, 1])] * 3))
    rows = dict(
        policy=dict(bundle=bundle),
        fixed=dict(bundle=bundle, usage={"4": 1.0}),
        few=dict(bundle=bundle, trace=str(trace), policy=False),
        multiplier=dict(bundle=bundle, trace=str(trace), policy=True),
        gate=dict(bundle=bundle, gate=dict(action=1, threshold=3.0, side=20)),
        float=network,
    )
    shares = []
    found = time_rows(
        dict(
            rows=rows, config=network["config"], engine="openvino", clips=2, threads=1, folder=str(tmp_path)
        ),
        lambda text, share: shares.append(share),
    )
    assert list(found) == list(rows) and min(found.values()) > 0
    assert shares == sorted(shares) and shares[-1] <= 1


def test_actions_of_contenders(tmp_path):
    pytest.importorskip("openvino")
    rng = np.random.default_rng(0)
    np.save(tmp_path / "clip.npy", rng.integers(0, 256, (6, 64, 64, 3), dtype=np.uint8))
    spec = dict(
        bundle=str(ROOT / "zoo/demo/demo_videoiq_bundle"),
        engine="openvino",
        threads=1,
        clip=str(tmp_path / "clip.npy"),
        preprocessing=dict(frames=6, short_side=64, crop=(64, 64)),
    )
    given = Given(spec | dict(actions=[[3, 2, 3, 3, 0, 3]], policy=True))
    chosen, asked = [], []
    run, choose = given.session.run, given.session.choose
    given.session.run = lambda frames, actions: (
        chosen.append(actions.tolist()) or run(frames, actions=actions)
    )
    given.session.choose = lambda frames: asked.append(len(frames)) or choose(frames)
    assert given.model()["seconds"] > 0
    assert chosen == [[3, 2, 3, 3, 0, 3]] * 2 and asked == [6, 6]  # a run before, which is not timed
    gated = Gated(spec | dict(gate=dict(action=1, threshold=255.0, side=20)))
    run = gated.session.run
    gated.session.run = lambda frames, actions: (
        chosen.append(actions.tolist()) or run(frames, actions=actions)
    )
    assert gated.model()["label"] in range(8) and chosen[-1] == [1, 3, 3, 3, 3, 3]
