"""How SQLite is asked for each member, and how the answer becomes columns of few types.

A column of SQLite may hold a value of any type in any row, and the driver fails when a column's
type changes on the way. So each value is asked for as text; only REAL comes as the number
that it is, since SQLite's text of it may read back as another.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import pyarrow as pa
import pyarrow.compute as pc

from archiver import columns
from archiver.database.base import KEY, POSITION
from archiver.database.fetched import Fetched, Kind, Layout
from archiver.database.mapping import HASHES, Column, Member
from archiver.database.sqlite_table import SqliteTable, named
from archiver.errors import ConfigError

_REALS: Final = "r"  # r0 holds the numbers of c0 that are REAL
_JSON_TYPES: Final = frozenset({"JSON", "JSONB"})
# How many bytes of an id and a time tell a row from another one with the same rowid.
_WITNESS_BYTES: Final = 64

# SQLite's own writing, `2026-03-26 10:15:00.123`, is UTC; so it is with `T`, as many programs write it.
MOMENT: Final = (
    "[0-9][0-9][0-9][0-9]-[0-9][0-9]-[0-9][0-9][ T][0-9][0-9]:[0-9][0-9]:[0-9][0-9]"  # then .fff or a zone
)
# Where a text has a NUL inside, functions see only what is before it; such a text stays as it is.
_INSTANT: Final = f"""CASE
WHEN typeof({{0}}) <> 'text' OR {{0}} NOT GLOB '{MOMENT}*' OR instr({{0}}, char(0)) THEN {{1}}
WHEN length({{0}}) = 19 THEN substr({{0}}, 1, 10) || 'T' || substr({{0}}, 12) || '.000000Z'
WHEN substr({{0}}, 20, 2) GLOB '.[0-9]' AND substr({{0}}, 21) NOT GLOB '*[^0-9]*'
THEN substr({{0}}, 1, 10) || 'T' || substr({{0}}, 12)
     || substr('000000', 1, max(0, 26 - length({{0}}))) || 'Z'
ELSE substr({{0}}, 1, 10) || 'T' || substr({{0}}, 12) END"""


@dataclass(frozen=True, slots=True)
class Selection:
    """What is selected of a table for the members of a body.

    Attributes:
        expressions: Each with its name: the layout's columns, those of REAL, and each row's place.
        layout: The members, and their columns in `arranged`.
        key: Expressions that tell rows apart, even two with the same rowid in two files: the rowid, and
            what an id and a time begin with.
        size: An expression: about how many bytes a row's members have.
        whole: And all its columns.
    """

    expressions: tuple[str, ...]
    layout: Layout
    key: tuple[str, ...]
    size: str
    whole: str

    @property
    def placed(self) -> list[str]:
        """The expressions of a row's place."""
        return [self.key[0], *self.key]

    @property
    def place(self) -> list[str]:
        """The columns that say where a row is."""
        return [POSITION, *(f"{KEY}{number}" for number in range(len(self.key)))]

    def arranged(self, table: pa.Table, *more: str) -> pa.RecordBatch:
        """Return what was fetched as one batch: the layout's columns, each row's place, and `more`."""
        names = [*(one.column for one in self.layout), *self.place, *more]
        arrays = []
        for name in names:
            texts = _one(table.column(name)).cast(pa.string())  # a column of nulls alone has another type
            reals = _REALS + name[1:]
            if name[0] == "c" and reals in table.column_names:
                numbers = _one(table.column(reals))
                if numbers.null_count < len(numbers):
                    texts = pc.coalesce(texts, digits(numbers))
            arrays.append(texts)
        return pa.RecordBatch.from_arrays(arrays, names=names)


def select(members: Sequence[Member], table: SqliteTable, source: str) -> Selection:
    """Return what to select.

    Raises:
        ConfigError: A column cannot be what its member must be.
    """
    expressions: list[str] = []
    layout: list[Fetched] = []
    for number, member in enumerate(members):
        name = f"c{number}"
        if member.column is None:
            expressions.append(f"{literal(member.constant or '')} AS {name}")
            layout.append(Fetched(member.member, "text", name))
            continue
        expression, kind = _expression(member, member.column, table, source)
        expressions.append(f"{expression} AS {name}")
        real = real_of(member, table)
        if real is not None:
            expressions.append(f"{real} AS {_REALS}{number}")
        layout.append(Fetched(member.member, kind, name))
    rowid = f"CAST({named(table.rowid)} AS TEXT)"
    key = (rowid, *_witness(members))
    expressions.append(f"{rowid} AS {POSITION}")
    expressions += [f"{one} AS {KEY}{number}" for number, one in enumerate(key)]
    return Selection(
        tuple(expressions),
        tuple(layout),
        key,
        size=_size([one.column for one in members if one.column is not None]),
        whole=_size(table.columns),
    )


