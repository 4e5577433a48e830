"""Videos from a server on this machine: recorded ones are complete, live ones are never late and come back."""

import socket
import subprocess
import sys
import threading
from base64 import b64encode
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from mmvideoiq.video import network
from mmvideoiq.video.errors import VideoError, shown
from mmvideoiq.video.network import Connection, NetworkVideo
from mmvideoiq.video.preprocessing import Preprocessing
from mmvideoiq.video.reader import read_frames
from mmvideoiq.video.streams import FrameStream
from tests.video.conftest import SMALL
from tests.video.odd import RATE, number_in
from tests.video.servers import by_range, encode, live, serving

WHOLE = Preprocessing(4)
HASTE = Connection(timeout_s=20, retries=2, delay_s=0.01)
ALL = list(range(100))


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("served")
    encode(folder / "a.mp4", ALL)
    encode(folder / "a.ts", ALL)
    encode(folder / "first.ts", ALL[:50])
    encode(folder / "second.ts", ALL[50:])
    encode(folder / "list.m3u8", ALL, container="hls", hls_time="1", hls_list_size="0")
    (folder / "text.mp4").write_text("no video\n" * 99)
    (folder / "files.m3u8").write_text(
        f"#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1.0,\nfile://{folder / 'a.ts'}\n#EXT-X-ENDLIST\n"
    )
    return folder


@pytest.fixture(scope="module")
def server(folder) -> Iterator[str]:
    with serving(folder) as address:
        yield address


def stream_of(address: str, said: list[str] | None = None, **options) -> FrameStream:
    notices = [] if said is None else said
    return FrameStream(address, WHOLE, connection=HASTE, notify=notices.append, **options)


def numbers(stream: FrameStream) -> list[int]:
    return [number_in(frame) for frame in stream]


# --- recorded -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["a.mp4", "a.ts", "list.m3u8"])
def test_a_recorded_video_gives_each_frame(server, name):
    stream = stream_of(f"{server}/{name}")
    assert numbers(stream) == ALL and (stream.live, stream.dropped) == (False, 0)
    assert numbers(stream_of(f"{server}/{name}", every=7)) == ALL[::7]
    assert numbers(stream_of(f"{server}/{name}", fps=RATE / 10)) == ALL[::10]


def test_the_decoder_process_gives_them_too(server, decoder):
    want = list(FrameStream(f"{server}/a.mp4", SMALL))
    np.testing.assert_array_equal(list(decoder.stream(f"{server}/a.mp4")), want)
    assert (decoder.live, decoder.dropped) == (False, 0)


@pytest.mark.parametrize("name", ["a.mp4", "a.ts"])
def test_a_recorded_video_survives_a_broken_connection(folder, name):
    with serving(folder, {"breaks": by_range(folder / name, cuts=1)}) as address:
        assert numbers(stream_of(f"{address}/breaks")) == ALL


def test_clips_of_an_address(folder, server, decoder):
    want = read_frames(folder / "a.mp4", SMALL)
    np.testing.assert_array_equal(read_frames(f"{server}/a.mp4", SMALL), want)
    np.testing.assert_array_equal(decoder.read(f"{server}/a.mp4").frames, want)


def test_a_part_of_a_file_is_not_taken_for_the_file(folder):
    with serving(folder, {"breaks": by_range(folder / "a.ts", cuts=1)}) as address:
        with pytest.raises(VideoError, match=r"breaks: connection lost after \d+ of \d+ bytes"):
            read_frames(f"{address}/breaks", SMALL)


def test_an_address_may_hold_any_letters(folder):
    with serving(folder, {"%C3%A9.mp4?a=1": by_range(folder / "a.mp4")}) as address:
        assert read_frames(f"{address}/é.mp4?a=1", SMALL).shape == (4, 32, 32, 3)


def test_a_redirect_is_not_told_the_password(folder):
    seen = []

    def guarded(handler) -> None:
        seen.append(handler.headers.get("Authorization"))
        by_range(folder / "a.mp4")(handler)

    with serving(folder, {"other": guarded}) as elsewhere:

        def moved(handler) -> None:
            handler.send_response(302)
            handler.send_header("Location", f"{elsewhere}/other")
            handler.send_header("Content-Length", "0")
            handler.end_headers()

        with serving(folder, {"moved": moved}) as address:
            read_frames(f"{address.replace('://', '://me:secret@')}/moved", SMALL)
    assert seen == [None]


