"""Old rows of a PostgreSQL table, read and deleted: what `purge` asks, see `archiver.database.old`.

What tells that a row was written to since it was read is its `xmin`, the transaction that wrote
it: an update makes another version of the row, with another one. It is looked at by the DELETE
itself, which waits for whoever is writing to the row and then looks at what that one left.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

import pyarrow as pa

from archiver import clock
from archiver.database.base import KEY, FactsOfRows
from archiver.database.connection import Connection, DatabaseError
from archiver.database.cursor import Cursor
from archiver.database.mapping import left_out
from archiver.database.old import VERSION, Outcome
from archiver.database.postgres import open_postgres
from archiver.database.postgres_by_time import PostgresByTime
from archiver.database.postgres_catalog import Table, quoted
from archiver.database.settings import Database, Location
from archiver.errors import ConfigError, SourceError

_READ: Final = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY"
_DELETE: Final = "BEGIN ISOLATION LEVEL READ COMMITTED"  # the session says whether it may write
_LOCK_TIMEOUT: Final = "10s"
# Waited for too long, a deadlock: the transaction was rolled back, and may be tried again.
_IN_USE: Final = ("55P03", "40P01", "40001")
# Deleting a row would delete or change rows that point to it.
_DRAGGED: Final = """
SELECT conname::text, conrelid::regclass::text FROM pg_constraint
WHERE contype = 'f' AND confdeltype IN ('c', 'n', 'd')
  AND (confrelid = $1::oid OR confrelid IN (SELECT relid FROM pg_partition_tree($1::oid::regclass)))
