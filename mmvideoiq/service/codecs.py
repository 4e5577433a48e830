"""The doctor's trial of codecs: a tiny clip of each is made on the spot and read as any video is."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import av
import numpy as np
from av.error import FFmpegError

from mmvideoiq.service.findings import Finding
from mmvideoiq.video.av_reader import AvReader
from mmvideoiq.video.errors import VideoError

FRAMES, SIDE, RATE = 8, 64, 25
TOLERANCE = 12  # of a frame's mean grey level, of 255
CONVERT = "ffmpeg -i IN -c:v libx264 OUT.mp4 makes a file that can be read"


@dataclass(frozen=True)
class Codec:
    """How a clip is made.

    Attributes:
        decoder: FFmpeg's name of what reads it.
        encoder: FFmpeg's name of what writes it.
        common: whether most videos are in it, or in one of few.
    """

    decoder: str
    encoder: str
    suffix: str
    pixels: str = "yuv420p"
    options: dict[str, str] = field(default_factory=dict)
    common: bool = False


FAST = {"deadline": "realtime", "cpu-used": "8"}
CODECS = {
    "H.264": Codec("h264", "libx264", ".mp4", common=True),
    "H.265": Codec("hevc", "libx265", ".mp4", options={"x265-params": "log-level=none"}),
    "AV1": Codec("libdav1d", "libsvtav1", ".mp4", options={"preset": "12"}),
    "VP9": Codec("vp9", "libvpx-vp9", ".webm", options=FAST),
    "VP8": Codec("vp8", "libvpx", ".webm", options=FAST),
    "MPEG-4": Codec("mpeg4", "mpeg4", ".avi", common=True),
    "MPEG-2": Codec("mpeg2video", "mpeg2video", ".ts"),
    "WMV": Codec("wmv2", "wmv2", ".asf"),
    "Motion JPEG": Codec("mjpeg", "mjpeg", ".avi", pixels="yuvj420p"),
    "ProRes": Codec("prores", "prores", ".mov", pixels="yuv422p10le"),
    "Theora": Codec("theora", "libtheora", ".ogv"),
}


def level(number: int) -> int:
    """The grey of a frame."""
    return 40 + 24 * number


@contextmanager
def scheduling_kept() -> Iterator[None]:
    """Undo what SVT-AV1 does to root: its encoder makes the calling thread real-time (SCHED_FIFO at 99), for good.

    Every thread and process begun afterwards would inherit that and keep all others from the CPU.
    """
    if not hasattr(os, "sched_getscheduler"):  # not Linux
        yield
        return
    policy, param = os.sched_getscheduler(0), os.sched_getparam(0)
    try:
        yield
    finally:
        os.sched_setscheduler(0, policy, param)


def write(path: Path, codec: Codec) -> None:
    """A clip that grows lighter. Raises FFmpeg's errors, or ValueError, where there is no such encoder."""
    with scheduling_kept(), av.open(str(path), "w") as container:
        stream = container.add_stream(codec.encoder, rate=RATE, options=codec.options)
        stream.width, stream.height, stream.pix_fmt = SIDE, SIDE, codec.pixels
        for number in range(FRAMES):
            image = np.full((SIDE, SIDE, 3), level(number), np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
        container.mux(stream.encode(None))


def reads(path: Path) -> str:
    """'' where all frames are read as they were written, else what is wrong."""
    try:
        frames = AvReader(path).read(range(FRAMES))
    except VideoError as error:
        return error.reason
    wrong = [n for n, frame in enumerate(frames) if abs(float(frame.mean()) - level(n)) > TOLERANCE]
    return f"frames {', '.join(map(str, wrong))} are not what was written" if wrong else ""


def check_codecs() -> Iterator[Finding]:
    untried = []
    before = av.logging.get_level()
    av.logging.set_level(av.logging.PANIC)
    os.environ.setdefault("SVT_LOG", "0")  # its encoder writes to stderr by itself
    try:
        with tempfile.TemporaryDirectory() as folder:
            for name, codec in CODECS.items():
                path = Path(folder, "clip" + codec.suffix)
                try:
                    write(path, codec)
                except (FFmpegError, ValueError):  # no such encoder here
                    if codec.decoder in av.codecs_available:
                        untried.append(name)
                    else:
                        yield Finding(
                            name=name, state="yellow", found="this FFmpeg has no decoder", todo=CONVERT
                        )
                    continue
                wrong = reads(path)
                if wrong:
                    state = "red" if codec.common else "yellow"
                    yield Finding(name=name, state=state, found=f"cannot be read: {wrong}", todo=CONVERT)
                else:
                    yield Finding(name=name, state="green", found=f"decodes ({codec.suffix})")
    finally:
        av.logging.set_level(before)
    for name in untried:
        yield Finding(name=name, state="green", found="has a decoder; not tried, for there is no encoder")