def _size(of: Sequence[Column]) -> str:
    return " + ".join(["0", *(f"ifnull(octet_length({named(one.name)}), 0)" for one in of)])


def text_of(member: Member, table: SqliteTable, source: str) -> str:
    """Return the expression for what a text or an instant is in a body; of REAL it has nothing."""
    if member.column is None:
        return literal(member.constant or "")
    return _expression(member, member.column, table, source)[0]


def real_of(member: Member, table: SqliteTable) -> str | None:
    """Return the expression for a member's value where it is REAL; None where it never is."""
    if member.column is None or table.affinities[member.column.name] == "text":
        return None
    column = named(member.column.name)
    return f"CASE WHEN typeof({column}) = 'real' THEN {column} END"


def literal(text: str) -> str:
    """Return `text` as a string literal."""
    return "'" + text.replace("'", "''") + "'"


def _expression(member: Member, of: Column, table: SqliteTable, source: str) -> tuple[str, Kind]:
    column = named(of.name)
    affinity = table.affinities[of.name]
    # Of REAL there is nothing here: it comes by itself. A column of text holds none: what is written into
    # it becomes text; the other branch is for the file that breaks that rule.
    real = f"printf('%!.17g', {column})" if affinity == "text" else "NULL"
    prefix = "" if member.member in HASHES else "'\\x' || "
    text = (
        f"CASE typeof({column}) WHEN 'text' THEN {column} WHEN 'blob' THEN {prefix}lower(hex({column}))"
        f" WHEN 'real' THEN {real} ELSE CAST({column} AS TEXT) END"
    )
    if member.kind == columns.INSTANT:
        if affinity in ("integer", "real"):
            raise ConfigError(
                f"[sources.{source}] {member.member}: the column {of.name!r:.80} is of type"
                f" {of.type:.40}; an instant is expected, and nothing tells what numbers count",
                hint=instant_hint(member, table),
            )
        return _INSTANT.format(column, text), "instant"
    if member.kind == columns.TEXT:
        return text, "text"
    if member.kind == columns.JSON or member.is_json or of.type.upper() in _JSON_TYPES:
        is_binary = f"typeof({column}) = 'blob' AND json_valid({column}, 8)"  # SQLite's own JSONB
        return f"CASE WHEN {is_binary} THEN json({column}) ELSE {text} END", "json_text"
    if affinity == "text":
        return text, "text"
    if affinity == "none":
        # Here '5' and 5 are two values. Behind `||` no function takes a text for JSON.
        return (
            f"CASE typeof({column}) WHEN 'text' THEN json_quote({column} || '') ELSE {text} END",
            "json_text",
        )
    return text, "number"


def instant_hint(member: Member, table: SqliteTable) -> str:
    """Say how a number becomes an instant."""
    column = member.column.name if member.column else member.member
    return (
        f"if they are seconds since 1970: ALTER TABLE {table.name} ADD COLUMN {column}_text TEXT AS"
        f" (strftime('%Y-%m-%dT%H:%M:%fZ', {column}, 'unixepoch')) VIRTUAL; and under columns"
        f' {member.member} = "{column}_text" and {column}_unix = "{column}"'
    )


def _witness(members: Sequence[Member]) -> tuple[str, ...]:
    """Return expressions for what a row's id and time begin with, in ASCII whatever they hold."""
    by_name = {one.member: one.column for one in members}
    found = []
    for names in (("id",), ("created_at", "occurred_at")):
        column = next((by_name[one] for one in names if by_name.get(one) is not None), None)
        if column is None:
            found.append("''")
        else:
            name = named(column.name)
            found.append(
                f"CASE WHEN typeof({name}) = 'text' AND {name} NOT GLOB '*[^ -~]*'"
                f" THEN substr({name}, 1, {_WITNESS_BYTES})"
                f" ELSE hex(substr(CAST({name} AS BLOB), 1, {_WITNESS_BYTES})) END"
            )
    return tuple(found)


def _one(column: pa.ChunkedArray) -> pa.Array:
    return column.combine_chunks() if column.num_chunks != 1 else column.chunk(0)


def digits(reals: pa.Array) -> pa.StringArray:
    """Return numbers with the fewest digits that read back as the same number."""
    texts = reals.cast(pa.float64()).cast(pa.string())
    for theirs, ours in (("inf", "Infinity"), ("-inf", "-Infinity")):
        texts = pc.if_else(pc.equal(texts, theirs), ours, texts)
    return texts
