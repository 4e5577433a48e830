"""Whole videos: what is answered, in which order, and what is refused."""

import socket
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from jsonschema import Draft202012Validator
from starlette.formparsers import MultiPartParser

from mmvideoiq.deploy.session import VideoSession
from mmvideoiq.service.serve import videos
from mmvideoiq.service.serve.recognition import Recognition
from tests.conftest import write_video
from tests.service.serve.serving import serving


@pytest.fixture(scope="module")
def expected(demo_bundle, grating):
    with VideoSession.open(demo_bundle, threads=1) as session:
        yield session.run_video(grating)


def uploads_of(client) -> Path:
    return client.service._uploads.folder


def test_a_video_is_answered_as_the_session_answers_it(server, grating, expected):
    done = server.send("/v1/recognize", grating)
    answer = done.json()
    assert done.status_code == 200
    assert (answer["label"], answer["name"], answer["frames"]) == (3, "67.5 degrees", 6)
    assert answer["score"] == pytest.approx(expected.score, abs=1e-4)
    assert answer["cost"] == pytest.approx(expected.cost)
    assert sum(action == "skip" for action in answer["actions"]) == (expected.actions == 3).sum()
    assert 0 < answer["saved"] < 1 and answer["ms"]["decode"] > 0
    assert [row["label"] for row in answer["top"]] == (-expected.scores).argsort()[:5].tolist()


def test_answers_are_what_the_openapi_document_says(server, grating):
    document = server.get("/v1/openapi.json").json()

    def check(name, value):
        schema = dict(document["components"]["schemas"][name], components=document["components"])
        Draft202012Validator(schema).validate(value)

    check("Answer", server.send("/v1/recognize", grating).json())
    check("Model", server.get("/v1/model").json())
    check("Health", server.get("/healthz").json())
    check("Error", server.send("/v1/recognize", b"").json())
    video = server.send("/v1/videos", grating).json()
    check("Video", video)
    server.delete(f"/v1/videos/{video['id']}")


def test_a_budget_decides_what_is_spent(server, grating):
    rich = server.send("/v1/recognize", grating, budget="1").json()
    assert rich["actions"] == ["32"] * 6 and rich["cost"] == 1
    assert rich["saved"] < 0  # the policy looked too
    poor = server.send("/v1/recognize", grating, budget="0.02").json()
    assert poor["cost"] < 0.1


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "is empty"),
        (b"a line of text\n" * 9, "is text, not a video"),
        (b"#EXTM3U\n#EXTINF:1,\n/etc/passwd\x00\n", "is text, not a video"),
        (b"ffconcat version 1.0\nfile /etc/passwd\n\x00", "is text, not a video"),
        (bytes(range(256)) * 40, "is not a video, or cut off"),
    ],
)
def test_what_is_no_video_is_one_line(server, content, reason):
    done = server.send("/v1/recognize", content)
    assert done.status_code == 422 and reason in done.json()["error"]
    assert "/tmp" not in done.text


def test_a_damaged_video_leaves_the_server_well(server, grating):
    data = bytearray(grating.read_bytes())
    data[len(data) // 2 :] = bytes(len(data) - len(data) // 2)
    assert server.send("/v1/recognize", bytes(data)).status_code in (200, 422)
    assert server.send("/v1/recognize", grating).status_code == 200


def test_bad_requests_are_refused(server, grating):
    assert server.post("/v1/recognize", data=b"x").status_code == 415
    assert (
        server.post("/v1/recognize", data=b"x", headers={"Content-Type": "multipart/form-data"}).status_code
        == 400
    )
    assert "no part 'file'" in server.post("/v1/recognize", files={"video": ("a", b"x")}).json()["error"]
    assert (
        server.post("/v1/recognize", files=[("file", ("a", b"x")), ("file", ("b", b"x"))]).status_code == 400
    )
    for budget in ("x", "7", "-1"):
        done = server.send("/v1/recognize", grating, budget=budget)
        assert done.status_code == 400 and "budget" in done.json()["error"]
    assert server.get("/v1/recognize").status_code == 405
    assert server.get("/v1/videos/no-such/events").status_code == 404
    assert server.get("/v1/videos/sample-0/events?budget=x").status_code == 400
    assert server.get("/static/../app.py").status_code == 404


def test_the_name_of_a_file_is_no_path(server, grating):
    files = {"file": ("../../../../tmp/mmvideoiq-escaped.mkv", grating.read_bytes())}
    assert server.post("/v1/recognize", files=files).status_code == 200
    assert not Path("/tmp/mmvideoiq-escaped.mkv").exists()


def test_a_large_video_is_refused_by_its_length_and_by_its_bytes(server):
    done = server.send("/v1/recognize", b"x" * (2**20 + 1))
    assert done.status_code == 413 and "1 MiB" in done.json()["error"]
    host, port = server.address.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=10) as connection:  # no Content-Length: chunks
        connection.sendall(
            f"POST /v1/recognize HTTP/1.1\r\nHost: {host}\r\nTransfer-Encoding: chunked\r\n"
            "Content-Type: multipart/form-data; boundary=b\r\n\r\n".encode()
        )
        head = b'--b\r\nContent-Disposition: form-data; name="file"; filename="a"\r\n\r\n'
        connection.sendall(b"%x\r\n%s\r\n" % (len(head), head))
        try:
            for _ in range(40):
                connection.sendall(b"10000\r\n" + bytes(0x10000) + b"\r\n")
        except OSError:
            pass  # it has closed already
        assert b" 413 " in connection.recv(4096).split(b"\r\n")[0]


