"""Videos become the frames that the test pipeline makes, exactly; bad ones a line with the reason."""

from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from mmaction.datasets.transforms import CenterCrop, DecordDecode, DecordInit, Resize, SampleFrames

from mmvideoiq.data.video_transforms import VideoDecode, VideoInit
from mmvideoiq.video.av_reader import SAMPLING
from mmvideoiq.video.errors import VideoError
from mmvideoiq.video.preprocessing import Preprocessing
from mmvideoiq.video.reader import read_clip, read_frames, sample_indices
from tests.video.conftest import SMALL, WIDE, square, write
from tests.video.odd import ODD, made

GOOD = ["good.mp4", "tall.mkv", "h264.mp4", "short.mp4", "one.avi", "uneven.mkv", "rotated.mp4", "cut.mkv"]


def pipeline_frames(path: Path, preprocessing: Preprocessing) -> np.ndarray:
    """The frames of MMAction2's test pipeline."""
    decord = preprocessing.reader == "decord"
    sampling = dict(sampling=preprocessing.sampling, tolerance_s=preprocessing.tolerance_s)
    steps = [
        DecordInit() if decord else VideoInit(),
        SampleFrames(clip_len=1, frame_interval=1, num_clips=preprocessing.frames, test_mode=True),
        DecordDecode() if decord else VideoDecode(**sampling),
    ]
    if preprocessing.short_side is not None:
        steps.append(Resize(scale=(-1, preprocessing.short_side)))
    if preprocessing.crop is not None:
        steps.append(CenterCrop(crop_size=preprocessing.crop))
    results = dict(filename=str(path), start_index=0, modality="RGB")
    for step in steps:
        results = step(results)
    return np.stack(results["imgs"])


# --- frames of a test ----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", GOOD)
@pytest.mark.parametrize("sampling", SAMPLING)
def test_frames_are_those_of_the_pipeline(folder, name, sampling):
    for steps in (SMALL, square(7, 32, 32), square(1, None, 48)):
        preprocessing = steps._replace(sampling=sampling, tolerance_s=0.5)
        got = read_frames(folder / name, preprocessing)
        assert got.dtype == np.uint8 and got.shape == (preprocessing.frames, *preprocessing.size, 3)
        np.testing.assert_array_equal(got, pipeline_frames(folder / name, preprocessing))
        np.testing.assert_array_equal(read_clip(folder / name, preprocessing, threads=3)[0], got)


@pytest.mark.parametrize("name", GOOD)
def test_decord_gives_the_same_frames_where_it_is_right(folder, name):
    old = SMALL._replace(reader="decord")
    want = pipeline_frames(folder / name, old)
    np.testing.assert_array_equal(read_frames(folder / name, old), want)
    np.testing.assert_array_equal(read_frames(folder / name, SMALL), want)


def test_the_modes_differ(folder):
    modes = [read_frames(folder / "h264.mp4", SMALL._replace(sampling=mode)) for mode in SAMPLING]
    assert all(not np.array_equal(a, b) for a, b in pairwise(modes))


def test_frames_as_they_are(folder):
    whole = Preprocessing(3, None, None, WIDE)
    np.testing.assert_array_equal(
        read_frames(folder / "good.mp4", whole), pipeline_frames(folder / "good.mp4", whole)
    )


@pytest.mark.parametrize("reader", ["av", "decord"])
def test_frames_of_real_clips(shared_dir, reader):
    clips = sorted((shared_dir / "data/fights/videos").rglob("*.mp4"))[::20]
    if not clips:
        pytest.skip("no clips there")
    steps = square(8, 256, 224)._replace(reader=reader)
    for clip in clips[:4]:
        np.testing.assert_array_equal(read_frames(clip, square(8, 256, 224)), pipeline_frames(clip, steps))


@pytest.mark.parametrize(
    ("total", "frames"), [(1, 1), (1, 5), (3, 8), (8, 8), (9, 8), (100, 16), (12345, 16)]
)
def test_indices_are_those_of_mmaction2(total, frames):
    sampler = SampleFrames(clip_len=1, frame_interval=1, num_clips=frames, test_mode=True)
    want = sampler(dict(total_frames=total, start_index=0))["frame_inds"]
    np.testing.assert_array_equal(sample_indices(total, frames), want)


