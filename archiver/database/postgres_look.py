"""A PostgreSQL database as it is found: see `archiver.database.look`."""

from __future__ import annotations

import os
import urllib.parse
from typing import Final

import pyarrow as pa

from archiver.database import mapping
from archiver.database.base import Bound
from archiver.database.connection import Connection, connect_postgres
from archiver.database.look import MOST_COUNTED, Asked, Look, check_index, check_lag
from archiver.database.postgres import PostgresRows, open_postgres
from archiver.database.postgres_catalog import Table, describe, key_of, quoted
from archiver.database.postgres_select import select_list
from archiver.database.settings import Database, Location
from archiver.errors import ArchiverError, ConfigError, SourceError

_SESSION: Final = """
SELECT current_setting('server_version'), current_database()::text, current_user::text,
       (SELECT rolsuper FROM pg_roles WHERE rolname = current_user),
       (SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()),
       coalesce(NOT inet_server_addr() <<= inet '127.0.0.0/8' AND inet_server_addr() <> inet '::1'
                AND inet_client_addr() <> inet_server_addr(), false)
"""
_RIGHTS: Final = """
SELECT string_agg(one, ', ' ORDER BY place)
FROM unnest(ARRAY['INSERT', 'UPDATE', 'DELETE', 'TRUNCATE']) WITH ORDINALITY AS r(one, place)
WHERE has_table_privilege($1::oid, one)
"""


def look_at(source: Database, found: Look, asked: Asked) -> None:
    """Fill `found`."""
    location = source.location()
    try:
        opened = open_postgres(source, location)
    except (ConfigError, SourceError) as error:
        _look_behind(source, location, found, error, asked.rows)
        return
    try:
        _look_at_session(opened.connection, location, found)
        _look_at_rows(opened, found, asked)
    finally:
        opened.close()


def _look_at_rows(opened: PostgresRows, found: Look, asked: Asked) -> None:
    table = opened.table
    found.table, found.columns, found.members = table.name, table.columns, opened.members
    found.strategy, found.position, found.key = opened.strategy, opened.how.position, opened.key
    found.layout = opened.layout
    found.check("table", "ok", f"{table.name}, {len(table.columns)} columns")
    found.check("strategy", "ok", opened.strategy)
    _check_rights(opened.source, opened.connection, table, found)
    is_sorted = table.is_query
    if not table.is_query:
        check_index(found, table.indexed, table.relation)
        is_sorted = any(one and one[0] == found.position for one in table.indexed)
    try:
        found.estimate = opened.estimate()
        # Without an index, to find the first rows would be to sort all of them.
        found.is_ordered = is_sorted or asked.last
        order = ""
        if found.is_ordered:
            names = (found.position, *found.key)
            order = " ORDER BY " + ", ".join(quoted(one) + (" DESC" if asked.last else "") for one in names)
        if asked.rows:
            found.rows = _fetch(opened.connection, opened.expressions, table, order, asked.rows)
        cursor = asked.cursor_of(opened)
        found.bound = opened.bound(cursor)
        if asked.counts:
            behind = opened.behind(cursor, Bound(None), MOST_COUNTED)
            waiting = opened.behind(cursor, found.bound, MOST_COUNTED) if behind else 0
            found.behind = behind, min(waiting, behind)
    except ArchiverError as error:
        found.refuse("rows", error)
    check_lag(found)