@pytest.mark.parametrize("password", ["secret", "s@cret", "s:cret"])
def test_no_part_of_a_password_is_shown(password):
    assert shown(f"rtsp://me:{password}@camera:554/a@b") == "rtsp://me:***@camera:554/a@b"
    assert shown("http://camera:80/a@b") == "http://camera:80/a@b"


def test_a_password_is_sent_and_not_shown(folder):
    seen = []

    def guarded(handler) -> None:
        seen.append(handler.headers.get("Authorization"))
        by_range(folder / "a.mp4")(handler)

    with serving(folder, {"guarded": guarded}) as address:
        address = address.replace("://", "://me:se%40cret@")
        assert read_frames(f"{address}/guarded", SMALL).shape == (4, 32, 32, 3)
        with pytest.raises(VideoError, match=r"http://me:\*\*\*@127\.0\.0\.1:\d+/gone: cannot be fetched"):
            read_frames(f"{address}/gone", SMALL)
    assert seen == ["Basic " + b64encode(b"me:se@cret").decode()]


# --- live -----------------------------------------------------------------------------------------------------------


def test_a_live_stream_comes_back(folder):
    parts = [(folder / name).read_bytes() for name in ("first.ts", "second.ts")]
    said: list[str] = []
    with serving(folder, {"live": live(parts)}) as address:
        stream, seen = stream_of(f"{address}/live", said), []
        assert stream.live
        with pytest.raises(VideoError) as end:
            for frame in stream:
                seen.append(number_in(frame))
    assert seen == sorted(set(seen)) and seen[-1] == 99
    assert len(seen) + stream.dropped == 100
    lost = f"{address}/live: connection lost"
    assert said[0] == f"{lost} (the stream ended); attempt 1 of 2 in 0.01 s"
    assert said[1] == f"{lost} (the stream ended); attempt 1 of 2 in 0.01 s"
    assert said[2] == f"{lost} (Server returned 404 Not Found); attempt 2 of 2 in 0.02 s"
    assert str(end.value) == f"{lost} (Server returned 404 Not Found); attempts to reconnect: 2"


def test_a_slow_consumer_gets_the_newest(folder, decoder):
    """While it takes its time everything arrives; the last picture is the next that it gets."""
    parts, arrived, ended = [(folder / "a.ts").read_bytes()], threading.Event(), threading.Event()
    said: list[str] = []

    def hold() -> None:
        arrived.set()
        ended.wait(60)

    with serving(folder, {"live": live(parts, then=hold)}) as address:
        stream = stream_of(f"{address}/live", said)
        next(stream)
        assert arrived.wait(60)
        ended.set()
        for _ in range(6000):  # what has arrived is decoded, and the connection tried again
            if len(said) == 2:
                break
            ended.wait(0.01)
            threading.Event().wait(0.01)
        assert number_in(next(stream)) == 99 and stream.dropped == 98


def test_the_decoder_process_tells_of_broken_connections(folder, decoder):
    parts = [(folder / name).read_bytes() for name in ("first.ts", "second.ts")]
    said: list[str] = []
    with serving(folder, {"live": live(parts)}) as address:
        frames = decoder.stream(f"{address}/live", connection=HASTE, notify=said.append)
        with pytest.raises(VideoError, match=r"connection lost .*; attempts to reconnect: 2"):
            count = 0
            for _ in frames:
                count += 1
    assert decoder.live and 0 < count + decoder.dropped <= 100 and 2 <= len(said) <= 3


def test_a_live_stream_that_falls_silent(folder):
    parts, silence = [(folder / "first.ts").read_bytes()], threading.Event()
    with serving(folder, {"live": live(parts, then=lambda: silence.wait(60))}) as address:
        impatient = Connection(timeout_s=1, retries=0)
        with pytest.raises(VideoError) as end:
            for _ in FrameStream(f"{address}/live", WHOLE, connection=impatient):
                pass
        silence.set()
    assert str(end.value).endswith("connection lost (no answer within 1 seconds); attempts to reconnect: 0")


