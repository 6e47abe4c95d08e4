"""What a receiver counts, in the OpenMetrics text format."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Final

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.openmetrics.exposition import CONTENT_TYPE_LATEST, generate_latest
from prometheus_client.registry import Collector

from archiver.sources.names import printable

CONTENT_TYPE: Final = CONTENT_TYPE_LATEST
_FSYNC_BUCKETS: Final = (0.0002, 0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)
_GROUP_BUCKETS: Final = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024)

OUTCOMES: Final = ("stored", "unauthorized", "too_large", "unavailable", "disconnected")


class Metrics:
    """The registry and everything in it. One for each receiver."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._streams: list[StreamMetrics] = []
        self._publishing = threading.Lock()
        self._deliveries = Counter(
            "archiver_deliveries",
            "Deliveries by outcome; `stored` ones were answered 2xx.",
            ("stream", "outcome"),
            registry=self.registry,
        )
        self._bytes = Counter(
            "archiver_delivery_bytes", "Bytes of stored bodies.", ("stream",), registry=self.registry
        )
        self._refused = Counter(
            "archiver_refused_requests",
            "Requests for no stream, by status.",
            ("status",),
            registry=self.registry,
        )
        for status in (404, 405):
            self._refused.labels(str(status))
        self._fsync = Histogram(
            "archiver_fsync_seconds",
            "Time of one fsync of a live segment.",
            ("spool",),
            buckets=_FSYNC_BUCKETS,
            registry=self.registry,
        )
        self._group = Histogram(
            "archiver_deliveries_per_fsync",
            "Deliveries that shared one fsync.",
            ("spool",),
            buckets=_GROUP_BUCKETS,
            registry=self.registry,
        )
        self._failures = Counter(
            "archiver_spool_failures",
            "Writes or fsyncs that failed; their deliveries were answered 503.",
            ("spool",),
            registry=self.registry,
        )
        self._sealed = Counter(
            "archiver_segments_sealed",
            "Segments given to their consumers.",
            ("spool",),
            registry=self.registry,
        )
        self._missed = Counter(
            "archiver_consumer_links_missed",
            "Segments that a folder under consumers/ did not take; the archive has them.",
            ("spool",),
            registry=self.registry,
        )
        self._free = Gauge(
            "archiver_spool_free_bytes", "Room on the spool's disk.", ("spool",), registry=self.registry
        )

    def of_stream(self, name: str) -> StreamMetrics:
        """Return the counters of one stream, each at zero from the start."""
        found = StreamMetrics(
            {outcome: self._deliveries.labels(name, outcome) for outcome in OUTCOMES},
            self._bytes.labels(name),
        )
        self._streams.append(found)
        return found

    def of_spool(self, folder: Path) -> SpoolMetrics:
        """Return what is counted of one spool."""
        spool = printable(str(folder))
        return SpoolMetrics(
            self._fsync.labels(spool),
            self._group.labels(spool),
            self._failures.labels(spool),
            self._sealed.labels(spool),
            self._missed.labels(spool),
            self._free.labels(spool),
        )

    def observe(self, gauges: Collector) -> None:
        """Also tell what is asked for only when somebody wants to know."""
        self.registry.register(gauges)

    def refused(self, status: int) -> None:
        """Count a request that was for no stream."""
        self._refused.labels(str(status)).inc()

    def text(self) -> bytes:
        """Return everything in the OpenMetrics format."""
        with self._publishing:
            for stream in self._streams:
                stream.publish()
            text: bytes = generate_latest(self.registry)  # type: ignore[no-untyped-call]
        return text


class StreamMetrics:
    """Counters of one stream, used by the event loop alone.

    Plain numbers until somebody asks: two counters of the registry, each with its lock, cost a
    tenth of all that a delivery takes.
    """

    __slots__ = ("_bytes", "_counts", "_outcomes", "_published", "_stored_bytes")

    def __init__(self, outcomes: dict[str, Counter], stored_bytes: Counter) -> None:
        self._outcomes = outcomes
        self._bytes = stored_bytes
        self._counts = dict.fromkeys(outcomes, 0)
        self._stored_bytes = 0
        self._published = (dict(self._counts), 0)

    def count(self, outcome: str, stored_bytes: int = 0) -> None:
        """Count a delivery by what became of it."""
        self._counts[outcome] += 1
        self._stored_bytes += stored_bytes

    def publish(self) -> None:
        """Bring the registry's counters to what was counted. From any thread, one at a time."""
        counts, stored_bytes = dict(self._counts), self._stored_bytes
        before, bytes_before = self._published
        for outcome, count in counts.items():
            self._outcomes[outcome].inc(count - before[outcome])
        self._bytes.inc(stored_bytes - bytes_before)
        self._published = (counts, stored_bytes)


class SpoolMetrics:
    """Counters of one spool, used by its writer's thread."""

    __slots__ = ("_failures", "_free", "_fsync", "_group", "_missed", "_sealed")

    def __init__(
        self,
        fsync: Histogram,
        group: Histogram,
        failures: Counter,
        sealed: Counter,
        missed: Counter,
        free: Gauge,
    ) -> None:
        self._fsync = fsync
        self._group = group
        self._failures = failures
        self._sealed = sealed
        self._missed = missed
        self._free = free

    def synced(self, seconds: float, deliveries: int) -> None:
        self._fsync.observe(seconds)
        self._group.observe(deliveries)

    def failed(self) -> None:
        self._failures.inc()

    def sealed(self) -> None:
        self._sealed.inc()

    def missed(self, consumers: int) -> None:
        self._missed.inc(consumers)

    def free(self, count: int) -> None:
        self._free.set(count)
