"""The pages in a real browser: Debian's chromium, driven by Playwright.

MMVIDEOIQ_SCREENSHOTS names a folder for pictures of the pages.
"""

import os
import re
import shutil
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("playwright", reason="playwright drives the browser: pip install playwright")
from playwright.sync_api import expect, sync_playwright

from tests.conftest import write_video
from tests.service.serve import serving as servers

CHROMIUM = shutil.which("chromium") or "/usr/bin/chromium"
FLAGS = (
    "--headless=new --no-sandbox --disable-gpu --disable-background-networking --disable-component-update "
    "--disable-sync --no-first-run --use-fake-device-for-media-stream --use-fake-ui-for-media-stream"
)
PATIENCE_MS = 60_000
PHONE = dict(width=390, height=844)
DESK = dict(width=1280, height=900)
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        not Path(CHROMIUM).exists(), reason="no chromium: apt-get install chromium (Debian's, for Playwright)"
    ),
]


OPENED = []


@contextmanager
def serving(*args, **options):
    """A server whose pages are closed before it ends, so that none asks it afterwards."""
    with servers.serving(*args, **options) as server:
        try:
            yield server
        finally:
            while OPENED:
                OPENED.pop().close()


@pytest.fixture(scope="module")
def browser():
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS.split())
        yield browser
        browser.close()


@pytest.fixture
def open_page(browser):
    """Opens a page of a server, ready; at the end nothing must stand in the consoles but what was expected."""
    complaints, expected = [], []

    def open_it(address, *, viewport=DESK, scheme="light", reduced="no-preference"):
        page = browser.new_page(viewport=viewport, color_scheme=scheme, reduced_motion=reduced)
        page.on("console", lambda message: complaints.append(message.text) if message.type != "log" else None)
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.goto(address)
        page.wait_for_selector("body[data-ready]")
        OPENED.append(page)
        return page

    open_it.expect = expected.append
    yield open_it
    while OPENED:
        OPENED.pop().close()
    assert [text for text in complaints if not any(part in text for part in expected)] == []


def picture(page, name):
    folder = os.environ.get("MMVIDEOIQ_SCREENSHOTS")
    if folder:
        Path(folder).mkdir(parents=True, exist_ok=True)
        page.wait_for_timeout(400)  # transitions have ended
        page.screenshot(path=f"{folder}/{name}.png", full_page=True)


def runs(page, count):
    page.wait_for_selector(f"body[data-runs='{count}']")


def cells(page):
    return page.locator("#timeline .action").all_text_contents()


@pytest.mark.parametrize(
    ("name", "viewport", "scheme"),
    [
        ("light", DESK, "light"),
        ("dark", DESK, "dark"),
        ("phone", PHONE, "light"),
        ("phone-dark", PHONE, "dark"),
    ],
)
def test_a_sample_and_the_slider(server, open_page, name, viewport, scheme):
    page = open_page(server.address, viewport=viewport, scheme=scheme)
    picture(page, f"{name}-empty")
    page.get_by_role("button", name="45°, bold").click()
    runs(page, 1)
    expect(page.locator("#label")).to_have_text("45 degrees")
    assert len(cells(page)) == 6 and "2" in cells(page)
    picture(page, f"{name}-answer")
    slider = page.get_by_role("slider", name="Budget")
    slider.focus()
    page.keyboard.press("End")
    runs(page, 2)
    assert cells(page) == ["32"] * 6
    assert "1.00 of the cost at 32 bits" in slider.get_attribute("aria-valuetext")
    page.keyboard.press("Home")
    runs(page, 3)
    assert "32" not in cells(page)
    page.get_by_role("button", name="As trained").click()
    runs(page, 4)
    expect(page.locator("#budget-text")).to_contain_text("as trained")
    wide = page.evaluate("document.documentElement.scrollWidth > document.documentElement.clientWidth")
    assert not wide


def test_videos_good_corrupt_and_huge(server, open_page, grating, tmp_path):
    page = open_page(server.address)
    page.set_input_files("#file", grating)
    runs(page, 1)
    expect(page.locator("#label")).to_have_text("67.5 degrees")
    expect(page.locator("#said")).to_contain_text("67.5 degrees")

    corrupt = tmp_path / "corrupt.mp4"
    corrupt.write_bytes(bytes(range(256)) * 99)
    page.set_input_files("#file", corrupt)
    expect(page.get_by_role("alert")).to_contain_text("“corrupt.mp4”: is not a video, or cut off")
    expect(page.locator("#answer")).to_be_hidden()
    picture(page, "light-corrupt")

    huge = tmp_path / "huge.mp4"
    with huge.open("wb") as file:
        file.truncate(2**21)
    page.set_input_files("#file", huge)
    expect(page.get_by_role("alert")).to_contain_text("2 MiB, more than the 1 MiB")

    page.set_input_files("#file", grating)
    runs(page, 2)
    expect(page.get_by_role("alert")).to_be_hidden()
    expect(page.locator("#label")).to_have_text("67.5 degrees")


