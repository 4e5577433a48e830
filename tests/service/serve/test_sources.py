"""Which addresses are read for clients."""

import socket

import pytest
from starlette.exceptions import HTTPException

from mmvideoiq.service.serve.sources import check_source, is_global


def status(source: str, streams: str) -> int:
    try:
        check_source(source, streams)
    except HTTPException as error:
        return error.status_code
    return 200


@pytest.mark.parametrize(
    "address",
    [
        *("127.0.0.1", "10.1.2.3", "192.168.0.1", "172.16.0.1", "169.254.169.254", "0.0.0.0", "100.64.0.1"),
        *("224.0.0.1", "255.255.255.255", "::1", "::", "fe80::1", "fe80::1%eth0", "fd00::1", "ff02::1"),
        *("::ffff:127.0.0.1", "::ffff:10.0.0.1", "64:ff9b::a00:1", "2002:7f00:1::", "2002:a00:1::1"),
    ],
)
def test_addresses_that_are_not_of_the_public_internet(address):
    assert not is_global(address)


@pytest.mark.parametrize("address", ["93.184.216.34", "2606:2800:220:1::1", "64:ff9b::5db8:d822"])
def test_public_addresses(address):
    assert is_global(address)


@pytest.mark.parametrize(
    "source",
    [
        *(
            "http://127.0.0.1/a",
            "http://localhost:8000/",
            "http://[::1]/",
            "http://2130706433/",
            "http://0x7f.1/",
        ),
        *("https://user:password@10.0.0.1/", "http://169.254.169.254/latest/", "rtsp://93.184.216.34/"),
    ],
)
def test_private_addresses_are_refused_unless_allowed(source):
    assert [status(source, streams) for streams in ("off", "public", "any")] == [403, 403, 200]


def test_every_address_of_a_host_must_be_public(monkeypatch):
    answers = {"good": ["93.184.216.34"], "mixed": ["93.184.216.34", "10.0.0.1"]}

    def resolve(host, port, type):
        if host not in answers:
            raise socket.gaierror
        return [(socket.AF_INET, type, 6, "", (address, port)) for address in answers[host]]

    monkeypatch.setattr(socket, "getaddrinfo", resolve)
    assert status("https://good/live.m3u8", "public") == 200
    assert status("https://mixed/live.m3u8", "public") == 403
    assert status("https://unknown/live.m3u8", "public") == 400


@pytest.mark.parametrize(
    "source", ["", "video.mp4", "/etc/passwd", "file:///etc/passwd", "http://", "tcp://1.2.3.4:80"]
)
def test_what_is_no_address_is_refused(source):
    assert status(source, "any") == 400
