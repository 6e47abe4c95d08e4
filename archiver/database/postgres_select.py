"""How PostgreSQL is asked for each member: an expression by the column's type, and what comes back.

The driver would give every type its own Arrow type, among them instants that wrap around
without a word ('infinity' becomes a day in the year -290,000). So only types come over the wire
whose every value survives it; the rest comes as PostgreSQL's own text.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from archiver import columns
from archiver.database.fetched import Fetched, Kind, Layout
from archiver.database.mapping import HASHES, Column, Member
from archiver.database.postgres_catalog import quoted
from archiver.errors import ConfigError

_INTEGERS: Final = frozenset({"int2", "int4", "int8"})
_DIGITS: Final = frozenset({"numeric", "float4", "float8"})
_STRINGS: Final = frozenset({"text", "varchar"})
_IN_RANGE: Final = (
    "isfinite({0}) AND {0} >= '0001-01-01 00:00:00+00'::timestamptz "
    "AND {0} < '10000-01-01 00:00:00+00'::timestamptz"
)
_YEARS_OF_FOUR_DIGITS: Final = "{0} >= '0001-01-01'::timestamp AND {0} < '10000-01-01'::timestamp"


def select_list(members: Sequence[Member], source: str) -> tuple[list[str], Layout]:
    """Return the expressions to select, each with its name, and the layout of what comes.

    Raises:
        ConfigError: A column's type cannot be what its member must be.
    """
    expressions: list[str] = []
    layout: list[Fetched] = []
    for number, member in enumerate(members):
        name = f"c{number}"
        if member.column is None:
            expressions.append(f"{literal(member.constant or '')}::text AS {name}")
            layout.append(Fetched(member.member, "text", name))
            continue
        column = quoted(member.column.name)
        instant = _instant(member, column, source)
        if instant is not None:
            fits = _IN_RANGE.format(instant)
            expressions.append(f"CASE WHEN {fits} THEN {instant} END AS {name}")
            expressions.append(f"CASE WHEN NOT ({fits}) THEN {column}::text END AS o{number}")
            layout.append(Fetched(member.member, "instant", name, f"o{number}"))
            continue
        expression, kind = _plain(member, member.column, column)
        expressions.append(f"{expression} AS {name}")
        layout.append(Fetched(member.member, kind, name))
    return expressions, tuple(layout)


def literal(text: str) -> str:
    """Return `text` as a string literal that means the same whatever the session's settings."""
    escaped = text.replace("\\", "\\\\").replace("'", "''")
    return f" E'{escaped}'" if "\\" in text else f"'{escaped}'"


def _instant(member: Member, column: str, source: str) -> str | None:
    """Return an expression of type timestamptz, or None where the column does not hold instants."""
    typ = member.column.type if member.column else ""
    if typ == "timestamptz":
        return column
    if member.kind != columns.INSTANT:
        return None
    if typ == "timestamp":
        return f"({column} AT TIME ZONE 'UTC')"
    if typ in ("text", "varchar", "bpchar"):
        return None
    raise ConfigError(
        f"[sources.{source}] {member.member}: the column {column} is of type {typ}; an instant is expected",
        hint="timestamptz, timestamp (taken as UTC), or text as RFC 3339 has it; a query can convert it",
    )


def _plain(member: Member, column: Column, name: str) -> tuple[str, Kind]:  # noqa: PLR0911  (a table)
    typ = column.type
    if member.member in HASHES and typ == "bytea":
        return f"encode({name}, 'hex')", "text"
    if member.kind == columns.TEXT:
        return _text(typ, name), "text"
    if typ == "jsonb":
        return f"{name}::text", "json"
    if typ == "json" or (
        (member.is_json or member.kind == columns.JSON) and typ in ("text", "varchar", "bpchar")
    ):
        return f"{name}::text", "json_text"
    if column.category in ("A", "C") or typ == "hstore":
        return f"to_jsonb({name})::text", "json"
    if typ in _INTEGERS:
        return name, "number"
    if typ == "oid":
        return f"{name}::int8", "number"
    if typ in _DIGITS:
        return f"{name}::text", "number"
    if typ == "bool":
        return name, "boolean"
    if typ == "timestamp":
        return (
            f"CASE WHEN {_YEARS_OF_FOUR_DIGITS.format(name)} THEN "  # of 44 BC it would tell the year 44
            f"to_char({name}, 'YYYY-MM-DD\"T\"HH24:MI:SS.US') ELSE {name}::text END"
        ), "text"
    return _text(typ, name), "text"


def _text(typ: str, name: str) -> str:
    if typ in _STRINGS:
        return name
    if typ == "inet":  # without /32 behind the address of a host
        return f"abbrev({name})"
    return f"{name}::text"
