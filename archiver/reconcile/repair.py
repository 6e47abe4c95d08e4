"""Rows that were passed over, brought into the archive: by the way of all rows, the cursor where it is."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import pyarrow as pa

from archiver.archive import Archive
from archiver.database.base import KEY, POSITION, Bound, FactsOfRows, Rows, RowsByTime
from archiver.database.cursor import Cursor
from archiver.database.settings import Database
from archiver.errors import SourceError
from archiver.maintain import after_commits
from archiver.pipeline import run
from archiver.progress import Progress
from archiver.reconcile.report import Repair
from archiver.sources.base import Backlog
from archiver.sources.database import DatabaseBatch
from archiver.validate import Rules

_ASKED_AT_ONCE: Final = 20_000
_SLICE_ROWS: Final = 4_096
_REPLANS: Final = 10

Place = tuple[str, ...]  # position and key


@dataclass(slots=True)
class _Chosen(FactsOfRows):
    """Some rows of a database as if they were all; see `archiver.database.base.Rows`.

    Attributes:
        read: The places of those that were given.
    """

    rows: Rows
    places: Sequence[Place]
    read: set[Place] = field(default_factory=set)

    @contextlib.contextmanager
    def page(self, after: Cursor | None, bound: Bound, limit: int) -> Iterator[Iterator[pa.RecordBatch]]:
        del after, bound, limit
        with self.rows.by_time().by_place(self.places) as batches:
            yield self._noted(batches)

    def _noted(self, batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        names = [POSITION, *(f"{KEY}{number}" for number in range(self.keys))]
        for batch in batches:
            # In small slices: of one that was begun, a batch reads every row, or its first is too large.
            for start in range(0, batch.num_rows, _SLICE_ROWS):
                part = batch.slice(start, _SLICE_ROWS)
                self.read.update(zip(*(part[name].to_pylist() for name in names), strict=True))
                yield part

    def bound(self, cursor: Cursor | None) -> Bound:
        return self.rows.bound(cursor)

    def behind(self, after: Cursor | None, bound: Bound, most: int) -> int:
        return self.rows.behind(after, bound, most)

    def estimate(self) -> int | None:
        return len(self.places)

    def by_time(self) -> RowsByTime:
        return self.rows.by_time()

    def close(self) -> None:
        """Leave the connection open: it is not ours."""


class _Batch(DatabaseBatch):
    """Rows that lie before the cursor; it stays where it is."""

    __slots__ = ()

    def moves(self) -> dict[str, Any]:
        return {}


class PassedOver:
    """The rows at some places as a source; see `archiver.sources.base.Source`.

    Attributes:
        gone: How many of them were not in the database any more.
    """

    def __init__(self, settings: Database, rows: Rows, places: Sequence[Place]) -> None:
        self.settings = settings
        self.gone = 0
        self._rows = rows
        self._places = places

    @property
    def name(self) -> str:
        return self.settings.name

    def batches(self, base: Callable[[], int]) -> Iterator[DatabaseBatch]:
        """Yield batches until all were taken.

        Raises:
            SourceError: The database cannot be read.
        """
        for start in range(0, len(self._places), _ASKED_AT_ONCE):
            left = list(self._places[start : start + _ASKED_AT_ONCE])
            replans = 0
            while left:
                chosen = _Chosen(self._rows, left)
                batch = _Batch(self.settings, chosen, base(), None, None, Bound(""))
                if not batch.begin():
                    self.gone += len(left)
                    break
                yield batch
                if batch.outcome == "put back":
                    replans += 1
                    if replans > _REPLANS:
                        raise SourceError(f"source {self.name}: overtaken by other runs; run again")
                elif batch.outcome != "acknowledged":
                    return  # the pipeline gave it up, and has said why
                else:
                    left = self._not_read(left, chosen)

    def _not_read(self, places: list[Place], chosen: _Chosen) -> list[Place]:
        """Return those that the batch had no room for; by the key, since a row's position may change."""
        keys = {one[1:] for one in chosen.read}
        return [one for one in places if one not in chosen.read and one[1:] not in keys]

    def backlog(self) -> Backlog:
        return Backlog()


def repair(
    archive: Archive,
    settings: Database,
    rows: Rows,
    places: Sequence[Place],
    *,
    rules: Rules,
    progress: Progress,
) -> Repair:
    """Archive the rows at `places`, in commits that leave the source's cursor alone.

    A row that was archived meanwhile is a duplicate, so it does no harm to do this twice.

    Raises:
        StoreError, CommitConflictError, CommitStateUnknownError, IntegrityError: As they say.
    """
    source = PassedOver(settings, rows, places)
    report = run(archive, source, rules=rules, progress=progress)
    if report.commits:
        after_commits(archive, progress)
    return Repair(
        counts=report.counts,
        gone=source.gone,
        reasons=report.reasons,
        commits=report.commits,
        problems=report.problems,
    )