def test_a_short_video_repeats_frames_in_order(folder):
    frames = read_frames(folder / "short.mp4", square(5, 40, 32))
    different = [not np.array_equal(a, b) for a, b in pairwise(frames)]
    assert sum(different) == 1  # of the two there are


def test_a_rotated_video_is_upright(folder):
    size = Preprocessing(2, None, None, WIDE)
    upright = read_frames(folder / "rotated.mp4", size._replace(size=WIDE[::-1]))
    lying = read_frames(folder / "good.mp4", size)
    np.testing.assert_allclose(upright.astype(int), np.rot90(lying, -1, axes=(1, 2)), atol=16)


def test_a_narrow_video(tmp_path):
    path = write(tmp_path / "narrow.mp4", size=(48, 72))
    assert read_frames(path, SMALL).shape == (4, 32, 32, 3)
    with pytest.raises(VideoError, match=r"narrow\.mp4: is too narrow: decord misreads"):
        read_frames(path, SMALL._replace(reader="decord"))


# --- bad videos ------------------------------------------------------------------------------------------

BAD = {
    "empty.mp4": "is empty",
    "text.mp4": "is not a video, or cut off (Invalid data found when processing input)",
    "headless.mp4": "is not a video, or cut off (Invalid data found when processing input)",
    "sound.mp4": "holds no video, sound perhaps",
    "gone.mp4": "there is no such file",
    "folder.mp4": "is a folder; name a video in it",
}
BAD_FOR_DECORD = {
    "empty.mp4": "is empty",
    "text.mp4": "is not a video, or is cut off",
    "cut.mp4": "is damaged or cut off",
    "holed.mp4": "is damaged or cut off",
    "sound.mp4": "holds no video that decord can decode: sound alone, or a codec such as AV1, which PyAV reads",
    "gone.mp4": "there is no such file",
}


@pytest.mark.parametrize(
    ("reader", "name", "reason"),
    [("av", *bad) for bad in BAD.items()] + [("decord", *bad) for bad in BAD_FOR_DECORD.items()],
)
def test_bad_videos(folder, decoders, reader, name, reason):
    path, decoder = folder / name, decoders[reader]
    with pytest.raises(VideoError) as caught:
        read_frames(path, decoder.preprocessing)
    assert str(caught.value) == f"{path}: {reason}"
    assert (str(caught.value.source), caught.value.reason) == (str(path), reason)
    with pytest.raises(VideoError) as caught:
        decoder.read(path)
    assert str(caught.value) == f"{path}: {reason}"
    np.testing.assert_array_equal(
        decoder.read(folder / "good.mp4").frames, read_frames(folder / "good.mp4", SMALL)
    )


def test_decord_says_what_it_lacks(tmp_path):
    path = made(tmp_path / "av1.mp4", ODD["av1.mp4"])
    assert read_frames(path, SMALL).shape == (4, 32, 32, 3)
    with pytest.raises(VideoError, match=r"av1\.mp4: AV1 needs PyAV: decord does not decode it"):
        read_frames(path, SMALL._replace(reader="decord"))


def test_damaged_frames_are_counted(folder, decoder):
    frames, lost = read_clip(folder / "holed.mp4", SMALL._replace(frames=30))
    assert len(frames) == 30 and 0 < lost < 15
    assert decoder.read(folder / "good.mp4").lost == 0


def test_frames_of_another_size_than_the_models(folder):
    with pytest.raises(VideoError, match=r"good\.mp4: its frames are 96x60, the model takes 32x32"):
        read_frames(folder / "good.mp4", Preprocessing(4, None, None, (32, 32)))
    with pytest.raises(VideoError, match=r"good\.mp4: its frames are 96x60, the model takes 200x200"):
        read_frames(folder / "good.mp4", square(4, None, 200))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (dict(sampling="fast"), "sampling='fast' must be one of exact, nearby, keyframe"),
        (dict(tolerance_s=-1.0), "tolerance_s=-1.0 must not be negative"),
        (dict(reader="cv2"), "reader='cv2' must be one of av, decord"),
        (
            dict(reader="decord", sampling="nearby"),
            "decord reads with sampling 'exact' alone, not 'nearby': choose it (--sampling exact)",
        ),
    ],
    ids=str,
)
def test_what_cannot_be_asked_for(folder, changes, message):
    with pytest.raises(ValueError) as caught:
        read_frames(folder / "good.mp4", SMALL._replace(**changes))
    assert str(caught.value) == message
