"""Strategy `settled`: no change to the table; rows are read when nothing can appear before them any more.

Only where the server gives each row its time: it is then not before the start of the transaction
that writes it. So below the start of the oldest open transaction, and below a minute ago, every
row has been committed. Two steps, which must not be swapped:

(a) in a transaction of its own: the open transactions, then the prepared ones; from them the cap;
(b) afterwards, in a new snapshot: the rows below the cap.

Were the cap taken in the snapshot of the rows, a writer that commits between both would be in
neither. Each session must be seen: one whose start is hidden could have begun at any time. Of a
session at work the start of its statement counts as well: in a procedure, or in several statements
sent as one, a transaction begins late and may still give its rows the time of the whole.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from archiver.database.base import Bound
from archiver.database.connection import Connection
from archiver.database.cursor import Cursor
from archiver.database.postgres_catalog import Table, quoted
from archiver.database.settings import Database
from archiver.errors import ConfigError, SourceError

_SERVER_TIMES: Final = re.compile(
    r"(pg_catalog\.)?((now|clock_timestamp|statement_timestamp|transaction_timestamp)\(\)|CURRENT_TIMESTAMP)",
    re.I,
)
_ALL_DIGITS: Final = 6
_RIGHTS: Final = """
SELECT pg_has_role(current_user, 'pg_read_all_stats', 'USAGE'),
       current_setting('track_activities') = 'on'
"""
# Autovacuum and walsenders write no rows of tables. Our own transaction writes nothing either.
# A session whose tracking was turned on within its transaction shows no start of it. The clock is that of
# our transaction's begin: read behind the sessions, it could be behind one that has come meanwhile.
_ACTIVITY: Final = """
SELECT count(*) FILTER (WHERE query = '<insufficient privilege>')::int8,
       count(*) FILTER (WHERE state = 'disabled'
                        OR (state LIKE 'idle in transaction%' AND xact_start IS NULL))::int8,
       min(CASE WHEN state = 'idle' THEN xact_start ELSE least(xact_start, query_start) END)::text,
       now()::text
FROM pg_stat_activity
WHERE (datname = current_database() OR datid IS NULL) AND pid <> pg_backend_pid()
  AND backend_type NOT IN ('autovacuum worker', 'autovacuum launcher', 'walsender')
"""
_PREPARED: Final = """
SELECT gid, prepared::text, extract(epoch FROM clock_timestamp() - prepared)::float8
FROM pg_prepared_xacts WHERE database = current_database() ORDER BY prepared LIMIT 1
"""
_CAP: Final = """
SELECT cap::text, extract(epoch FROM seen - cap)::float8, cap < $5::timestamptz, held
FROM (SELECT seen, oldest <= seen - lag AS held, least(oldest, seen - lag) - rounding AS cap
      FROM (SELECT $1::timestamptz AS oldest, $2::timestamptz AS seen,
                   $3::float8 * interval '1 second' AS lag,
                   $4::float8 * interval '1 second' AS rounding) AS told) AS one
"""
# `timestamptz(3)` rounds to milliseconds, so a row's time may lie before its transaction's start.
# -1: the column keeps all six digits.
_DIGITS: Final = """
WITH RECURSIVE base(typ, typmod) AS (
    SELECT atttypid, atttypmod FROM pg_attribute WHERE attrelid = $1::oid AND attname = $2
    UNION ALL
    SELECT t.typbasetype, t.typtypmod FROM base b JOIN pg_type t ON t.oid = b.typ WHERE t.typtype = 'd'
)
SELECT coalesce(min(typmod) FILTER (WHERE typmod >= 0), -1)::int8 FROM base
"""
# What a subscription writes has the times of another server.
_SUBSCRIBED: Final = """
SELECT count(*)::int8 FROM pg_subscription_rel WHERE srrelid = $1::oid
    OR srrelid IN (SELECT relid FROM pg_partition_tree($1::oid::regclass))
