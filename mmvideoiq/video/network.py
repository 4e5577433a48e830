"""Video from the network: connections that time out, break and come back."""

from __future__ import annotations

import os
import shutil
import sys
import time
from base64 import b64encode
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from http.client import HTTPException
from tempfile import TemporaryFile
from typing import Any, NamedTuple
from urllib.error import URLError
from urllib.parse import quote, unquote, urlsplit
from urllib.request import Request, urlopen

from mmvideoiq.video.container import demuxed, mean_rate, reason, video_of
from mmvideoiq.video.errors import VideoError, shown

SCHEMES = ("http", "https", "rtsp", "rtsps")
PROTOCOLS = (
    "http,https,rtsp,rtsps,tcp,udp,rtp,tls,crypto,data"  # all that FFmpeg may speak, files not among them
)
MAX_DELAY_S = 30.0  # between two attempts
MAX_DOUBLINGS = 60  # of the delay: by then it is far above
ADDRESS = "%!#$&'()*+,/:;=?@[]~"  # what stands for itself in an address


class Connection(NamedTuple):
    """How patient a network source is.

    Attributes:
        timeout_s: for an answer, when connecting and between two packets.
        retries: attempts to reconnect in a row, after which it is an error; 0 makes the first break one.
        delay_s: before the first of them; doubles up to :data:`MAX_DELAY_S`.
    """

    timeout_s: float = 10.0
    retries: int = 5
    delay_s: float = 1.0


class NetworkVideo:
    """Decoded frames of an address.

    A recorded one, of known length, ends; FFmpeg reconnects where its server breaks off. A live one is connected anew.

    Args:
        address: http(s) of a file, a stream or an HLS playlist, or rtsp(s).
        notify: takes a line for each attempt to reconnect.

    Attributes:
        live: whether it is.
        rate: mean frames per second, 0 where it is not known.

    Raises:
        VideoError: not reachable, no video; from :meth:`frames` also if it broke and did not come back.
    """

    def __init__(self, address: str, *, connection: Connection, notify: Callable[[str], None]) -> None:
        _check_scheme(address)
        self.address, self.connection, self._notify = address, connection, notify
        try:
            self._container, self._stream = self._connect()
        except VideoError as error:
            raise VideoError(address, f"cannot be opened ({error.reason}); check the address") from None
        name = self._container.format.name
        self._playlist = name == "hls"
        endless = self._container.duration is None if self._playlist else self._container.size <= 0
        self.live = name == "rtsp" or endless
        self.rate = mean_rate(self._stream)

    def frames(self) -> Iterator[Any]:
        """In the order in which they are shown."""
        from av.error import FFmpegError

        failures = 0
        while True:
            try:
                if self._container is None:
                    self._container, self._stream = self._connect()
                    if self._playlist and self._container.duration is not None:  # it has ended meanwhile
                        return
                with closing(self._container):
                    for frame in decoded(self._container, self._stream):
                        failures = 0
                        yield frame
                    if not self.live or self._container.duration is not None:
                        return
                why = "the stream ended"
            except (FFmpegError, VideoError) as error:
                why = error.reason if isinstance(error, VideoError) else self._reason(error)
            self._container = None
            failures += 1
            if not self.live or failures > self.connection.retries:
                more = f"; attempts to reconnect: {self.connection.retries}" * self.live
                if not (
                    self.live or self._playlist
                ):  # maybe an MP4 with its index at the end, and no byte ranges
                    more = "; without --stream the file is fetched first"
                raise VideoError(self.address, f"connection lost ({why}){more}")
            delay = min(self.connection.delay_s * 2.0 ** min(failures - 1, MAX_DOUBLINGS), MAX_DELAY_S)
            again = f"attempt {failures} of {self.connection.retries} in {delay:g} s"
            self._notify(f"{shown(self.address)}: connection lost ({why}); {again}")
            time.sleep(delay)

    def _connect(self) -> tuple[Any, Any]:
        import av
        from av.error import FFmpegError

        av.logging.set_level(av.logging.PANIC)
        timeout, retries, _ = self.connection
        options = dict(
            protocol_whitelist=PROTOCOLS,
            rtsp_flags="prefer_tcp",
            # Without it FFmpeg asks to close, and sends its next request over what a server has closed without a word:
            # frames are lost, and no error is raised.
            multiple_requests="1",
            reconnect="1",
            reconnect_max_retries=str(retries),
            reconnect_delay_max=str(round(MAX_DELAY_S)),
        )
        try:
            container = av.open(self.address, options=options, timeout=(timeout, timeout))
        except (FFmpegError, ValueError) as error:
            raise VideoError(self.address, self._reason(error)) from None
        return container, video_of(container, self.address)

    def _reason(self, error: Exception) -> str:
        from av.error import ExitError

        late = isinstance(error, ExitError)  # how FFmpeg says that its time is over
        return f"no answer within {self.connection.timeout_s:g} seconds" if late else reason(error)


def _check_scheme(address: str) -> None:
    scheme = address.partition("://")[0].lower()
    if scheme not in SCHEMES:
        raise VideoError(address, f"{scheme}:// is not supported; allowed are {', '.join(SCHEMES)}")


def is_address(source: str | os.PathLike[str] | int) -> bool:
    return isinstance(source, str) and "://" in source


@contextmanager
def local(source: str | os.PathLike[str]) -> Iterator[str]:
    """The path of a file; of an http(s) address the file is fetched, and gone afterwards."""
    if not is_address(source):
        yield os.fspath(source)
        return
    address, wait = str(source), Connection().timeout_s
    _check_scheme(address)
    if not address.lower().startswith(("http://", "https://")):
        raise VideoError(address, "is not a file: read it as a stream (--stream)")
    with TemporaryFile() as copy:  # without a name: nothing is left of it if this process is killed
        try:
            with urlopen(_request(address), timeout=wait) as answer:
                if (length := answer.length) is None:
                    raise VideoError(address, "has no known length: read it as a stream (--stream)")
                shutil.copyfileobj(answer, copy)
            if copy.tell() < length:
                raise VideoError(address, f"connection lost after {copy.tell()} of {length} bytes")
        except VideoError:
            raise
        except (OSError, HTTPException, ValueError) as error:
            why = error.reason if type(error) is URLError else error
            raise VideoError(address, f"cannot be fetched ({why})") from None
        copy.seek(0)
        if copy.read(7) == b"#EXTM3U":
            raise VideoError(address, "is a playlist: read it as a stream (--stream)")
        try:
            yield f"/dev/fd/{copy.fileno()}"
        except VideoError as error:
            raise VideoError(address, error.reason) from None


def _request(address: str) -> Request:
    """Name and password go into a header: urllib takes none in an address. Redirects do not get them."""
    parts = urlsplit(quote(address, safe=ADDRESS))
    login, _, host = parts.netloc.rpartition("@")
    request = Request(parts._replace(netloc=host).geturl())
    if login:
        secret = b64encode(unquote(login).encode()).decode()
        request.add_unredirected_header("Authorization", f"Basic {secret}")
    return request


def decoded(container: Any, stream: Any) -> Iterator[Any]:
    """Frames in presentation order; what cannot be decoded is left out, what cannot be read raises FFmpegError."""
    from av.error import EOFError, FFmpegError

    stream.codec_context.thread_count, stream.codec_context.thread_type = 1, "NONE"
    for packet in demuxed(container, stream):
        try:
            frames = stream.codec_context.decode(packet if packet.size else None)
        except EOFError:
            return
        except FFmpegError:
            continue
        yield from frames


def to_stderr(line: str) -> None:
    print(line, file=sys.stderr, flush=True)