def test_what_the_server_forgot_is_said(server, open_page, grating):
    page = open_page(server.address)
    open_page.expect("404")
    page.set_input_files("#file", grating)
    runs(page, 1)
    uploads = server.service._uploads
    uploads.remove(list(uploads._videos.values())[-1])
    page.get_by_role("button", name="As trained").click()
    expect(page.get_by_role("alert")).to_contain_text("send it again")


def test_by_keyboard_alone(server, open_page):
    page = open_page(server.address, reduced="reduce")
    seen = []
    for _ in range(6):
        page.keyboard.press("Tab")
        seen.append(page.evaluate("document.activeElement.id || document.activeElement.textContent"))
    assert seen == ["To the content", "mmvideoiq", "Recognize", "Live", "API", "file"]
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    runs(page, 1)
    assert page.evaluate("getComputedStyle(document.querySelector('.fill')).transitionDuration") == "0s"


def test_the_first_answer_of_a_ten_second_clip(server, open_page, tmp_path):
    clip = tmp_path / "ten.mp4"
    rng = np.random.default_rng(0)
    frames = np.repeat(rng.integers(0, 256, (50, 30, 40, 3), np.uint8), 6, axis=0)
    write_video(clip, frames.repeat(8, 1).repeat(8, 2), fps=30)
    page = open_page(server.address)
    page.evaluate(
        "document.getElementById('file').addEventListener('change', () => { began = performance.now() }, true)"
    )
    page.evaluate(
        "new MutationObserver((_, it) => { took = performance.now() - began; it.disconnect() })"
        ".observe(document.getElementById('label'), {childList: true, characterData: true, subtree: true})"
    )
    page.set_input_files("#file", clip)
    runs(page, 1)
    print(
        f"\nfirst answer after {page.evaluate('took'):.0f} ms, a clip of {clip.stat().st_size / 1e6:.1f} MB"
    )


@pytest.mark.parametrize(("name", "viewport", "scheme"), [("light", DESK, "light"), ("phone", PHONE, "dark")])
def test_a_camera(demo_bundle, open_page, name, viewport, scheme):
    with serving(demo_bundle, live=1) as server:
        page = open_page(f"{server.address}/live", viewport=viewport, scheme=scheme)
        page.get_by_role("button", name="Start the camera").click()
        expect(page.locator("#frames")).to_have_text(
            re.compile(r"^(1[2-9]|[2-9]\d|\d{3})\D"), timeout=PATIENCE_MS
        )
        picture(page, f"{name}-live")
        assert page.locator("#strip li").count() >= 12
        expect(page.locator("#follow")).to_be_disabled()
        page.get_by_role("button", name="Start over").click()
        page.wait_for_selector("body[data-starts='2']")
        expect(page.locator("#strip li")).not_to_have_count(0, timeout=PATIENCE_MS)
        page.get_by_role("button", name="Stop").click()
        expect(page.get_by_role("button", name="Stop")).to_be_disabled()
        assert not page.evaluate(
            "document.documentElement.scrollWidth > document.documentElement.clientWidth"
        )


def test_a_stream(demo_bundle, open_page, tmp_path):
    from tests.video.servers import encode
    from tests.video.servers import serving as serving_videos

    encode(tmp_path / "clip.mp4", range(20))
    with serving_videos(tmp_path) as source, serving(demo_bundle, streams="any") as server:
        page = open_page(f"{server.address}/live")
        page.get_by_label("Address of a stream").fill(f"{source}/clip.mp4")
        page.keyboard.press("Enter")
        expect(page.locator("#frames")).to_have_text(re.compile(r"^\d"), timeout=PATIENCE_MS)
        expect(page.locator("#picture")).to_be_visible()
        page.get_by_label("Address of a stream").fill(f"{source}/none.mp4")
        page.keyboard.press("Enter")
        expect(page.get_by_role("alert")).to_contain_text("annot be opened")


def test_the_api_page(server, open_page):
    page = open_page(f"{server.address}/docs")
    page.get_by_text("/v1/recognize", exact=True).click()
    expect(page.get_by_text("what the video shows")).to_be_visible()
    expect(page.get_by_text(f"curl -F file=@video.mp4 {server.address}/v1/recognize")).to_be_visible()
    assert page.locator("details").count() == 12
    picture(page, "light-api")
