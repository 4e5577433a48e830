"""VideoInit and VideoDecode in MMAction2's pipelines: the frames that SampleFrames asks for, also where decord errs."""

import numpy as np
import pytest
from mmaction.registry import TRANSFORMS
from mmcv.transforms import Compose
from mmengine.registry import init_default_scope

from mmvideoiq.data import video_transforms
from mmvideoiq.video.errors import VideoError
from tests.data import damaged
from tests.video.odd import ODD, made, number_in, shown

WRONG_WITH_DECORD = ("h264-edit-list.mp4", "h264-open-gop.mp4", "mpeg2.mpg", "xvid-b-frames.avi", "wmv2.wmv")
REFUSED_BY_DECORD = ("h264.ts", "raw.h264", "av1.mp4", "picture.gif")
FAST = ("h264.mp4", *WRONG_WITH_DECORD, *REFUSED_BY_DECORD)
KINDS = [kind if kind in FAST else pytest.param(kind, marks=pytest.mark.slow) for kind in ODD]


def pipeline(**decode) -> Compose:
    init_default_scope("mmaction")
    sample = dict(type="SampleFrames", clip_len=1, frame_interval=1, num_clips=16, test_mode=True)
    return Compose(
        [
            TRANSFORMS.build(cfg)
            for cfg in (dict(type="VideoInit"), sample, dict(type="VideoDecode", **decode))
        ]
    )


@pytest.mark.parametrize("kind", KINDS)
def test_the_sampled_frames_are_the_right_ones(kind, tmp_path):
    path = made(tmp_path / kind, ODD[kind])
    results = pipeline()(dict(filename=str(path), start_index=0, modality="RGB"))
    numbers = shown(path)
    assert results["total_frames"] == len(numbers) and results["video_reader"] is None
    assert [number_in(image) for image in results["imgs"]] == [numbers[i] for i in results["frame_inds"]]
    assert results["img_shape"] == results["original_shape"] == results["imgs"][0].shape[:2]
    assert results["lost_frames"] == 0 or kind == "cut-off.ts"


@pytest.mark.parametrize(
    ("content", "reason"),
    [(None, "there is no such file"), (b"", "is empty"), (b"text" * 99, "is not a video")],
)
def test_what_is_refused_says_why_in_one_line(content, reason, tmp_path):
    path = tmp_path / "a.mp4"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(VideoError, match=reason) as caught:
        pipeline()(dict(filename=str(path), start_index=0, modality="RGB"))
    assert "\n" not in str(caught.value)


def test_damage_is_logged_once(tmp_path, monkeypatch):
    path, logged, clips = damaged.hole(tmp_path / "a.mp4", 0.3), [], pipeline()
    monkeypatch.setattr(video_transforms, "print_log", lambda message, **_: logged.append(message))
    for _ in range(2):
        results = clips(dict(filename=str(path), start_index=0, modality="RGB"))
    assert 0 < results["lost_frames"] < 16
    assert logged == [f"{path}: {results['lost_frames']} of 16 frames are damaged"]


def test_boxes_are_scaled_as_in_mmaction2(tmp_path):
    path = made(tmp_path / "h264.mp4", ODD["h264.mp4"])
    given = dict(
        filename=str(path), start_index=0, modality="RGB", gt_bboxes=np.array([[0.0, 0.0, 0.5, 1.0]])
    )
    results = pipeline(sampling="nearby")(given)
    height, width = results["img_shape"]
    np.testing.assert_allclose(results["gt_bboxes"], [[0, 0, width / 2, height]])


def test_wrong_options_are_refused():
    init_default_scope("mmaction")
    for cfg, message in (
        (dict(type="VideoInit", num_threads=0), "num_threads >= 1"),
        (dict(type="VideoDecode", sampling="fast"), "must be one of"),
        (dict(type="VideoDecode", tolerance_s=-1), "must not be negative"),
    ):
        with pytest.raises(ValueError, match=message):
            TRANSFORMS.build(cfg)
