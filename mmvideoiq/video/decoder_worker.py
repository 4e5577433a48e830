"""What the decoder process does: it answers requests for videos with their frames (``decoder_process.py`` asks).

It is started anew whenever a decoder is replaced, so that this imports what reading needs and no more.
"""

from __future__ import annotations

import importlib
import json
import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from typing import Any, BinaryIO

import numpy as np

from mmvideoiq.video.errors import VideoError
from mmvideoiq.video.network import Connection
from mmvideoiq.video.preprocessing import Preprocessing
from mmvideoiq.video.reader import read_clip
from mmvideoiq.video.streams import FrameStream


def serve(read: Callable[..., tuple[np.ndarray, int]] = read_clip) -> None:
    """The decoder process: answers requests on stdin, one JSON line each, until it closes.

    An answer is a JSON line, followed by the bytes of the frames where it has their ``shape``.

    Args:
        read: called as :func:`read_clip` is.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # its parent ends it
    answers = _Answers(os.fdopen(os.dup(1), "wb"))
    os.dup2(2, 1)  # keeps what libraries print out of the answers
    for line in iter(sys.stdin.buffer.readline, b""):
        request = json.loads(line)
        try:
            if "load" in request:
                _load(request["load"])
                answers.send()
                continue
            preprocessing = Preprocessing(**request["preprocessing"])
            if "stream" in request:
                _serve_stream(request["source"], preprocessing, request["stream"], answers)
            else:
                began = time.perf_counter()
                frames, lost = read(request["source"], preprocessing, threads=request["threads"])
                answers.send(frames, lost=lost, seconds=time.perf_counter() - began)
        except VideoError as error:
            answers.send(error=error.reason)
        except ImportError as error:  # what is installed does not load
            from mmvideoiq.jobs.errors import one_line

            why = one_line(error)
            answers.send(error=why if "load" in request else f"cannot be decoded ({why})")


def _load(reader: str) -> None:
    """Import what every request needs."""
    import cv2

    cv2.setNumThreads(1)
    importlib.import_module(reader)


def _serve_stream(source: Any, preprocessing: Preprocessing, how: dict[str, Any], answers: _Answers) -> None:
    """An answer for each line that asks for a frame."""
    connection = Connection(*how.pop("connection"))
    stream = FrameStream(
        source, preprocessing, connection=connection, notify=lambda line: answers.send(notice=line), **how
    )
    while sys.stdin.buffer.readline():
        frame = next(stream, None)
        answers.send(frame, live=stream.live, dropped=stream.dropped)
        if frame is None:
            return


class _Answers:
    """What the decoder process says; its threads take turns."""

    def __init__(self, file: BinaryIO) -> None:
        self._file, self._turn = file, threading.Lock()

    def send(self, frames: np.ndarray | None = None, **header: Any) -> None:
        if frames is not None:
            header["shape"] = frames.shape
        with self._turn:
            self._file.write(json.dumps(header).encode() + b"\n")
            if frames is not None:
                self._file.write(np.ascontiguousarray(frames).data)
            self._file.flush()
