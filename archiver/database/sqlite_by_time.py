"""Rows of a SQLite table by their time and identity: what `reconcile` asks, see `base.RowsByTime`.

SQLite has no instants, so the texts of rows that may lie in a span of time are fetched and read
here. Without an index on the column of the time all rows are looked at, some at a time.
"""

from __future__ import annotations

import contextlib
import json
from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import pyarrow as pa
import pyarrow.compute as pc

from archiver import clock
from archiver.columns import TIME
from archiver.database.base import POSITION, DayCount
from archiver.database.cursor import Cursor
from archiver.database.mapping import TIMES, Member
from archiver.database.sqlite_select import MOMENT, digits, real_of, text_of
from archiver.database.sqlite_table import named
from archiver.event import parse_instant, read_instants

if TYPE_CHECKING:
    from archiver.database.sqlite import Only, SqliteRows

_DAY_US: Final = 86_400_000_000
_ASKED_AT_ONCE: Final = 500
_MOST_ROWS: Final = 1 << 30
_NAMES: Final = ("workspace", "id")


@dataclass(frozen=True, slots=True)
class SqliteByTime:
    """See `archiver.database.base.RowsByTime`."""

    rows: SqliteRows

    def counts(self, since_us: int, until_us: int, upto: Cursor) -> Iterator[DayCount]:
        due: Counter[tuple[str | None, int]] = Counter()
        waiting: Counter[tuple[str | None, int]] = Counter()
        for batch in self._within(since_us, until_us, float("inf")):
            days = batch["at"].cast(pa.int64()).to_numpy() // _DAY_US
            is_due = self._is_due(batch, upto).to_pylist()
            places = zip(batch["workspace"].to_pylist(), days.tolist(), strict=True)
            for place, one in zip(places, is_due, strict=True):
                (due if one else waiting)[place] += 1
        for workspace, day in due.keys() | waiting.keys():
            place = workspace, day
            yield DayCount(workspace, day, due[place], waiting[place])

    @contextlib.contextmanager
    def listed(
        self, workspaces: Collection[str | None] | None, since_us: int, until_us: int, upto: Cursor
    ) -> Iterator[Iterator[pa.RecordBatch]]:
        yield self._listed(workspaces, since_us, until_us, upto)

    def _listed(
        self, workspaces: Collection[str | None] | None, since_us: int, until_us: int, upto: Cursor
    ) -> Iterator[pa.RecordBatch]:
        some = None if workspaces is None else pa.array(sorted(workspaces, key=str), pa.string())
        for batch in self._within(since_us, until_us, self.rows.first(upto)):
            found = batch if some is None else batch.filter(pc.is_in(batch["workspace"], some))
            if found.num_rows:
                yield found

    def known(self, ids: Sequence[str], upto: Cursor) -> Iterator[pa.RecordBatch]:
        member = self._member("id")
        name = self._text(member)
        if member.column is not None and self.rows.table.affinities[member.column.name] == "text":
            name = named(member.column.name)  # so that an index on it is used
        where = f"{name} IN (SELECT value FROM json_each(?))"
        real = real_of(member, self.rows.table)
        if real is not None:  # by its value; which text it is, is seen afterwards
            where = f"({where} OR {real} IN (SELECT CAST(value AS REAL) FROM json_each(?)))"
        for start in range(0, len(ids), _ASKED_AT_ONCE):
            asked = json.dumps(list(ids[start : start + _ASKED_AT_ONCE]))
            only = where, ((asked,) if real is None else (asked, asked))
            batch = self._fetch(float("-inf"), float("inf"), only)
            if batch.num_rows:
                yield batch.select([*_NAMES, "at"]).append_column("due", self._is_due(batch, upto))

    @contextlib.contextmanager
    def by_place(self, places: Sequence[Sequence[str]]) -> Iterator[Iterator[pa.RecordBatch]]:
        yield self._by_place({tuple(one[1:]) for one in places})

    def _by_place(self, keys: Collection[tuple[str, ...]]) -> Iterator[pa.RecordBatch]:
        if not keys:
            return
        names = self.rows.selection.place[1:]
        for batch in self.rows.chunks(float("-inf"), float("inf"), len(keys), self.at_rowids(keys)):
            found = zip(*(batch[name].to_pylist() for name in names), strict=True)
            wanted = batch.filter(pa.array([one in keys for one in found], pa.bool_()))
            if wanted.num_rows:
                yield wanted

    def at_rowids(self, keys: Collection[tuple[str, ...]]) -> Only:
        """Return the condition that a row has the rowid of one of these keys."""
        rowids = json.dumps(sorted({int(one[0]) for one in keys}))
        return f"{self.rows.rowid} IN (SELECT value FROM json_each(?))", (rowids,)

    def _within(self, since_us: int, until_us: int, last: float) -> Iterator[pa.RecordBatch]:
        """Yield the rows of these times, by their rowids up to `last`: names, `at`, and their places."""
        only = self.on_days(since_us, until_us)
        first = float("-inf")
        if self._is_indexed:
            smallest, largest = self.rows.connection.rows(
                f"SELECT min({self.rows.rowid}), max({self.rows.rowid}) FROM {self.rows.table.relation}"
                f" WHERE {self._index_condition}",
                *only[1],
            )[0]
            if smallest is None:
                return
            first, last = int(smallest) - 1, min(last, int(largest))
        since, until = (pa.scalar(one, pa.int64()) for one in (since_us, until_us))
        for after, end in self.rows.spans(first, last):
            batch = self._fetch(after, end, only)
            at = batch["at"].cast(pa.int64())
            found = batch.filter(pc.and_(pc.greater_equal(at, since), pc.less(at, until)))
            if found.num_rows:
                yield found

    def _fetch(self, after: float, last: float, only: Only) -> pa.RecordBatch:
        """Return names, `at` and places of some rows. A text that is no UTF-8 is null."""
        rows, (where, values) = self.rows, only
        members = [self._member(name) for name in ("workspace_id", "id")]
        texts = [f"{self._text(one)} AS {one.member}" for one in members]
        reals = {one.member: real for one in members if (real := real_of(one, rows.table)) is not None}
        times = [f"{self._text(one)} AS t{number}" for number, one in enumerate(self._times)]
        place = [
            f"{text} AS {name}"
            for text, name in zip(rows.selection.placed, rows.selection.place, strict=True)
        ]
        told = [f"{real} AS r_{name}" for name, real in reals.items()]
        table = rows.connection.fetch(
            f"SELECT {', '.join((*texts, *times, *place, *told))} FROM {rows.table.relation}"
            f" WHERE {rows.rowid} > ? AND {rows.rowid} <= ? AND {where} ORDER BY {rows.rowid}",
            _MOST_ROWS, after, last, *values,
        )  # fmt: skip
        columns = [_readable(column) for column in table.columns[: table.num_columns - len(told)]]
        for number, one in enumerate(members):
            if one.member in reals:
                numbers = table.column(f"r_{one.member}").cast(pa.float64()).combine_chunks()
                columns[number] = pc.coalesce(columns[number], digits(numbers))
        at = [_instants(one) for one in columns[2 : 2 + len(times)]]
        return pa.RecordBatch.from_arrays(
            [*columns[:2], pc.coalesce(*at), *columns[2 + len(times) :]],
            [*_NAMES, "at", *rows.selection.place],
        )

    def on_days(self, since_us: int | None, until_us: int) -> Only:
        """Return the condition that a row's time, whatever its zone, may lie in a span."""
        since = "" if since_us is None else _day(since_us - _DAY_US)
        return f"{self.time} >= ? AND {self.time} < ?", (since, _day(until_us + _DAY_US) + "~")

    @property
    def time(self) -> str:
        """An expression for the text of a row's time: `created_at`, else `occurred_at`."""
        times = [self._text(one) for one in self._times]
        if len(times) == 1:
            return times[0]
        return f"CASE WHEN {times[0]} GLOB '{MOMENT}*' THEN {times[0]} ELSE {times[1]} END"

    @property
    def _times(self) -> list[Member]:
        return [one for name in TIMES for one in self.rows.members if one.member == name]

    @property
    def _index_condition(self) -> str:
        column = self._times[0].column
        name = f"{named(column.name)} COLLATE BINARY" if column else "''"
        return f"{name} >= ? AND {name} < ?"

    @property
    def _is_indexed(self) -> bool:
        """Whether an index tells which rows lie in a span of time."""
        times = self._times
        column = times[0].column
        if len(times) > 1 or column is None:
            return False
        return bool(
            self.rows.connection.value(
                "SELECT count(*) FROM pragma_index_list(?, 'main') AS i,"
                " pragma_index_xinfo(i.name, 'main') AS x"
                " WHERE i.partial = 0 AND x.seqno = 0 AND x.name = ? AND x.coll = 'BINARY'",
                self.rows.table.name, column.name,
            )
        )  # fmt: skip

    def _member(self, name: str) -> Member:
        return next(one for one in self.rows.members if one.member == name)

    def _text(self, member: Member) -> str:
        return text_of(member, self.rows.table, self.rows.source.name)

    def _is_due(self, batch: pa.RecordBatch, upto: Cursor) -> pa.BooleanArray:
        return pc.less_equal(batch[POSITION].cast(pa.int64()), pa.scalar(int(upto.position), pa.int64()))


def _day(us: int) -> str:
    return clock.to_text(clock.nearest(us))[:10]


def _readable(column: pa.ChunkedArray) -> pa.StringArray:
    texts = column.cast(pa.string()).combine_chunks()
    texts = pa.concat_arrays(texts.chunks) if isinstance(texts, pa.ChunkedArray) else texts
    try:
        texts.validate(full=True)
    except pa.ArrowInvalid:
        found = texts.view(pa.binary()).to_pylist()
        return pa.array([None if one is None else _decoded(one) for one in found], pa.string())
    return texts


def _decoded(text: bytes) -> str | None:
    try:
        return text.decode()
    except UnicodeDecodeError:
        return None


def _instants(column: pa.StringArray) -> pa.Array:
    texts = column.to_pylist()
    read, uncertain = read_instants(texts)
    if not uncertain:
        return read
    found = read.cast(pa.int64()).to_pylist()
    for row in uncertain:
        instant = parse_instant(texts[row])
        if instant is not None and instant.is_storable:
            found[row] = instant.microseconds
    return pa.array(found, TIME)
