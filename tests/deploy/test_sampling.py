"""How frames are sampled: from the test pipeline into the bundle, from there to the runtime."""

from pathlib import Path

import numpy as np
import pytest
from mmaction.datasets.transforms import CenterCrop, Resize, SampleFrames

from mmvideoiq.data.video_transforms import VideoDecode, VideoInit
from mmvideoiq.deploy.bundle.bundle import Bundle, write_bundle
from mmvideoiq.deploy.export.from_config import read_pipeline
from mmvideoiq.deploy.export.recognizer import sampling_of
from mmvideoiq.deploy.session import VideoSession
from mmvideoiq.video.preprocessing import Preprocessing
from mmvideoiq.video.reader import read_frames
from tests.deploy.toy_bundle import toy_parts
from tests.video.odd import PLAIN, RATE, made

pytest.importorskip("openvino")

FRAMES, SIZE = 6, 32
MODES = {
    "exact": {},
    "nearby": dict(sampling="nearby"),
    "keyframe": dict(sampling="keyframe"),
    "keyframe within 8 frames": dict(sampling="keyframe", tolerance_s=8 / RATE),
}


@pytest.fixture(scope="module")
def video(tmp_path_factory) -> Path:
    return made(tmp_path_factory.mktemp("video") / "plain.mp4", PLAIN)


def pipeline(**options) -> list[dict]:
    return [
        dict(type="VideoInit"),
        dict(type="SampleFrames", clip_len=1, num_clips=FRAMES, test_mode=True),
        dict(type="VideoDecode", **options),
        dict(type="Resize", scale=(-1, 40)),
        dict(type="CenterCrop", crop_size=SIZE),
        dict(type="FormatShape", input_format="NCHW"),
        dict(type="PackActionInputs"),
    ]


def bundle_of(preprocessing: Preprocessing, folder: Path) -> Bundle:
    parts = toy_parts(frames=FRAMES, size=SIZE)
    parts["manifest"]["preprocessing"] |= dict(short_side=40, **sampling_of(preprocessing))
    write_bundle(folder, **parts)
    return Bundle.open(folder)


@pytest.mark.parametrize("options", MODES.values(), ids=MODES)
def test_the_runtime_repeats_the_pipeline(video, tmp_path, options):
    results = dict(filename=str(video), start_index=0, modality="RGB")
    sampler = SampleFrames(clip_len=1, num_clips=FRAMES, test_mode=True)
    for step in (VideoInit(), sampler, VideoDecode(**options), Resize(scale=(-1, 40)), CenterCrop(SIZE)):
        results = step(results)
    bundle = bundle_of(read_pipeline(pipeline(**options)), tmp_path / "bundle")
    assert bundle.preprocessing == Preprocessing(FRAMES, 40, SIZE, (SIZE, SIZE), **options)
    np.testing.assert_array_equal(read_frames(video, bundle.preprocessing), np.stack(results["imgs"]))


def test_a_session_may_sample_otherwise(video, tmp_path):
    bundle_of(read_pipeline(pipeline(sampling="nearby")), tmp_path / "bundle")
    seen = {}
    for sampling in (None, "exact", "nearby", "keyframe"):
        with VideoSession.open(tmp_path / "bundle", threads=1, sampling=sampling) as session:
            seen[sampling] = session.run_video(video).logits
            want = session.run(read_frames(video, session.preprocessing)).logits
            np.testing.assert_allclose(seen[sampling], want, atol=1e-5)
    np.testing.assert_array_equal(seen[None], seen["nearby"])
    assert not np.array_equal(seen["exact"], seen["keyframe"])
    with pytest.raises(ValueError, match="decord reads with sampling 'exact' alone, not 'nearby'"):
        VideoSession.open(tmp_path / "bundle", threads=1, reader="decord")


def test_exact_leaves_the_manifest_as_it_was(tmp_path):
    exact = bundle_of(read_pipeline(pipeline()), tmp_path / "bundle")
    assert not {"sampling", "tolerance_s"} & set(exact.manifest["preprocessing"])
    decord = [dict(type="DecordInit"), *pipeline()[1:2], dict(type="DecordDecode"), *pipeline()[3:]]
    assert read_pipeline(decord) == read_pipeline(pipeline())


@pytest.mark.parametrize("change", [dict(sampling="fast"), dict(tolerance_s=-1)], ids=str)
def test_a_manifest_with_another_mode(tmp_path, change):
    parts = toy_parts(frames=FRAMES, size=SIZE)
    parts["manifest"]["preprocessing"] |= change
    with pytest.raises(ValueError, match=r"\$\.preprocessing\."):
        write_bundle(tmp_path / "bundle", **parts)