"""


@dataclass(frozen=True, slots=True)
class Settled:
    """See the module's text."""

    source: str
    position: str
    lag_seconds: float
    rounding_seconds: float = 0.0
    name: str = "settled"

    @staticmethod
    def of(source: Database, table: Table, connection: Connection, *, checks_rights: bool = True) -> Settled:
        """Return it if the table's column is fit for it.

        Args:
            checks_rights: Whether the bound will be asked for, which needs rights.

        Raises:
            ConfigError: It could lose rows.
        """
        here = f"source {source.name}"
        position = source.position or source.columns.get("created_at", "created_at")
        column = table.column(position)
        other = 'or add a column of type xid8 and use strategy = "xid8", which needs no clock'
        if column is None:
            raise ConfigError(
                f"{here}: {table.name} has no column {position!r:.80}", hint=f"name it as `position`, {other}"
            )
        if column.type != "timestamptz":
            raise ConfigError(
                f"{here}: {position!r:.80} is of type {column.type}; settled needs timestamptz",
                hint="without a time zone it holds the local time of whoever writes; " + other,
            )
        if table.is_query:
            raise ConfigError(
                f"{here}: settled needs a table: of a query nothing tells who sets {position!r:.80}",
                hint=f"name the table, {other}",
            )
        if position not in table.not_null:
            raise ConfigError(
                f"{here}: {position!r:.80} may be null, and such a row would never be read",
                hint=f"make it NOT NULL, {other}",
            )
        for expression in table.defaults.get(position, ("",)):
            if _SERVER_TIMES.fullmatch(expression) is None:
                told = f"the default {expression:.80}" if expression else "no default"
                raise ConfigError(
                    f"{here}: {position!r:.80} has {told} in the table or one of its partitions: "
                    "times that clients set may lie before what was read",
                    hint=f"ALTER TABLE … ALTER COLUMN {quoted(position)} SET DEFAULT now(), {other}",
                )
        if connection.value(_SUBSCRIBED, table.oid):
            raise ConfigError(
                f"{here}: {table.name} is written by a subscription: its rows come after their times",
                hint="read the publisher's database, " + other,
            )
        digits = int(connection.value(_DIGITS, table.oid, position))
        rounding = 10.0**-digits if 0 <= digits < _ALL_DIGITS else 0.0
        settled = Settled(source.name, position, source.lag_seconds, rounding)
        if checks_rights:
            settled.check_rights(connection)
        return settled

    def check_rights(self, connection: Connection) -> None:
        """Refuse a role or a server that does not show every open transaction.

        Raises:
            ConfigError: It does not.
        """
        sees_all, is_tracked = connection.rows(_RIGHTS)[0]
        if not sees_all:
            raise ConfigError(
                f"source {self.source}: this role does not see when others' transactions began",
                hint="GRANT pg_read_all_stats TO the role; or rows of open transactions would be lost",
            )
        if not is_tracked:
            raise ConfigError(
                f"source {self.source}: track_activities is off: nothing tells when transactions began",
                hint='turn it on, or use strategy = "xid8"',
            )

    def bound(self, connection: Connection, cursor: Cursor | None) -> Bound:
        self.check_rights(connection)
        with connection.transaction("BEGIN READ ONLY"):
            hidden, disabled, oldest, seen = connection.rows(_ACTIVITY)[0]
            prepared = connection.rows(_PREPARED)  # after the activity: see the module's text
        if hidden or disabled:
            raise SourceError(
                f"source {self.source}: {hidden + disabled} sessions hide when their transactions began",
                hint="track_activities is off for them, or this role may not see them; rows of theirs could"
                " be lost, so nothing was read",
            )
        if prepared:
            gid, since, seconds = prepared[0]
            return Bound(None, float(seconds), f"transaction {gid!r:.80}, prepared at {since}, was not ended")
        before = cursor.bound if cursor is not None and cursor.bound else "-infinity"
        cap, lag, is_back, is_held = connection.rows(
            _CAP, oldest or "infinity", seen, self.lag_seconds, self.rounding_seconds, before
        )[0]
        if is_back:
            return Bound(
                None,
                float(lag),
                f"rows were read up to {before} before: the server's clock went back,"
                " or lag_seconds was raised",
            )
        if is_held:
            return Bound(cap, float(lag), f"a transaction that began at {oldest} is still open")
        return Bound(cap, float(lag))
