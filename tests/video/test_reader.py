"""Videos become the frames that MMAction2 tests, exactly; bad ones a line with the reason."""

from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from mmaction.datasets.transforms import CenterCrop, DecordDecode, DecordInit, Resize, SampleFrames

from mmvideoiq.video import reader as video
from mmvideoiq.video.reader import (
    Preprocessing,
    VideoError,
    prepare,
    read_frames,
    sample_indices,
    stream_frames,
)
from tests.video.conftest import SMALL, WIDE, square, write


def mmaction2_frames(path: Path, preprocessing: Preprocessing) -> np.ndarray:
    """The frames of MMAction2's test pipeline."""
    results = dict(filename=str(path), start_index=0, modality="RGB")
    steps = [
        DecordInit(),
        SampleFrames(clip_len=1, frame_interval=1, num_clips=preprocessing.frames, test_mode=True),
        DecordDecode(),
    ]
    if preprocessing.short_side is not None:
        steps.append(Resize(scale=(-1, preprocessing.short_side)))
    if preprocessing.crop is not None:
        steps.append(CenterCrop(crop_size=preprocessing.crop))
    for step in steps:
        results = step(results)
    return np.stack(results["imgs"])


# --- frames of a test ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name",
    ["good.mp4", "tall.mkv", "h264.mp4", "short.mp4", "one.avi", "uneven.mkv", "rotated.mp4", "cut.mkv"],
)
@pytest.mark.parametrize("preprocessing", [SMALL, square(7, 32, 32), square(1, None, 48)], ids=str)
def test_frames_are_those_of_mmaction2(folder, name, preprocessing):
    got = read_frames(folder / name, preprocessing)
    assert got.dtype == np.uint8 and got.shape == (preprocessing.frames, *preprocessing.size, 3)
    np.testing.assert_array_equal(got, mmaction2_frames(folder / name, preprocessing))


def test_frames_as_they_are(folder):
    got = read_frames(folder / "good.mp4", Preprocessing(3, None, None, WIDE))
    np.testing.assert_array_equal(
        got, mmaction2_frames(folder / "good.mp4", Preprocessing(3, None, None, WIDE))
    )


def test_frames_of_real_clips(shared_dir):
    clips = sorted((shared_dir / "data/fights/videos").rglob("*.mp4"))[::20]
    if not clips:
        pytest.skip("no clips there")
    for clip in clips[:4]:
        np.testing.assert_array_equal(
            read_frames(clip, square(8, 256, 224)), mmaction2_frames(clip, square(8, 256, 224))
        )


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


# --- bad videos ------------------------------------------------------------------------------------------

BAD = [
    ("empty.mp4", "is empty"),
    ("text.mp4", "is not a video, or is cut off"),
    ("headless.mp4", "is not a video, or is cut off"),
    ("cut.mp4", "is damaged or cut off"),
    ("holed.mp4", "is damaged or cut off"),
    ("sound.mp4", "has no video stream that decord can decode: only sound, or a codec such as AV1"),
    ("gone.mp4", "does not exist"),
    ("folder.mp4", "is a folder"),
]


@pytest.mark.parametrize(("name", "reason"), BAD)
def test_bad_videos(folder, decoder, name, reason):
    path = folder / name
    with pytest.raises(VideoError) as caught:
        read_frames(path, SMALL)
    assert str(caught.value) == f"{path}: {reason}"
    assert (caught.value.source, caught.value.reason) == (path, reason)
    with pytest.raises(VideoError) as caught:
        decoder.read(path)
    assert str(caught.value) == f"{path}: {reason}"
    frames, _ = decoder.read(folder / "good.mp4")
    np.testing.assert_array_equal(frames, read_frames(folder / "good.mp4", SMALL))


def test_frames_of_another_size_than_the_models(folder):
    with pytest.raises(VideoError, match=r"good\.mp4: its frames are 96x60, the model takes 32x32"):
        read_frames(folder / "good.mp4", Preprocessing(4, None, None, (32, 32)))
    with pytest.raises(VideoError, match=r"good\.mp4: its frames are 96x60, the model takes 200x200"):
        read_frames(folder / "good.mp4", square(4, None, 200))