def _look_behind(
    source: Database, location: Location, found: Look, refused: ArchiverError, rows: int
) -> None:
    """Look at what can be seen where the source as a whole was refused."""
    try:
        connection = connect_postgres(source, location)
    except ArchiverError as error:
        found.refuse("connection", error)
        return
    with connection:
        _look_at_session(connection, location, found)
        found.refuse("strategy", refused)
        try:
            table = describe(connection, source)
            found.table, found.columns = table.name, table.columns
            _check_rights(source, connection, table, found)
            position = [one.name for one in table.columns if one.type == "xid8"]
            found.members = mapping.mapped(source, table.columns, position)
            expressions, found.layout = select_list(found.members, source.name)
        except ArchiverError as error:
            found.refuse("mapping", error)
            return
        found.is_ordered = False
        for step in (
            lambda: key_of(source, table),
            lambda: _fetch(connection, expressions, table, "", rows) if rows else None,
        ):
            try:
                result = step()
            except ArchiverError as error:
                found.refuse("table", error)
            else:
                if isinstance(result, pa.RecordBatch):
                    found.rows = result


def _fetch(
    connection: Connection, expressions: list[str], table: Table, order: str, rows: int
) -> pa.RecordBatch:
    sql = f"SELECT {', '.join(expressions)} FROM {table.relation}{order} LIMIT {int(rows)}"
    return connection.table(sql).combine_chunks().to_batches()[0] if rows else None


def _look_at_session(connection: Connection, location: Location, found: Look) -> None:
    version, database, role, is_superuser, is_encrypted, is_remote = connection.rows(_SESSION)[0]
    found.server, found.database, found.role = f"PostgreSQL {version}", database, role
    found.check("connection", "ok", f"{found.server}, database {database}, role {role}")
    found.is_superuser = bool(is_superuser)
    if is_superuser:
        fix = "make a role with the rights in docs/database.md and no others: what holds a URL can be lost"
        found.check("role", "warning", f"{role} is a superuser", fix)
    check_encryption(found, location, is_encrypted=bool(is_encrypted), is_remote=bool(is_remote))


def check_encryption(found: Look, location: Location, *, is_encrypted: bool, is_remote: bool) -> None:
    """Look at whether somebody on the way could read the rows, or be the server."""
    if not is_remote:
        told = "this machine or a socket"
        found.check("encryption", "ok", told + (", encrypted" if is_encrypted else ""))
    elif not is_encrypted:
        fix = "append sslmode=verify-full to the URL, and let the server have a certificate"
        found.check("encryption", "warning", "rows and password cross the network in the clear", fix)
    elif not _verifies(location):
        fix = "append sslmode=verify-full (and sslrootcert=…) to the URL"
        told = "encrypted, but the server's certificate is not checked: somebody in between could be it"
        found.check("encryption", "warning", told, fix)
    else:
        found.check("encryption", "ok", "encrypted, and the server's certificate is checked")


def _verifies(location: Location) -> bool:
    try:
        options = urllib.parse.parse_qs(urllib.parse.urlsplit(location.reveal()).query)
    except ValueError:
        return False
    mode = options.get("sslmode", [os.environ.get("PGSSLMODE", "")])[-1]
    root = options.get("sslrootcert", [os.environ.get("PGSSLROOTCERT", "")])[-1]
    return mode in ("verify-ca", "verify-full") or root == "system"


def _check_rights(source: Database, connection: Connection, table: Table, found: Look) -> None:
    if table.is_query:
        return
    may_read = connection.value(
        "SELECT has_table_privilege($1::oid, 'SELECT') OR has_any_column_privilege($1::oid, 'SELECT')",
        table.oid,
    )
    writes = connection.value(_RIGHTS, table.oid)
    if not may_read:
        fix = f'GRANT SELECT ON {table.relation} TO "{found.role}"'
        found.refuse("rights", SourceError(f"source {source.name}: no right to read {table.name}", hint=fix))
    elif writes and not source.purge and not found.is_superuser:
        fix = f'REVOKE {writes} ON {table.relation} FROM "{found.role}": a run only reads'
        found.check("rights", "warning", f"the role may also {writes}", fix)
    else:
        may_delete = "DELETE" in (writes or "")
        needs = "; `purge` needs a role that may delete" if source.purge and not may_delete else ""
        found.check("rights", "ok", "SELECT" + (f", {writes}" if writes else "") + needs)
