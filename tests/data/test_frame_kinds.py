"""The kinds of frames of both generated sets."""

import pytest

from mmvideoiq.data.frame_kinds import kinds_of_trace, load_frame_kinds
from mmvideoiq.data.gestures import load_frames, make_gestures
from mmvideoiq.data.synthetic import load_kinds, make_synthetic
from tests.data.photos import write_photos


def test_kinds_follow_the_frames_that_were_read(tmp_path):
    make_synthetic(tmp_path / "set", train=1, val=4, test=1)
    name = "val/00003.mkv"
    kinds = load_kinds(tmp_path / "set")[name]
    trace = [dict(filename=f"/elsewhere/videos/{name}", frame_inds=[5, 0, 0])]
    assert kinds_of_trace(trace, tmp_path / "set") == [[kinds[5], kinds[0], kinds[0]]]
    with pytest.raises(KeyError, match=r"other.mkv"):
        kinds_of_trace([dict(filename="val/other.mkv", frame_inds=[0])], tmp_path / "set")


def test_gesture_clips_have_idle_and_signal_frames(tmp_path):
    make_gestures(write_photos(tmp_path / "photos"), tmp_path / "set", train=1, val=1, test=2)
    name = "test_room_b/00001.mkv"
    frames = load_frames(tmp_path / "set")[name]
    trace = [dict(filename=f"/elsewhere/videos/{name}", frame_inds=list(range(16)))]
    [found] = kinds_of_trace(trace, tmp_path / "set")
    assert found == ["idle" if frame["class"] == "no_class" else "signal" for frame in frames]
    assert set(found) == {"idle", "signal"}


def test_a_folder_that_does_not_say(tmp_path):
    with pytest.raises(FileNotFoundError, match="neither kinds"):
        load_frame_kinds(tmp_path)
