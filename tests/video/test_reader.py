"""Videos become the frames that the host tests, exactly; bad ones a line that says why; a process decodes."""

import gc
import os
import signal
import struct
import sys
import threading
import time
from fractions import Fraction
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from mmaction.datasets.transforms import CenterCrop, DecordDecode, DecordInit, Resize, SampleFrames

from mmvideoiq.video import decoder_process as decoding
from mmvideoiq.video import reader as video
from mmvideoiq.video.decoder_process import Decoder
from mmvideoiq.video.reader import (
    Preprocessing,
    VideoError,
    prepare,
    read_frames,
    sample_indices,
    stream_frames,
)

av = pytest.importorskip("av")

WIDE, TALL = (60, 96), (96, 80)  # (H, W)


def write(
    path: Path,
    count: int = 12,
    size: tuple[int, int] = WIDE,
    *,
    codec: str = "mpeg4",
    seed: int = 0,
    times: list[int] | None = None,
    **options: str,
) -> Path:
    """Smooth frames that differ; ``times`` in 1/1000 s for a variable rate."""
    rng = np.random.default_rng(seed)
    height, width = size
    with av.open(str(path), "w", options=options) as file:
        stream = file.add_stream(codec, rate=Fraction(10))
        stream.height, stream.width, stream.pix_fmt = height, width, "yuv420p"
        if times is not None:
            stream.codec_context.time_base = Fraction(1, 1000)
        for i in range(count):
            coarse = rng.integers(0, 256, (height // 6, width // 8, 3), dtype=np.uint8)
            frame = av.VideoFrame.from_ndarray(np.kron(coarse, np.ones((6, 8, 1), np.uint8)), format="rgb24")
            if times is not None:
                frame.pts, frame.time_base = times[i], Fraction(1, 1000)
            file.mux(stream.encode(frame))
        file.mux(stream.encode())
    return path


def turned(path: Path, out: Path) -> Path:
    """The same video with a display matrix that turns it by 90 degrees."""
    data = bytearray(path.read_bytes())
    at = data.index(b"tkhd") + 44
    one = 1 << 16
    data[at : at + 36] = struct.pack(">9i", 0, one, 0, -one, 0, 0, 0, 0, 1 << 30)
    out.write_bytes(data)
    return out


def sound(path: Path) -> Path:
    with av.open(str(path), "w") as file:
        stream = file.add_stream("aac", rate=16000, layout="mono")
        for i in range(20):
            samples = np.random.default_rng(i).standard_normal((1, 1024), dtype=np.float32)
            frame = av.AudioFrame.from_ndarray(0.1 * samples, format="fltp", layout="mono")
            frame.sample_rate, frame.pts = 16000, 1024 * i
            file.mux(stream.encode(frame))
        file.mux(stream.encode())
    return path


def host_frames(path: Path, preprocessing: Preprocessing) -> np.ndarray:
    """What the host's test pipeline makes of a video."""
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


def square(frames: int, short_side: int | None, crop: int) -> Preprocessing:
    return Preprocessing(frames, short_side, crop, (crop, crop))


SMALL = square(4, 40, 32)


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """One video, or what is none, of each kind."""
    folder = tmp_path_factory.mktemp("videos")
    write(folder / "good.mp4")
    write(folder / "tall.mkv", size=TALL, seed=1)
    write(folder / "h264.mp4", count=30, codec="libx264", seed=2)
    write(folder / "short.mp4", count=2)
    write(folder / "one.avi", count=1)
    write(folder / "uneven.mkv", times=[0, 10, 20, 500, 510, 2000, 2001, 2050, 4000, 4500, 4600, 9000])
    turned(folder / "good.mp4", folder / "turned.mp4")
    sound(folder / "sound.mp4")
    (folder / "empty.mp4").touch()
    (folder / "text.mp4").write_text("This is not a video.\n" * 50)
    data = (folder / "good.mp4").read_bytes()
    (folder / "headless.mp4").write_bytes(data[: len(data) // 2])  # the index stands at the end
    whole = write(folder / "whole.mp4", count=60, movflags="faststart").read_bytes()
    (folder / "cut.mp4").write_bytes(whole[: len(whole) // 2])
    half, hole = len(whole) // 2, len(whole) // 6
    (folder / "holed.mp4").write_bytes(whole[:half] + bytes([255]) * hole + whole[half + hole :])
    film = write(folder / "film.mkv", count=60).read_bytes()
    (folder / "cut.mkv").write_bytes(film[: len(film) // 2])
    (folder / "folder.mp4").mkdir()
    return folder


# --- frames as the host tests them ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name",
    ["good.mp4", "tall.mkv", "h264.mp4", "short.mp4", "one.avi", "uneven.mkv", "turned.mp4", "cut.mkv"],
)
@pytest.mark.parametrize("preprocessing", [SMALL, square(7, 32, 32), square(1, None, 48)], ids=str)
def test_frames_are_those_of_the_hosts_pipeline(folder, name, preprocessing):
    got = read_frames(folder / name, preprocessing)
    assert got.dtype == np.uint8 and got.shape == (preprocessing.frames, *preprocessing.size, 3)
    np.testing.assert_array_equal(got, host_frames(folder / name, preprocessing))


def test_frames_as_they_are(folder):
    got = read_frames(folder / "good.mp4", Preprocessing(3, None, None, WIDE))
    np.testing.assert_array_equal(got, host_frames(folder / "good.mp4", Preprocessing(3, None, None, WIDE)))


def test_frames_of_real_clips(shared_dir):
    clips = sorted((shared_dir / "data/fights/videos").rglob("*.mp4"))[::20]
    if not clips:
        pytest.skip("no clips there")
    for clip in clips[:4]:
        np.testing.assert_array_equal(
            read_frames(clip, square(8, 256, 224)), host_frames(clip, square(8, 256, 224))
        )


@pytest.mark.parametrize(
    ("total", "frames"), [(1, 1), (1, 5), (3, 8), (8, 8), (9, 8), (100, 16), (12345, 16)]
)
def test_indices_are_the_hosts(total, frames):
    sampler = SampleFrames(clip_len=1, frame_interval=1, num_clips=frames, test_mode=True)
    want = sampler(dict(total_frames=total, start_index=0))["frame_inds"]
    np.testing.assert_array_equal(sample_indices(total, frames), want)


def test_a_short_video_repeats_frames_in_order(folder):
    frames = read_frames(folder / "short.mp4", square(5, 40, 32))
    different = [not np.array_equal(a, b) for a, b in pairwise(frames)]
    assert sum(different) == 1  # of the two there are


def test_a_turned_video_is_shown_upright(folder):
    size = Preprocessing(2, None, None, WIDE)
    upright = read_frames(folder / "turned.mp4", size._replace(size=WIDE[::-1]))
    lying = read_frames(folder / "good.mp4", size)
    np.testing.assert_allclose(upright.astype(int), np.rot90(lying, -1, axes=(1, 2)), atol=16)


# --- what is no good video ------------------------------------------------------------------------------------------

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


@pytest.fixture(scope="module")
def decoder():
    decoder = Decoder(SMALL)
    yield decoder
    decoder.close()


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


@pytest.mark.parametrize("name", ["good.mp4", "uneven.mkv", "turned.mp4", "one.avi"])
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
        for got, want in zip(seen[:10], every_frame(folder / "whole.mp4"), strict=False):
            np.testing.assert_array_equal(got, want)


def test_a_stream_may_be_left(folder, decoder):
    stream = decoder.stream(folder / "h264.mp4")
    next(stream)
    pid = decoder.pid
    stream.close()
    assert decoder.pid is None and not alive(pid)
    np.testing.assert_array_equal(
        decoder.read(folder / "good.mp4")[0], read_frames(folder / "good.mp4", SMALL)
    )


@pytest.mark.parametrize(
    "pace", [dict(every=0), dict(fps=0.0), dict(fps=-2.0), dict(fps=float("nan"))], ids=str
)
def test_paces_that_are_none(folder, decoder, pace):
    with pytest.raises(ValueError, match="must be at least 1"):
        next(decoder.stream(folder / "good.mp4", **pace))


class Camera:
    """Gives frames of blue, then breaks."""

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


# --- the process ----------------------------------------------------------------------------------------------------


def alive(pid: int) -> bool:
    """Whether a process runs; a dead one that nobody has waited for does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(") ", 1)[1][0] != "Z"
    except OSError:
        return False


def test_it_gives_the_frames_and_the_seconds(folder, decoder):
    for name in ("good.mp4", "tall.mkv", "short.mp4"):
        frames, seconds = decoder.read(folder / name)
        np.testing.assert_array_equal(frames, read_frames(folder / name, SMALL))
        assert 0 < seconds < decoding.CLIP_TIMEOUT_S


def test_names_of_any_kind(folder, decoder, tmp_path, monkeypatch):
    for name in ("two\nlines.mp4", 'quotes".mp4', "größe 大.mp4", "-i.mp4"):
        (tmp_path / name).write_bytes((folder / "good.mp4").read_bytes())
        assert decoder.read(tmp_path / name)[0].shape == (4, 32, 32, 3)
    monkeypatch.chdir(tmp_path)  # the process stays where it was
    assert decoder.read("-i.mp4")[0].shape == (4, 32, 32, 3)


def test_the_process_is_renewed(folder):
    decoder, pids = Decoder(SMALL, renew=2), []
    assert decoder.pid is None
    for _ in range(5):
        decoder.read(folder / "good.mp4")
        pids.append(decoder.pid)
    first, third = pids[0], pids[2]
    assert pids[1] is None and pids[3] is None and first != third and pids[4] not in (None, third)
    assert not alive(first) and not alive(third) and alive(pids[4])
    decoder.close()
    decoder.close()
    assert not alive(pids[4])


def test_nothing_is_left_of_a_forgotten_decoder(folder):
    decoder = Decoder(SMALL)
    decoder.read(folder / "good.mp4")
    pid = decoder.pid
    del decoder
    gc.collect()
    assert not alive(pid)


def test_a_process_that_was_killed_between_two_videos(folder):
    decoder = Decoder(SMALL)
    decoder.read(folder / "good.mp4")
    os.kill(decoder.pid, signal.SIGKILL)
    os.waitid(os.P_PID, decoder.pid, os.WEXITED | os.WNOWAIT)  # dead, and still to be fetched
    assert decoder.read(folder / "good.mp4")[0].shape == (4, 32, 32, 3)
    decoder.close()


def test_a_video_that_kills_its_decoder(folder):
    decoder = Decoder(SMALL)
    decoder.read(folder / "good.mp4")
    pid = decoder.pid
    os.kill(pid, signal.SIGSTOP)  # so that the video is under way
    threading.Timer(0.2, os.kill, (pid, signal.SIGKILL)).start()
    with pytest.raises(VideoError, match=r"tall\.mkv: the decoder crashed \(by signal 9\)"):
        decoder.read(folder / "tall.mkv")
    assert decoder.read(folder / "good.mp4")[0].shape == (4, 32, 32, 3)
    decoder.close()


def test_a_video_that_never_ends(folder, monkeypatch):
    decoder = Decoder(SMALL)
    decoder.read(folder / "good.mp4")
    monkeypatch.setattr(decoding, "CLIP_TIMEOUT_S", 0.2)
    os.kill(decoder.pid, signal.SIGSTOP)
    with pytest.raises(VideoError, match=r"tall\.mkv: took more than 0\.2 seconds to read"):
        decoder.read(folder / "tall.mkv")
    monkeypatch.setattr(decoding, "CLIP_TIMEOUT_S", 60.0)
    assert decoder.read(folder / "good.mp4")[0].shape == (4, 32, 32, 3)
    decoder.close()


def test_a_stream_that_falls_silent_ends_in_an_error(folder, monkeypatch):
    decoder = Decoder(SMALL)
    monkeypatch.setattr(decoding, "STREAM_TIMEOUT_S", 20.0)
    frames = decoder.stream(folder / "tall.mkv")
    next(frames)
    frames.close()
    monkeypatch.setattr(decoding, "STREAM_TIMEOUT_S", 0.1)
    decoder.read(folder / "good.mp4")  # the process is there
    os.kill(decoder.pid, signal.SIGSTOP)
    with pytest.raises(VideoError, match=r"tall\.mkv: gave no frame within 0\.3 seconds"):
        next(decoder.stream(folder / "tall.mkv"))
    decoder.close()


def test_a_slow_consumer_is_not_taken_for_silence(folder, monkeypatch):
    decoder = Decoder(SMALL)
    decoder.read(folder / "good.mp4")
    monkeypatch.setattr(decoding, "STREAM_TIMEOUT_S", 0.8)
    frames = decoder.stream(folder / "good.mp4")
    next(frames)
    time.sleep(1.5)
    assert len(list(frames)) > 0
    decoder.close()


@pytest.mark.parametrize(("module", "package"), [("decord", "decord"), ("cv2", "opencv-python-headless")])
def test_what_must_be_installed(monkeypatch, module, package):
    found = decoding.importlib.util.find_spec
    monkeypatch.setattr(
        decoding.importlib.util, "find_spec", lambda name: None if name == module else found(name)
    )
    with pytest.raises(ImportError, match=f"needs {package}: pip install {package}"):
        Decoder(SMALL)
    assert module in sys.modules or module == "decord"
