"""A database as a source: rows behind the cursor that the ledger holds, page by page.

The cursor lives in the ledger and moves with each commit, so nothing needs to be acknowledged.
A batch can be read once: what else happens, the next batch begins at the ledger's cursor again,
and rows that were archived meanwhile are duplicates.
"""

from __future__ import annotations

import logging
import secrets
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from archiver import clock
from archiver.block import RowBlock
from archiver.database.base import KEY, POSITION, Bound, Rows
from archiver.database.cursor import Cursor
from archiver.database.old import OldRows
from archiver.database.open import open_rows
from archiver.database.settings import Database
from archiver.errors import SourceError
from archiver.sources.base import Backlog, Input, InputChangedError, batch_name

log = logging.getLogger("archiver.run")

BATCH_BYTES: Final = 512 << 20  # of Arrow; a commit holds no more rows than fit
_BLOCK_ROWS: Final = 16_384
_REPLANS: Final = 10
_COUNTED_BEHIND: Final = 1_000_000


@dataclass(slots=True)
class Lag:
    """What a run left in the database, and why.

    Attributes:
        rows: Committed rows that may not be read yet, at most a million are counted.
        seconds: For how long what holds them back has been there.
        why: What it is; empty where nothing is held back.
        position: Of the cursor, as the database writes it; empty before the first row.
    """

    rows: int = 0
    seconds: float = 0.0
    why: str = ""
    position: str = ""

    def to_json(self) -> dict[str, Any]:
        return {
            "rows": self.rows,
            "seconds": round(self.seconds, 1),
            "why": self.why,
            "position": self.position,
        }


class DatabaseSource:
    """See `archiver.sources.base.Source`.

    Args:
        source: Its settings.
        cursor: Returns what the ledger holds for it at the head that was last seen.
        rewind: Begin at the first row, whatever the cursor says; what is archived counts as duplicate.
        counts: Whether somebody wants to know how many rows there are to read: that costs a little.

    Attributes:
        total: About how many rows there are to read, once the first batch is there; None: nobody knows.
    """

    def __init__(
        self, source: Database, cursor: Callable[[], Any], *, rewind: bool = False, counts: bool = False
    ) -> None:
        self.settings = source
        self.lag = Lag()
        self.total: int | None = None
        self._counts = counts
        self._cursor = cursor
        self._rewind = rewind

    @property
    def name(self) -> str:
        return self.settings.name

    def batches(self, base: Callable[[], int]) -> Iterator[DatabaseBatch]:
        """Yield batches until everything below the bound of this moment was taken.

        Rows that come meanwhile are left to the next run, so that a run ends.

        Raises:
            SourceError: The database cannot be read, or is another one than the cursor's.
        """
        rows = open_rows(self.settings)
        try:
            yield from self._batches(rows, base)
        finally:
            rows.close()

    def _batches(self, rows: Rows, base: Callable[[], int]) -> Iterator[DatabaseBatch]:
        sequence = base()
        before = self._cursor()
        after = self._resumed(rows, before)
        bound = rows.bound(after)
        if self._counts:
            self.total = self._count(rows, after)
        replans = 0
        while bound.value is not None:
            batch = DatabaseBatch(self.settings, rows, sequence, before, after, bound)
            if not batch.begin():
                break
            yield batch
            if batch.outcome == "put back":
                replans += 1
                if replans > _REPLANS:
                    raise SourceError(
                        f"source {self.name}: overtaken by other runs {replans} times; run again"
                    )
            elif batch.outcome != "acknowledged":
                return  # the pipeline gave it up, and has said why
            sequence = base()
            before = self._cursor()
            if batch.outcome == "acknowledged" and before is None:
                raise SourceError(f"source {self.name}: the commit left no cursor in the ledger")
            # A batch that was put back begins anew where the ledger is now; a rewind at its own place.
            if batch.outcome == "acknowledged" or not self._rewind:
                after = self._resumed(rows, before, is_first=False)
        self._look_back(rows, after, bound)

    def _resumed(self, rows: Rows, said: Any, *, is_first: bool = True) -> Cursor | None:
        """Return where to go on; refuse a cursor of another database.

        Raises:
            SourceError: It is another one: positions mean something else there.
        """
        if said is None or (self._rewind and is_first):
            return None
        return known_cursor(self.name, rows, said)

    def _count(self, rows: Rows, after: Cursor | None) -> int | None:
        """Return about how many rows a run will read: of a first one as the database estimates it."""
        estimate = rows.estimate() if after is None else None
        if estimate is not None:
            return estimate
        counted = rows.behind(after, Bound(None), _COUNTED_BEHIND)
        return counted if counted < _COUNTED_BEHIND else None

    def _look_back(self, rows: Rows, after: Cursor | None, bound: Bound) -> None:
        """Say what is held back. The run is done; what fails here is no more than a missing number."""
        self.lag = Lag(0, bound.lag_seconds, bound.why, after.position if after else "")
        try:
            self.lag.rows = rows.behind(after, bound, _COUNTED_BEHIND)
        except SourceError as error:
            log.warning("how many rows wait could not be counted: %s", error.message)
        if bound.why and (self.lag.rows or bound.value is None):
            log.warning("source %s: rows wait (%d): %s", self.name, self.lag.rows, bound.why)

    def backlog(self) -> Backlog:
        return Backlog()