def test_it_may_stay_away_for_long(folder, monkeypatch):
    waited = []
    monkeypatch.setattr(network, "MAX_DELAY_S", 0.0)
    with serving(folder, {"live": live([(folder / "first.ts").read_bytes()])}) as address:
        often = HASTE._replace(retries=1100)
        video = NetworkVideo(f"{address}/live", connection=often, notify=waited.append)
        monkeypatch.setattr(video, "_connect", lambda: (_ for _ in ()).throw(VideoError(address, "gone")))
        with pytest.raises(VideoError, match=r"attempts to reconnect: 1100"):
            list(video.frames())
    assert len(waited) == 1100


@pytest.mark.slow
def test_a_live_playlist_grows_and_ends(folder, tmp_path):
    text = (folder / "list.m3u8").read_text()
    head, *segments = text.removesuffix("#EXT-X-ENDLIST\n").split("#EXTINF")
    asked = [0]

    def playlist(handler) -> None:
        shown = min(len(segments), 2 + asked[0])
        grown = "#EXTINF".join([head, *segments[:shown]])
        (folder / "growing.m3u8").write_text(grown + "#EXT-X-ENDLIST\n" * (asked[0] > len(segments)))
        asked[0] += 1
        by_range(folder / "growing.m3u8")(handler)

    with serving(folder, {"live.m3u8": playlist}) as address:
        stream = stream_of(f"{address}/live.m3u8")
        seen = numbers(stream)
    assert stream.live and seen[-1] == 99 and len(seen) + stream.dropped == 100


# --- what is refused ------------------------------------------------------------------------------------------------


def test_refusals(folder, server):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        closed = f"127.0.0.1:{free.getsockname()[1]}"
    for address, message in {
        f"http://me:secret@{closed}/a.mp4": f"http://me:***@{closed}/a.mp4: cannot be opened (Connection refused); "
        "check the address",
        f"rtsp://{closed}/a": f"rtsp://{closed}/a: cannot be opened (Connection refused); check the address",
        f"{server}/gone.mp4": f"{server}/gone.mp4: cannot be opened (Server returned 404 Not Found); check the address",
        f"{server}/text.mp4": f"{server}/text.mp4: cannot be opened (Invalid data found when processing input); "
        "check the address",
        f"file://{folder}/a.mp4": f"file://{folder}/a.mp4: file:// is not supported; allowed are "
        "http, https, rtsp, rtsps",
    }.items():
        with pytest.raises(VideoError) as refused:
            stream_of(address)
        assert str(refused.value) == message
    for address, message in {
        f"{server}/gone.mp4": "cannot be fetched (HTTP Error 404: Not Found)",
        f"{server}/text.mp4": "is not a video, or cut off",
        f"{server}/list.m3u8": "is a playlist: read it as a stream (--stream)",
        "http://[::1/a.mp4": "cannot be fetched (Invalid IPv6 URL)",
        "ftp://host/a.mp4": "ftp:// is not supported; allowed are http, https, rtsp, rtsps",
        "rtsp://camera/": "is not a file: read it as a stream (--stream)",
    }.items():
        with pytest.raises(VideoError) as refused:
            read_frames(address, SMALL)
        assert str(refused.value).startswith(f"{address}: {message}")


def test_a_playlist_cannot_reach_files(server):
    with pytest.raises(VideoError):
        assert not numbers(stream_of(f"{server}/files.m3u8"))


# --- RTSP -----------------------------------------------------------------------------------------------------------


RTSP_SERVER = """
import asyncio, sys
from aio_rtsp_toolkit.server import RtspServer

async def serve():
    server = RtspServer(sys.argv[1], host="127.0.0.1", port=int(sys.argv[2]))
    await server.start()
    print("running", flush=True)
    await asyncio.Event().wait()

asyncio.run(serve())
"""


@pytest.fixture
def rtsp(folder) -> Iterator[str]:
    pytest.importorskip("aio_rtsp_toolkit", reason="no RTSP server: aio-rtsp-toolkit")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-c", RTSP_SERVER, str(folder), str(port)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as server:
        try:
            assert server.stdout is not None and b"running\n" in server.stdout
            yield f"rtsp://127.0.0.1:{port}"
        finally:
            server.kill()


@pytest.mark.slow
def test_rtsp(rtsp):
    stream = stream_of(f"{rtsp}/a.mp4")
    assert stream.live
    seen = [number_in(next(stream)) for _ in range(20)]
    stream.close()
    assert seen == sorted(set(seen)) and seen[-1] < 100
