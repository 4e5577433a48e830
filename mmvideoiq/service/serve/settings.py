"""What the server allows: each bound has its default here, and its flag in ``command.py``."""

from __future__ import annotations

from dataclasses import dataclass, fields

STREAMS = ("off", "public", "any")
MIB = 2**20


@dataclass(frozen=True, kw_only=True)
class Limits:
    """Bounds of what clients may ask for.

    Attributes:
        upload_bytes: of one video.
        upload_s: for it to arrive.
        kept_bytes: of all videos that are kept at a time; the oldest goes first.
        kept_s: for which an uploaded video can be recognized again.
        waiting: videos that wait for a worker; one more is answered 503.
        per_client: requests of one address at a time; one more is answered 429.
        video_s: for decoding a video, and again for recognizing it.
        live: cameras and streams at a time; one more is answered 503.
        live_idle_s: without a frame, after which a camera is given up.
        drain_s: for what has begun when the server is told to stop.
        streams: which addresses the server itself reads: none, those of public hosts, or any.

    Raises:
        ValueError: a bound below 1, or no such choice of streams.
    """

    upload_bytes: int = 100 * MIB
    upload_s: float = 60.0
    kept_bytes: int = 1024 * MIB
    kept_s: float = 600.0
    waiting: int = 16
    per_client: int = 8
    video_s: float = 60.0
    live: int = 2
    live_idle_s: float = 15.0
    drain_s: float = 15.0
    streams: str = "off"

    def __post_init__(self) -> None:
        for each in fields(self):
            value = getattr(self, each.name)
            if each.name != "streams" and not value >= (0 if each.name in ("waiting", "live") else 1):
                raise ValueError(f"{each.name}={value!r} is too small")
        if self.streams not in STREAMS:
            raise ValueError(f"streams={self.streams!r} must be one of {', '.join(STREAMS)}")
