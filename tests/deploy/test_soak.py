"""Memory over many clips: MMVIDEOIQ_SOAK of them, 200 by default.

MMVIDEOIQ_SOAK_BUNDLE and MMVIDEOIQ_SOAK_VIDEOS name a bundle and a folder of videos to use in place of toys::

    MMVIDEOIQ_SOAK=2000 python -m pytest tests/deploy/test_soak.py -m slow -s
"""

import os
from itertools import cycle, islice
from pathlib import Path

import numpy as np
import pytest

from mmvideoiq.deploy.session import Result, VideoSession
from mmvideoiq.video import decoder_process as decoding
from tests.conftest import write_video
from tests.deploy.toy_bundle import make_toy_bundle

pytest.importorskip("openvino")

CLIPS = int(os.environ.get("MMVIDEOIQ_SOAK", 200))
GIVEN = os.environ.get("MMVIDEOIQ_SOAK_VIDEOS")
WARMUP = max(20, CLIPS // 10)
SLACK_MB = (
    24.0  # an allocator's habits; a leak of one clip's frames (16 of 224x224) would be 2.4 MB each time
)
CLIP_MB = 96.0  # what a decoder buffers of one clip and not of another

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="memory is read from /proc"),
]


def resident_mb(pid: int | str = "self") -> float:
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


@pytest.fixture(scope="module")
def bundle(tmp_path_factory) -> Path:
    given = os.environ.get("MMVIDEOIQ_SOAK_BUNDLE")
    return Path(given) if given else make_toy_bundle(tmp_path_factory.mktemp("soak") / "bundle")


@pytest.fixture(scope="module")
def videos(tmp_path_factory) -> list[Path]:
    if GIVEN:
        return sorted(path for path in Path(GIVEN).iterdir() if path.suffix in (".mp4", ".mkv", ".avi"))
    folder, rng = tmp_path_factory.mktemp("soak_videos"), np.random.default_rng(0)
    for i in range(4):
        write_video(folder / f"{i}.mp4", rng.integers(0, 256, (24, 96, 128, 3), dtype=np.uint8))
    (folder / "text.mp4").write_text("no video")  # what fails must not pile up either
    return sorted(folder.iterdir())


def report(name: str, seen: list[float]) -> None:
    after = f"{seen[WARMUP]:.1f} MB after {WARMUP} clips, {seen[-1]:.1f} after {len(seen)}"
    print(f"\n{name}: {after}, at most {max(seen):.1f}")


def test_memory_is_flat_over_many_clips(bundle, videos, monkeypatch):
    """Of this process, and of the decoders that it starts."""
    started: list[int] = []
    popen = decoding.subprocess.Popen

    def watched(*args, **options):
        process = popen(*args, **options)
        started.append(process.pid)
        return process

    monkeypatch.setattr(decoding.subprocess, "Popen", watched)
    ours, workers, good = [], [], 0
    with VideoSession.open(bundle, threads=1) as session:
        for outcome in session.run_many(islice(cycle(videos), CLIPS), decoders=1):
            good += isinstance(outcome, Result)
            ours.append(resident_mb())
            try:
                workers.append(resident_mb(started[-1]))
            except (OSError, IndexError):  # it is being replaced after a crash
                workers.append(workers[-1] if workers else 0.0)
    report("session", ours)
    report("decoder", workers)
    assert len(ours) == CLIPS and good > CLIPS // 2
    assert max(ours[WARMUP:]) - ours[WARMUP] < SLACK_MB
    assert max(workers[WARMUP:]) < max(workers[:WARMUP]) + SLACK_MB + (CLIP_MB if GIVEN else 0)


def test_memory_is_flat_along_a_stream(bundle):
    ours = []
    with VideoSession.open(bundle, threads=1) as session:
        frame = np.random.default_rng(0).integers(0, 256, session.frame_shape, dtype=np.uint8)
        for place in range(10 * CLIPS):
            session.push(np.roll(frame, place, axis=0))
            if place % 10 == 9:
                session.result()
                ours.append(resident_mb())
    report("stream", ours)
    assert max(ours[WARMUP:]) - ours[WARMUP] < SLACK_MB
