"""Small videos of every odd kind, made with PyAV; each frame shows its number as eight black or white blocks."""

from collections.abc import Callable
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from av.error import FFmpegError

from mmvideoiq.service.codecs import scheduling_kept

WIDTH, HEIGHT, BLOCKS = 128, 96, 8
RATE = 25


def picture(number: int, width: int = WIDTH, height: int = HEIGHT) -> np.ndarray:
    """A moving gradient, and the bits of ``number`` along the top: uint8 (H, W, 3)."""
    y, x = np.mgrid[:height, :width]
    image = np.stack([(x + 2 * number) % 256, (y + number) % 256, (x + y) % 256], axis=-1).astype(np.uint8)
    block = width // BLOCKS
    for bit in range(BLOCKS):
        image[: height // 3, bit * block : (bit + 1) * block] = 255 if number >> bit & 1 else 0
    return image


def number_in(image: np.ndarray) -> int:
    """The number that a frame shows."""
    block, row = image.shape[1] // BLOCKS, image.shape[0] // 6
    return sum(
        int(image[row, bit * block + block // 2].astype(int).mean() > 127) << bit for bit in range(BLOCKS)
    )


@dataclass(frozen=True)
class Odd:
    """How a file is made: codec and container, options of the encoder and of the muxer."""

    codec: str
    suffix: str
    frames: int = 150
    pixels: str = "yuv420p"
    options: dict[str, str] = field(default_factory=dict)
    muxer: dict[str, str] = field(default_factory=dict)
    size: tuple[int, int] = (WIDTH, HEIGHT)
    times: Callable[[int], int] = lambda number: number
    format: str | None = None
    change: Callable[[Path, Path], None] | None = None


def write(path: Path, odd: Odd) -> None:
    """Raises av's own errors where this FFmpeg cannot encode it."""
    target = path if odd.change is None else path.with_name("plain" + path.suffix)
    width, height = odd.size
    muxed = dict(format=odd.format, options=odd.muxer)
    with scheduling_kept(), av.open(str(target), "w", **muxed) as container:
        stream = container.add_stream(odd.codec, rate=RATE, options=odd.options)
        stream.width, stream.height, stream.pix_fmt = width, height, odd.pixels
        stream.codec_context.time_base = Fraction(1, RATE)
        for number in range(odd.frames):
            frame = av.VideoFrame.from_ndarray(picture(number, width, height), format="rgb24")
            frame = frame.reformat(format=odd.pixels)
            frame.pts, frame.time_base = odd.times(number), Fraction(1, RATE)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    if odd.change is not None:
        odd.change(target, path)


def copied(
    source: Path, target: Path, *, start: float = 0.0, muxer: dict[str, str] | None = None, extra: Any = None
) -> None:
    """Copy packets without encoding them, from the key frame before ``start`` seconds on, which becomes time 0."""
    with av.open(str(source)) as given, av.open(str(target), "w", options=muxer or {}) as out:
        video = given.streams.video[0]
        stream = out.add_stream_from_template(video)
        if extra is not None:
            extra(out, stream)
        offset = round(start / video.time_base)
        if start:
            given.seek(offset, stream=video)
        for packet in given.demux(video):
            if packet.dts is None:
                continue
            packet.pts -= offset
            packet.dts -= offset
            packet.stream = stream
            out.mux(packet)


def cut_off(share: float) -> Callable[[Path, Path], None]:
    def change(source: Path, target: Path) -> None:
        data = source.read_bytes()
        target.write_bytes(data[: int(len(data) * share)])

    return change


def edit_list(source: Path, target: Path) -> None:
    """As phones and editors cut a video: an edit list hides what comes before second 1.5."""
    copied(source, target, start=1.5)


B_FRAMES = {"bf": "2", "g": "12"}
ODD = {
    "h264.mp4": Odd("libx264", ".mp4"),
    "h264.mkv": Odd("libx264", ".mkv"),
    "h264.mov": Odd("libx264", ".mov"),
    "h264.flv": Odd("libx264", ".flv"),
    "h264.ts": Odd("libx264", ".ts"),
    "raw.h264": Odd("libx264", ".h264"),
    "h264-444.mp4": Odd("libx264", ".mp4", pixels="yuv444p"),
    "h264-grey.mp4": Odd("libx264", ".mp4", pixels="gray"),
    "h264-odd-size.mp4": Odd("libx264", ".mp4", pixels="yuv444p", size=(121, 93)),
    "h264-open-gop.mp4": Odd(
        "libx264", ".mp4", options={"x264-params": "open-gop=1:bframes=3:keyint=12:min-keyint=12"}
    ),
    "h264-fragmented.mp4": Odd("libx264", ".mp4", muxer={"movflags": "frag_keyframe+empty_moov"}),
    "h264-edit-list.mp4": Odd("libx264", ".mp4", options={"g": "12"}, change=edit_list),
    "h264-variable-rate.mp4": Odd("libx264", ".mp4", times=lambda n: n * 2 + (n % 7 == 0)),
    "h264-one-frame.mp4": Odd("libx264", ".mp4", frames=1),
    "h264-three-frames.mp4": Odd("libx264", ".mp4", frames=3),
    "hevc.mp4": Odd("libx265", ".mp4", options={"x265-params": "log-level=none"}),
    "hevc-10-bit.mkv": Odd(
        "libx265", ".mkv", pixels="yuv420p10le", options={"x265-params": "log-level=none"}
    ),
    "av1.mp4": Odd("libsvtav1", ".mp4", options={"preset": "12"}),
    "av1.webm": Odd("libsvtav1", ".webm", options={"preset": "12"}),
    "vp8.webm": Odd("libvpx", ".webm", options={"deadline": "realtime", "cpu-used": "8"}),
    "vp9.webm": Odd("libvpx-vp9", ".webm", options={"deadline": "realtime", "cpu-used": "8"}),
    "mpeg1.mpg": Odd("mpeg1video", ".mpg", options=B_FRAMES, format="mpeg"),
    "mpeg2.mpg": Odd("mpeg2video", ".mpg", options=B_FRAMES, format="mpeg"),
    "mpeg2.ts": Odd("mpeg2video", ".ts", options=B_FRAMES),
    "xvid-b-frames.avi": Odd("mpeg4", ".avi", options=B_FRAMES),
    "wmv2.wmv": Odd("wmv2", ".wmv"),
    "wmv2.asf": Odd("wmv2", ".asf"),
    "mjpeg.avi": Odd("mjpeg", ".avi", pixels="yuvj420p"),
    "prores.mov": Odd("prores", ".mov", pixels="yuv422p10le"),
    "ffv1.mkv": Odd("ffv1", ".mkv"),
    "huffyuv.avi": Odd("huffyuv", ".avi", pixels="yuv422p"),
    "picture.gif": Odd("gif", ".gif", pixels="rgb8"),
    "theora.ogv": Odd("libtheora", ".ogv"),
    "cut-off.avi": Odd("mpeg4", ".avi", options=B_FRAMES, change=cut_off(0.98)),
    "cut-off.ts": Odd("libx264", ".ts", change=cut_off(0.6)),
    "cut-off.mkv": Odd("libx264", ".mkv", change=cut_off(0.6)),
}


PLAIN = Odd("libx264", ".mp4", options={"x264-params": "keyint=24:min-keyint=24:bframes=2:scenecut=0"})


def made(path: Path, kind: Odd) -> Path:
    try:
        write(path, kind)
    except (FFmpegError, ValueError, RuntimeError) as error:
        pytest.skip(f"this FFmpeg does not write {path.name}: {error}")
    return path


def shown(path: Path) -> list[int]:
    """The numbers of all frames, decoded one after the other."""
    numbers = []
    with av.open(str(path)) as container:
        video = container.streams.video[0]
        video.thread_type = "NONE"
        try:
            for frame in container.decode(video):
                numbers.append(number_in(frame.to_ndarray(format="rgb24")))
        except FFmpegError:
            pass
    return numbers
