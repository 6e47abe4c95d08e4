"""One purge: page by page, rows are read, proven, and deleted in small transactions.

Nothing is remembered from one purge to the next: what was deleted is gone, so a purge that was
killed is gone on with by another one. A row is deleted only as it was read (its version is
looked at by the statement that deletes), and only while the files that prove it are live.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from datetime import time as midnight
from typing import Final

import pyarrow as pa

from archiver import clock
from archiver.archive import Archive
from archiver.database.base import KEY, POSITION
from archiver.database.cursor import Cursor
from archiver.database.old import OldRows, Outcome
from archiver.database.open import open_old_rows
from archiver.database.settings import Database
from archiver.errors import CommitConflictError, ConfigError, SourceError
from archiver.index.known import Background
from archiver.index.reading import FileVanishedError
from archiver.progress import Progress, Silent
from archiver.purge.proof import Proof, Row
from archiver.purge.report import PurgeReport, Reason
from archiver.purge.verified import VerifiedFiles
from archiver.sources.database import known_cursor
from archiver.spans import Span
from archiver.validate import Rules

log = logging.getLogger("archiver.purge")

BATCH_ROWS: Final = 1_000
_PAGE_ROWS: Final = 50_000
_SMALLEST_PAGE: Final = 1_000
_PAGE_BYTES: Final = 64 << 20
_TRIES: Final = 10
_MOST_COUNTED: Final = 1_000_000
_STAYS: Final[dict[Outcome, Reason]] = {
    "changed": "changed_since",
    "locked": "locked",
    "kept": "kept_by_database",
}


def purge(
    archive: Archive,
    source: Database,
    older_than: Span,
    *,
    rules: Rules | None = None,
    dry_run: bool = False,
    limit: int | None = None,
    batch_rows: int = BATCH_ROWS,
    without_excluded: bool = False,
    progress: Progress | None = None,
    report: PurgeReport | None = None,
) -> PurgeReport:
    """Delete the rows of `source` that are older than `older_than` and archived, every member of them.

    Args:
        older_than: Counted in whole UTC days: rows before midnight of the day this long ago.
        rules: By which rows of the source are judged, to say what is in quarantine.
        dry_run: Look at the same rows, verify the same files, and delete nothing.
        limit: Of rows to be deleted.
        batch_rows: How many a transaction deletes at most.
        without_excluded: Columns that are not archived may go with the rows.
        report: Is filled as the purge goes on, and holds what was deleted if an error ends it.

    Raises:
        ConfigError: The settings do not allow it.
        SourceError: The database refused, or is another one than was archived.
        IntegrityError: A data file is not what the ledger says. None of its rows was deleted.
        CommitConflictError: The archive was compacted again and again meanwhile.
    """
    report = report or PurgeReport(source.name)
    report.dry_run = dry_run
    if not source.purge and not dry_run:
        raise ConfigError(
            f"source {source.name}: nothing may be deleted from it",
            hint=f"write purge = true under [sources.{source.name}]: then `archiver purge` deletes rows there"
            " that are archived and old enough; --dry-run tells which",
        )
    began = time.monotonic()
    rows = open_old_rows(source, deletes=not dry_run)
    try:
        _check_left_out(source, rows, report, is_allowed=without_excluded or dry_run)
        said = archive.ledger.snapshot.cursors.get(source.name)
        if said is None:
            raise SourceError(
                f"source {source.name}: no row of it was archived yet",
                hint="`archiver run` archives them; only then they can be purged",
            )
        upto = known_cursor(source.name, rows, said)
        work = _Purge(archive, source, rows, upto, older_than, rules or Rules(source.name), report)
        work.limit, work.batch_rows, work.telling = limit, batch_rows, progress or Silent()
        work.run()
    finally:
        rows.close()
        report.seconds = time.monotonic() - began
    return report


def _check_left_out(source: Database, rows: OldRows, report: PurgeReport, *, is_allowed: bool) -> None:
    report.not_archived_columns = rows.left_out
    lost = [one for one in rows.left_out if one != rows.position]
    if lost and not is_allowed:
        raise ConfigError(
            f"source {source.name}: these columns are not archived and would go with the rows:"
            f" {', '.join(lost)}",
            hint=f"archive them (take them out of `exclude`, then `archiver run --rewind {source.name}`), or"
            " say --without-excluded",
        )


class _Purge:
    """See `purge`."""

    def __init__(
        self,
        archive: Archive,
        source: Database,
        rows: OldRows,
        upto: Cursor,
        older_than: Span,
        rules: Rules,
        report: PurgeReport,
    ) -> None:
        self.limit: int | None = None
        self.batch_rows = BATCH_ROWS
        self.telling: Progress = Silent()
        day = older_than.before(clock.from_us(clock.now_us()).date())
        report.before, report.upto = day.isoformat(), upto.position
        self._before_us = clock.to_us(datetime.combine(day, midnight(), UTC))
        self._archive = archive
        self._source = source
        self._rows = rows
        self._upto = upto
        self._report = report
        self._verified = VerifiedFiles(archive.store)
        self._proof = Proof(
            archive, self._verified, rules, before_us=self._before_us, layout=rows.layout, keys=rows.keys
        )

    def run(self) -> None:
        after: Cursor | None = None
        tries, has_begun = 0, False
        try:
            while not self._report.stopped and (page := self._page(after)) is not None:
                if not has_begun:
                    self._begin(page)
                    has_begun = True
                if self._work(page):
                    after, tries = self._place(page), 0
                    self.telling.advance(rows=page.num_rows)
                    continue
                # The archive was compacted, or let something expire: the same page, by the new head.
                tries += 1
                if tries > _TRIES:
                    raise CommitConflictError("overtaken by other commits too often", hint="run again")
            self._count_younger()
        finally:
            self.telling.finish()
            self._report.head = self._archive.ledger.snapshot.sequence
            self._report.verified_files, self._report.verified_bytes = (
                len(self._verified.keys),
                self._verified.bytes,
            )

    def _begin(self, page: pa.RecordBatch) -> None:
        if not self._report.dry_run:
            self._archive.identities.prepare(Background(self._archive.ledger.snapshot), self.telling)
        about = self._rows.estimate(self._before_us, self._upto)
        if about is not None:
            about = max(about, page.num_rows)
        self.telling.start("looking" if self._report.dry_run else "purging", None, about)

    def _page(self, after: Cursor | None) -> pa.RecordBatch | None:
        """Return the next rows, as many as are worth holding in memory; None if there are no more."""
        rows = _PAGE_ROWS
        if self.limit is not None:
            rows = min(rows, max(self.limit - self._report.rows, _SMALLEST_PAGE))
        parts: list[pa.RecordBatch] = []
        with self._rows.old_rows(self._before_us, after, self._upto, rows) as batches:
            for batch in batches:
                parts.append(batch)
                if sum(part.nbytes for part in parts) >= _PAGE_BYTES:
                    break
        return pa.concat_batches(parts) if parts else None

    def _place(self, page: pa.RecordBatch) -> Cursor:
        last = page.num_rows - 1
        key = tuple(page[f"{KEY}{number}"][last].as_py() for number in range(self._rows.keys))
        return self._upto.at(page[POSITION][last].as_py(), key)

    def _work(self, page: pa.RecordBatch) -> bool:
        """Prove a page and delete what may go; False if it has to be looked at again, by a newer head."""
        ledger, report = self._archive.ledger, self._report
        seen = ledger.snapshot.sequence
        try:
            rows = self._proof.prove(page)
        except FileVanishedError as error:
            error.hold_against(ledger.refresh())
            return False
        until = self._until(rows)
        going = [row for row in rows[:until] if row.reason is None]
        for start in range(0, len(going), self.batch_rows):
            part = going[start : start + self.batch_rows]
            if not report.dry_run:
                if not self._are_live(part, seen):
                    return False
                part = self._delete(part)
            for row in part:
                report.deleted[row.workspace, row.day] = report.deleted.get((row.workspace, row.day), 0) + 1
        for row in rows[:until]:
            if row.reason is not None:
                report.stay(row.reason, example=None if row.reason == "too_new" else row.example)
        report.position = page[POSITION][until - 1].as_py()
        if self.limit is not None and report.rows >= self.limit:
            report.stopped = "limit"
        return True

    def _until(self, rows: Sequence[Row]) -> int:
        """Return how many rows may be looked at, so that no more than the limit are deleted."""
        if self.limit is None:
            return len(rows)
        left = self.limit - self._report.rows
        for number, row in enumerate(rows):
            left -= row.reason is None
            if left == 0:
                return number + 1
        return len(rows)

    def _are_live(self, rows: Sequence[Row], seen: int) -> bool:
        """Say whether the files that prove these rows are live at the head of this moment.

        Args:
            seen: Sequence of the head at which they were.
        """
        head = self._archive.ledger.refresh()
        keys = {key for row in rows for key in row.files}
        return head.sequence == seen or len(head.files.find(keys)) == len(keys)

    def _delete(self, rows: Sequence[Row]) -> list[Row]:
        """Delete in one transaction; return the rows that are deleted, and note of the others why not."""
        outcomes = self._rows.delete([row.key for row in rows], [row.version for row in rows])
        deleted = []
        for row, outcome in zip(rows, outcomes, strict=True):
            if outcome == "deleted":
                deleted.append(row)
            elif outcome == "gone":
                self._report.gone += 1
            else:
                row.reason = _STAYS[outcome]
        self._report.transactions += bool(deleted)
        return deleted

    def _count_younger(self) -> None:
        try:
            found = self._rows.younger(self._before_us, self._upto, _MOST_COUNTED)
        except SourceError as error:
            log.warning("how many rows are too new could not be counted: %s", error.message)
        else:
            if found:
                self._report.stay("too_new", found)
