"""Odd files: the frames asked for are those that a decoder shows in that place, whatever the container says."""

import subprocess
import sys
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from av.error import FFmpegError

from mmvideoiq.video.av_reader import AvReader
from mmvideoiq.video.container import demuxed
from mmvideoiq.video.errors import VideoError
from mmvideoiq.video.preprocessing import Preprocessing
from mmvideoiq.video.reader import sample_indices
from mmvideoiq.video.streams import FrameStream
from tests.conftest import ROOT
from tests.video.odd import HEIGHT, ODD, PLAIN, RATE, WIDTH, Odd, copied, made, number_in, picture, shown


@pytest.fixture(scope="module", params=ODD)
def odd(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One file of each kind."""
    return made(tmp_path_factory.mktemp("odd") / request.param, ODD[request.param])


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """150 frames of H.264 with a key frame every 24."""
    return made(tmp_path_factory.mktemp("plain") / "plain.mp4", PLAIN)


def numbers_at(reader: AvReader, places, **options) -> list[int]:
    return [number_in(image) for image in reader.read(places, **options)]


def test_the_frames_of_each_place(odd: Path):
    numbers, reader = shown(odd), AvReader(odd)
    assert len(reader) == len(numbers)
    for places in (sample_indices(len(numbers), 16), range(len(numbers)), [len(numbers) - 1, 0]):
        assert numbers_at(reader, places) == [numbers[place] for place in places]
        assert reader.lost == 0 or odd.name == "cut-off.ts"  # its last packet


def test_the_edit_list_hides_what_comes_before(tmp_path):
    path = made(tmp_path / "cut.mp4", ODD["h264-edit-list.mp4"])
    assert (
        shown(path)[0] == number_in(AvReader(path).read([0])[0]) == 38
    )  # 1.5 seconds of 25 frames, rounded up


def test_a_cover_picture_is_not_the_video(plain, tmp_path):
    def cover(out, _stream):
        image = out.add_stream("mjpeg", rate=1)
        image.width, image.height, image.pix_fmt = 32, 32, "yuvj420p"
        image.disposition = av.stream.Disposition.attached_pic
        frame = av.VideoFrame.from_ndarray(np.zeros((32, 32, 3), np.uint8), format="rgb24")
        frame.pts, frame.time_base = 0, Fraction(1, 1)
        out.start_encoding()
        out.mux(image.encode(frame.reformat(format="yuvj420p")))
        out.mux(image.encode(None))

    path = tmp_path / "cover.mkv"
    try:
        copied(plain, path, extra=cover)
    except (FFmpegError, AttributeError) as error:
        pytest.skip(f"this PyAV does not write cover pictures: {error}")
    assert numbers_at(AvReader(path), [0, 149]) == [0, 149]


def test_nearby_takes_frames_that_others_refer_to(plain):
    reader = AvReader(plain)
    places = list(range(0, 150, 7))
    got = numbers_at(reader, places, sampling="nearby")
    assert max(abs(number - place) for number, place in zip(got, places, strict=True)) <= 2
    assert got != places and reader.lost == 0


def test_keyframe_takes_the_nearest_within_the_tolerance(plain):
    reader = AvReader(plain)
    assert numbers_at(reader, [0, 20, 30, 71], sampling="keyframe", tolerance_s=1.0) == [0, 24, 24, 72]
    far = numbers_at(reader, [12, 71], sampling="keyframe", tolerance_s=2 / RATE)
    assert abs(far[0] - 12) <= 2 and far[1] == 72


def test_threads_change_nothing(plain):
    assert numbers_at(AvReader(plain, threads=2), range(150)) == list(range(150))


@pytest.mark.slow
def test_threads_that_log_an_error_do_not_hold_up_the_end(tmp_path):
    """PyAV's log needs the interpreter, which PyAV holds while it waits for the decoder's threads."""
    path = made(tmp_path / "large.mp4", Odd("libx264", ".mp4", size=(640, 480)))
    code = (
        "import sys; from mmvideoiq.video.av_reader import AvReader\n"
        "for _ in range(40): AvReader(sys.argv[1], threads=2).read([5, 40], sampling='nearby')"
    )
    subprocess.run([sys.executable, "-c", code, path], cwd=ROOT, timeout=60, check=True)


def test_places_may_repeat_and_come_in_any_order(plain):
    assert numbers_at(AvReader(plain), [5, 149, 5, 0]) == [5, 149, 5, 0]


def test_a_rotated_video_is_shown_upright(plain, tmp_path):
    path = tmp_path / "rotated.mp4"

    def turn(_out, stream):
        if not hasattr(stream, "set_display_rotation"):
            pytest.skip("this PyAV does not write a display matrix")
        stream.set_display_rotation(90)

    copied(plain, path, extra=turn)
    assert AvReader(path).read([3])[0].shape == (WIDTH, HEIGHT, 3)


BAD = {
    "gone.mp4": (None, "there is no such file"),
    "empty.mp4": (b"", "is empty"),
    "text.mp4": (b"not a video at all" * 50, "is not a video, or cut off"),
}


@pytest.mark.parametrize("name", BAD)
def test_files_that_hold_no_video(tmp_path, name):
    content, message = BAD[name]
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(VideoError, match=message):
        AvReader(tmp_path / name)


def test_a_folder_and_sound_alone(tmp_path):
    with pytest.raises(VideoError, match="is a folder"):
        AvReader(tmp_path)
    with av.open(str(tmp_path / "sound.wav"), "w") as container:
        stream = container.add_stream("pcm_s16le", rate=8000, layout="mono")
        sound = av.AudioFrame.from_ndarray(np.zeros((1, 800), np.int16), format="s16", layout="mono")
        sound.sample_rate = 8000
        container.mux(stream.encode(sound))
        container.mux(stream.encode(None))
    with pytest.raises(VideoError, match="holds no video, sound perhaps"):
        AvReader(tmp_path / "sound.wav")


def test_a_seek_that_fails_is_an_error_of_the_video(plain, monkeypatch):
    monkeypatch.setattr(AvReader, "_seek", lambda *_: av.error.err_check(-1))
    with pytest.raises(VideoError, match=r"plain\.mp4: is damaged \(Operation not permitted\)"):
        AvReader(plain).read([3])


def test_a_name_that_is_too_long(tmp_path):
    with pytest.raises(VideoError, match="File name too long"):
        AvReader(tmp_path / ("x" * 5000))


def test_a_stream_that_begins_within_the_file_is_passed_over():
    class Container:
        left = iter([1, 2, None, 3])

        def demux(self, stream):
            for packet in self.left:
                yield [packet][packet is None]

    assert list(demuxed(Container(), None)) == [1, 2, 3]


def test_a_name_with_a_colon_is_not_an_address(plain, tmp_path, monkeypatch):
    (tmp_path / "T10:00.mp4").write_bytes(plain.read_bytes())
    monkeypatch.chdir(tmp_path)
    assert len(AvReader("T10:00.mp4")) == 150
    assert number_in(next(FrameStream("T10:00.mp4", Preprocessing(4)))) == 0


def test_what_cannot_be_asked(plain):
    reader = AvReader(plain)
    for places, options, message in (
        ([150], {}, r"places must lie in 0\.\.149"),
        ([], {}, "places must lie in"),
        ([0], dict(sampling="fast"), "sampling='fast' must be one of"),
    ):
        with pytest.raises(ValueError, match=message):
            reader.read(places, **options)
    with pytest.raises(ValueError, match="threads=0"):
        AvReader(plain, threads=0)
    reader.time_limit_s = 1e-9
    with pytest.raises(VideoError, match="took more than 1e-09 seconds to read"):
        reader.read([0])


def test_the_picture_shows_its_number():
    assert [number_in(picture(number)) for number in (0, 1, 77, 149, 255)] == [0, 1, 77, 149, 255]
