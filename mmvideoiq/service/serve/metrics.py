"""Figures for Prometheus, in a registry of their own."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    PlatformCollector,
    ProcessCollector,
)
from prometheus_client import generate_latest as text_of

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
SECONDS = (0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 30, 60)


class Metrics:
    """Counters and histograms of one server.

    Args:
        gauges: names and what gives their values when they are asked for.
    """

    def __init__(self, gauges: Mapping[str, tuple[str, Callable[[], float]]]) -> None:
        self._registry = CollectorRegistry()
        ProcessCollector(registry=self._registry)
        PlatformCollector(registry=self._registry)
        self._requests = Counter(
            "mmvideoiq_requests", "Answered requests.", ["method", "route", "status"], registry=self._registry
        )
        self._videos = Counter(
            "mmvideoiq_videos", "Videos by the status of their answer.", ["status"], registry=self._registry
        )
        self._frames = Counter(
            "mmvideoiq_frames",
            "Frames of recognized videos, by what was done with them.",
            ["action"],
            registry=self._registry,
        )
        self._seconds = Histogram(
            "mmvideoiq_seconds",
            "Seconds of a recognized video in each part.",
            ["part"],
            buckets=SECONDS,
            registry=self._registry,
        )
        for name, (what, value) in gauges.items():
            Gauge(f"mmvideoiq_{name}", what, registry=self._registry).set_function(value)

    def request(self, *, method: str, route: str, status: int) -> None:
        self._requests.labels(method, route, str(status)).inc()

    def video(self, status: int, answer: Mapping | None = None) -> None:
        """A video's status, and where it was recognized its answer."""
        self._videos.labels(str(status)).inc()
        if answer is not None:
            for action in answer["actions"]:
                self._frames.labels(action).inc()
            for part, ms in answer["ms"].items():
                self._seconds.labels(part).observe(ms / 1e3)

    def text(self) -> bytes:
        return text_of(self._registry)
