"""The reports in a real browser: Debian's chromium, driven by Playwright.

MMVIDEOIQ_SCREENSHOTS names a folder for pictures of the pages.
"""

import os
import shutil
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("playwright", reason="playwright drives the browser: pip install playwright")
from playwright.sync_api import sync_playwright

from mmvideoiq.data.synthetic import load_kinds, make_synthetic
from mmvideoiq.video.av_reader import AvReader
from mmvideoiq.visualization import recipe_report
from mmvideoiq.visualization.answers_report import write_answers
from mmvideoiq.visualization.page import write_page
from tests.visualization.test_recipe_report import NAMES, RIGHT, make_summary, row
from tests.visualization.test_training_curves import write_scalars

CHROMIUM = shutil.which("chromium") or "/usr/bin/chromium"
FLAGS = "--headless=new --no-sandbox --disable-gpu --disable-background-networking --no-first-run"
SIZES = {"desk": dict(width=1280, height=900), "phone": dict(width=390, height=844)}
PAPER = dict(width=690, height=980)  # A4 less its margins, at 96 dpi
GROUND = {"light": "rgb(255, 255, 255)", "dark": "rgb(20, 23, 28)"}
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        not Path(CHROMIUM).exists(), reason="no chromium: apt-get install chromium (Debian's, for Playwright)"
    ),
]


@pytest.fixture(scope="module")
def pages(tmp_path_factory):
    """Reports with all sections, of synthetic clips: name -> file."""
    folder = tmp_path_factory.mktemp("reports")
    root, rng = folder / "data", np.random.default_rng(0)
    make_synthetic(root, train=1, val=1, test=24, seed=3)
    known, trace = load_kinds(root), []
    for line in (root / "test.txt").read_text().splitlines():
        name, label = line.split()
        given = int(label) if rng.random() < 0.8 else int(rng.integers(0, 8))
        trace.append(
            dict(
                filename=str(root / "videos" / name), frame_inds=list(range(6)), gt_label=int(label),
                pred_label=given, pred_score=rng.uniform(0.3, 1), actions=[RIGHT[kind] for kind in known[name]],
            )
        )  # fmt: skip
    kinds = [known["/".join(clip["filename"].split("/")[-2:])] for clip in trace]
    stages = []
    for name in ("float", "any_precision", "policy_backbone", "policy/seed0"):
        stage = folder / "a_work_folder_with_a_long_name" / name
        write_scalars(stage, epochs=20, policy="seed" in name)
        stages.append(
            dict(
                name=name, config=f"../site/mmvideoiq/.mim/configs/some_family/demo_{name.replace('/', '_')}.py",
                seconds=75.0, checkpoint=str(stage / "best_acc_top1_epoch_17.pth"), top1=0.875, metrics={},
            )
        )  # fmt: skip
    rows = [
        row("float", 1.0, 1.0, (1, 0, 0, 0)),
        *(row(f"fixed-{name}", top1, cost, np.eye(4)[k]) for k, (name, top1, cost) in enumerate(
            [("32", 1.0, 1.0), ("4", 0.7, 0.25), ("2", 0.42, 0.0625)]
        )),
        row("random", 0.5, 0.09, (0.02, 0.2, 0.3, 0.48)),
        row("videoiq", 0.99, 0.09, (0.02, 0.2, 0.3, 0.48), runs=3, top1_std=0.01),
    ]  # fmt: skip
    classes = [f"{22.5 * k:g} degrees" for k in range(8)]
    summary = make_summary(recipe="demo", stages=stages, rows=rows, classes=classes)
    found = {name: folder / f"{name}.html" for name in ("recipe", "answers")}
    write_page(found["recipe"], recipe_report.make_page(summary, [trace], NAMES, kinds=kinds))
    entries = [
        dict(
            video=clip["filename"], label=clip["pred_label"], name=classes[clip["pred_label"]], cost=0.1,
            score=clip["pred_score"], frames=6, actions=[NAMES[action] for action in clip["actions"]],
            ms=dict(decode=8.5, policy=0.4, recognition=1.9),
        )
        for clip in trace
    ]  # fmt: skip
    write_answers(
        found["answers"],
        [*entries, dict(video=str(root / "videos/test/broken.mkv"), error="is not a video, or cut off")],
        bundle="demo_videoiq_bundle",
        knowledge="demo_videoiq_bundle knows 8 classes: 0 degrees, 22.5 degrees, 45 degrees, ...",
        names=NAMES,
        frames_of=lambda place: np.stack(AvReader(trace[place]["filename"]).read(range(6))),
        command="mmvideoiq infer zoo://demo_videoiq_bundle clips/videos/test --report answers.html",
        machine={"engine": "openvino, f32 at 32 bits"},
    )
    return found


