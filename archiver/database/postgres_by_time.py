"""Rows of a PostgreSQL table by their time and identity: what `reconcile` asks, see `base.RowsByTime`.

Where a row lies in the order of commits is only looked at to tell whether it was due. Values
reach the statements by settings of the transaction, as in `postgres`.
"""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import pyarrow as pa

from archiver import clock
from archiver.database.base import DayCount
from archiver.database.cursor import Cursor
from archiver.database.mapping import TIMES, Member
from archiver.database.postgres_catalog import quoted
from archiver.database.postgres_select import literal, select_list

if TYPE_CHECKING:
    from archiver.database.postgres import PostgresRows

_BEGIN: Final = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY"
# An instant as RFC 3339 has it. A day that its month does not have counts from its first.
_INSTANT: Final = (
    "^(?!0000)[0-9]{4}-(0[1-9]|1[0-2])-[0-9]{2}[Tt]([01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9]([.][0-9]+)?"
    "([Zz]|[+-]([01][0-9]|2[0-3]):[0-5][0-9])$"
)
_FROM_TEXT: Final = (
    f"(CASE WHEN NAME ~ '{_INSTANT}' THEN"
    " make_timestamptz(substr(NAME, 1, 4)::int4, substr(NAME, 6, 2)::int4, 1, 0, 0, 0, 'UTC')"
    " + (substr(NAME, 9, 2)::int4 - 1) * interval '1 day'"
    " + substring(NAME from '^.{11}([0-9:]{8}([.][0-9]{1,6})?)')::interval"
    " - coalesce(substring(NAME from '[+-][0-9]{2}:[0-9]{2}$'), '+00:00')::interval END)"
)
_EARLIEST, _END = "'0001-01-01 00:00:00+00'::timestamptz", "'10000-01-01 00:00:00+00'::timestamptz"


