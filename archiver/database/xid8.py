"""Strategy `xid8`: a column that holds the transaction which wrote the row.

A transaction has its number (xid) before its rows can be seen, and numbers only grow. Below the
smallest number that is still in progress (the snapshot's xmin) every transaction has ended: its
rows are visible or never will be. So rows below xmin, in order of (xid, key), are all that will
ever be there, and a long transaction delays the rows behind it, but loses none.

Source: PostgreSQL's manual, "pg_snapshot components".
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from archiver.database.base import Bound
from archiver.database.connection import Connection
from archiver.database.cursor import Cursor
from archiver.database.postgres_catalog import Table, quoted
from archiver.database.settings import Database
from archiver.errors import ConfigError, SourceError

_DEFAULT: Final = "pg_current_xact_id()"
_XMIN: Final = """
SELECT pg_snapshot_xmin(now)::text, pg_snapshot_xmin(now) < pg_snapshot_xmax(now),
       pg_has_role(current_user, 'pg_read_all_stats', 'USAGE')
FROM (SELECT pg_current_snapshot() AS now) AS one
"""
# Of transactions with a number, the one that began first; of any database of the server.
_OLDEST: Final = """
SELECT greatest(0, extract(epoch FROM clock_timestamp() - min(began)))::float8, min(began)::text
FROM (
    SELECT xact_start AS began FROM pg_stat_activity WHERE backend_xid IS NOT NULL
    UNION ALL SELECT prepared FROM pg_prepared_xacts
) AS open
"""


@dataclass(frozen=True, slots=True)
class Xid8:
    """See the module's text."""

    source: str
    relation: str
    position: str
    name: str = "xid8"

    @staticmethod
    def of(source: Database, table: Table) -> Xid8:
        """Return it if the table's column is fit for it.

        Raises:
            ConfigError: It could lose rows.
        """
        here = f"source {source.name}"
        found = [one.name for one in table.columns if one.type == "xid8"]
        if source.position:
            found = [one for one in found if one == source.position]
        if len(found) != 1:
            what = (
                f"no column {source.position!r:.80} of type xid8"
                if source.position
                else (
                    "several columns of type xid8: name one as `position`"
                    if found
                    else "no column of type xid8"
                )
            )
            raise ConfigError(
                f"{here}: {table.name} has {what}",
                hint="ALTER TABLE … ADD COLUMN xid xid8 NOT NULL DEFAULT pg_current_xact_id(); and an index"
                ' on it and the primary key; or use strategy = "settled"',
            )
        position = found[0]
        if not table.is_query:
            if position not in table.not_null:
                raise ConfigError(
                    f"{here}: {position!r:.80} may be null, and such a row would never be read",
                    hint="give the old rows '0', and make it NOT NULL: UPDATE … SET"
                    f" {quoted(position)} = '0' WHERE {quoted(position)} IS NULL",
                )
            for expression in table.defaults.get(position, ("",)):
                if expression.removeprefix("pg_catalog.") != _DEFAULT:
                    told = f"the default {expression:.80}" if expression else "no default"
                    raise ConfigError(
                        f"{here}: {position!r:.80} has {told}"
                        f" in the table or one of its partitions, where {_DEFAULT} is expected",
                        hint="otherwise it does not tell which transaction wrote the row, and rows get lost",
                    )
        return Xid8(source.name, table.relation, position)

    def bound(self, connection: Connection, cursor: Cursor | None) -> Bound:
        self._refuse_foreign_numbers(connection)
        xmin, is_held, sees_all = connection.rows(_XMIN)[0]
        if cursor is not None and int(xmin) < int(cursor.bound or 0):
            raise SourceError(
                f"source {self.source}: the server has come to transaction {xmin}, but rows were read up"
                f" to {cursor.bound} before: an older copy of it was restored",
                hint="numbers come again there, and rows could be passed over: `archiver run --rewind"
                f" {self.source}` reads from the first row, and what is archived counts as duplicate",
            )
        seconds, began = connection.rows(_OLDEST)[0]
        if is_held and began is None and not sees_all:
            return Bound(
                xmin, 0.0, "an older transaction is still open; GRANT pg_read_all_stats shows since when"
            )
        if began is None:
            return Bound(xmin)
        return Bound(xmin, float(seconds), f"a transaction that began at {began} is still open")

    def _refuse_foreign_numbers(self, connection: Connection) -> None:
        """A dump that was loaded into a younger server brings numbers that the server has yet to reach."""
        name = quoted(self.position)
        found = connection.rows(
            f"SELECT newest::text, current::text FROM (SELECT (SELECT {name} FROM {self.relation}"
            f" ORDER BY {name} DESC LIMIT 1) AS newest, pg_snapshot_xmax(pg_current_snapshot()) AS current"
            ") AS one WHERE newest >= current"
        )
        if found:
            newest, current = found[0]
            raise SourceError(
                f"source {self.source}: {self.position!r:.80} holds {newest}, but the server has only come to"
                f" {current}: the table was loaded from another server",
                hint="its rows would stay invisible for as many transactions; give the loaded rows a number"
                f" of this server: UPDATE … SET {name} = '0' WHERE {name} >= '{current}', then"
                f" `archiver run --rewind {self.source}`",
            )
