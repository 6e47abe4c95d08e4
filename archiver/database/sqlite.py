"""Rows of a SQLite table, by their rowids.

SQLite has one writer at a time, so of a table with AUTOINCREMENT rowids ascend in the order of
commits: what a reader sees up to the largest one is all that will ever be there, and none is
given twice. A copy that was restored, or a commit that a power failure took back, gives rowids
again; so the cursor remembers the id and the time of the row it stands on, too.

Source: SQLite's manual, "SQLite Autoincrement" and "Isolation In SQLite".
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

import pyarrow as pa

from archiver import columns
from archiver.database import mapping
from archiver.database.base import Bound
from archiver.database.cursor import Cursor, Origin
from archiver.database.fetched import Layout
from archiver.database.settings import Database, Location
from archiver.database.sqlite_by_time import SqliteByTime
from archiver.database.sqlite_connection import SqliteConnection, connect_sqlite
from archiver.database.sqlite_select import Selection, instant_hint, select
from archiver.database.sqlite_table import SqliteTable, describe, named
from archiver.errors import ConfigError, IntegrityError, SourceError

# Of one statement; between two of them nothing is held open, so no writer and no checkpoint waits long.
_CHUNK_ROWS: Final = 8_192
_CHUNK_BYTES: Final = 32 << 20
_SPAN_ROWS: Final = 65_536
_BEFORE_ALL: Final = -math.inf  # clients may insert any rowid, the smallest of all included

Only = tuple[str, tuple[Any, ...]]  # a condition, and its values
_ALL: Final[Only] = ("1", ())


class RowTooLargeError(SourceError):
    """A row has more bytes than `max_row_bytes`. It was not fetched."""


@dataclass(slots=True)
class SqliteRows:
    """See `archiver.database.base.Rows`. Made by `open_sqlite`."""

    source: Database
    connection: SqliteConnection
    table: SqliteTable
    members: tuple[mapping.Member, ...]
    selection: Selection
    origin: Origin

    @property
    def strategy(self) -> str:
        return "rowid"

    @property
    def layout(self) -> Layout:
        return self.selection.layout

    @property
    def keys(self) -> int:
        return len(self.selection.key)

    @property
    def rowid(self) -> str:
        return named(self.table.rowid)

    def bound(self, cursor: Cursor | None) -> Bound:
        with self.connection.transaction("BEGIN"):
            newest = self._newest()
            if cursor is not None:
                self._check_cursor(cursor, newest)
        return Bound(str(newest + 1))

    @contextlib.contextmanager
    def page(self, after: Cursor | None, bound: Bound, limit: int) -> Iterator[Iterator[pa.RecordBatch]]:
        yield self._up_to_one_too_large(self.chunks(self.first(after), self._last(bound), limit))

    def _up_to_one_too_large(self, chunks: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        """Yield what lies before a row that is too large; the next page begins with that one."""
        is_first = True
        try:
            for chunk in chunks:
                is_first = False
                yield chunk
        except RowTooLargeError:
            if is_first:
                raise

    def behind(self, after: Cursor | None, bound: Bound, most: int) -> int:
        first = max(self.first(after), self._last(bound))
        return int(
            self.connection.value(
                f"SELECT count(*) FROM (SELECT 1 FROM {self.table.relation} WHERE {self.rowid} > ? LIMIT ?)",
                first, most,
            )
        )  # fmt: skip

    def estimate(self) -> int | None:
        smallest, largest = self.connection.rows(
            f"SELECT (SELECT min({self.rowid}) FROM {self.table.relation}),"
            f" (SELECT max({self.rowid}) FROM {self.table.relation})"
        )[0]
        return None if smallest is None else int(largest) - int(smallest) + 1

    def by_time(self) -> SqliteByTime:
        return SqliteByTime(self)

    def close(self) -> None:
        self.connection.close()

    def chunks(
        self,
        after: float,
        last: float,
        limit: int,
        only: Only | None = None,
        more: Sequence[str] = (),
        *,
        is_open: bool = False,
    ) -> Iterator[pa.RecordBatch]:
        """Yield rows with rowids behind `after` and up to `last`, in their order, at most `limit`.

        Args:
            only: Of these only.
            more: Expressions of texts to select besides what a page has, each with its name.
            is_open: Whether a transaction is open already.

        Raises:
            RowTooLargeError: The next row is. Those before it were given.
        """
        while limit > 0:
            with contextlib.nullcontext() if is_open else self.connection.transaction():
                until = self._end_of_chunk(after, last, min(limit, _CHUNK_ROWS), only)
                if until is None:
                    return
                table = self._fetch(after, until, only, more)
            yield self.selection.arranged(table, *(one.rpartition(" ")[2] for one in more))
            after = until
            limit -= table.num_rows

    def _fetch(self, after: float, until: int, only: Only | None, more: Sequence[str]) -> pa.Table:
        where, values = only or _ALL
        return self.connection.fetch(
            f"SELECT {', '.join((*self.selection.expressions, *more))} FROM {self.table.relation}"
            f" WHERE {self.rowid} > ? AND {self.rowid} <= ? AND {where} ORDER BY {self.rowid}",
            _CHUNK_ROWS, after, until, *values,
        )  # fmt: skip

    def spans(self, after: float, last: float) -> Iterator[tuple[float, float]]:
        """Yield (behind, up to) of rowids, each with so few rows that to look at them takes a moment."""
        while True:
            until = self.connection.value(
                f"SELECT max(p) FROM (SELECT {self.rowid} AS p FROM {self.table.relation}"
                f" WHERE {self.rowid} > ? AND {self.rowid} <= ? ORDER BY {self.rowid} LIMIT ?)",
                after, last, _SPAN_ROWS,
            )  # fmt: skip
            if until is None:
                return
            yield after, int(until)
            after = int(until)

    def _end_of_chunk(self, after: float, last: float, limit: int, only: Only | None = None) -> int | None:
        """Return the rowid up to which one statement may read, so that its answer fits into memory.

        SQLite knows the size of a value without reading it.

        Raises:
            RowTooLargeError: Its first row is.
        """
        where, values = only or _ALL
        until, first, size = self.connection.rows(
            f"WITH sized AS (SELECT {self.rowid} AS p, {self.selection.size} AS s,"
            f" {self.selection.whole} AS w FROM {self.table.relation}"
            f" WHERE {self.rowid} > ? AND {self.rowid} <= ? AND {where} ORDER BY {self.rowid} LIMIT ?),"
            " summed AS (SELECT p, sum(w) OVER so_far - w AS before, max(s) OVER so_far AS largest FROM sized"
            " WINDOW so_far AS (ORDER BY p ROWS UNBOUNDED PRECEDING))"
            " SELECT (SELECT max(p) FROM summed WHERE before < ? AND largest <= ?),"
            " (SELECT min(p) FROM summed), (SELECT largest FROM summed ORDER BY p LIMIT 1)",
            after, last, *values, limit, _CHUNK_BYTES, self.source.max_row_bytes,
        )[0]  # fmt: skip
        if until is None and first is not None:
            raise RowTooLargeError(
                f"source {self.source.name}: the row with {self.table.rowid} {first} has {size} bytes;"
                f" max_row_bytes is {self.source.max_row_bytes}",
                hint="raise max_row_bytes, or exclude the column that is so large; the cursor has not moved",
            )
        return None if until is None else int(until)

    def _newest(self) -> int:
        """Return the largest rowid that any row ever had, as far as the database knows."""
        sequence, largest = self.connection.rows(
            "SELECT (SELECT max(CAST(seq AS INTEGER)) FROM main.sqlite_sequence WHERE name = ?),"
            f" (SELECT max({self.rowid}) FROM {self.table.relation})",
            self.table.name,
        )[0]
        return max(int(sequence or 0), int(largest or 0))

    def _check_cursor(self, cursor: Cursor, newest: int) -> None:
        """Refuse a file in which rowids up to the cursor's may have been given to other rows."""
        position = self.first(cursor)
        if newest < position:
            raise self._another_file(f"rows were read up to {position}, but it has come only to {newest}")
        found = self.connection.rows(
            f"SELECT {', '.join(self.selection.key)} FROM {self.table.relation} WHERE {self.rowid} = ?",
            position,
        )
        if found and found[0] != cursor.key:
            raise self._another_file(
                f"the row with {self.table.rowid} {position} is not the one that was read"
            )

    def _another_file(self, why: str) -> SourceError:
        return SourceError(
            f"source {self.source.name}: {self.table.name} is not as it was: {why}",
            hint="an older copy was restored, a power failure took commits back, or the URL or the columns of"
            " id and time are others: rows could be passed over;"
            f" `archiver run --rewind {self.source.name}` reads from the first row, and what is archived"
            " counts as duplicate",
        )

    def first(self, after: Cursor | None) -> float:
        """Return the rowid behind which to read."""
        if after is None:
            return _BEFORE_ALL
        try:
            return int(after.position)
        except ValueError:
            raise IntegrityError(
                f"source {self.source.name}: the ledger's cursor, {after.position!r:.40}, is no rowid"
            ) from None

    def _last(self, bound: Bound) -> float:
        """Return the last rowid that may be read."""
        return _BEFORE_ALL if bound.value is None else int(bound.value) - 1