@pytest.mark.parametrize("path", ["/v1/recognize", "/v1/videos"])
@pytest.mark.parametrize("in_memory", [2**10, 2**20])
def test_a_full_disk_is_said_and_leaves_nothing(server, grating, file_limit, monkeypatch, path, in_memory):
    """While the video arrives, or when it is put among the others."""
    monkeypatch.setattr(MultiPartParser, "spool_max_size", in_memory)
    before = set(uploads_of(server).iterdir())
    with file_limit(2**18):
        done = server.send(path, b"\x00" * (3 * 2**18))
    assert (done.status_code, done.json()) == (
        507,
        dict(error="the server has no room for the video: try again later"),
    )
    assert set(uploads_of(server).iterdir()) == before
    assert "507" in server.get("/v1/openapi.json").json()["paths"][path]["post"]["responses"]
    assert server.send("/v1/recognize", grating).status_code == 200


# --- frame by frame -------------------------------------------------------------------------------------------------


def test_events_come_in_order_and_end_in_the_answer(server, grating, expected):
    video = server.send("/v1/videos", grating).json()
    path = f"/v1/videos/{video['id']}/events"
    events = server.events(path)
    assert [kind for kind, _ in events] == ["queued", "clip", *["frame"] * 6, "result"]
    clip, frames, last = events[1][1], [data for kind, data in events if kind == "frame"], events[-1][1]
    assert clip["frames"] == len(clip["pictures"]) == 6
    assert all(picture.startswith("data:image/jpeg;base64,") for picture in clip["pictures"])
    assert [frame["index"] for frame in frames] == list(range(6))
    assert [frame["action"] for frame in frames] == last["actions"]
    assert last["label"] == 3 and last["score"] == pytest.approx(expected.score, abs=1e-4)
    spent = [frame["ms"]["policy"] + frame["ms"]["recognition"] for frame in frames]
    assert spent == sorted(spent)
    assert [file.suffix for file in uploads_of(server).glob(f"{video['id']}*")] == [".npy"]  # decoded once
    again = server.events(f"{path}?budget=1")
    assert again[-1][1]["actions"] == ["32"] * 6
    assert server.delete(f"/v1/videos/{video['id']}").status_code == 204
    assert server.get(path).status_code == 404
    assert not list(uploads_of(server).glob(f"{video['id']}*"))


def test_a_sample_is_a_video(server):
    samples = server.get("/v1/model").json()["samples"]
    assert len(samples) == 4
    assert server.events(f"/v1/videos/{samples[0]['id']}/events")[-1][1]["name"] == "45 degrees"


def test_what_fails_is_the_last_event(server):
    video = server.send("/v1/videos", b"no video" * 9).json()
    assert server.events(f"/v1/videos/{video['id']}/events")[-1] == (
        "failed",
        dict(status=422, error="is text, not a video"),
    )
    kinds = server.events("/v1/videos/sample-0/events?budget=7")
    assert kinds[-1][0] == "failed" and kinds[-1][1]["status"] == 400


def test_a_video_that_was_answered_is_gone(server, grating):
    before = set(uploads_of(server).iterdir())
    assert server.send("/v1/recognize", grating).status_code == 200
    assert server.send("/v1/recognize", b"no video").status_code == 422
    assert set(uploads_of(server).iterdir()) == before


