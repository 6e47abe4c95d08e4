"""Old rows of a SQLite table, read and deleted: what `purge` asks, see `archiver.database.old`.

What tells that a row was written to since it was read is a digest of all its values. While it is
looked at again nobody else can write: SQLite has one writer at a time.
"""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

import pyarrow as pa

from archiver.database.base import FactsOfRows
from archiver.database.connection import DatabaseError
from archiver.database.cursor import Cursor
from archiver.database.mapping import left_out
from archiver.database.old import VERSION, Outcome
from archiver.database.settings import Database, Location
from archiver.database.sqlite import open_sqlite
from archiver.database.sqlite_by_time import SqliteByTime
from archiver.database.sqlite_table import SqliteTable, column_names, named
from archiver.errors import ConfigError, SourceError

# Deleting a row would delete or change rows that point to it.
_DRAGGED: Final = """
SELECT m.name FROM main.sqlite_schema AS m, pragma_foreign_key_list(m.name, 'main') AS f
WHERE m.type = 'table' AND f."table" = ? COLLATE NOCASE
  AND f.on_delete IN ('CASCADE', 'SET NULL', 'SET DEFAULT')
ORDER BY 1 LIMIT 1
"""


@dataclass(frozen=True, slots=True)
class SqliteOldRows(SqliteByTime, FactsOfRows):
    """See `archiver.database.old.OldRows`. Made by `open_sqlite_old`."""

    @property
    def position(self) -> str:
        return self.rows.table.rowid

    @property
    def left_out(self) -> tuple[str, ...]:
        return left_out(self.rows.table.columns, self.rows.members)

    @contextlib.contextmanager
    def old_rows(
        self, before_us: int, after: Cursor | None, upto: Cursor, limit: int
    ) -> Iterator[Iterator[pa.RecordBatch]]:
        yield self._old_rows(before_us, self.rows.first(after), self.rows.first(upto), limit)

    def _old_rows(self, before_us: int, first: float, last: float, limit: int) -> Iterator[pa.RecordBatch]:
        only, version = self.on_days(None, before_us), f"{_written(self.rows.table)} AS {VERSION}"
        for after, until in self.rows.spans(first, last):
            for batch in self.rows.chunks(after, until, limit, only, (version,)):
                limit -= batch.num_rows
                yield _with_digests(batch)
            if limit <= 0:
                return

    def younger(self, before_us: int, upto: Cursor, most: int) -> int:
        where, values = self.on_days(None, before_us)
        found = 0
        for after, until in self.rows.spans(self.rows.first(None), self.rows.first(upto)):
            found += self.rows.connection.value(
                f"SELECT count(*) FROM {self.rows.table.relation} WHERE {self.rows.rowid} > ?"
                f" AND {self.rows.rowid} <= ? AND {self.time} >= '' AND NOT ({where})",
                after, until, *values,
            )  # fmt: skip
            if found >= most:
                return most
        return found

    def estimate(self, before_us: int, upto: Cursor) -> int | None:
        del before_us, upto
        return None

    def delete(self, keys: Sequence[tuple[str, ...]], versions: Sequence[str]) -> list[Outcome]:
        try:
            with self.rows.connection.transaction("BEGIN IMMEDIATE"):
                return self._delete(keys, versions)
        except DatabaseError as error:
            if "database is locked" in error.message:
                return ["locked"] * len(keys)
            raise _explained(error) from None

    def _delete(self, keys: Sequence[tuple[str, ...]], versions: Sequence[str]) -> list[Outcome]:
        table = self.rows.table
        if column_names(self.rows.connection, table.name) != tuple(one.name for one in table.columns):
            raise SourceError(
                f"source {self.rows.source.name}: {table.name} got other columns meanwhile, which were not"
                " compared; nothing of this transaction was deleted",
                hint="run again: rows are compared with their columns of then",
            )
        there = self._versions(keys)
        outcomes: list[Outcome] = []
        for key, version in zip(keys, versions, strict=True):
            found = there.get(key[0])
            outcomes.append("gone" if found is None else "deleted" if found == (key, version) else "changed")
        chosen = [key for key, outcome in zip(keys, outcomes, strict=True) if outcome == "deleted"]
        if chosen:
            where, values = self.at_rowids(chosen)
            relation, connection = self.rows.table.relation, self.rows.connection
            connection.run(f"DELETE FROM {relation} WHERE {where}", *values)
            kept = {
                rowid
                for (rowid,) in connection.rows(
                    f"SELECT CAST({self.rows.rowid} AS TEXT) FROM {relation} WHERE {where}", *values
                )
            }
            outcomes = [
                "kept" if outcome == "deleted" and key[0] in kept else outcome
                for key, outcome in zip(keys, outcomes, strict=True)
            ]
        return outcomes

    def _versions(self, keys: Sequence[tuple[str, ...]]) -> dict[str, tuple[tuple[str, ...], str]]:
        """Return key and version of the rows with these rowids, by the rowid, as they are now."""
        version = f"{_written(self.rows.table)} AS {VERSION}"
        names = self.rows.selection.place[1:]
        found = {}
        for batch in self.rows.chunks(
            float("-inf"), float("inf"), len(keys), self.at_rowids(keys), (version,), is_open=True
        ):
            digests = _with_digests(batch)[VERSION].to_pylist()
            places = zip(*(batch[name].to_pylist() for name in names), strict=True)
            found.update({key[0]: (key, digest) for key, digest in zip(places, digests, strict=True)})
        return found

    def close(self) -> None:
        self.rows.close()


