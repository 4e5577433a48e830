"""The decoder process of a bulk run: what is not on this machine is fetched first, into a file without a name."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from tempfile import TemporaryFile
from typing import IO, Any

import numpy as np

from mmvideoiq.video import decoder_worker
from mmvideoiq.video.decoder_process import Decoder
from mmvideoiq.video.errors import VideoError, shown
from mmvideoiq.video.network import is_address
from mmvideoiq.video.preprocessing import Preprocessing
from mmvideoiq.video.reader import read_clip

ATTEMPTS, DELAY_S = 3, 1.0
CHUNK = 2**20
WEB = ("http", "https")
STREAMS = ("rtsp", "rtsps", "rtmp", "udp")
BUSY = (408, 429)  # of a server that refuses: these may answer later
GONE = (404, 410)


def file_system(address: str) -> tuple[Any, str]:
    """fsspec's file system of an address, and the path in it.

    Raises:
        ValueError: no such scheme, or one of streams.
        ImportError: it needs a package that is not installed; names it.
    """
    from fsspec.core import url_to_fs

    if address.partition("://")[0].lower() in STREAMS:
        raise ValueError(f"{shown(address)}: is a stream; mmvideoiq infer --stream reads it")
    try:
        return url_to_fs(address)
    except ValueError as error:
        raise ValueError(f"{shown(address)}: {error}") from None
    except ImportError as error:
        what, lacking = reason(error), getattr(error.__cause__, "name", None)
    install = lacking.partition(".")[0] if lacking else "'mmvideoiq[bulk]'"
    raise ImportError(f"{shown(address)}: {what}: pip install {install}")


def meant(address: str, error: Exception) -> Exception:
    """What happened: of http(s) fsspec says that there is no such file whatever it was, and keeps the cause."""
    cause = error.__cause__
    web = address.lower().startswith(WEB) and isinstance(error, FileNotFoundError)
    if web and isinstance(cause, Exception) and getattr(cause, "status", None) not in GONE:
        return cause
    return error


def reason(error: Exception) -> str:
    """An error in one line, without the address that it may repeat."""
    if isinstance(error, FileNotFoundError):
        return "there is no such file"
    said = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return " ".join(str(said).split()) or type(error).__name__


def open_decoder(preprocessing: Preprocessing, *, time_limit_s: float, max_bytes: int) -> Decoder:
    """A decoder of files and of what fsspec reaches.

    Args:
        time_limit_s: of a video, fetching included; its process is killed then.
        max_bytes: of what is fetched.
    """
    program = f"from mmvideoiq.service.bulk.fetch import serve; serve({max_bytes})"
    return Decoder(preprocessing, clip_timeout_s=time_limit_s, program=program)


def serve(max_bytes: int) -> None:
    decoder_worker.serve(partial(read_anywhere, max_bytes=max_bytes))


def read_anywhere(
    source: str, preprocessing: Preprocessing, *, threads: int = 1, max_bytes: int
) -> tuple[np.ndarray, int]:
    """:func:`read_clip`, of an address too.

    Raises:
        VideoError: as it, or the source cannot be fetched or is too large.
    """
    if not is_address(source):
        return read_clip(source, preprocessing, threads=threads)
    with fetched(source, max_bytes=max_bytes) as file:
        try:
            return read_clip(file, preprocessing, threads=threads)
        except VideoError as error:
            raise VideoError(source, error.reason) from None


@contextmanager
def fetched(address: str, *, max_bytes: int) -> Iterator[str]:
    """The path of a copy, which is gone afterwards, also if this process is killed.

    Raises:
        VideoError: it cannot be fetched, after :data:`ATTEMPTS`, or is larger than ``max_bytes``.
    """
    with TemporaryFile() as copy:
        for attempt in range(ATTEMPTS):
            try:
                _copy(address, copy, max_bytes)
                break
            except VideoError:
                raise
            except Exception as caught:  # each file system has its own
                error = meant(address, caught)
                if isinstance(error, FileNotFoundError):
                    raise VideoError(address, "there is no such file") from None
                if attempt + 1 == ATTEMPTS or _refused(error):
                    raise VideoError(address, f"cannot be fetched ({reason(error)})") from None
                time.sleep(DELAY_S * 2**attempt)
        copy.seek(0)
        if copy.read(7) == b"#EXTM3U":
            raise VideoError(address, "is a playlist, not a video")
        yield f"/dev/fd/{copy.fileno()}"


def _copy(address: str, copy: IO[bytes], max_bytes: int) -> None:
    filesystem, path = file_system(address)
    copy.seek(0)
    copy.truncate()
    how: dict[str, Any] = dict(block_size=0) if address.lower().startswith(WEB) else {}  # 0: one request
    with filesystem.open(path, "rb", **how) as file:
        size = getattr(file, "size", None)
        if size is not None and size > max_bytes:
            raise VideoError(address, f"is larger than {max_bytes} bytes; --size-limit sets it")
        while chunk := file.read(CHUNK):
            copy.write(chunk)
            if copy.tell() > max_bytes:
                raise VideoError(address, f"is larger than {max_bytes} bytes; --size-limit sets it")
    copy.flush()


def _refused(error: Exception) -> bool:
    """Whether a server says no, and will say so again."""
    status = getattr(error, "status", None)
    denied = isinstance(status, int) and 400 <= status < 500 and status not in BUSY
    return denied or isinstance(error, (PermissionError, ImportError, ValueError))
