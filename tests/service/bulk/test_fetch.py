"""Videos that are fetched: bounded in bytes, attempts and time, and nothing left behind."""

import time

import numpy as np
import pytest

from mmvideoiq.service.bulk import fetch
from mmvideoiq.service.bulk.fetch import open_decoder, read_anywhere
from mmvideoiq.video.errors import VideoError
from mmvideoiq.video.preprocessing import Preprocessing
from mmvideoiq.video.reader import read_clip
from tests.video.servers import by_range, serving

pytest.importorskip("aiohttp", reason="pip install 'mmvideoiq[bulk]'")

SMALL = Preprocessing(4, 36, 32, (32, 32))


@pytest.fixture(scope="module")
def good(originals):
    return originals[0]


def read(address, limit=10**6):
    return read_anywhere(address, SMALL, max_bytes=limit)


def test_the_frames_are_those_of_the_file(good):
    want = read_clip(good, SMALL)[0]
    with serving(good.parent) as address:
        frames, lost = read(f"{address}/0.mp4")
    assert lost == 0 and np.array_equal(frames, want)
    assert np.array_equal(read(str(good))[0], want)
    assert np.array_equal(read(f"file://{good}")[0], want)


def test_an_answer_that_breaks_off_is_asked_for_again(good, monkeypatch):
    monkeypatch.setattr(fetch, "DELAY_S", 0.0)
    with serving(
        good.parent, {"cut.mp4": by_range(good, cuts=2), "never.mp4": by_range(good, cuts=9)}
    ) as host:
        assert np.array_equal(read(f"{host}/cut.mp4")[0], read_clip(good, SMALL)[0])
        with pytest.raises(VideoError, match=r"never\.mp4: cannot be fetched \(.*ontent"):
            read(f"{host}/never.mp4")


def test_what_cannot_be_fetched(good, tmp_path, monkeypatch):
    monkeypatch.setattr(fetch, "DELAY_S", 0.0)
    (tmp_path / "list.mp4").write_text("#EXTM3U\nfile:///etc/passwd\n")
    with serving(tmp_path) as host:
        with pytest.raises(VideoError, match="there is no such file"):
            read(f"{host}/gone.mp4")
        with pytest.raises(VideoError, match="is a playlist"):
            read(f"{host}/list.mp4")
    with pytest.raises(VideoError, match=r"cannot be fetched \(.*onnect"):  # nobody listens there
        read("http://127.0.0.1:1/0.mp4")
    size = good.stat().st_size
    with serving(good.parent) as host:
        assert len(read(f"{host}/0.mp4", size)[0]) == 4
        with pytest.raises(VideoError, match=f"is larger than {size - 1} bytes; --size-limit sets it"):
            read(f"{host}/0.mp4", size - 1)
        with pytest.raises(VideoError, match=r"^http://me:\*\*\*@.*is not a video"):
            read(f"{host}/3.mp4".replace("//", "//me:secret@"))


def test_a_server_that_is_silent_ends_with_its_decoder(good):
    with serving(good.parent, {"slow.mp4": lambda _: time.sleep(3)}) as host:
        decoder = open_decoder(SMALL, time_limit_s=1.0, max_bytes=10**6)
        try:
            with pytest.raises(VideoError, match=r"slow\.mp4: took more than 1 seconds to read"):
                decoder.read(f"{host}/slow.mp4")
        finally:
            decoder.close()