def open_sqlite_old(source: Database, location: Location, *, deletes: bool) -> SqliteOldRows:
    """Open the file, and look the table up. See `archiver.database.open.open_old_rows`."""
    if source.purge_setting:
        raise ConfigError(
            f"source {source.name} purge_setting: SQLite has no settings of a session",
            hint="leave it out; a trigger that keeps rows from being deleted has to be dropped",
        )
    rows = open_sqlite(source, location, writes=deletes)
    try:
        if dragged := rows.connection.rows(_DRAGGED, rows.table.name):
            raise ConfigError(
                f"source {source.name}: deleting rows of {rows.table.name} would delete or change rows of"
                f" {dragged[0][0]}, which are not archived",
                hint="make the foreign key ON DELETE NO ACTION, or purge by a program of your own",
            )
    except BaseException:
        rows.close()
        raise
    return SqliteOldRows(rows)


def _written(table: SqliteTable) -> str:
    """Return an expression for all values of a row, none like another: their types, and their bytes."""
    parts = []
    for one in table.columns:
        name = named(one.name)
        # 20 digits tell any two doubles apart.
        parts.append(
            f"substr(typeof({name}), 1, 1) || CASE typeof({name}) WHEN 'real' THEN printf('%!.20g', {name})"
            f" ELSE hex(CAST({name} AS BLOB)) END"
        )
    return "(" + " || ',' || ".join(parts) + ")"


def _with_digests(batch: pa.RecordBatch) -> pa.RecordBatch:
    """Return the batch with a digest for what is written in `VERSION`."""
    digests = [hashlib.sha256(one.encode()).hexdigest() for one in batch[VERSION].to_pylist()]
    return batch.set_column(batch.schema.get_field_index(VERSION), VERSION, pa.array(digests, pa.string()))


def _explained(error: DatabaseError) -> DatabaseError:
    hint = error.hint
    if "FOREIGN KEY" in error.message:
        hint = "rows of another table point to these: delete those first"
    elif "readonly" in error.message:
        hint = "this user must be able to write the file and its folder"
    return DatabaseError(
        f"{error.message}; nothing of this transaction was deleted",
        hint=hint or "does a trigger keep rows from being deleted?",
    )
