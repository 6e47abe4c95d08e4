"""A database held against the archive: is every row that was due archived, and what lies only there?

First the counts by workspace and day: of the database by one statement, of the archive by the
ledger's list of files, so that where they agree no data file is read. Where they differ, ids
decide. An event lies under the day of its delivery, a row under that of its `created_at`, so an
id that is not found under its day is looked for within the identity window.

What is compared is whether a row's *identity* is archived. Whether the archive says all that the
row says, `archiver purge` finds out before it deletes anything.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable, Mapping
from datetime import UTC, date, datetime
from typing import Final

from archiver import clock
from archiver.archive import Archive
from archiver.config import Retention
from archiver.database.base import Rows
from archiver.database.open import open_rows
from archiver.database.settings import Database
from archiver.errors import CommitConflictError, ConfigError, SourceError
from archiver.index.reading import FileVanishedError
from archiver.partition import DAY_US
from archiver.progress import Progress, Silent
from archiver.reconcile.archived import ArchivedEvents, At
from archiver.reconcile.comparison import Comparison
from archiver.reconcile.portions import divided
from archiver.reconcile.quarantined import quarantined_rows
from archiver.reconcile.repair import repair as repair_rows
from archiver.reconcile.report import LISTED_DAYS, Place, ReconcileReport, Repair, Row, day_text
from archiver.sources.database import known_cursor
from archiver.validate import Rules

__all__ = ["DEFAULT_DAYS", "Place", "ReconcileReport", "Repair", "Row", "day_text", "reconcile"]

log = logging.getLogger(__name__)

DEFAULT_DAYS: Final = 30
_TRIES: Final = 5
_EPOCH: Final = date(1970, 1, 1).toordinal()
_FIRST_DAY, _LAST_DAY = date.min.toordinal() - _EPOCH, date.max.toordinal() - _EPOCH


def reconcile(
    archive: Archive,
    source: Database,
    *,
    since_us: int | None = None,
    until_us: int | None = None,
    every_id: bool = False,
    rules: Rules | None = None,
    retention: Retention | None = None,
    limit: int = 20,
    progress: Progress | None = None,
) -> ReconcileReport:
    """Compare the rows of `source` that were due with what is archived, by workspace and UTC day.

    Args:
        since_us, until_us: From the day of this moment on, and up to the end of the day before that one
            (µs since 1970); by default the last 30 days and today.
        every_id: Compare ids everywhere, since equal counts may hide one row missing and one too many.
        rules: Archive what is missing, judged by these; None only reports.
        retention: What it lets expire is not missed.
        limit: How many missing rows, and events that only the archive has, the report tells in full.

    Raises:
        ConfigError: The settings do not fit the database.
        SourceError: The database cannot be read, was never read, or is another than the cursor's.
        CommitConflictError: Others changed the archive too often meanwhile.
    """
    today = clock.now_us() // DAY_US
    since_day = today - DEFAULT_DAYS + 1 if since_us is None else since_us // DAY_US
    until_day = today + 1 if until_us is None else -(-until_us // DAY_US)
    # One day on either side is looked at, too, and has to be a day of the calendar.
    days = max(since_day, _FIRST_DAY + 1), min(until_day, _LAST_DAY - 1)
    if days[0] >= days[1]:
        raise ConfigError(
            "there is no day from `since` to `until`", hint="the day of `until` is not included"
        )
    started = time.monotonic()
    rows = open_rows(source)
    try:
        for _ in range(_TRIES):
            archive.ledger.refresh()
            work = _Work(archive, source, rows, days, limit, progress or Silent(), every_id=every_id)
            try:
                report = work.compare(retention or Retention())
            except FileVanishedError as error:
                error.hold_against(archive.ledger.refresh())
                log.info("beginning anew: %s", error.message)
                continue
            if rules is not None:
                report.repair = work.repair(rules)
            report.seconds = time.monotonic() - started
            return report
    finally:
        rows.close()
    raise CommitConflictError("the archive's files were replaced too often meanwhile", hint="run again")


class _Work:
    """One comparison, with one snapshot of the ledger."""

    def __init__(
        self,
        archive: Archive,
        source: Database,
        rows: Rows,
        days: tuple[int, int],
        limit: int,
        progress: Progress,
        *,
        every_id: bool,
    ) -> None:
        self._archive = archive
        self._source = source
        self._rows = rows
        self._progress = progress
        self._since, self._until = days
        head = archive.ledger.snapshot
        said = head.cursors.get(source.name)
        if said is None:
            raise SourceError(
                f"source {source.name}: the archive holds no cursor of it: it was never read",
                hint="`archiver run` reads it; nothing can be missing before that",
            )
        cursor = known_cursor(source.name, rows, said)
        self._report = ReconcileReport(source.name, *days, head.sequence, cursor.position, every_id)
        # The ledger first: what is due by its cursor was committed by then.
        self._events = ArchivedEvents.of(archive, *days)
        self._quarantined = quarantined_rows(archive, source.name)
        self._comparison = Comparison(
            rows, cursor, self._events, self._quarantined, self._report, progress, limit
        )

    def compare(self, retention: Retention) -> ReconcileReport:
        """Compare counts, then ids where they differ, or everywhere."""
        counted = self._counted()
        places = [one for one in counted.values() if self._is_asked(one, retention)]
        chosen = []
        for place in places:
            if place.due == place.archived == 0:
                place.quarantined = 0  # what is in quarantine has left the database
            elif self._report.every_id or (not place.agrees and not _is_absent(place, counted)):
                chosen.append(place)
            elif not place.agrees:
                self._comparison.count_only(place)
        self._progress.start(f"comparing ids of {self._source.name}", None)
        try:
            for portion in divided(chosen):
                self._comparison.compare(portion)
        finally:
            self._progress.finish()
        self._sum_up(places, len(chosen))
        return self._report

    def _counted(self) -> dict[At, Place]:
        """Return what is where, one day before and after those that are compared included."""
        places: dict[At, Place] = {}

        def at(workspace: str | None, day: int) -> Place:
            return places.setdefault((workspace, day), Place(workspace, day))

        for workspace, day in self._events.files:
            at(workspace, day).archived = self._events.count((workspace, day))
        for (workspace, day), count in self._quarantined.counts.items():
            at(workspace, day).quarantined = count
        self._progress.start(f"counting rows of {self._source.name}", None)
        try:
            since_us, until_us = (self._since - 1) * DAY_US, (self._until + 1) * DAY_US
            for one in self._rows.by_time().counts(since_us, until_us, self._comparison.cursor):
                place = at(one.workspace, one.day)
                place.due, place.waiting = one.due, one.waiting
                self._progress.advance(rows=one.due)
        finally:
            self._progress.finish()
        return places

    def _is_asked(self, place: Place, retention: Retention) -> bool:
        """Whether a place lies in the days that are compared; note it if retention lets it expire."""
        if not self._since <= place.day < self._until:
            return False
        span = retention.span_for("events", place.workspace)
        if span is None or place.day >= span.before(datetime.now(UTC).date()).toordinal() - _EPOCH:
            return True
        self._report.retained += 1
        return False

    def _sum_up(self, places: Iterable[Place], compared: int) -> None:
        report = self._report
        report.compared = compared
        for one in places:
            report.places += 1
            report.database += one.due
            report.waiting += one.waiting
            report.archived += one.archived
            report.quarantined += one.quarantined
            report.missing += one.missing
            report.only_archived += one.only_archived
            if one.missing or one.only_archived:
                report.days.append(one)
        report.days.sort(key=lambda one: (one.missing == 0, one.day, one.workspace or ""))
        del report.days[LISTED_DAYS:]

    def repair(self, rules: Rules) -> Repair:
        """Archive what was missing, as many rows as one call takes."""
        done = repair_rows(
            self._archive,
            self._source,
            self._rows,
            self._comparison.passed_over,
            rules=rules,
            progress=self._progress,
        )
        done.left = self._report.missing - done.counts.read - done.gone
        return done


def _is_absent(place: Place, counted: Mapping[At, Place]) -> bool:
    """Whether the database has no rows of a workspace on a day and on the days next to it.

    Then it has none of its events, and nobody needs to ask for each: they were purged, or came by webhook.
    """
    near = (counted.get((place.workspace, day)) for day in range(place.day - 1, place.day + 2))
    return not any(one is not None and (one.due or one.waiting) for one in near)