def open_sqlite(source: Database, location: Location, *, writes: bool = False) -> SqliteRows:
    """Open the file, look the table up, and make sure that its rowids lose no row.

    Args:
        writes: Whether anything may be changed.

    Raises:
        ConfigError: The settings do not fit the table, or rows could be lost: says why.
        SourceError: The file is not there, or cannot be read.
    """
    if source.strategy not in ("auto", "rowid"):
        raise ConfigError(
            f"source {source.name}: {source.strategy} is a strategy for PostgreSQL; here it is rowid",
            hint='leave `strategy` out, or set strategy = "rowid"',
        )
    connection = connect_sqlite(source, location, writes=writes)
    try:
        table = describe(connection, source)
        members = mapping.mapped(source, table.columns)
        selection = select(members, table, source.name)
        # SQLite has no number for a database; see `_check_cursor` for what stands for it.
        rows = SqliteRows(
            source, connection, table, members, selection, Origin("sqlite", 0, "main", table.name)
        )
        _refuse_numbers_as_instants(rows)
    except BaseException:
        connection.close()
        raise
    return rows


def _refuse_numbers_as_instants(rows: SqliteRows) -> None:
    """A column without a type may hold numbers as well; of one that does every row would be quarantined."""
    for member in rows.members:
        if member.kind != columns.INSTANT or member.column is None:
            continue
        column = named(member.column.name)
        ends = rows.connection.rows(
            f"SELECT typeof({column}) FROM {rows.table.relation} WHERE {rows.rowid} IN ("
            f"(SELECT min({rows.rowid}) FROM {rows.table.relation}),"
            f" (SELECT max({rows.rowid}) FROM {rows.table.relation}))"
        )
        if ends and all(kind in ("integer", "real") for (kind,) in ends):
            raise ConfigError(
                f"[sources.{rows.source.name}] {member.member}: the column {member.column.name!r:.80} holds"
                " numbers; an instant is expected, and nothing tells what the numbers count",
                hint=instant_hint(member, rows.table),
            )
