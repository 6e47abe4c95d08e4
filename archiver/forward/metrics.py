"""How destinations stand, as metrics in a text file; the text is that of `archiver.exposition`."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Final

from archiver import clock, durable
from archiver.archive import Archive
from archiver.config import Settings
from archiver.errors import ArchiverError
from archiver.exposition import READABLE_BY_ALL, Family, exposition
from archiver.forward.standing import OpenArchive, Standing, standings

log = logging.getLogger("archiver.forward")

WRITE_SECONDS: Final = 15.0

# Name, what it tells, and its value; None: it has none now.
_Told = tuple[str, str, Callable[[Standing, int], float | None]]

_FAMILIES: Final[tuple[_Told, ...]] = (
    (
        "lag_events",
        "Events that it has not taken, as far as they were counted; its filters are not applied.",
        lambda one, _: None if one.lag is None else one.lag.events,
    ),
    (
        "lag_seconds",
        "Since the oldest of them was received, or committed; 0 if there is none.",
        lambda one, _: None if one.lag is None else one.lag.seconds,
    ),
    (
        "lag_is_complete",
        "0: there are more events than were counted, which is bounded.",
        lambda one, _: None if one.lag is None else one.lag.is_complete,
    ),
    (
        "waiting_bytes",
        "Bytes of the segments in its folders.",
        lambda one, _: None if one.lag is None else one.lag.bytes,
    ),
    (
        "reads_ledger",
        "Whether its events come from the archive, and not from its folders: 1 or 0.",
        lambda one, _: one.reads_ledger,
    ),
    ("taken_events", "Events that it took since it began.", lambda one, _: one.tally.taken),
    ("taken_bytes", "Bytes of them, in its form.", lambda one, _: one.tally.bytes),
    (
        "filtered_events",
        "Events that its filters left out since it began.",
        lambda one, _: one.tally.filtered,
    ),
    (
        "invalid_events",
        "Elements that are no valid event, and are in quarantine, since it began.",
        lambda one, _: one.tally.invalid,
    ),
    ("requests", "Requests since it began.", lambda one, _: one.tally.requests),
    ("retries", "Requests that repeated something, since it began.", lambda one, _: one.tally.retries),
    ("dead_letters", "Events that became dead letters since it began.", lambda one, _: one.tally.dead),
    (
        "dead_letters_waiting",
        "Dead letters that wait for somebody to look at them, at most 100,000.",
        lambda one, _: one.dead_letters,
    ),
    (
        "circuit_is_open",
        "Whether it failed so often that one event at a time is tried, or needs mending: 1 or 0.",
        lambda one, _: one.tally.is_open,
    ),
    (
        "failing_seconds",
        "For how long its requests have failed; 0 if the last one went well.",
        lambda one, now_us: one.failing_seconds(now_us),
    ),
    (
        "last_taken_timestamp_seconds",
        "When it last took an event, in seconds since 1970; absent before the first one.",
        lambda one, _: None if one.tally.taken_us is None else one.tally.taken_us / 1_000_000,
    ),
)


_OF_FILES: Final = frozenset(
    {
        "lag_events",
        "lag_seconds",
        "lag_is_complete",
        "waiting_bytes",
        "reads_ledger",
        "dead_letters_waiting",
    }
)


def destination_families(found: Sequence[Standing], now_us: int) -> Iterator[Family]:
    """Yield every metric of destinations. Of what could not be read there is no sample."""
    yield Family(
        "archiver_forward_timestamp_seconds",
        "When the destinations were looked at, in seconds since 1970.",
        [({}, now_us / 1_000_000)],
    )
    for name, told, value_of in _FAMILIES:
        samples = [
            ({"destination": one.name, "type": one.kind}, float(value))
            for one in found
            if (one.tally_is_known or name in _OF_FILES) and (value := value_of(one, now_us)) is not None
        ]
        yield Family(f"archiver_forward_{name}", told, samples)


def families_of(settings: Settings, open_archive: OpenArchive | None = None) -> list[Family]:
    """Return the metrics of the configured destinations as they are now; none if there is no destination."""
    if not settings.destinations:
        return []
    now_us = clock.now_us()
    return list(destination_families(standings(settings, open_archive, now_us=now_us), now_us))


class MetricsFile:
    """Leaves the destinations' metrics in a file, again and again while they are served.

    Args:
        path: Of the file.
        open_archive: Called when a destination reads the ledger; the archive is kept then.
    """

    def __init__(self, path: Path, settings: Settings, open_archive: OpenArchive) -> None:
        self._path = path
        self._settings = settings
        self._open_archive = open_archive
        self._archive: Archive | None = None
        self._written_at = -math.inf

    def look(self) -> None:
        """Write it if that was some seconds ago. That it cannot be written is logged, and stops nothing."""
        if time.monotonic() - self._written_at < WRITE_SECONDS:
            return
        try:
            self.write()
        except ArchiverError as error:
            log.warning("%s", error.message)

    def write(self) -> None:
        """Write it now, whole or not at all, readable by all users.

        Raises:
            ArchiverError: It cannot be written. What was there is still there.
        """
        text = exposition(families_of(self._settings, self._opened))
        try:
            durable.replace(self._path, text.encode(), mode=READABLE_BY_ALL)
        except OSError as error:
            raise ArchiverError(
                f"{self._path}: the metrics cannot be written: {error.strerror}",
                hint="what was forwarded is forwarded; let this user write in its folder",
            ) from error
        finally:
            self._written_at = time.monotonic()

    def _opened(self) -> Archive:
        if self._archive is None:
            self._archive = self._open_archive()
        else:
            self._archive.ledger.refresh()
        return self._archive
