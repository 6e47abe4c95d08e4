"""What PostgreSQL's catalog says of a table: columns, defaults, what is unique."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from archiver.database.connection import Connection
from archiver.database.mapping import Column
from archiver.database.settings import Database
from archiver.errors import ConfigError


@dataclass(frozen=True, slots=True)
class Table:
    """A table, or a query that stands for one.

    Attributes:
        relation: As it stands behind FROM, quoted; a query has the alias `q`.
        name: As the cursor names it.
        columns: In their order.
        oid: Of a table; 0 of a query.
        not_null: Columns that cannot be null.
        defaults: Column -> its default's expression in the table and in each of its partitions;
            empty where there is none.
        unique: Column lists that are unique, the primary key first.
        indexed: Column lists by which it is sorted in some index.
    """

    relation: str
    name: str
    columns: tuple[Column, ...]
    oid: int = 0
    not_null: frozenset[str] = frozenset()
    defaults: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    unique: tuple[tuple[str, ...], ...] = ()
    indexed: tuple[tuple[str, ...], ...] = ()

    @property
    def is_query(self) -> bool:
        return self.oid == 0

    def column(self, name: str) -> Column | None:
        return next((one for one in self.columns if one.name == name), None)


def quoted(name: str) -> str:
    """Return an identifier as it stands in a statement."""
    return '"' + name.replace('"', '""') + '"'


_TABLE: Final = """
SELECT c.oid::int8, n.nspname::text, c.relname::text, c.relkind::text
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE c.oid = to_regclass($1)
"""

# A domain over a domain over a type: the type.
_COLUMNS: Final = """
WITH RECURSIVE base(oid, typ) AS (
    SELECT oid, oid FROM pg_type
    UNION ALL
    SELECT b.oid, t.typbasetype FROM base b JOIN pg_type t ON t.oid = b.typ WHERE t.typtype = 'd'
)
SELECT a.attname::text, t.typname::text, t.typcategory::text, a.attnotnull
FROM pg_attribute a JOIN base b ON b.oid = a.atttypid JOIN pg_type t ON t.oid = b.typ AND t.typtype <> 'd'
WHERE a.attrelid = $1::oid AND a.attnum > 0 AND NOT a.attisdropped ORDER BY a.attnum
"""

_PARTS: Final = """
WITH RECURSIVE parts(oid) AS (
    SELECT inhrelid FROM pg_inherits WHERE inhparent = $1::oid
    UNION SELECT i.inhrelid FROM pg_inherits i JOIN parts p ON i.inhparent = p.oid
)
SELECT c.oid::regclass::text, c.relkind = 'f', c.relispartition
FROM parts p JOIN pg_class c ON c.oid = p.oid WHERE c.relkind = 'f' OR NOT c.relispartition LIMIT 1
"""

# Rows that are put into a partition get the partition's own default.
_DEFAULTS: Final = """
WITH RECURSIVE parts(oid) AS (
    SELECT $1::oid UNION SELECT i.inhrelid FROM pg_inherits i JOIN parts p ON i.inhparent = p.oid
)
SELECT a.attname::text, coalesce(pg_get_expr(d.adbin, d.adrelid), '')
FROM parts p JOIN pg_attribute a ON a.attrelid = p.oid AND a.attnum > 0 AND NOT a.attisdropped
LEFT JOIN pg_attrdef d ON d.adrelid = a.attrelid AND d.adnum = a.attnum
"""

_INDEXES: Final = """
SELECT i.indexrelid::int8, i.indisunique AND i.indpred IS NULL AND i.indexprs IS NULL AND i.indimmediate,
       i.indisprimary, am.amname = 'btree' AND i.indpred IS NULL, a.attname::text, k.place::int8