# --- bounds ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def held(monkeypatch):
    """Workers stop at the beginning of each video until ``go`` is set; ``began`` is set by each."""
    began, go, run = threading.Event(), threading.Event(), Recognition.run

    def waiting(self, worker):
        began.set()
        assert go.wait(60)
        run(self, worker)

    monkeypatch.setattr(Recognition, "run", waiting)
    yield began, go
    go.set()


def in_background(function, *args):
    found = []
    thread = threading.Thread(target=lambda: found.append(function(*args)))
    thread.start()
    return thread, found


def test_a_full_queue_and_a_client_s_share(demo_bundle, grating, held):
    began, go = held
    with serving(demo_bundle, waiting=0, per_client=2) as server:
        first, answered = in_background(server.send, "/v1/recognize", grating)
        assert began.wait(60)
        done = server.send("/v1/recognize", grating)
        assert done.status_code == 503 and int(done.headers["Retry-After"]) >= 1
        assert "try again later" in done.json()["error"]
        assert server.get("/v1/videos/sample-0/events").status_code == 503
        go.set()
        first.join()
        assert answered[0].status_code == 200
        began.clear(), go.clear()
    with serving(demo_bundle, waiting=5, per_client=1) as server:
        first, answered = in_background(server.send, "/v1/recognize", grating)
        assert began.wait(60)
        done = server.send("/v1/recognize", grating)
        assert done.status_code == 429 and done.headers["Retry-After"] == "1"
        assert server.get("/healthz").json() == dict(status="ok", workers=1, waiting=0)
        go.set()
        first.join()
        assert answered[0].status_code == 200
        assert server.send("/v1/recognize", grating).status_code == 200


def test_a_video_is_not_given_up_before_it_was_recognized(demo_bundle, grating):
    """Not even where all that is kept is too much."""
    with serving(demo_bundle, kept_bytes=1) as server:
        assert server.send("/v1/recognize", grating).status_code == 200


def test_the_place_of_a_client_that_went_away_is_free(demo_bundle, grating, held, monkeypatch):
    monkeypatch.setattr(videos, "PULSE_S", 0.1)
    began, go = held
    with serving(demo_bundle, waiting=1) as server:
        first, answered = in_background(server.send, "/v1/recognize", grating)
        assert began.wait(60)
        waits = server.get("/v1/videos/sample-0/events", stream=True)
        assert server.get("/healthz").json()["waiting"] == 1
        waits.close()
        until = time.monotonic() + 30
        while server.get("/healthz").json()["waiting"]:
            assert time.monotonic() < until
            time.sleep(0.05)
        go.set()
        first.join()
        assert answered[0].status_code == 200
        assert server.events("/v1/videos/sample-0/events")[-1][0] == "result"


def test_stopping_finishes_what_has_begun_and_refuses_the_rest(demo_bundle, grating, held):
    began, go = held
    with serving(demo_bundle) as server:
        first, answered = in_background(server.send, "/v1/recognize", grating)
        assert began.wait(60)
        server.service.stop()
        assert server.get("/healthz").status_code == 503
        done = server.send("/v1/recognize", grating)
        assert done.status_code == 503 and "stopping" in done.json()["error"]
        go.set()
        first.join()
    assert answered[0].status_code == 200
    assert not uploads_of(server).exists()


def test_a_client_that_goes_away_is_not_waited_for(demo_bundle, grating, monkeypatch):
    monkeypatch.setattr(videos, "PULSE_S", 0.1)
    with serving(demo_bundle) as server:
        video = server.send("/v1/videos", grating).json()
        server.get(f"/v1/videos/{video['id']}/events", stream=True).close()
        assert server.send("/v1/recognize", grating).status_code == 200


def test_a_decoder_that_takes_too_long_is_ended(demo_bundle, tmp_path, monkeypatch):
    import mmvideoiq.video.decoder_process as decoding

    monkeypatch.setattr(decoding, "CLIP_TIMEOUT_S", 300.0)
    path = tmp_path / "long.mp4"
    write_video(path, np.zeros((400, 720, 720, 3), np.uint8))
    decoder = decoding.Decoder(VideoSession.open(demo_bundle).preprocessing, clip_timeout_s=0.01)
    with pytest.raises(ValueError, match=r"took more than 0\.01 seconds"):
        decoder.read(path)
    decoder.close()
