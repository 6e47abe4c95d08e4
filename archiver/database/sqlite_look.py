"""A SQLite file as it is found: see `archiver.database.look`."""

from __future__ import annotations

from typing import Final

import pyarrow as pa

from archiver.database.base import Bound
from archiver.database.cursor import Cursor
from archiver.database.look import MOST_COUNTED, Asked, Look, check_lag
from archiver.database.settings import Database
from archiver.database.sqlite import SqliteRows, open_sqlite
from archiver.errors import ArchiverError, ConfigError, SourceError

_BEFORE_ALL: Final = -(1 << 63)


def look_at(source: Database, found: Look, asked: Asked) -> None:
    """Fill `found`."""
    try:
        opened = open_sqlite(source, source.location())
    except (ConfigError, SourceError) as error:
        found.refuse("table", error)
        return
    try:
        _look_at_rows(opened, found, asked)
    finally:
        opened.close()


def _look_at_rows(opened: SqliteRows, found: Look, asked: Asked) -> None:
    table = opened.table
    found.server = f"SQLite {opened.connection.value('SELECT sqlite_version()')}"
    found.database = "main"
    found.table, found.columns, found.members = table.name, table.columns, opened.members
    found.strategy, found.position, found.layout = opened.strategy, table.rowid, opened.layout
    found.check("connection", "ok", found.server)
    found.check("table", "ok", f"{table.name}, {len(table.columns)} columns")
    found.check("strategy", "ok", opened.strategy)
    try:
        found.estimate = opened.estimate()
        if asked.rows:
            found.rows = _fetch(opened, asked.rows, last=asked.last)
        cursor = asked.cursor_of(opened)
        found.bound = opened.bound(cursor)
        if asked.counts:
            found.behind = opened.behind(cursor, Bound(None), MOST_COUNTED), 0
    except ArchiverError as error:
        found.refuse("rows", error)
    check_lag(found)


def _fetch(opened: SqliteRows, rows: int, *, last: bool) -> pa.RecordBatch | None:
    after = None
    if last:
        first = opened.connection.value(
            f"SELECT min(p) FROM (SELECT {opened.rowid} AS p FROM {opened.table.relation}"
            f" ORDER BY {opened.rowid} DESC LIMIT ?)",
            rows,
        )
        if first is not None and int(first) > _BEFORE_ALL:
            after = Cursor(opened.strategy, opened.origin, str(int(first) - 1), ())
    with opened.page(after, opened.bound(None), rows) as page:
        batches = list(page)
    if not batches:
        return None
    whole = pa.Table.from_batches(batches).combine_chunks().to_batches()[0]
    return whole.take(pa.array(range(whole.num_rows - 1, -1, -1))) if last else whole