FROM pg_index i
JOIN pg_class c ON c.oid = i.indexrelid JOIN pg_am am ON am.oid = c.relam
CROSS JOIN LATERAL unnest(i.indkey::int2[]) WITH ORDINALITY AS k(number, place)
LEFT JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = k.number AND k.number > 0
WHERE i.indrelid = $1::oid AND i.indisvalid AND k.place <= i.indnkeyatts
ORDER BY i.indisprimary DESC, i.indexrelid, k.place
"""


def describe(connection: Connection, source: Database) -> Table:
    """Look the configured table or query up.

    Raises:
        ConfigError: It is not there, or nothing that has rows.
        DatabaseError: The database refused.
    """
    if source.query is not None:
        return _described_query(connection, source)
    found = connection.rows(_TABLE, source.table)
    if not found:
        raise ConfigError(
            f"source {source.name}: there is no table {source.table!r:.120} that this role can see",
            hint="was it renamed, or may the role not use its schema? Write it with the schema, as in"
            ' "public.audit_events"; nothing was taken, and the cursor is where it was',
        )
    oid, schema, name, kind = found[0]
    if kind not in "rpvmf":
        raise ConfigError(f"source {source.name}: {source.table!r:.120} is no table and no view")
    relation = f"{quoted(schema)}.{quoted(name)}"
    if kind in "mf":
        what = "a materialized view: it shows rows" if kind == "m" else "a foreign table: its rows come"
        raise ConfigError(
            f"source {source.name}: {source.table!r:.120} is {what} in another order than that of commits",
            hint="name the table that the rows are written to, in its own database",
        )
    if kind == "v":  # what it shows has no defaults and no keys of its own
        return _described_query(connection, source, relation=relation, name=f"{schema}.{name}")
    _refuse_lost_parts(connection, source, oid)
    columns = connection.rows(_COLUMNS, oid)
    defaults: dict[str, list[str]] = defaultdict(list)
    for column, expression in connection.rows(_DEFAULTS, oid):
        defaults[column].append(expression)
    unique, indexed = _indexes(connection, oid)
    return Table(
        relation=relation,
        name=f"{schema}.{name}",
        columns=tuple(Column(one, typ, category) for one, typ, category, _ in columns),
        oid=oid,
        not_null=frozenset(one for one, _, _, not_null in columns if not_null),
        defaults={column: tuple(expressions) for column, expressions in defaults.items()},
        unique=unique,
        indexed=indexed,
    )


def _refuse_lost_parts(connection: Connection, source: Database, oid: int) -> None:
    """Refuse a table of which some rows are hidden, or come by other rules than its own."""
    here = f"source {source.name}: {source.table!r:.120}"
    if connection.value("SELECT row_security_active($1::oid)", oid):
        raise ConfigError(
            f"{here} has row-level security, which may hide rows from this role",
            hint="ALTER ROLE … BYPASSRLS lets the role see all of them",
        )
    for part, is_foreign, _ in connection.rows(_PARTS, oid):
        why = (
            "lies on another server, where rows are numbered and timed otherwise"
            if is_foreign
            else "inherits from it: no index tells rows of both apart, and one could be passed over"
        )
        raise ConfigError(
            f"{here}: {part!r:.120} {why}", hint="use partitions of this server, or one source a table"
        )


def _indexes(
    connection: Connection, oid: int
) -> tuple[tuple[tuple[str, ...], ...], tuple[tuple[str, ...], ...]]:
    members: dict[int, list[str | None]] = defaultdict(list)
    kinds: dict[int, tuple[bool, bool]] = {}
    for index, is_unique, _, is_sorted, column, _ in connection.rows(_INDEXES, oid):
        members[index].append(column)
        kinds[index] = is_unique, is_sorted
    unique: list[tuple[str, ...]] = []
    indexed: list[tuple[str, ...]] = []
    for index, names in members.items():
        known = tuple(one for one in names if one is not None)
        if kinds[index][0] and len(known) == len(names):
            unique.append(known)
        if kinds[index][1]:
            leading = names[: names.index(None)] if None in names else names
            indexed.append(tuple(one for one in leading if one is not None))
    return tuple(unique), tuple(indexed)


def _described_query(
    connection: Connection, source: Database, *, relation: str = "", name: str = ""
) -> Table:
    text = (source.query or "").strip().rstrip(";")
    if not relation:
        relation = f"({text}\n) AS q"
        name = f"query sha256:{hashlib.sha256(text.encode()).hexdigest()[:16]}"
    schema = connection.table(f"SELECT * FROM {relation} LIMIT 0").schema
    columns = []
    for one in schema:
        told = (one.metadata or {}).get(b"POSTGRESQL:type", b"text").decode()
        columns.append(Column(one.name, told, "A" if told.startswith("_") else ""))
    names = [one.name for one in columns]
    if twice := {one for one in names if names.count(one) > 1}:
        raise ConfigError(f"source {source.name}: the query gives two columns {min(twice)!r:.80}")
    return Table(relation=relation, name=name, columns=tuple(columns))


def key_of(source: Database, table: Table) -> tuple[str, ...]:
    """Return the columns that tell rows apart.

    Raises:
        ConfigError: Nothing guarantees that they do: at the edge of a page a row could be lost.
    """
    here = f"source {source.name}"
    if table.is_query:
        if not source.key:
            raise ConfigError(f"{here}: a query or view needs `key`: the columns that tell its rows apart")
        return _existing(source, table, source.key)
    if source.key:
        key = _existing(source, table, source.key)
        if not any(set(one) <= set(key) for one in table.unique):
            raise ConfigError(
                f"{here} key = {list(key)}: no unique index guarantees that they tell rows apart",
                hint="of two rows with one key the second could be passed over; name the primary key",
            )
    elif table.unique:
        key = table.unique[0]
    else:
        raise ConfigError(
            f"{here}: {table.name} has neither a primary key nor a unique index",
            hint="of two rows that cannot be told apart one could be passed over; add a primary key",
        )
    if nullable := [one for one in key if one not in table.not_null]:
        raise ConfigError(
            f"{here}: the key column {nullable[0]!r:.80} may be null, and such a row would never be read",
            hint="make it NOT NULL, or name another `key`",
        )
    return key


def _existing(source: Database, table: Table, names: Sequence[str]) -> tuple[str, ...]:
    for name in names:
        if table.column(name) is None:
            have = ", ".join(one.name for one in table.columns)
            raise ConfigError(
                f"source {source.name} key: there is no column {name!r:.80} (there are: {have})"
            )
    return tuple(names)
