"""Videos: decoded ahead, in order, bad ones in their place."""

import threading

import mmaction.models  # noqa: F401
import pytest

import mmvideoiq.models  # noqa: F401
from mmvideoiq.deploy import videos as videos_module
from mmvideoiq.deploy.session import Result
from mmvideoiq.video.errors import VideoError
from mmvideoiq.video.reader import read_frames

pytest.importorskip("openvino")
from tests.deploy.session.toys import FRAMES, same


@pytest.mark.parametrize("decoders", [1, 2, "auto"])
def test_many_videos_keep_their_order_and_bad_ones_their_place(session, videos, decoders):
    outcomes = list(session.run_many(videos, decoders=decoders))
    for path, outcome in zip(videos, outcomes, strict=True):
        if path.name in ("text.mp4", "gone.mp4"):
            assert isinstance(outcome, VideoError) and str(outcome).startswith(f"{path}: ")
        else:
            same(outcome, session.run(read_frames(path, session.preprocessing)))
            assert outcome.times["decode"] > 0


def test_more_decoders_join_once_measured(session, videos, monkeypatch):
    measured = []
    monkeypatch.setattr(videos_module, "decoders_for", lambda times: measured.append(len(times)) or 3)
    alone = list(session.run_many(videos * 2, decoders=1))
    assert not measured
    for outcome, want in zip(session.run_many(videos * 2), alone, strict=True):
        if isinstance(want, VideoError):
            assert str(outcome) == str(want)
        else:
            same(outcome, want)
    assert set(measured) == {videos_module.MEASURED}


def test_one_video(session, videos):
    with session:
        same(session.run_video(videos[0]), session.run(read_frames(videos[0], session.preprocessing)))
        with pytest.raises(VideoError, match=r"text\.mp4: is not a video"):
            session.run_video(videos[2])
        same(session.run_video(str(videos[1])), session.run(read_frames(videos[1], session.preprocessing)))
    assert session.run_video(videos[0]).frames == FRAMES  # closed, it starts again
    session.close()


def test_paths_are_read_as_needed(session, videos):
    asked = []

    def endless():
        while True:
            asked.append(1)
            yield videos[0]

    outcomes = session.run_many(endless())
    for count in range(1, 4):
        assert isinstance(next(outcomes), Result)
        assert len(asked) == count + 1
    outcomes.close()
    assert not [
        thread for thread in threading.enumerate() if thread.name.startswith("decoder") and not _ends(thread)
    ]


def _ends(thread: threading.Thread) -> bool:
    thread.join(10)
    return not thread.is_alive()


def test_an_error_of_ours_is_not_taken_for_a_bad_video(session, videos, monkeypatch):
    def broken(frames, *, budget=None):
        raise RuntimeError("the engine broke")

    monkeypatch.setattr(session, "run", broken)
    with pytest.raises(RuntimeError, match="the engine broke"):
        list(session.run_many(videos))


def test_decoders_must_be_some(session, videos):
    with pytest.raises(ValueError, match="decoders=0 must be 'auto' or at least 1"):
        session.run_many(videos, decoders=0)
