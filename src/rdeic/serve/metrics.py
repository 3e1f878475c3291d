"""What a server counts, for Prometheus. None of it tells anything of a picture's content."""

from __future__ import annotations

from collections.abc import Callable

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    ProcessCollector,
    generate_latest,
)

_SECONDS = (0.1, 0.25, 0.5, 1, 2, 4, 8, 15, 30, 60, 120, 300)
MEDIA_TYPE = "text/plain; version=0.0.4; charset=utf-8"


class Meters:
    """The counters, gauges and histograms of one server."""

    def __init__(self) -> None:
        self._registry = registry = CollectorRegistry()
        ProcessCollector(registry=registry)
        self._requests = Counter(
            "rdeic_requests", "Answers, by path and status.", ("path", "status"), registry=registry
        )
        self._wait = Histogram(
            "rdeic_wait_seconds",
            "From a place to a turn.",
            ("operation",),
            registry=registry,
            buckets=_SECONDS,
        )
        self._work = Histogram(
            "rdeic_work_seconds", "Of a turn.", ("operation",), registry=registry, buckets=_SECONDS
        )
        self._waiting = Gauge("rdeic_waiting", "Requests with a place and without a turn.", registry=registry)
        self._working = Gauge("rdeic_working", "Requests whose turn it is.", registry=registry)
        self._bytes = Counter(
            "rdeic_bytes", "Of pictures and files, in bodies and answers.", ("direction",), registry=registry
        )

    def watch(self, waiting: Callable[[], int], working: Callable[[], int]) -> None:
        """Sets the functions that count waiting and working requests."""
        self._waiting.set_function(waiting)
        self._working.set_function(working)

    def answered(self, path: str, status: int) -> None:
        """Counts one answer, by path and status."""
        self._requests.labels(path, str(status)).inc()

    def worked(self, operation: str, waited: float, worked: float) -> None:
        """Adds one turn: seconds waited and seconds worked."""
        self._wait.labels(operation).observe(waited)
        self._work.labels(operation).observe(worked)

    def received(self, size: int) -> None:
        """Counts bytes of a picture or file that came in."""
        self._bytes.labels("in").inc(size)

    def sent(self, size: int) -> None:
        """Counts bytes of a picture or file that went out."""
        self._bytes.labels("out").inc(size)

    def text(self) -> bytes:
        """Everything, in Prometheus' text format."""
        return generate_latest(self._registry)