def _is_uuid(text: str) -> bool:
    return re.fullmatch(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", text, re.ASCII) is not None


def _is_integer(text: str) -> bool:
    return re.fullmatch(r"0|-?[1-9][0-9]{0,18}", text, re.ASCII) is not None and -(2**63) <= int(text) < 2**63


# By a column's type: which texts are one of its values in the type's own writing, and what to cast them to,
# so that an index on the column finds them.
_CASTS: Final[dict[str, tuple[Callable[[str], bool], str]]] = {
    "text": (lambda _: True, "text"),
    "varchar": (lambda _: True, "text"),
    "uuid": (_is_uuid, "uuid"),
    "int4": (_is_integer, "int8"),
    "int8": (_is_integer, "int8"),
}


@dataclass(frozen=True, slots=True)
class PostgresByTime:
    """See `archiver.database.base.RowsByTime`."""

    rows: PostgresRows

    def counts(self, since_us: int, until_us: int, upto: Cursor) -> Iterator[DayCount]:
        with self.rows.connection.transaction(_BEGIN):
            within, due = self._within(since_us, until_us), self._due(upto)
            inner = (
                f"SELECT {self._workspace} AS w, ({self._at})::date - '1970-01-01'::date AS d, {due} AS due"
                f" FROM {self.rows.table.relation} WHERE {within}"
            )
            sql = (
                "SELECT w, d, count(*) FILTER (WHERE due)::int8, count(*) FILTER (WHERE NOT due)::int8"
                f' FROM ({inner}) AS one GROUP BY w COLLATE "C", w, d'
            )
            with self.rows.connection.stream(sql) as batches:
                for batch in batches:
                    columns = (column.to_pylist() for column in batch.columns)
                    yield from (DayCount(*row) for row in zip(*columns, strict=True))

    @contextlib.contextmanager
    def listed(
        self, workspaces: Collection[str | None] | None, since_us: int, until_us: int, upto: Cursor
    ) -> Iterator[Iterator[pa.RecordBatch]]:
        with self.rows.connection.transaction(_BEGIN):
            where = [self._within(since_us, until_us), self._due(upto)]
            if workspaces is not None:
                names = [one for one in workspaces if one is not None]
                some = f"{self._workspace} IN ({self._elements('workspaces', names)})"
                where.append(f"({some} OR {self._workspace} IS NULL)" if None in workspaces else some)
            selected = ", ".join((self._named, f"{self._at} AS at", *self.rows.placed))
            sql = f"SELECT {selected} FROM {self.rows.table.relation}"
            with self.rows.connection.stream(f"{sql} WHERE {' AND '.join(where)}") as batches:
                yield batches

    def known(self, ids: Sequence[str], upto: Cursor) -> Iterator[pa.RecordBatch]:
        column = self._member("id").column
        name, cast = self._id, "text"
        if column is not None and column.type in _CASTS:
            name, (fits, cast) = quoted(column.name), _CASTS[column.type]
            ids = [one for one in ids if fits(one)]
        with self.rows.connection.transaction(_BEGIN):
            at = f"CASE WHEN {self._at} >= {_EARLIEST} AND {self._at} < {_END} THEN {self._at} END"
            sql = (
                f"SELECT {self._named}, {at} AS at, {self._due(upto)} AS due FROM {self.rows.table.relation}"
                f" WHERE {name} IN ({self._elements('ids', ids, f'::{cast}')})"
            )
            with self.rows.connection.stream(sql) as batches:
                yield from batches

    @contextlib.contextmanager
    def by_place(self, places: Sequence[Sequence[str]]) -> Iterator[Iterator[pa.RecordBatch]]:
        names, types = self.rows.key, [self.rows.type_of(one) for one in self.rows.key]
        given = ", ".join(f"(one ->> {number})::{typ}" for number, typ in enumerate(types))
        with self.rows.connection.transaction(_BEGIN):
            self._set("keys", json.dumps([list(one[1:]) for one in places]))
            told = "json_array_elements(current_setting('archiver.keys')::json)"
            where = f"({', '.join(map(quoted, names))}) IN (SELECT {given} FROM {told} AS one)"
            selected = ", ".join((*self.rows.expressions, *self.rows.placed))
            with self.rows.connection.stream(
                f"SELECT {selected} FROM {self.rows.table.relation} WHERE {where} ORDER BY {self.rows.order}"
            ) as batches:
                yield batches

    # What the statements are made of.

    def _member(self, name: str) -> Member:
        return next(one for one in self.rows.members if one.member == name)

    def _text(self, name: str) -> str:
        """Return a member's expression, as a page selects it."""
        return select_list((self._member(name),), self.rows.source.name)[0][0].removesuffix(" AS c0")

    @property
    def _workspace(self) -> str:
        return self._text("workspace_id")

    @property
    def _id(self) -> str:
        return self._text("id")

    @property
    def _named(self) -> str:
        return f"{self._workspace} AS workspace, {self._id} AS id"

    @property
    def _times(self) -> list[str]:
        """Return the instants that place a row, as expressions of type timestamptz."""
        return [_instant(one) for name in TIMES for one in self.rows.members if one.member == name]

    @property
    def _at(self) -> str:
        return f"coalesce({', '.join(self._times)})"

    def _within(self, since_us: int, until_us: int) -> str:
        """Return the condition on a row's time, so that an index on the column can be used."""
        self._set("since", clock.to_text(since_us))
        self._set("until", clock.to_text(until_us))

        def between(one: str) -> str:
            since, until = (f"current_setting('archiver.{name}')::timestamptz" for name in ("since", "until"))
            return f"{one} >= {since} AND {one} < {until}"

        first, *others = self._times
        if not others:
            return f"({between(first)})"
        return f"({between(first)} OR ({first} IS NULL AND {between(others[0])}))"

    def _due(self, upto: Cursor) -> str:
        """Return the condition that a row lies at or before the cursor."""
        names = (self.rows.how.position, *self.rows.key)
        told = []
        for number, (name, value) in enumerate(zip(names, (upto.position, *upto.key), strict=True)):
            self._set(f"upto_{number}", value)
            told.append(f"current_setting('archiver.upto_{number}')::{self.rows.type_of(name)}")
        return f"(({', '.join(map(quoted, names))}) <= ({', '.join(told)}))"

    def _elements(self, setting: str, texts: Iterable[str], cast: str = "") -> str:
        """Set texts for this transaction; return the query that gives them."""
        # PostgreSQL's texts have no U+0000, and its JSON refuses one.
        self._set(setting, json.dumps([one for one in texts if "\x00" not in one]))
        told = f"json_array_elements_text(current_setting('archiver.{setting}')::json)"
        return f"SELECT one{cast} FROM {told} AS one"

    def _set(self, setting: str, value: str) -> None:
        self.rows.connection.run("SELECT set_config($1, $2, true)", f"archiver.{setting}", value)


def _instant(member: Member) -> str:
    if member.column is None:
        return _FROM_TEXT.replace("NAME", literal(member.constant or "").strip())
    name = quoted(member.column.name)
    if member.column.type == "timestamptz":
        return name
    if member.column.type == "timestamp":
        return f"({name} AT TIME ZONE 'UTC')"
    return _FROM_TEXT.replace("NAME", f"{name}::text")
