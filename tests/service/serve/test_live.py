"""Cameras whose frames are posted, and streams that the server reads."""

import asyncio
import socket
import time

import numpy as np
import pytest

from mmvideoiq.deploy.session import VideoSession
from mmvideoiq.service.serve import live
from mmvideoiq.service.serve.recognition import Event
from mmvideoiq.service.serve.videos import Events
from mmvideoiq.video.reader import read_frames
from tests.deploy.toy_bundle import make_toy_bundle
from tests.service.serve.serving import parsed, serving
from tests.video.servers import encode
from tests.video.servers import serving as serving_videos


def pixels(server, frame=None):
    model = server.get("/v1/model").json()
    shape = (model["height"], model["width"], 3)
    return np.full(shape, 85, np.uint8).tobytes() if frame is None else frame.tobytes()


def test_a_camera_is_a_stream(server, demo_bundle, grating):
    session = VideoSession.open(demo_bundle, threads=1)
    frames = read_frames(grating, session.preprocessing)
    camera = server.post("/v1/cameras")
    assert camera.status_code == 201 and camera.json()["height"] == 64
    path = f"/v1/cameras/{camera.json()['id']}"
    for number, frame in enumerate(frames, 1):
        answer = server.post(path, data=frame.tobytes()).json()
        action = session.push(frame)
        assert answer["frames"] == number and answer["action"] == session.actions.names[action]
        assert answer["label"] == session.result().label
    assert server.post(f"{path}?budget=1", data=frames[0].tobytes()).json()["action"] == "32"
    assert server.delete(path).status_code == 204
    assert server.post(path, data=frames[0].tobytes()).status_code == 404


def test_bad_frames_are_refused(server):
    camera = server.post("/v1/cameras").json()
    path = f"/v1/cameras/{camera['id']}"
    for body in (b"", b"x", bytes(64 * 64 * 3 + 1), bytes(2**20)):
        assert server.post(path, data=body).status_code == 400
    for budget in ("x", "7"):
        assert server.post(f"{path}?budget={budget}", data=pixels(server)).status_code == 400
    assert server.post(path, data=pixels(server)).json()["frames"] == 1
    server.delete(path)


def test_places_are_bounded_and_come_back(demo_bundle):
    with serving(demo_bundle, live=1, live_idle_s=1) as server:
        first = server.post("/v1/cameras").json()
        done = server.post("/v1/cameras")
        assert done.status_code == 503 and "Retry-After" in done.headers
        assert server.delete(f"/v1/cameras/{first['id']}").status_code == 204
        assert server.post("/v1/cameras").status_code == 201  # and no frame ever comes
        until = time.monotonic() + 20
        while server.post("/v1/cameras").status_code == 503:
            assert time.monotonic() < until
            time.sleep(0.2)


def test_a_stopping_server_takes_no_camera(demo_bundle):
    with serving(demo_bundle) as server:
        server.service.stop()
        assert server.post("/v1/cameras").status_code == 503


def stream(server, **body):
    return server.post("/v1/streams", json=body)


def test_streams_are_off_unless_asked_for(server):
    assert stream(server, source="http://example.org/a").status_code == 403
    assert server.get("/v1/model").json()["limits"]["streams"] == "off"


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (dict(), 400),
        (dict(source=1), 400),
        (dict(source="/etc/passwd"), 400),
        (dict(source="file:///etc/passwd"), 400),
        (dict(source="0"), 400),
        (dict(source="http://[::1"), 400),
        (dict(source="http://example.org", fps=0), 400),
        (dict(source="http://example.org", fps=True), 400),
        (dict(source="http://example.org", budget="x"), 400),
        (dict(source="http://" + "a" * 5000), 413),
    ],
)
def test_bad_requests_for_streams_are_refused(server, body, status):
    assert stream(server, **body).status_code == status


def test_a_body_that_is_nested_too_deeply_or_slow_is_refused(demo_bundle):
    with serving(demo_bundle, live_idle_s=1) as server:
        json = {"Content-Type": "application/json"}
        assert server.post("/v1/streams", data="[" * 4000, headers=json).status_code == 400
        host, port = server.address.removeprefix("http://").split(":")
        with socket.create_connection((host, int(port)), timeout=20) as connection:
            head = "Content-Type: application/json\r\nContent-Length: 9"
            connection.sendall(f"POST /v1/streams HTTP/1.1\r\nHost: {host}\r\n{head}\r\n\r\n{{".encode())
            assert b" 408 " in connection.recv(4096).split(b"\r\n")[0]


def test_a_form_cannot_ask_for_a_stream(server):
    done = server.post("/v1/streams", data='{"source": "http://x"}', headers={"Content-Type": "text/plain"})
    assert done.status_code == 415


def test_a_stream_is_followed_to_its_end(demo_bundle, tmp_path):
    encode(tmp_path / "clip.mp4", range(20))
    with serving_videos(tmp_path) as source, serving(demo_bundle, streams="any") as server:
        events = parsed(stream(server, source=f"{source}/clip.mp4", fps=60).text)
        assert [kind for kind, _ in events] == ["frame"] * 20 + ["result"]
        assert [data["frames"] for _, data in events[:-1]] == list(range(1, 21))
        gone = parsed(stream(server, source=f"{source}/no-such.mp4").text)
        assert [kind for kind, _ in gone] == ["failed"] and gone[0][1]["status"] == 422


def test_a_stream_that_fails_in_the_server_ends(demo_bundle, tmp_path, monkeypatch):
    def fails(_):
        raise RuntimeError("no memory")

    monkeypatch.setattr(live, "thumbnail", fails)
    encode(tmp_path / "clip.mp4", range(3))
    with serving_videos(tmp_path) as source, serving(demo_bundle, streams="any") as server:
        events = parsed(stream(server, source=f"{source}/clip.mp4").text)
    assert events == [("failed", dict(status=500, error="an error of the server, which its log shows"))]


def test_frames_do_not_pile_up_before_a_slow_reader():
    async def read() -> list[str]:
        events = Events(most_frames=3)
        for number in range(9):
            events.tell(Event("frame", dict(number=number)))
            await asyncio.sleep(0)
        events.tell(Event("result", {}))
        return [event.data.get("number", event.kind) async for event in events]

    assert asyncio.run(read()) == [0, 1, 2, "result"]


def test_a_bundle_without_streams_says_so(demo_bundle, tmp_path, monkeypatch):
    import mmvideoiq.service.serve.app as app

    monkeypatch.setattr(app, "takes_streams", lambda session: False)
    with serving(make_toy_bundle(tmp_path / "toy")) as server:
        assert server.get("/v1/model").json()["limits"]["live"] == 0
        assert server.post("/v1/cameras").status_code == 409
