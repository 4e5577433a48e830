"""Frame by frame: all of what is recorded, the newest of what is live."""

import threading
import time

import numpy as np
import pytest

from mmvideoiq.video import streams
from mmvideoiq.video.av_reader import AvReader
from mmvideoiq.video.errors import VideoError
from mmvideoiq.video.preprocessing import Preprocessing
from mmvideoiq.video.reader import prepare, read_frames, sample_indices
from mmvideoiq.video.streams import FrameStream
from tests.video.conftest import SMALL, WIDE
from tests.video.odd import HEIGHT, ODD, WIDTH, made, number_in, shown

UNSCALED = Preprocessing(16)


@pytest.mark.parametrize("name", ODD)
def test_the_frames_of_each_kind_of_file(name, tmp_path, decoders):
    """Clip and stream, here and in another process, against a decoder's own order."""
    path = made(tmp_path / name, ODD[name])
    numbers = shown(path)
    clip = [numbers[place] for place in sample_indices(len(numbers), 16)]
    assert [number_in(frame) for frame in read_frames(path, UNSCALED)] == clip
    given, end = [], None
    try:
        for frame in FrameStream(path, UNSCALED, every=5):
            given.append(number_in(frame))
    except VideoError as error:
        end = error
    assert given == numbers[::5]
    assert end is None or ("cut off after frame" in str(end) and name.startswith("cut-off"))


@pytest.mark.parametrize("reader", ["av", "decord"])
@pytest.mark.parametrize("name", ["good.mp4", "uneven.mkv", "rotated.mp4", "one.avi"])
@pytest.mark.parametrize("pace", [{}, dict(every=3), dict(fps=5.0), dict(fps=1000.0)], ids=str)
def test_a_stream_gives_the_files_frames(folder, decoders, reader, name, pace):
    video = AvReader(folder / name)
    step = pace.get("every", 1) if "fps" not in pace else max(1.0, video.rate / pace["fps"])
    places = (np.arange(len(video)) * step).astype(int)
    want = [prepare(frame, SMALL) for frame in video.read(places[places < len(video)])]
    stream = FrameStream(folder / name, SMALL._replace(reader=reader), **pace)
    np.testing.assert_array_equal(list(stream), want)
    assert (stream.live, stream.dropped) == (False, 0)
    np.testing.assert_array_equal(list(decoders[reader].stream(folder / name, **pace)), want)


def test_decord_gives_good_frames_and_then_its_error(folder, decoders):
    seen = []
    with pytest.raises(VideoError, match=r"holed\.mp4: is damaged or cut off"):
        for frame in decoders["decord"].stream(folder / "holed.mp4"):
            seen.append(frame)
    assert len(seen) < 40  # decord decodes ahead and may find the hole before it has given one


@pytest.mark.parametrize(
    "pace", [dict(every=0), dict(fps=0.0), dict(fps=-2.0), dict(fps=float("nan"))], ids=str
)
def test_invalid_paces(folder, decoder, pace):
    for stream in (
        lambda: FrameStream(folder / "good.mp4", SMALL, **pace),
        lambda: next(decoder.stream(0, **pace)),
    ):
        with pytest.raises(ValueError, match="must be at least 1"):
            stream()


def test_a_pace_needs_a_rate(folder, monkeypatch):
    monkeypatch.setattr(streams, "mean_rate", lambda _: 0.0)
    assert len(list(FrameStream(folder / "good.mp4", SMALL, every=4))) == 3
    with pytest.raises(VideoError, match="does not say how many frames a second it has"):
        FrameStream(folder / "good.mp4", SMALL, fps=2.0)


class Camera:
    """Gives frames of blue, a number in their red, as many as it is allowed to; fails after the tenth."""

    allowed = threading.Semaphore(0)

    def __init__(self, index: int) -> None:
        self.index, self.given = index, 0

    def isOpened(self) -> bool:
        return self.index == 0

    def grab(self) -> bool:
        assert self.allowed.acquire(timeout=30)
        self.given += 1
        return self.given <= 10

    def retrieve(self) -> tuple[bool, np.ndarray]:
        return True, np.full((*WIDE, 3), (255, 0, self.given), np.uint8)  # blue, green, red


@pytest.fixture
def camera(monkeypatch):
    cv2 = pytest.importorskip("cv2")
    monkeypatch.setattr(cv2, "VideoCapture", Camera)
    monkeypatch.setattr(Camera, "allowed", threading.Semaphore(0))
    return Camera.allowed


def test_a_camera(camera):
    """A frame is taken before the next one comes: none is dropped."""
    stream, seen = FrameStream(0, SMALL, every=3), []
    for allowed in (1, 3, 3, 3):
        camera.release(allowed)
        seen.append(next(stream)[0, 0].tolist())
    camera.release()
    with pytest.raises(VideoError, match="camera 0: stopped giving frames"):
        next(stream)
    assert seen == [[n, 0, 255] for n in (1, 4, 7, 10)]
    assert (stream.live, stream.dropped) == (True, 0)
    with pytest.raises(VideoError, match="camera 1: cannot be opened"):
        FrameStream(1, SMALL)


def test_the_newest_frame_is_taken_and_older_ones_are_counted(camera):
    stream = FrameStream(0, SMALL)
    camera.release(6)
    for _ in range(3000):
        if stream.dropped == 5:  # the thread has read six
            break
        time.sleep(0.01)
    assert next(stream)[0, 0, 0] == 6
    camera.release(1)
    assert next(stream)[0, 0, 0] == 7
    camera.release(4)  # three more, and the failure
    seen = []
    with pytest.raises(VideoError, match="stopped giving frames"):
        for frame in stream:
            seen.append(int(frame[0, 0, 0]))
    assert seen[-1] == 10 and stream.dropped + 2 + len(seen) == 10


def test_a_camera_at_a_rate_follows_the_clock(monkeypatch):
    ticks = iter([0.0] + [0.25 * n for n in range(20)])
    monkeypatch.setattr(streams.time, "perf_counter", lambda: next(ticks))
    assert list(streams._by_the_clock(iter(range(1, 11)), 1, 2.0)) == [1, 3, 5, 7, 9]


def test_a_camera_that_is_not_there(decoder):
    with pytest.raises(VideoError, match="camera 97: cannot be opened"):
        next(decoder.stream(97))


def test_the_pictures_are_as_wide_as_they_were_made(tmp_path):
    path = made(tmp_path / "plain.mp4", ODD["h264-three-frames.mp4"])
    assert [frame.shape for frame in FrameStream(path, UNSCALED)] == [(HEIGHT, WIDTH, 3)] * 3
