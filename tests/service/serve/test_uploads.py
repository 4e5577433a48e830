"""Videos that clients sent: what a full disk leaves, who keeps a video."""

import errno
import io
from pathlib import Path

import numpy as np
import pytest

from mmvideoiq.service.serve import uploads as module
from mmvideoiq.service.serve.uploads import Uploads
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


def test_a_part_of_the_frames_is_not_taken_for_them(uploads, monkeypatch):
    def save(path, _):
        Path(path).write_bytes(b"part")
        full()

    video = uploads.add(io.BytesIO(b"\x00" * 9))
    with monkeypatch.context() as patch, pytest.raises(OSError, match="No space"):
        patch.setattr(module.np, "save", save)
        video.decoded(FakeDecoder())
    assert video.decoded(FakeDecoder()).frames.shape == np.load(video.frames_path).shape == (2, 4, 4, 3)


def test_what_is_held_stays_and_the_oldest_of_the_others_goes(uploads):
    held = uploads.add(io.BytesIO(b"x" * 60), held=True)
    first = uploads.add(io.BytesIO(b"x" * 30))
    second = uploads.add(io.BytesIO(b"x" * 30))
    assert [uploads.get(video.id) is video for video in (held, first, second)] == [True, False, True]
    uploads.release(held)
    uploads.add(io.BytesIO(b"x" * 90))
    assert len(uploads) == 1
