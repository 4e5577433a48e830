"""Sessions of toy bundles, with and without a policy."""

from pathlib import Path

import mmaction.models  # noqa: F401
import numpy as np
import pytest
from mmengine.registry import DefaultScope, init_default_scope
from torch import nn

import mmvideoiq.models  # noqa: F401
from mmvideoiq.deploy.bundle.bundle import Bundle
from mmvideoiq.deploy.engines.factory import open_engine
from mmvideoiq.deploy.export import Preprocessing, export
from mmvideoiq.deploy.session import VideoSession
from tests.conftest import write_video
from tests.models.toys import ACTIONS, CLASSES, SIZE

pytest.importorskip("openvino")
from tests.deploy.session.toys import (
    CURVE,
    FRAMES,
    HOLDING,
    SIZED,
    CountingEngine,
    clips,
    toy_bundle,
    toy_model,
)


@pytest.fixture(scope="package", autouse=True)
def _mmaction_scope():
    before = DefaultScope.get_current_instance()
    init_default_scope("mmaction")
    yield
    if before is not None:
        init_default_scope(before.scope_name)


@pytest.fixture(scope="session")
def engine() -> CountingEngine:
    return CountingEngine(open_engine("openvino", threads=1))


@pytest.fixture(autouse=True)
def _count_anew(engine):
    engine.calls.clear()
    engine.frames.clear()


@pytest.fixture(
    scope="session",
    params=[
        (ACTIONS, "likeliest"),
        (ACTIONS, "zero"),
        (HOLDING, "likeliest"),
        (HOLDING, "zero"),
        (SIZED, "zero"),
    ],
    ids=["likeliest", "zero", "holding-likeliest", "holding-zero", "sized"],
)
def pair(request, tmp_path_factory, engine) -> tuple[nn.Module, VideoSession]:
    """A model, and the session of its bundle."""
    actions, all_skip = request.param
    model, path = toy_model(actions, all_skip), tmp_path_factory.mktemp("exported") / "bundle"
    rows = [dict(row, usage=row["usage"] + [0.0] * (len(actions) - len(ACTIONS))) for row in CURVE]
    export(
        model,
        path,
        classes=[f"class {k}" for k in range(CLASSES)],
        preprocessing=Preprocessing(frames=FRAMES, crop=SIZE),
        budget=rows,
    )
    return model, VideoSession(Bundle.open(path), engine)


@pytest.fixture(scope="session")
def session(tmp_path_factory, engine) -> VideoSession:
    """Of a small bundle with a policy, for whatever needs no model to compare with."""
    return VideoSession(toy_bundle(tmp_path_factory.mktemp("toy")), engine)


@pytest.fixture(scope="session")
def plain(tmp_path_factory) -> Bundle:
    """Without a policy."""
    return toy_bundle(tmp_path_factory.mktemp("plain"), policy=False)


@pytest.fixture(scope="session")
def videos(tmp_path_factory) -> list[Path]:
    folder = tmp_path_factory.mktemp("videos")
    for i, frames in enumerate(clips(4, frames=10, seed=3)):
        write_video(folder / f"{i}.mp4", np.tile(frames, (1, 2, 4, 1)))
    (folder / "text.mp4").write_text("no video")
    return [folder / name for name in ("0.mp4", "1.mp4", "text.mp4", "2.mp4", "gone.mp4", "3.mp4")]
