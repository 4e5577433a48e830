"""The frames of a video that a model sees, exactly as the test pipeline makes them.

``VideoInit, SampleFrames(clip_len=1, num_clips=T, test_mode=True), VideoDecode, Resize((-1, short_side)),
CenterCrop(crop)`` are :func:`read_clip` here. A video with fewer than T frames repeats some, in order;
one with a display matrix is shown upright; frames are counted, so that a variable rate does not matter.

Axes: T frames, H W.
"""

from __future__ import annotations

import os

import numpy as np

from mmvideoiq.video.av_reader import AvReader
from mmvideoiq.video.decord_reader import DecordReader
from mmvideoiq.video.errors import VideoError
from mmvideoiq.video.network import local
from mmvideoiq.video.preprocessing import Preprocessing


def sample_indices(total: int, frames: int) -> np.ndarray:
    """Indices of T frames among ``total``; int32."""
    part = total / float(frames)
    return (np.arange(frames) * part + part / 2.0).astype(np.int32)


def prepare(frame: np.ndarray, preprocessing: Preprocessing) -> np.ndarray:
    """Resize the short side (bilinear) and cut out the middle. uint8 (h, w, 3) -> (H, W, 3).

    Raises:
        ValueError: it has another size than the model's.
    """
    if preprocessing.short_side is not None:
        import cv2

        height, width = frame.shape[:2]
        scale = preprocessing.short_side / min(height, width)
        frame = cv2.resize(frame, (int(width * scale + 0.5), int(height * scale + 0.5)))
    if preprocessing.crop is not None:
        side = preprocessing.crop
        top, left = (max(0, edge - side) // 2 for edge in frame.shape[:2])
        frame = frame[top : top + side, left : left + side]
    if preprocessing.size is not None and frame.shape[:2] != tuple(preprocessing.size):
        (height, width), wanted = frame.shape[:2], preprocessing.size
        raise ValueError(f"its frames are {width}x{height}, the model takes {wanted[1]}x{wanted[0]}")
    return frame


def read_clip(
    path: str | os.PathLike[str], preprocessing: Preprocessing, *, threads: int = 1
) -> tuple[np.ndarray, int]:
    """The T frames of a video that are tested, uint8 (T, H, W, 3), RGB, and how many of them were damaged.

    Args:
        path: of a file, or its http(s) address.
        threads: of the decoder, >= 1.

    Raises:
        VideoError: missing, not a video, mostly damaged, or without ``crop`` of another size than the model's.
    """
    preprocessing.checked()
    with local(path) as file:
        if preprocessing.reader == "decord":
            old = DecordReader(file, threads=threads)
            images, lost = old.read(sample_indices(len(old), preprocessing.frames).tolist()), 0
        else:
            reader = AvReader(file, threads=threads)
            places = sample_indices(len(reader), preprocessing.frames).tolist()
            images = reader.read(
                places, sampling=preprocessing.sampling, tolerance_s=preprocessing.tolerance_s
            )
            lost = reader.lost
    try:
        return np.stack([prepare(image, preprocessing) for image in images]), lost
    except ValueError as error:
        raise VideoError(path, str(error)) from None


def read_frames(path: str | os.PathLike[str], preprocessing: Preprocessing) -> np.ndarray:
    """:func:`read_clip`, the frames alone."""
    return read_clip(path, preprocessing)[0]
