"""Videos that clients sent: what a full disk leaves, who keeps a video."""

import errno
import io
import tempfile

import numpy as np
import pytest

from mmvideoiq.service.serve import uploads as module
from mmvideoiq.service.serve.uploads import Uploads, VideoGone
from mmvideoiq.video.decoder_process import Decoded


@pytest.fixture
def uploads():
    made = Uploads(kept_s=10, kept_bytes=100, clock=lambda: 0.0)
    yield made
    made.close()


class FakeDecoder:
    def read(self, path):
        return Decoded(np.zeros((2, 4, 4, 3), np.uint8), 0, 0.1)


def full(*_):
    raise OSError(errno.ENOSPC, "No space left on device")


def test_a_full_disk_leaves_no_part_of_a_video(uploads, monkeypatch):
    monkeypatch.setattr(module.shutil, "copyfileobj", full)
    with pytest.raises(OSError, match="No space"):
        uploads.add(io.BytesIO(b"x"))
    assert not list(uploads.folder.iterdir()) and not len(uploads)


def test_frames_that_cannot_be_kept_are_decoded_again(uploads, file_limit):
    video = uploads.add(io.BytesIO(b"\x00" * 9))
    with file_limit(100):
        assert video.decoded(FakeDecoder()).frames.shape == (2, 4, 4, 3)
    assert list(uploads.folder.iterdir()) == [video.path]
    assert video.decoded(FakeDecoder()).frames.shape == np.load(video.frames_path).shape == (2, 4, 4, 3)
    assert list(uploads.folder.iterdir()) == [video.frames_path]


def test_what_a_killed_server_left_is_removed(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    (tmp_path / "mmvideoiq-serve-killed").mkdir()
    (tmp_path / "mmvideoiq-serve-killed/of-a-client.video").touch()
    first, second = (Uploads(kept_s=10, kept_bytes=100) for _ in range(2))
    assert set(tmp_path.iterdir()) == {first.folder, second.folder}  # the first is alive
    for uploads in (first, second, second):
        uploads.close()
    assert not list(tmp_path.iterdir())


def test_a_video_that_was_removed_while_it_waited(uploads):
    for decoded_before in (False, True):
        video = uploads.add(io.BytesIO(b"\x00" * 9))
        if decoded_before:
            video.decoded(FakeDecoder())
        uploads.remove(video)
        with pytest.raises(VideoGone, match="no such video any longer: send it again"):
            video.decoded(FakeDecoder())


def test_no_more_videos_are_kept_than_can_be_looked_after(uploads, monkeypatch):
    monkeypatch.setattr(module, "MOST", 2)
    held = uploads.add(io.BytesIO(b"x"), held=True)
    videos = [uploads.add(io.BytesIO(b"x")) for _ in range(3)]
    assert [uploads.get(video.id) is video for video in (held, *videos)] == [True, False, False, True]


def test_what_is_held_stays_and_the_oldest_of_the_others_goes(uploads):
    held = uploads.add(io.BytesIO(b"x" * 60), held=True)
    first = uploads.add(io.BytesIO(b"x" * 30))
    second = uploads.add(io.BytesIO(b"x" * 30))
    assert [uploads.get(video.id) is video for video in (held, first, second)] == [True, False, True]
    uploads.release(held)
    uploads.add(io.BytesIO(b"x" * 90))
    assert len(uploads) == 1
