"""Rows of a PostgreSQL table, in an order in which none can appear behind a reader's back."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Protocol

import pyarrow as pa

from archiver.database import mapping
from archiver.database.base import KEY, POSITION, Bound
from archiver.database.connection import Connection, connect_postgres
from archiver.database.cursor import Cursor, Origin
from archiver.database.fetched import Layout
from archiver.database.postgres_catalog import Table, describe, key_of, quoted
from archiver.database.postgres_select import select_list
from archiver.database.settings import Database, Location
from archiver.errors import ConfigError, SourceError

if TYPE_CHECKING:
    from archiver.database.postgres_by_time import PostgresByTime

_SERVER: Final = """
SELECT (SELECT system_identifier::text FROM pg_control_system()), pg_is_in_recovery(),
       (SELECT oid::text FROM pg_database WHERE datname = current_database()),
       current_setting('server_version_num')::int4, current_setting('server_version')
"""
_TIMELINE: Final = "SELECT ('x' || substr(pg_walfile_name(pg_current_wal_lsn()), 1, 8))::bit(32)::int8"
_OLDEST_VERSION: Final = 130_000  # of which xid8 is


class Strategy(Protocol):
    """How far rows may be read. Each is a module of its own."""

    @property
    def name(self) -> str: ...
    @property
    def position(self) -> str: ...

    def bound(self, connection: Connection, cursor: Cursor | None) -> Bound: ...


@dataclass(slots=True)
class PostgresRows:
    """See `archiver.database.base.Rows`. Made by `open_postgres`."""

    source: Database
    connection: Connection
    table: Table
    members: tuple[mapping.Member, ...]
    key: tuple[str, ...]
    how: Strategy
    origin: Origin
    layout: Layout
    expressions: list[str]

    @property
    def strategy(self) -> str:
        return self.how.name

    @property
    def keys(self) -> int:
        return len(self.key)

    @property
    def placed(self) -> list[str]:
        """What is selected besides the layout's columns: each row's place, as text."""
        keys = [f"{quoted(one)}::text AS {KEY}{number}" for number, one in enumerate(self.key)]
        return [f"{quoted(self.how.position)}::text AS {POSITION}", *keys]

    @property
    def order(self) -> str:
        return ", ".join(quoted(one) for one in (self.how.position, *self.key))

    def bound(self, cursor: Cursor | None) -> Bound:
        return self.how.bound(self.connection, cursor)

    @contextlib.contextmanager
    def page(self, after: Cursor | None, bound: Bound, limit: int) -> Iterator[Iterator[pa.RecordBatch]]:
        if bound.value is None:
            yield iter(())
            return
        with self.connection.transaction("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY"):
            where = self._where(after, bound)
            sql = f"SELECT {', '.join((*self.expressions, *self.placed))} FROM {self.table.relation}"
            with self.connection.stream(
                f"{sql} WHERE {where} ORDER BY {self.order} LIMIT {int(limit)}"
            ) as rows:
                yield rows

    def behind(self, after: Cursor | None, bound: Bound, most: int) -> int:
        with self.connection.transaction("BEGIN READ ONLY"):
            where = self._where(after, None)
            if bound.value is not None:
                where += f" AND NOT {self._below(bound)}"
            inner = f"SELECT 1 FROM {self.table.relation} WHERE {where} LIMIT {int(most)}"
            return int(self.connection.value(f"SELECT count(*) FROM ({inner}) AS one") or 0)

    def estimate(self) -> int | None:
        if self.table.is_query:
            return None
        # Of a partitioned table: the sum over its partitions.
        found = self.connection.value(
            "SELECT sum(greatest(c.reltuples, 0))::int8 FROM pg_class c WHERE c.relkind <> 'p' AND"
            " (c.oid = $1::oid OR c.oid IN (SELECT relid FROM pg_partition_tree($1::oid::regclass)))",
            self.table.oid,
        )
        return int(found) if found else None

    def by_time(self) -> PostgresByTime:
        from archiver.database.postgres_by_time import PostgresByTime  # noqa: PLC0415  (for reconcile alone)

        return PostgresByTime(self)

    def close(self) -> None:
        self.connection.close()

    def type_of(self, column: str) -> str:
        found = self.table.column(column)
        return quoted(found.type) if found else "text"

    def _where(self, after: Cursor | None, bound: Bound | None) -> str:
        """Return the condition, after binding its values to the transaction's settings."""
        parts = []
        if after is not None:
            names = (self.how.position, *self.key)
            values = (after.position, *after.key)
            told = [self._bind(f"after_{n}", names[n], value) for n, value in enumerate(values)]
            parts.append(f"({', '.join(map(quoted, names))}) > ({', '.join(told)})")
        if bound is not None and bound.value is not None:
            parts.append(self._below(bound))
        return " AND ".join(parts) or "true"

    def _below(self, bound: Bound) -> str:
        told = self._bind("bound", self.how.position, bound.value or "")
        return f"{quoted(self.how.position)} < {told}"

    def _bind(self, setting: str, column: str, value: str) -> str:
        """Set a value for this transaction; return the expression that reads it.

        The driver streams only statements without parameters.
        """
        self.connection.run("SELECT set_config($1, $2, true)", f"archiver.{setting}", value)
        return f"current_setting('archiver.{setting}')::{self.type_of(column)}"