def test_videos_that_decord_misreads(tmp_path):
    path = write(tmp_path / "narrow.mp4", size=(48, 72))
    for read in (read_frames, lambda *given: list(stream_frames(*given))):
        with pytest.raises(VideoError, match=r"narrow\.mp4: is too narrow: decord misreads"):
            read(path, SMALL)


# --- frame by frame -------------------------------------------------------------------------------------------------


def every_frame(path: Path) -> np.ndarray:
    import decord

    reader = decord.VideoReader(str(path))
    return np.stack([prepare(frame, SMALL) for frame in reader.get_batch(range(len(reader))).asnumpy()])


@pytest.mark.parametrize("name", ["good.mp4", "uneven.mkv", "rotated.mp4", "one.avi"])
@pytest.mark.parametrize(
    ("pace", "step"), [({}, 1), (dict(every=3), 3), (dict(fps=5.0), None), (dict(fps=1000.0), None)], ids=str
)
def test_a_stream_gives_the_files_frames(folder, decoder, name, pace, step):
    want = every_frame(folder / name)
    if step is None:
        import decord

        rate = decord.VideoReader(str(folder / name)).get_avg_fps()
        places = (np.arange(len(want)) * max(1.0, rate / pace["fps"])).astype(int)
        want = want[places[places < len(want)]]
    else:
        want = want[::step]
    np.testing.assert_array_equal(list(stream_frames(folder / name, SMALL, **pace)), want)
    np.testing.assert_array_equal(list(decoder.stream(folder / name, **pace)), want)


def test_a_damaged_stream_gives_good_frames_and_then_its_error(folder, decoder):
    for stream in (stream_frames(folder / "holed.mp4", SMALL), decoder.stream(folder / "holed.mp4")):
        seen = []
        with pytest.raises(VideoError, match=r"holed\.mp4: is damaged or cut off"):
            for frame in stream:
                seen.append(frame)
        assert len(seen) < 40  # decord decodes ahead and may find the hole before it has given one
        for got, want in zip(seen[:10], every_frame(folder / "complete.mp4"), strict=False):
            np.testing.assert_array_equal(got, want)


@pytest.mark.parametrize(
    "pace", [dict(every=0), dict(fps=0.0), dict(fps=-2.0), dict(fps=float("nan"))], ids=str
)
def test_invalid_paces(folder, decoder, pace):
    with pytest.raises(ValueError, match="must be at least 1"):
        next(decoder.stream(folder / "good.mp4", **pace))


class Camera:
    """Gives frames of blue, then fails."""

    def __init__(self, index: int) -> None:
        self.index, self.given = index, 0

    def isOpened(self) -> bool:
        return self.index == 0

    def grab(self) -> bool:
        self.given += 1
        return self.given <= 10

    def retrieve(self) -> tuple[bool, np.ndarray]:
        return True, np.full((*WIDE, 3), (255, 0, self.given), np.uint8)  # blue, green, red


def test_a_camera(monkeypatch):
    cv2 = pytest.importorskip("cv2")
    monkeypatch.setattr(cv2, "VideoCapture", Camera)
    seen = []
    with pytest.raises(VideoError, match="camera 0: stopped giving frames"):
        for frame in stream_frames(0, SMALL, every=3):
            seen.append(frame)
    assert [frame[0, 0].tolist() for frame in seen] == [[n, 0, 255] for n in (1, 4, 7, 10)]
    with pytest.raises(VideoError, match="camera 1: cannot be opened"):
        next(stream_frames(1, SMALL))


def test_a_camera_at_a_rate_follows_the_clock(monkeypatch):
    cv2 = pytest.importorskip("cv2")
    monkeypatch.setattr(cv2, "VideoCapture", Camera)
    ticks = iter([0.0] + [0.25 * n for n in range(20)])
    monkeypatch.setattr(video.time, "perf_counter", lambda: next(ticks))
    seen = []
    with pytest.raises(VideoError):
        for frame in stream_frames(0, SMALL, fps=2.0):
            seen.append(int(frame[0, 0, 0]))
    assert seen == [1, 3, 5, 7, 9]


def test_a_camera_that_is_not_there(decoder):
    with pytest.raises(VideoError, match="camera 97: cannot be opened"):
        next(decoder.stream(97))