@pytest.fixture(scope="module")
def browser():
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS.split())
        yield browser
        browser.close()


@pytest.fixture
def open_page(browser, pages):
    """Opens a report; nothing may stand in its console, and it may load nothing but itself."""
    complaints, opened = [], []

    def open_it(name, *, viewport, scheme="light", media="screen"):
        page = browser.new_page(viewport=viewport, color_scheme=scheme)
        page.emulate_media(media=media, color_scheme=scheme)
        page.on("console", lambda message: complaints.append(message.text))
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on(
            "request",
            lambda request: (
                complaints.append(request.url)
                if not request.url.startswith(("data:", pages[name].as_uri()))
                else None
            ),
        )
        page.goto(pages[name].as_uri())
        opened.append(page)
        return page

    yield open_it
    for page in opened:
        page.close()
    assert complaints == []


def picture(page, name):
    folder = os.environ.get("MMVIDEOIQ_SCREENSHOTS")
    if folder:
        Path(folder).mkdir(parents=True, exist_ok=True)
        page.screenshot(path=f"{folder}/{name}.png", full_page=True)


WIDE = "document.documentElement.scrollWidth > document.documentElement.clientWidth"
TOO_WIDE = "all => all.filter(each => each.scrollWidth > each.clientWidth + 1).length"
LOADED = "all => all.every(each => each.complete && each.naturalWidth > 0)"


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("name", ["recipe", "answers"])
def test_nothing_runs_off_the_page(open_page, name, size, scheme):
    page = open_page(name, viewport=SIZES[size], scheme=scheme)
    assert not page.evaluate(WIDE)
    assert page.eval_on_selector("body", "body => getComputedStyle(body).backgroundColor") == GROUND[scheme]
    assert page.eval_on_selector_all("img", LOADED) and page.locator("img").count() == 12 * 6
    if size == "desk":
        assert page.eval_on_selector_all(".wide", TOO_WIDE) == 0
    picture(page, f"{name}-{size}-{scheme}")


def test_drawings_follow_light_and_dark(open_page):
    inks = []
    for scheme in ("light", "dark"):
        page = open_page("recipe", viewport=SIZES["desk"], scheme=scheme)
        inks.append(page.eval_on_selector(".drawing text", "text => getComputedStyle(text).fill"))
    assert inks[0] != inks[1] and all(ink.startswith("rgb(") for ink in inks)


@pytest.mark.parametrize("name", ["recipe", "answers"])
def test_on_paper_it_is_light_and_no_table_is_cut_off(open_page, name, tmp_path):
    page = open_page(name, viewport=PAPER, scheme="dark", media="print")
    assert page.eval_on_selector("body", "body => getComputedStyle(body).backgroundColor") == GROUND["light"]
    assert not page.evaluate(WIDE)
    assert page.eval_on_selector_all("section table", TOO_WIDE) == 0
    picture(page, f"{name}-paper")
    folder = Path(os.environ.get("MMVIDEOIQ_SCREENSHOTS", tmp_path))
    folder.mkdir(parents=True, exist_ok=True)
    page.pdf(path=folder / f"{name}.pdf", format="A4", print_background=True, prefer_css_page_size=True)
    assert (folder / f"{name}.pdf").read_bytes().startswith(b"%PDF")
