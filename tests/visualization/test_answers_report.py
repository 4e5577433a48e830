"""The page of recognized videos: what stands in it, and that it stays small."""

import numpy as np
import pytest

from mmvideoiq.visualization.answers_report import ALL, LISTED, write_answers
from mmvideoiq.visualization.page import LIMIT
from tests.visualization.html_page import ReportPage, columns_of

NAMES = ("32", "4", "skip")


def entry(video, score=0.5, actions=("32", "skip", "4"), **more):
    ms = dict(decode=10.0, policy=1.0, recognition=2.5)
    found = dict(video=video, label=0, name="a <class>", score=score, cost=0.25, frames=len(actions), ms=ms)
    return found | dict(actions=list(actions)) | more


def bad(video):
    return dict(video=video, error="is not a <video>")


@pytest.fixture
def report(tmp_path):
    def write(entries, frames_of=lambda place: np.full((3, 32, 48, 3), place, np.uint8)):
        path = tmp_path / "page.html"
        write_answers(
            path,
            entries,
            bundle="toy",
            knowledge="toy knows <1> class",
            names=NAMES,
            frames_of=frames_of,
            command="mmvideoiq infer toy x.mp4",
            machine={"engine": "numpy"},
        )
        return ReportPage(path.read_text())

    return write


def test_every_video_has_its_answer_and_its_frames(report):
    page = report(
        [entry("a & b.mp4", 0.75), bad("<bad>.mp4"), entry("c.mp4", actions=("skip", "skip", "4"), cost=0.1)]
    )
    assert columns_of(page.tables["answers"][0]) == {
        "video": ["a & b.mp4", "c.mp4"],
        "label": ["a <class>"] * 2,
        "%": ["75.0", "50.0"],
        "cost": ["0.250", "0.100"],
        "frames": ["3", "3"],
        "decode ms": ["10.0"] * 2,
        "policy ms": ["1.0"] * 2,
        "recognition ms": ["2.5"] * 2,
    }
    (errors,) = page.tables["videos-that-could-not-be-read"]
    assert errors[1:] == [["<bad>.mp4", "is not a <video>"]]
    assert [kind for kind in page.kinds["frames"] if kind] == ["done", "skip", "done", "skip", "skip", "done"]
    words = page.texts["frames"]
    assert "a <class> 75 % a & b.mp4 · cost 0.250 · 3.5 ms" in words and "✓" not in words and "✗" not in words
    summary = page.texts["summary"]
    assert "toy knows <1> class" in summary and "labels: a <class> (2)" in summary
    assert (
        "mean cost 0.175; frames: skip 50 %, 4 33 %, 32 17 %" in summary
        and "1 video could not be read" in summary
    )
    assert ["engine", "numpy"] in page.tables["environment"][0] and "Confusion" not in page.source


def test_a_stream_shows_its_last_frames_with_the_last_actions(report):
    actions = ["32"] * 97 + ["skip", "4", "skip"]
    page = report([entry("camera 0", actions=actions, error="stopped giving frames")])
    assert [kind for kind in page.kinds["frames"] if kind] == ["skip", "done", "skip"]
    assert [alt for alt, _ in page.images["frames"]] == ["frame 97", "frame 98", "frame 99"]
    assert "3 of 100 frames shown" in page.texts["frames"]
    assert page.tables["answers"] and page.tables["videos-that-could-not-be-read"]


def test_of_many_videos_the_most_and_least_certain(report):
    read = []

    def frames_of(place):
        read.append(place)
        return np.zeros((3, 32, 48, 3), np.uint8)

    page = report([bad("x"), *(entry(f"{k}.mp4", k / 100) for k in range(60))], frames_of)
    assert sorted(read) == [*range(1, 7), *range(55, 61)]
    certain = page.texts["frames"].split("Most certain")
    assert "0.mp4" in certain[0] and "59.mp4" in certain[1] and len(page.images["frames"]) == 12 * 3


def test_the_folder_of_all_videos_is_said_once(report):
    page = report([entry("/a/<b>/c/x.mp4"), entry("/a/<b>/y.mp4"), bad("/a/<b>/z.mp4")])
    assert columns_of(page.tables["answers"][0])["video"] == ["c/x.mp4", "y.mp4"]
    assert "videos in /a/<b>" in page.texts["summary"] and page.source.count("/a/&lt;b&gt;") == 1
    stream = report([entry("rtsp://me:***@host/a/b")])
    assert columns_of(stream.tables["answers"][0])["video"] == ["rtsp://me:***@host/a/b"]
    mixed = report([entry("/a/x.mp4"), entry("a/x.mp4")])
    assert columns_of(mixed.tables["answers"][0])["video"] == ["/a/x.mp4", "a/x.mp4"]


def test_up_to_a_dozen_are_all_shown_in_their_order(report):
    page = report([entry(f"{k}.mp4", k / 100) for k in range(ALL)])
    assert len(page.images["frames"]) == ALL * 3
    places = [page.texts["frames"].index(f" {k}.mp4") for k in range(ALL)]
    assert places == sorted(places)


def test_frames_that_are_gone_leave_the_rest(report):
    page = report([entry("a.mp4"), entry("b.mp4")], lambda place: None)
    assert "frames" not in page.texts and len(page.tables["answers"][0]) == 3
    empty = report([])
    assert "answers" not in empty.texts and "toy knows" in empty.texts["summary"]


def test_thousands_of_videos_with_long_names_stay_below_the_limit(report):
    noise = np.random.default_rng(0).integers(0, 256, (64, 300, 600, 3), dtype=np.uint8)
    long = [entry(f"{k}" + "n" * 3000, k / 4000, ["32"] * 64, name="c" * 3000) for k in range(3000)]
    page = report([*long, *(bad("n" * 3000) for _ in range(2000))], lambda place: noise)
    assert len(page.source.encode()) <= LIMIT and page.images["frames"]
    assert len(page.tables["answers"][0]) == LISTED + 1
    assert f"{3000 - LISTED} more videos are not listed" in page.texts["answers"]


def test_a_dozen_large_videos_stay_below_the_limit(report):
    noise = np.random.default_rng(0).integers(0, 256, (16, 400, 1200, 3), dtype=np.uint8)
    page = report([entry(f"{k}.mp4", actions=["32"] * 16) for k in range(ALL)], lambda place: noise)
    assert len(page.source.encode()) <= LIMIT and len(page.images["frames"]) > 8
