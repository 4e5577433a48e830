"""What stands before every request."""

import logging
import re

import pytest

from mmvideoiq.service.serve.guard import HEADERS, names_of, without_port
from mmvideoiq.service.serve.pages import PAGES
from tests.conftest import ROOT


def test_every_answer_has_the_headers(server):
    for path in ("/", "/v1/model", "/no-such", "/metrics", "/static/style.css"):
        headers = server.get(path).headers
        assert {name: headers[name] for name in HEADERS} == HEADERS
        assert "server" not in headers
    assert server.get("/v1/model").headers["Cache-Control"] == "no-store"


def test_every_status_of_an_error_is_in_the_documentation():
    code = "".join(path.read_text() for path in (ROOT / "mmvideoiq/service/serve").glob("*.py"))
    given = set(re.findall(r"(?:HTTPException\(|failed\(|\), )([45]\d\d)\b", code)) - {
        "499"
    }  # of the log alone
    text = (ROOT / "docs/serving.md").read_text(encoding="utf-8")
    table = "".join(re.findall(r"^\| ([45]\d\d[\d, ]*) \|", text, re.MULTILINE))
    assert {"400", "409", "422", "503"} < given and given | {"405"} == set(re.findall(r"\d{3}", table))


def test_pages_load_nothing_from_elsewhere(server):
    for path in PAGES:
        page = server.get(path)
        assert page.status_code == 200 and page.headers["Content-Type"] == "text/html; charset=utf-8"
        assert "https://" not in page.text.replace("https://example.org", "")
        assert " style=" not in page.text and "onclick" not in page.text and "<script>" not in page.text
    tag = server.get("/static/api.js").headers["ETag"]
    assert server.get("/static/api.js", headers={"If-None-Match": tag}).status_code == 304


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "http://evil.example"},
        {"Origin": "null"},
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
    ],
)
def test_pages_of_other_sites_are_kept_out(server, headers):
    assert server.get("/v1/model", headers=headers).status_code == 403
    assert server.post("/v1/cameras", headers=headers).status_code == 403


def test_the_own_page_is_let_in(server):
    headers = {"Origin": server.address, "Sec-Fetch-Site": "same-origin"}
    assert server.get("/v1/model", headers=headers).status_code == 200


def test_another_name_for_this_machine_is_another_site(server):
    done = server.get("/v1/model", headers={"Host": "evil.example:8000"})
    assert done.status_code == 421 and "localhost" in done.json()["error"]
    assert server.get("/v1/model", headers={"Host": "localhost:1"}).status_code == 200


def test_names_by_which_a_server_is_called():
    assert names_of("0.0.0.0") is None and names_of("192.168.1.2") is None and names_of("::") is None
    assert names_of("127.0.0.1") == names_of("localhost") == {"localhost", "127.0.0.1", "[::1]"}
    assert "[::1]" in names_of("::1")
    assert [without_port(host) for host in ("a:1", "a", "[::1]:80", "[::1]")] == ["a", "a", "[::1]", "[::1]"]


def test_a_request_is_one_line_in_the_log(server, caplog):
    caplog.set_level(logging.INFO, logger="mmvideoiq.serve")
    server.get("/no%0Asuch%20page")
    server.get("/healthz")  # the line is written after the answer
    (line,) = [record.getMessage() for record in caplog.records if "such" in record.getMessage()]
    assert line.startswith("127.0.0.1 GET /no%0Asuch%20page 404 ") and "\n" not in line


def test_metrics_count(server, grating):
    def value(name: str) -> float:
        lines = server.get("/metrics").text.splitlines()
        return sum(float(line.split()[-1]) for line in lines if line.startswith(name))

    def seen() -> list[float]:
        return [
            value('mmvideoiq_videos_total{status="200"}'),
            value('mmvideoiq_videos_total{status="422"}'),
            value("mmvideoiq_frames_total"),
            value('mmvideoiq_seconds_count{part="decode"}'),
            value('mmvideoiq_requests_total{method="POST",route="/v1/recognize",status="200"}'),
        ]

    before = seen()
    server.send("/v1/recognize", grating)
    server.send("/v1/recognize", b"")
    server.get("/v1/no-such-route")
    assert [b - a for a, b in zip(before, seen(), strict=True)] == [1, 1, 6, 1, 1]
    assert value('mmvideoiq_requests_total{method="GET",route="other",status="404"}') >= 1
    assert value("mmvideoiq_workers") == 1 and value("process_open_fds") > 0