def known_cursor(source: str, rows: Rows | OldRows, said: Any) -> Cursor:
    """Return the cursor that the ledger holds, if it is one of this database.

    Raises:
        SourceError: It is of another one: positions mean something else there.
        IntegrityError: It is no cursor.
    """
    cursor = Cursor.from_json(source, said)
    found, known = rows.origin, cursor.origin
    differs = [
        f"{what} {was!r:.80}, now {now!r:.80}"
        for what, was, now in (
            ("strategy", cursor.strategy, rows.strategy),
            ("the server's identifier", known.server, found.server),
            ("its timeline", known.timeline, found.timeline),
            ("the database", known.database, found.database),
            ("the table", known.table, found.table),
            ("key columns", len(cursor.key), rows.keys),
            ("position and key", ", ".join(known.columns), ", ".join(found.columns)),
        )
        if was != now
    ]
    if differs:
        raise SourceError(
            f"source {source}: this is not the database that was read before: {'; '.join(differs)}",
            hint="after a restore, a fail-over or a change of settings positions come again, and rows"
            f" could be passed over: `archiver run --rewind {source}` reads from the first row, and"
            " what is archived counts as duplicate",
        )
    return cursor


@dataclass(slots=True)
class DatabaseBatch:
    """Rows behind a cursor; see `archiver.sources.base.Batch`."""

    settings: Database
    rows: Rows
    base: int
    before: Any
    after: Cursor | None
    bound: Bound
    outcome: str = ""
    batch: str = field(init=False)
    inputs: tuple[Input, ...] = field(init=False)
    _reached: Cursor | None = None
    _open: ExitStack = field(default_factory=ExitStack)
    _stream: Iterator[pa.RecordBatch] | None = None
    _first: pa.RecordBatch | None = None

    def __post_init__(self) -> None:
        self.inputs = (Input(self.settings.name, "", 0),)
        self.batch = batch_name(secrets.token_hex(16), self.inputs)

    def begin(self) -> bool:
        """Open the page; return whether there is a row in it. Where that fails nothing stays open."""
        try:
            self._stream = self._open.enter_context(
                self.rows.page(self.after, self.bound, self.settings.batch_rows)
            )
            self._first = next(self._stream, None)
        except BaseException:
            self.release()
            raise
        if self._first is None:
            self._open.close()
        return self._first is not None

    def read(self) -> Iterator[RowBlock]:
        if self._first is None or self._stream is None:
            raise InputChangedError(f"source {self.settings.name}: rows are read once; planning anew")
        ordinal, size, received_at = 0, 0, clock.now_us()
        fetched: pa.RecordBatch | None = self._first
        self._first = None
        while fetched is not None:
            for start in range(0, fetched.num_rows, _BLOCK_ROWS):
                rows = fetched.slice(start, _BLOCK_ROWS)
                part = rows.slice(0, self._fitting(rows))
                if part.num_rows == 0:
                    if ordinal == 0:
                        raise self._too_large(rows)
                    fetched = None  # what lies before it is archived; the next batch begins with it
                    break
                block = RowBlock(0, part, self.rows.layout, ordinal, received_at, part.nbytes)
                ordinal += part.num_rows
                size += part.nbytes
                self._reached = self._at(part)
                yield block
                if size >= BATCH_BYTES or part.num_rows < rows.num_rows:
                    fetched = None
                    break
            else:
                fetched = next(self._stream, None)
        self._open.close()
        self.inputs = (Input(self.settings.name, "", size),)

    def _at(self, part: pa.RecordBatch, row: int = -1) -> Cursor:
        row %= part.num_rows
        position = part[POSITION][row].as_py()
        key = tuple(part[f"{KEY}{number}"][row].as_py() for number in range(self.rows.keys))
        if position is None or None in key:
            raise SourceError(
                f"source {self.settings.name}: a row came whose position or key is null: no run could go on"
                " behind it",
                hint="leave such rows out in the query, or name other columns; the cursor is where it was",
            )
        return Cursor(self.rows.strategy, self.rows.origin, position, key, self.bound.value or "")

    def _fitting(self, rows: pa.RecordBatch) -> int:
        """Return how many rows, from the first on, are not too large."""
        number: int = rows.num_rows
        if rows.nbytes <= self.settings.max_row_bytes:
            return number
        too_large = np.flatnonzero(self._sizes(rows) > self.settings.max_row_bytes)
        return int(too_large[0]) if len(too_large) else number

    def _sizes(self, rows: pa.RecordBatch) -> np.ndarray:
        sizes = np.zeros(rows.num_rows, np.int64)
        for fetched in self.rows.layout:
            for name in filter(None, (fetched.column, fetched.odd)):
                if pa.types.is_string(rows[name].type):
                    sizes += pc.fill_null(pc.binary_length(rows[name]), 0).to_numpy(zero_copy_only=False)
        return sizes

    def _too_large(self, rows: pa.RecordBatch) -> SourceError:
        at = self._at(rows, 0)
        size = int(self._sizes(rows)[0])
        return SourceError(
            f"source {self.settings.name}: the row at {at.position!r:.80}, key {', '.join(at.key)!r:.99},"
            f" has {size} bytes; max_row_bytes is {self.settings.max_row_bytes}",
            hint="raise max_row_bytes, or leave the large column out with `exclude`; all rows before it were"
            " archived, the cursor is there, and nothing behind it was read",
        )

    def moves(self) -> dict[str, Any]:
        if self._reached is None:
            raise SourceError(f"source {self.settings.name}: nothing was read")
        return {"before": self.before, "after": self._reached.to_json()}

    def acknowledge(self) -> None:
        self._open.close()
        self.outcome = "acknowledged"

    def release(self) -> None:
        self._let_go()
        self.outcome = "released"

    def put_back(self) -> None:
        self._let_go()
        self.outcome = "put back"

    def _let_go(self) -> None:
        with suppress(SourceError):  # the connection may be why it is given up; that has been told
            self._open.close()
