"""Videos in order, while processes read those that follow; and how many processes it takes."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from queue import SimpleQueue

import numpy as np

from mmvideoiq.jobs.environment import usable_cpus
from mmvideoiq.video.decoder_process import Decoded, Decoder
from mmvideoiq.video.errors import VideoError

MAX_DECODERS = 256
MAX_THREADS = 4  # that decode one video; more hardly help


def decode_ahead(
    paths: Iterator[str | os.PathLike[str]],
    open_decoder: Callable[[], Decoder],
    decoders: Callable[[], int],
) -> Iterator[Decoded | VideoError]:
    """:meth:`Decoder.read` of each path, in order, while the next ones are read; for a bad one its error.

    Args:
        paths: read as far as needed, so that they may be endless.
        open_decoder: makes one.
        decoders: how many, >= 1, each of which is a video ahead; asked before each video, they may become more.
    """
    owned: list[Decoder] = []
    free: SimpleQueue[Decoder] = SimpleQueue()

    def read(path: str | os.PathLike[str]) -> Decoded | VideoError:
        decoder = free.get()
        try:
            return decoder.read(path)
        except VideoError as error:
            return error
        finally:
            free.put(decoder)

    pool = ThreadPoolExecutor(MAX_DECODERS, thread_name_prefix="decoder")
    working: deque[Future[Decoded | VideoError]] = deque()

    def start() -> None:
        while len(owned) < decoders():
            owned.append(open_decoder())
            free.put(owned[-1])
        working.extend(pool.submit(read, path) for path in islice(paths, len(owned) - len(working)))

    try:
        start()
        while working:
            outcome = working.popleft().result()
            start()
            yield outcome
    finally:
        pool.shutdown(wait=False, cancel_futures=True)
        for decoder in owned:
            decoder.close()


def threads_alone() -> int:
    """Threads of the one decoder that works, while nothing else does."""
    return min(usable_cpus(), MAX_THREADS)


def decoders_for(times: Sequence[Mapping[str, float]]) -> int:
    """How many decoders keep up with recognition: the ratio of the medians, at most one for each CPU.

    Args:
        times: seconds for ``decode``, ``policy`` and ``recognition`` of some videos; the first warms up and does not
            count.
    """
    decode = np.median([each["decode"] for each in times[1:]])
    recognize = np.median([each["policy"] + each["recognition"] for each in times[1:]])
    return int(min(max(1, np.ceil(decode / max(recognize, 1e-9))), usable_cpus()))
