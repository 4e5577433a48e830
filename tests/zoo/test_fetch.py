"""Downloads of one file from servers that break off, answer wrongly, or never end."""

import pytest

from mmvideoiq.zoo.fetch import Limits, fetch
from tests.zoo.server import DATA, files, sha256

PATH = "/toy.pth"
HERE = "the server itself"


@pytest.fixture
def get(server, tmp_path):
    """Fetch DATA from a server of these tempers."""
    server.files[PATH] = DATA

    def get(*tempers: str, **limits: float) -> None:
        server.tempers = [server.address + PATH if temper == HERE else temper for temper in tempers]
        wanted = dict(sha256=sha256(DATA), size=len(DATA), limits=Limits(**dict(pause=0.01) | limits))
        fetch(server.address + PATH, tmp_path / "toy.pth", **wanted)

    return get


@pytest.mark.parametrize(
    ("tempers", "asked"),
    [
        (["ranges"], [None]),
        (["slow"], [None]),  # the whole reply takes longer than the silence that is allowed
        (["breaks"], [None, *(f"bytes={n}-" for n in (1000, 2000, 3000, 4000))]),
        (["breaks", "whole"], [None, "bytes=1000-"]),
        (["breaks", "early"], [None, "bytes=1000-"]),
        (["busy", "ranges"], [None, None]),
        ([HERE, "ranges"], [None, None]),
    ],
)
def test_served_in_the_end(get, server, tmp_path, tempers, asked):
    get(*tempers, **(dict(silence=0.5) if "slow" in tempers else {}))
    assert (tmp_path / "toy.pth").read_bytes() == DATA and files(tmp_path) == ["toy.pth"]
    assert [header for _, header in server.asked] == asked


@pytest.mark.parametrize(("rest", "asked"), [(b"x" * 9999, "bytes=9999-"), (b"<html>log in", "bytes=12-")])
def test_a_rest_of_something_else_is_fetched_anew(get, server, tmp_path, rest, asked):
    (tmp_path / "toy.pth.part").write_bytes(rest)
    get("ranges")
    assert (tmp_path / "toy.pth").read_bytes() == DATA
    assert [header for _, header in server.asked] == [asked, None]


TOTAL = r": it takes longer than 0\.2 seconds; run again to go on$"
FAILURES = [  # tempers, limits, requests, bytes that are kept, message
    (["endless"], {}, 1, 0, r": it is longer than the expected 4321 bytes$"),
    (["colours"], {}, 1, 0, r": HTTP status 404 \\x1b\[31mred\\x07$"),
    (["missing"], {}, 1, 0, r": HTTP status 404 Not Found$"),
    (["many"], {}, 1, 0, r": its header Content-Length is 'many'$"),
    (["ftp://127.0.0.1/x"], {}, 1, 0, r": it redirects to ftp://127\.0\.0\.1/x, which is neither http nor"),
    (["file:///etc/hostname"], {}, 1, 0, r": .*file:///etc/hostname"),
    (["breaks", "missing"], {}, 2, 1000, r": HTTP status 404 Not Found$"),
    (
        ["busy"],
        dict(attempts=2),
        2,
        0,
        r" \(Service Unavailable\); 0 bytes of it are kept, run again to go on$",
    ),
    (["hangs"], dict(silence=0.2), 4, 0, r" \(timed out\); 0 bytes of it are kept"),
    (["hangs"], dict(total=0.2), 1, 0, TOTAL),
    (["drips"], dict(total=0.2), 1, 0, TOTAL),
    (["slow"], dict(total=0.2), 1, None, TOTAL),
]


@pytest.mark.parametrize(("tempers", "limits", "requests", "kept", "message"), FAILURES)
def test_failures_name_the_address(get, server, tmp_path, tempers, limits, requests, kept, message):
    with pytest.raises(OSError, match=rf"^{server.address}{PATH} cannot be fetched{message}"):
        get(*tempers, **limits)
    assert len(server.asked) == requests and not (tmp_path / "toy.pth").exists()
    if kept is None:  # some of it
        get("ranges")
        assert (tmp_path / "toy.pth").read_bytes() == DATA
    else:
        assert sum(path.stat().st_size for path in tmp_path.iterdir()) == kept


def test_a_longer_file_is_refused_before_it_comes(get, server):
    server.files[PATH] = DATA + b"!"
    with pytest.raises(OSError, match="it has 4322 bytes, expected 4321"):
        get("ranges")


def test_no_server(tmp_path):
    limits = Limits(attempts=1)
    with pytest.raises(OSError, match=r"^http://127\.0\.0\.1:9/a cannot be fetched \(.*refused\)"):
        fetch("http://127.0.0.1:9/a", tmp_path / "a", sha256="0" * 64, size=1, limits=limits)
