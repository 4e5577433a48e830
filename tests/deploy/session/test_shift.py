"""Bundles that shift features between frames compute whole clips."""

from dataclasses import replace

import mmaction.models  # noqa: F401
import numpy as np
import pytest

import mmvideoiq.models  # noqa: F401
from mmvideoiq.deploy.bundle.bundle import Bundle, write_bundle
from mmvideoiq.deploy.bundle.graph import Graph, Node
from mmvideoiq.deploy.session import VideoSession
from tests.deploy.toy_bundle import toy_parts
from tests.models.toys import SIZE

pytest.importorskip("openvino")
from tests.deploy.session.toys import FRAMES, clips, same


@pytest.fixture(scope="module")
def shifting(tmp_path_factory) -> Bundle:
    """Features are shifted between neighbouring frames, three by three."""
    parts, path = (
        toy_parts(frames=FRAMES, size=SIZE, policy=False),
        tmp_path_factory.mktemp("shift") / "bundle",
    )
    graph, nodes = parts["graphs"]["recognition"], []
    for node in graph:
        nodes.append(replace(node, inputs=("shift",)) if node.name == "pool" else node)
        if node.name == "stem.relu":
            nodes.append(Node(op="shift", name="shift", inputs=(node.name,), attrs=dict(frames=3, fold=2)))
    parts["graphs"]["recognition"] = Graph(inputs=graph.inputs, nodes=tuple(nodes), outputs=graph.outputs)
    write_bundle(path, **parts)
    return Bundle.open(path)


def test_shifted_features_are_computed_for_whole_clips_at_one_precision(shifting, plain, engine):
    session, frames = VideoSession(shifting, engine), clips(1)[0]
    whole = session.run(frames)
    assert engine.calls == {("recognition", 8): 1}
    halves = [session.run(half).logits for half in (frames[:3], frames[3:])]
    np.testing.assert_allclose(whole.logits, np.mean(halves, axis=0), atol=1e-4)
    backwards = session.run(frames[::-1])
    assert np.abs(backwards.logits - whole.logits).max() > 1e-3  # the neighbours count
    same(session.run(frames, actions=np.full(FRAMES, 2)), session.run(frames, budget=0.0625))


def test_shifted_features_cannot_be_torn_apart(shifting, engine):
    session, frames = VideoSession(shifting, engine), clips(1)[0]
    with pytest.raises(ValueError, match="give all of them one action"):
        session.run(frames, actions=np.array([0, 0, 0, 1, 1, 1]))
    with pytest.raises(ValueError, match=r"T a multiple of 3; got uint8 \(4,"):
        session.run(frames[:4])
    with pytest.raises(ValueError, match=r"takes no streams: use run\(\) on clips of 3 frames"):
        session.push(frames[0])
