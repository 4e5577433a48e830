"""A child process decodes: it is replaced, ends with its owner, and its crash is an error of one video."""

import errno
import gc
import os
import signal
import threading
import time
from pathlib import Path

import numpy as np
import pytest

from mmvideoiq.video import decoder_process as decoding
from mmvideoiq.video.decode_ahead import decode_ahead
from mmvideoiq.video.decoder_process import Decoder
from mmvideoiq.video.errors import NoDecoder, VideoError
from mmvideoiq.video.network import Connection
from mmvideoiq.video.reader import read_frames
from mmvideoiq.video.streams import FrameStream
from tests.video.conftest import SMALL


def alive(pid: int) -> bool:
    """Whether a process runs; a dead one that nobody has waited for does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(") ", 1)[1][0] != "Z"
    except OSError:
        return False


@pytest.fixture
def running(folder):
    """A decoder whose process runs; it still reads videos after the test."""
    decoder = Decoder(SMALL)
    decoder.read(folder / "good.mp4")
    yield decoder
    assert decoder.read(folder / "good.mp4")[0].shape == (4, 32, 32, 3)
    decoder.close()


def test_it_gives_the_frames_and_the_seconds(folder, decoder):
    for name in ("good.mp4", "tall.mkv", "short.mp4"):
        decoded = decoder.read(folder / name)
        np.testing.assert_array_equal(decoded.frames, read_frames(folder / name, SMALL))
        assert 0 < decoded.seconds < decoding.CLIP_TIMEOUT_S and decoded.lost == 0


@pytest.mark.parametrize("module", ["cv2", "av"])
def test_a_package_that_does_not_load_is_the_reason(folder, tmp_path, monkeypatch, module):
    why = "libGL.so.1: cannot open shared object file: No such file or directory"
    (tmp_path / f"{module}.py").write_text(f"raise ImportError({why!r})\n")
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path}{os.pathsep}{os.environ.get('PYTHONPATH', '')}")
    decoder = Decoder(SMALL)
    for _ in range(2):
        with pytest.raises(NoDecoder) as caught:
            decoder.read(folder / "good.mp4")
        assert caught.value.reason == f"no decoder can be started: {why}: on Debian apt install libgl1"
    decoder.close()


@pytest.fixture
def unstartable(monkeypatch):
    """``unstartable(n)``: the next n starts of a process fail."""
    popen = decoding.subprocess.Popen
    monkeypatch.setattr(decoding, "START_DELAY_S", 0.01)

    def make(count: int) -> None:
        left = [OSError(errno.EAGAIN, "Resource temporarily unavailable")] * count

        def start(*args, **how):
            if left:
                raise left.pop()
            return popen(*args, **how)

        monkeypatch.setattr(decoding.subprocess, "Popen", start)

    return make


def test_a_start_that_fails_is_tried_again(folder, running, unstartable):
    running.close()
    unstartable(2)
    assert running.read(folder / "good.mp4").frames.shape == (4, 32, 32, 3)
    running.close()
    unstartable(3)
    why = r"good\.mp4: no decoder can be started: Resource temporarily unavailable; free memory"
    with pytest.raises(NoDecoder, match=why):
        running.read(folder / "good.mp4")


def test_a_process_that_ends_before_it_can_decode(folder, monkeypatch):
    monkeypatch.setattr(decoding, "START_DELAY_S", 0.01)
    decoder = Decoder(SMALL, program="import sys; sys.exit(7)")
    with pytest.raises(NoDecoder, match=r"no decoder can be started: the decoder crashed \(with code 7\)"):
        decoder.read(folder / "good.mp4")
    assert decoder.pid is None


def test_a_later_start_that_fails_is_an_error_of_its_video(folder, running, unstartable):
    running.close()
    unstartable(3)
    first, second = decode_ahead(iter([folder / "good.mp4"] * 2), lambda: running, lambda: 1)
    assert isinstance(first, NoDecoder) and second.frames.shape == (4, 32, 32, 3)


def test_names_of_any_kind(folder, decoder, tmp_path, monkeypatch):
    for name in ("two\nlines.mp4", 'quotes".mp4', "größe 大.mp4", "-i.mp4"):
        (tmp_path / name).write_bytes((folder / "good.mp4").read_bytes())
        assert decoder.read(tmp_path / name)[0].shape == (4, 32, 32, 3)
    monkeypatch.chdir(tmp_path)  # the process stays where it was
    assert decoder.read("-i.mp4")[0].shape == (4, 32, 32, 3)


def test_a_stream_may_be_left(folder, decoder):
    stream = decoder.stream(folder / "h264.mp4")
    next(stream)
    pid = decoder.pid
    stream.close()
    assert decoder.pid is None and not alive(pid)
    np.testing.assert_array_equal(
        decoder.read(folder / "good.mp4")[0], read_frames(folder / "good.mp4", SMALL)
    )


def test_an_interrupted_request_is_not_the_answer_to_the_next(folder, decoder, monkeypatch):
    def interrupted(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(Decoder, "_answer", interrupted)
        decoder.read(folder / "tall.mkv")
    want = read_frames(folder / "good.mp4", SMALL)
    np.testing.assert_array_equal(decoder.read(folder / "good.mp4").frames, want)


def test_another_request_ends_a_stream(folder, decoder):
    left, good = decoder.stream(folder / "tall.mkv"), folder / "good.mp4"
    next(left)
    frames = decoder.stream(good)
    first = next(frames)
    with pytest.raises(VideoError, match=r"tall\.mkv: was left for another video"):
        next(left)
    np.testing.assert_array_equal([first, *frames], list(FrameStream(good, SMALL)))
    next(decoder.stream(folder / "tall.mkv"))
    np.testing.assert_array_equal(decoder.read(good).frames, read_frames(good, SMALL))


def test_a_process_that_grows_is_replaced(folder, monkeypatch):
    monkeypatch.setattr(decoding, "CLIPS_BETWEEN_CHECKS", 2)
    decoder, pids = Decoder(SMALL), []
    assert decoder.pid is None
    for clip in range(7):
        monkeypatch.setattr(decoding, "MAX_GROWTH", 2**40 if clip < 4 else -(2**40))
        decoder.read(folder / "good.mp4")
        pids.append(decoder.pid)
    first, last = pids[0], pids[6]
    assert pids[:5] == [first] * 5 and pids[5] is None and last not in (None, first)
    assert not alive(first) and alive(last)
    decoder.close()
    decoder.close()
    assert not alive(last)


def test_nothing_is_left_of_a_forgotten_decoder(folder):
    decoder = Decoder(SMALL)
    decoder.read(folder / "good.mp4")
    pid = decoder.pid
    del decoder
    gc.collect()
    assert not alive(pid)


def test_a_process_that_was_killed_between_two_videos(running):
    os.kill(running.pid, signal.SIGKILL)
    os.waitid(os.P_PID, running.pid, os.WEXITED | os.WNOWAIT)  # dead, but not yet waited for


def test_a_decoder_that_raises(running):
    running.preprocessing = SMALL._replace(reader="none")
    with pytest.raises(VideoError, match=r"the decoder crashed \(with code 1\)"):
        running.read("any.mp4")
    running.preprocessing = SMALL


def test_a_video_that_crashes_its_decoder(folder, running):
    os.kill(running.pid, signal.SIGSTOP)  # so that the video is being read
    threading.Timer(0.2, os.kill, (running.pid, signal.SIGKILL)).start()
    with pytest.raises(VideoError, match=r"tall\.mkv: the decoder crashed \(by signal 9\)"):
        running.read(folder / "tall.mkv")


def test_a_video_and_a_stream_that_never_end(folder, running, monkeypatch):
    with monkeypatch.context() as limits:
        limits.setattr(decoding, "CLIP_TIMEOUT_S", 0.2)
        os.kill(running.pid, signal.SIGSTOP)
        with pytest.raises(VideoError, match=r"tall\.mkv: took more than 0\.2 seconds to read"):
            running.read(folder / "tall.mkv")
    running.read(folder / "good.mp4")
    monkeypatch.setattr(decoding, "STREAM_TIMEOUT_S", 0.1)
    os.kill(running.pid, signal.SIGSTOP)
    with pytest.raises(VideoError, match=r"tall\.mkv: gave no frame within 0\.3 seconds"):
        next(running.stream(folder / "tall.mkv", connection=Connection(timeout_s=0)))


def test_a_slow_consumer_is_not_taken_for_silence(folder, running, monkeypatch):
    monkeypatch.setattr(decoding, "STREAM_TIMEOUT_S", 0.8)
    frames = running.stream(folder / "good.mp4")
    next(frames)
    time.sleep(1.5)
    assert len(list(frames)) > 0


@pytest.mark.parametrize(
    ("module", "package"), [("av", "av"), ("decord", "decord"), ("cv2", "opencv-python-headless")]
)
def test_what_must_be_installed(monkeypatch, module, package):
    found = decoding.importlib.util.find_spec
    monkeypatch.setattr(
        decoding.importlib.util, "find_spec", lambda name: None if name == module else found(name)
    )
    with pytest.raises(ImportError, match=f"needs {package}: pip install {package}"):
        Decoder(SMALL._replace(reader="decord" if module == "decord" else "av"))
