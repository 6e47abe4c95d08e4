"""What a receiver is like at the moment when somebody asks: its spools, streams and connections."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from archiver import clock
from archiver.activity import Activity
from archiver.sources.names import printable
from archiver.sources.waiting import Waiting

if TYPE_CHECKING:
    from archiver.receiver.guard import Guard
    from archiver.receiver.lookout import Lookout
    from archiver.receiver.writer import SpoolWriter
    from archiver.streams import Stream


class Gauges(Collector):
    """Reads the receiver's parts; asks no disk: `lookout.look` has done that.

    Args:
        streams: As configured; the only names that a label may have.
        is_stopping: Whether the receiver refuses because it ends.
    """

    def __init__(
        self,
        streams: Mapping[str, Stream],
        writers: Sequence[SpoolWriter],
        guard: Guard,
        lookout: Lookout,
        is_stopping: Callable[[], bool],
    ) -> None:
        self._streams = streams
        self._writers = writers
        self._guard = guard
        self._lookout = lookout
        self._is_stopping = is_stopping

    def describe(self) -> Iterable[Metric]:
        """Tell nothing beforehand: the registry then asks nobody when this is registered."""
        return ()

    def collect(self) -> Iterator[Metric]:
        yield from self._of_connections()
        yield from self._of_writers()
        yield from self._of_streams(clock.now_us())
        yield from self._of_backlogs(clock.now_us())

    def _of_connections(self) -> Iterator[Metric]:
        yield GaugeMetricFamily(
            "archiver_connections", "Open connections.", value=len(self._guard.connections)
        )
        yield CounterMetricFamily(
            "archiver_connections_turned_away",
            "Connections that were closed without an answer: too slow, too long, too many.",
            value=self._guard.turned_away,
        )

    def _of_writers(self) -> Iterator[Metric]:
        ready = _of_spools(
            "archiver_is_ready", "Whether a delivery for this spool would be taken: 1 or 0, as /readyz."
        )
        waiting = _of_spools(
            "archiver_deliveries_waiting", "Deliveries that were taken and are not durable yet."
        )
        size = _of_spools("archiver_deliveries_waiting_bytes", "Bytes of their bodies.")
        for writer in self._writers:
            label = [printable(str(writer.folder))]
            takes = writer.reason_not_ready is None and not self._is_stopping()
            ready.add_metric(label, float(takes))
            waiting.add_metric(label, writer.waiting)
            size.add_metric(label, writer.waiting_bytes)
        yield from (ready, waiting, size)

    def _of_streams(self, now_us: int) -> Iterator[Metric]:
        silent = _of_stream(
            "archiver_stream_silent_seconds",
            "Seconds since the last delivery that was stored; before the first one, since somebody listens.",
        )
        last = _of_stream(
            "archiver_stream_last_delivery_timestamp_seconds",
            "When the last delivery was stored, in seconds since 1970; absent before the first one.",
        )
        allowed = _of_stream(
            "archiver_stream_silent_after_seconds",
            "For how long it may be silent, as configured; absent without.",
        )
        for name, stream in self._streams.items():
            heard = self._heard(name, now_us)
            if heard is not None:
                silent.add_metric([name], heard.silent_seconds(now_us))
                if heard.last_delivery_at is not None:
                    last.add_metric([name], heard.last_delivery_at / 1_000_000)
            if stream.silent_after_seconds is not None:
                allowed.add_metric([name], stream.silent_after_seconds)
        yield from (silent, last, allowed)

    def _heard(self, stream: str, now_us: int) -> Activity | None:
        """Join what this receiver heard with what others noted, and it itself before its last start."""
        noted = self._lookout.seen.heard.get(stream)
        writer = next((one for one in self._writers if stream in one.streams), None)
        if writer is None:
            return noted
        own = writer.last_heard_us(stream)
        times = [own] if own is not None else []
        # What was noted before the clock was set back would hide any silence.
        if noted is not None and noted.last_delivery_at is not None and not noted.is_ahead(now_us):
            times.append(noted.last_delivery_at)
        since = writer.started_us if noted is None else noted.listening_since
        return Activity(stream, since, max(times, default=None))

    def _of_backlogs(self, now_us: int) -> Iterator[Metric]:
        seen = self._lookout.seen
        archive = [
            _of_spools("archiver_backlog_files", "Sealed files that the archive has not taken."),
            _of_spools("archiver_backlog_bytes", "Bytes of these files."),
            _of_spools("archiver_backlog_oldest_seconds", "Age of the oldest of them; 0 if there is none."),
            _of_spools(
                "archiver_backlog_is_complete", "0: there are more files than are counted, which bounds it."
            ),
        ]
        consumer = [
            _of_consumers("archiver_consumer_backlog_files", "Files that this consumer has not taken."),
            _of_consumers("archiver_consumer_backlog_bytes", "Bytes of these files."),
            _of_consumers(
                "archiver_consumer_backlog_oldest_seconds", "Age of the oldest of them; 0 if there is none."
            ),
            _of_consumers(
                "archiver_consumer_backlog_is_complete",
                "0: there are more files than are counted, or the folder cannot be read.",
            ),
        ]
        segments = _of_spools("archiver_live_segments", "Segments that grow, or that dead receivers left.")
        size = _of_spools("archiver_live_segment_bytes", "Bytes of these segments.")
        for folder, found in seen.waiting.items():
            spool = printable(str(folder))
            _add(archive, [spool], found.archive, now_us)
            for name, waiting in found.consumers.items():
                _add(consumer, [spool, name], waiting, now_us)
            segments.add_metric([spool], found.live_segments)
            size.add_metric([spool], found.live_bytes)
        yield from (*archive, *consumer, segments, size)
        yield GaugeMetricFamily(
            "archiver_backlog_counted_seconds",
            "How long ago the files were counted; grows while the disk does not answer.",
            value=time.monotonic() - seen.at,
        )


def _add(families: list[GaugeMetricFamily], labels: list[str], waiting: Waiting, now_us: int) -> None:
    values = (waiting.files, waiting.bytes, waiting.oldest_seconds(now_us), float(waiting.is_complete))
    for family, value in zip(families, values, strict=True):
        family.add_metric(labels, value)


def _of_spools(name: str, told: str) -> GaugeMetricFamily:
    return GaugeMetricFamily(name, told, labels=("spool",))


def _of_consumers(name: str, told: str) -> GaugeMetricFamily:
    return GaugeMetricFamily(name, told, labels=("spool", "consumer"))


def _of_stream(name: str, told: str) -> GaugeMetricFamily:
    return GaugeMetricFamily(name, told, labels=("stream",))