def open_postgres(source: Database, location: Location, *, writes: bool = False) -> PostgresRows:
    """Connect, look the table up, and choose how it is read.

    Raises:
        ConfigError: The settings do not fit the table, or rows could be lost: says why.
        SourceError: The database cannot be reached or read, or is a replica.
    """
    connection = connect_postgres(source, location, writes=writes)
    try:
        server, in_recovery, database, version, shown = connection.rows(_SERVER)[0]
        if version < _OLDEST_VERSION:
            raise ConfigError(
                f"source {source.name}: PostgreSQL {shown} is too old; 13 is the oldest that works"
            )
        if in_recovery:
            raise SourceError(
                f"source {source.name}: the server is a replica (in recovery)",
                hint="it does not know which transactions are still open; point the URL at the primary",
            )
        timeline = int(connection.value(_TIMELINE))
        table = describe(connection, source)
        key = key_of(source, table)
        how = _strategy(source, table, connection, checks_rights=not writes)
        excluded = () if how.name == "settled" else (how.position,)
        members = mapping.mapped(source, table.columns, excluded)
        expressions, layout = select_list(members, source.name)
        rows = PostgresRows(
            source, connection, table, members, key, how,
            Origin(server, timeline, database, table.name, (how.position, *key)), layout, expressions,
        )  # fmt: skip
        _refuse_unknown_types(rows)
        if table.is_query:
            _refuse_nulls(rows)
    except BaseException:
        connection.close()
        raise
    return rows


def _strategy(source: Database, table: Table, connection: Connection, *, checks_rights: bool) -> Strategy:
    from archiver.database.settled import Settled  # noqa: PLC0415  (they need what is above)
    from archiver.database.xid8 import Xid8  # noqa: PLC0415

    if source.strategy == "rowid":
        raise ConfigError(f"source {source.name}: rowid is a strategy for SQLite; here it is xid8 or settled")
    has_xid8 = any(one.type == "xid8" for one in table.columns)
    if source.strategy == "xid8" or (source.strategy == "auto" and has_xid8):
        return Xid8.of(source, table)
    return Settled.of(source, table, connection, checks_rights=checks_rights)


def _refuse_unknown_types(rows: PostgresRows) -> None:
    """The cursor's texts are cast to the columns' types, which must be found by their names."""
    for name in (rows.how.position, *rows.key):
        if rows.connection.value("SELECT to_regtype($1)::text", rows.type_of(name)) is None:
            raise ConfigError(
                f"source {rows.source.name}: {name!r:.80} is of type {rows.type_of(name):.80}, which is in no"
                " schema of this role's search_path",
                hint="ALTER ROLE … SET search_path = …, with the schema of the type; or name another `key`",
            )


def _refuse_nulls(rows: PostgresRows) -> None:
    """Of a query nothing guarantees that its key and position are never null; such rows would be lost."""
    names = (rows.how.position, *rows.key)
    any_null = " OR ".join(f"{quoted(one)} IS NULL" for one in names)
    found = f"SELECT 1::int4 FROM {rows.table.relation} WHERE {any_null} LIMIT 1"
    if rows.connection.rows(found):
        raise ConfigError(
            f"source {rows.source.name}: {' or '.join(names)} is null in a row, which would never be read",
            hint="leave these rows out in the query, or name other columns as position and key",
        )