ORDER BY conparentid <> 0, 1 LIMIT 1
"""
_NAMES: Final = """
SELECT attname::text FROM pg_attribute
WHERE attrelid = to_regclass($1) AND attnum > 0 AND NOT attisdropped ORDER BY attnum
"""


@dataclass(frozen=True, slots=True)
class PostgresOldRows(PostgresByTime, FactsOfRows):
    """See `archiver.database.old.OldRows`. Made by `open_postgres_old`."""

    @property
    def position(self) -> str:
        return self.rows.how.position

    @property
    def left_out(self) -> tuple[str, ...]:
        return left_out(self.rows.table.columns, self.rows.members)

    @contextlib.contextmanager
    def old_rows(
        self, before_us: int, after: Cursor | None, upto: Cursor, limit: int
    ) -> Iterator[Iterator[pa.RecordBatch]]:
        rows = self.rows
        with rows.connection.transaction(_READ):
            where = self._behind(after) + self._due(upto) + " AND " + self._aged("<", before_us)
            selected = (*rows.expressions, *rows.placed, f"xmin::text AS {VERSION}")
            with rows.connection.stream(
                f"SELECT {', '.join(selected)} FROM {rows.table.relation}"
                f" WHERE {where} ORDER BY {rows.order} LIMIT {int(limit)}"
            ) as batches:
                yield batches

    def younger(self, before_us: int, upto: Cursor, most: int) -> int:
        with self.rows.connection.transaction(_READ):
            where = self._due(upto) + " AND " + self._aged(">=", before_us)
            inner = f"SELECT 1 FROM {self.rows.table.relation} WHERE {where} LIMIT {int(most)}"
            return int(self.rows.connection.value(f"SELECT count(*) FROM ({inner}) AS one") or 0)

    def estimate(self, before_us: int, upto: Cursor) -> int | None:
        with self.rows.connection.transaction(_READ):
            where = self._due(upto) + " AND " + self._aged("<", before_us)
            # A value, so that the driver does not take it for something to be copied out.
            plan = self.rows.connection.value(
                f"EXPLAIN (FORMAT JSON) SELECT 1 FROM {self.rows.table.relation} WHERE {where} AND $1::bool",
                True,
            )
        try:
            return int(json.loads(plan)[0]["Plan"]["Plan Rows"])
        except (ValueError, LookupError, TypeError):
            return None

    def delete(self, keys: Sequence[tuple[str, ...]], versions: Sequence[str]) -> list[Outcome]:
        if len(set(keys)) < len(keys):
            raise self._ambiguous()
        told = json.dumps([[*key, version] for key, version in zip(keys, versions, strict=True)])
        try:
            with self.rows.connection.transaction(_DELETE):
                return self._delete(keys, told)
        except DatabaseError as error:
            if error.sqlstate in _IN_USE:
                return ["locked"] * len(keys)
            raise self._explained(error) from None

    def _delete(self, keys: Sequence[tuple[str, ...]], told: str) -> list[Outcome]:
        connection, table = self.rows.connection, self.rows.table.relation
        self._set_local("lock_timeout", _LOCK_TIMEOUT)
        name, _, value = self.rows.source.purge_setting.partition("=")
        if name:
            self._set_local(name.strip(), value.strip())
        columns = [f"old.{quoted(one)}" for one in self.rows.key]
        given = ", ".join(
            f"(one ->> {number})::{self.rows.type_of(name)} AS {KEY}{number}"
            for number, name in enumerate(self.rows.key)
        )
        asked = (
            f"(SELECT {given}, one ->> {len(keys[0])} AS {VERSION} FROM json_array_elements($1::json) AS one)"
        )
        same = " AND ".join(f"{column} = asked.{KEY}{number}" for number, column in enumerate(columns))
        texts = ", ".join(f"{column}::text" for column in columns)
        deleted = connection.rows(
            f"DELETE FROM {table} AS old USING {asked} AS asked"
            f" WHERE {same} AND old.xmin::text = asked.{VERSION} RETURNING {texts}",
            told,
        )
        if len(set(deleted)) < len(deleted) or not set(deleted) <= set(keys):
            raise self._ambiguous()
        # The DELETE has locked the table, so its columns stay as they are until the transaction ends.
        names = tuple(name for (name,) in connection.rows(_NAMES, table))
        if names != tuple(one.name for one in self.rows.table.columns):
            raise self._altered()
        _refuse_dragged(self.rows.source, connection, self.rows.table)
        outcomes: dict[tuple[str, ...], Outcome] = dict.fromkeys(deleted, "deleted")
        if len(outcomes) < len(keys):
            left = connection.rows(
                f"SELECT old.xmin::text = asked.{VERSION}, {texts} FROM {table} AS old"
                f" JOIN {asked} AS asked ON {same}",
                told,
            )
            for is_same, *key in left:
                outcomes.setdefault(tuple(key), "kept" if is_same else "changed")
        return [outcomes.get(key, "gone") for key in keys]

    def close(self) -> None:
        self.rows.close()

    def _behind(self, after: Cursor | None) -> str:
        if after is None:
            return ""
        names = (self.rows.how.position, *self.rows.key)
        told = []
        for number, (name, value) in enumerate(zip(names, (after.position, *after.key), strict=True)):
            self._set(f"after_{number}", value)
            told.append(f"current_setting('archiver.after_{number}')::{self.rows.type_of(name)}")
        return f"({', '.join(map(quoted, names))}) > ({', '.join(told)}) AND "

    def _aged(self, sign: str, before_us: int) -> str:
        """Return the condition on a row's time, so that an index on the column can be used."""
        self._set("before", clock.to_text(before_us))
        told = "current_setting('archiver.before')::timestamptz"
        first, *others = self._times
        if not others:
            return f"({first} {sign} {told})"
        return f"({first} {sign} {told} OR ({first} IS NULL AND {others[0]} {sign} {told}))"

    def _set_local(self, name: str, value: str) -> None:
        self.rows.connection.run("SELECT set_config($1, $2, true)", name, value)

    def _ambiguous(self) -> SourceError:
        return SourceError(
            f"source {self.rows.source.name}: two rows of {self.rows.table.name} have one key; nothing of"
            " this transaction was deleted",
            hint="tables that inherit from it have keys of their own: purge them as sources of their own",
        )

    def _altered(self) -> SourceError:
        return SourceError(
            f"source {self.rows.source.name}: {self.rows.table.name} got other columns meanwhile, which were"
            " not compared; nothing of this transaction was deleted",
            hint="run again: rows are compared with their columns of then",
        )

    def _explained(self, error: DatabaseError) -> DatabaseError:
        hint = error.hint
        if error.sqlstate == "42501":
            hint = f"GRANT DELETE ON {self.rows.table.relation} TO the role"
        elif error.sqlstate.startswith("23"):
            hint = "rows of another table point to these: delete those first"
        elif error.sqlstate[:2] in ("P0", "42", "22"):
            hint = (
                "does a trigger keep rows from being deleted? Where a setting opens it, write that as"
                ' purge_setting = "name=value"'
            )
        return DatabaseError(f"{error.message}; nothing of this transaction was deleted", hint=hint,
                             sqlstate=error.sqlstate)  # fmt: skip


def open_postgres_old(source: Database, location: Location, *, deletes: bool) -> PostgresOldRows:
    """Connect, and look the table up. See `archiver.database.open.open_old_rows`."""
    rows = open_postgres(source, location, writes=True)
    try:
        _check(source, rows.connection, rows.table, deletes=deletes)
    except BaseException:
        rows.close()
        raise
    return PostgresOldRows(rows)


def _check(source: Database, connection: Connection, table: Table, *, deletes: bool) -> None:
    here = f"source {source.name}"
    if table.is_query:
        raise ConfigError(
            f"{here}: {table.name} is a query or a view: nothing can be deleted from it by row",
            hint="name the table itself",
        )
    _refuse_dragged(source, connection, table)
    if not deletes:
        connection.run("SELECT set_config('default_transaction_read_only', 'on', false)")
    elif not connection.value("SELECT has_table_privilege($1::oid, 'DELETE')", table.oid):
        raise SourceError(
            f"{here}: this role may not delete from {table.name}",
            hint=f"GRANT DELETE ON {table.relation} TO the role; or look first, with --dry-run",
        )


def _refuse_dragged(source: Database, connection: Connection, table: Table) -> None:
    if dragged := connection.rows(_DRAGGED, table.oid):
        constraint, other = dragged[0]
        raise ConfigError(
            f"source {source.name}: deleting rows of {table.name} would delete or change rows of {other},"
            f" which are not archived (constraint {constraint})",
            hint="make the foreign key ON DELETE NO ACTION, or purge by a program of your own",
        )
