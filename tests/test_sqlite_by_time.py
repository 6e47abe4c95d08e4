"""Rows of SQLite by time and identity, and the deleting of old ones: what `reconcile`, `purge` stand on."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from archiver import clock
from archiver.database import sqlite
from archiver.database.base import POSITION, Bound
from archiver.database.bodies import bodies
from archiver.database.cursor import Cursor
from archiver.database.old import VERSION
from archiver.database.settings import Location
from archiver.database.sqlite import SqliteRows, open_sqlite
from archiver.database.sqlite_old import SqliteOldRows, open_sqlite_old
from archiver.errors import ConfigError, SourceError
from tests.sqlite_rows import TABLE, URL, App, ended, new_app, python, url_of

_HOUR_US = 3_600_000_000
_DAY_US = 24 * _HOUR_US
_THE_26TH = clock.from_text("2026-03-26T00:00:00.000000Z")


@pytest.fixture(params=["indexed", "not-indexed"])
def app(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> App:
    made = new_app(tmp_path)
    if request.param == "indexed":
        made.execute("CREATE INDEX by_time ON events (created_at)", "CREATE INDEX by_id ON events (id)")
    monkeypatch.setenv(URL, url_of(made.path))
    return made


def _open(app: App, **changes: Any) -> SqliteRows:
    return open_sqlite(replace(app.source, **changes), Location(url_of(app.path)))


def _old(app: App, *, deletes: bool = True) -> SqliteOldRows:
    return open_sqlite_old(app.source, Location(url_of(app.path)), deletes=deletes)


def _upto(rows: SqliteRows, position: int = 1_000) -> Cursor:
    return Cursor("rowid", rows.origin, str(position), ("", "", ""))


def _days(app: App, upto: int, *, days: int = 1) -> list[tuple[str, int, int, int]]:
    rows = _open(app)
    found = rows.by_time().counts(_THE_26TH, _THE_26TH + days * _DAY_US, _upto(rows, upto))
    told = sorted(
        (one.workspace or "", one.day - _THE_26TH // _DAY_US, one.due, one.waiting) for one in found
    )
    rows.close()
    return told


def test_rows_are_counted_by_workspace_and_utc_day(app: App) -> None:
    for number, created_at in enumerate(
        [
            "2026-03-25 23:59:59.999999",
            "2026-03-26 00:00:00",
            "2026-03-26T23:59:59.999999Z",
            "2026-03-27T00:30:00+02:00",
            "2026-03-25T23:30:00-01:00",
            "2026-03-27 00:00:00",
            "nonsense",
            "2026-03-26",
        ]
    ):
        app.insert_row(id=str(number), created_at=created_at)
    app.insert_row(id="other", created_at="2026-03-26 12:00:00", workspace_id="ws_2")
    assert _days(app, 3) == [("ws_1", 0, 2, 2), ("ws_2", 0, 0, 1)]
    assert _days(app, 1_000, days=2) == [("ws_1", 0, 4, 0), ("ws_1", 1, 1, 0), ("ws_2", 0, 1, 0)]


def test_a_span_within_a_day_has_the_rows_of_every_zone(app: App) -> None:
    app.insert_row(id="a", created_at="2026-03-27T11:00:00+23:30")
    app.insert_row(id="b", created_at="2026-03-25T12:30:00-23:30")
    rows = _open(app)
    found = rows.by_time().counts(_THE_26TH + 11 * _HOUR_US, _THE_26TH + 12 * _HOUR_US + 1, _upto(rows))
    assert [one.due for one in found] == [2]
    rows.close()


def test_a_row_without_a_first_time_lies_at_its_second(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    app = new_app(tmp_path, TABLE.replace("created_at TEXT NOT NULL", "occurred_at TEXT, created_at TEXT"))
    monkeypatch.setenv(URL, url_of(app.path))
    app.insert_row(id="a", created_at=None, occurred_at="2026-03-26 12:00:00")
    app.insert_row(id="b", created_at="nonsense", occurred_at="2026-03-26 12:00:00")
    app.insert_row(id="c", created_at="2026-03-27 12:00:00", occurred_at="2026-03-26 12:00:00")
    app.insert_row(id="d", created_at="2026-03-26 12:00:00", occurred_at="2026-03-20 12:00:00")
    assert _days(app, 1_000) == [("ws_1", 0, 3, 0)]


def test_rows_are_listed_with_their_places_and_found_by_them(
    app: App, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sqlite, "_SPAN_ROWS", 2)
    for number in range(7):
        app.insert_row(
            id=str(number), created_at=f"2026-03-26 1{number}:00:00", workspace_id=f"ws_{number % 2}"
        )
    rows = _open(app)
    with rows.by_time().listed(["ws_1"], _THE_26TH, _THE_26TH + _DAY_US, _upto(rows, 6)) as batches:
        found = [row for batch in batches for row in batch.to_pylist()]
    assert [(row["id"], clock.to_us(row["at"]) - _THE_26TH) for row in found] == [
        (str(number), (10 + number) * 3_600_000_000) for number in (1, 3, 5)
    ]
    places = [tuple(row[name] for name in rows.selection.place) for row in found]
    app.execute("DELETE FROM events WHERE id = '3'", "UPDATE events SET id = 'x' WHERE id = '5'")
    with rows.by_time().by_place(places) as batches:
        texts = [text for batch in batches for text in bodies(batch, rows.layout).to_pylist()]
    rows.close()
    assert ['"id":"1"' in text for text in texts] == [True]


def test_rows_are_known_by_their_ids(app: App) -> None:
    for number in range(1_200):
        app.insert_row(id=str(number), created_at="2026-03-26 10:00:00") if number < 3 else None
    app.insert_row(id='odd"\u2028', created_at="nonsense")
    rows = _open(app)
    ids = [*(str(number) for number in range(1_100)), 'odd"\u2028', "not there"]
    found = pa.Table.from_batches(rows.by_time().known(ids, _upto(rows, 2))).to_pylist()
    rows.close()
    assert [(row["id"], row["workspace"], row["at"] is not None, row["due"]) for row in found] == [
        ("0", "ws_1", True, True),
        ("1", "ws_1", True, True),
        ("2", "ws_1", True, False),
        ('odd"\u2028', "ws_1", False, False),
    ]


def test_a_name_that_is_no_utf_8_is_as_if_it_were_missing(app: App) -> None:
    app.execute(
        "INSERT INTO events (id, workspace_id, actor_id, action, created_at)"
        " VALUES (CAST(X'FF' AS TEXT), CAST(X'FF' AS TEXT), 'u', 'x', '2026-03-26 10:00:00')"
    )
    assert _days(app, 1_000) == [("", 0, 1, 0)]


def _old_batch(rows: SqliteOldRows, before_us: int, upto: int = 1_000) -> pa.RecordBatch:
    with rows.old_rows(before_us, None, _upto(rows.rows, upto), 100) as batches:
        found = list(batches)
    return pa.Table.from_batches(found).combine_chunks().to_batches()[0]


def _keys(batch: pa.RecordBatch) -> list[tuple[str, ...]]:
    return list(zip(*(batch[f"k{number}"].to_pylist() for number in range(3)), strict=True))


def _left(app: App) -> list[str]:
    with closing(sqlite3.connect(app.path)) as connection:
        return [one for (one,) in connection.execute("SELECT id FROM events ORDER BY id")]


@pytest.fixture
def old_app(app: App) -> App:
    for name, day in (("a", "01"), ("b", "02"), ("c", "03"), ("d", "20"), ("e", "21")):
        app.insert_row(id=name, created_at=f"2026-03-{day} 10:00:00")
    return app


_BEFORE = clock.from_text("2026-03-10T00:00:00.000000Z")


def test_old_rows_are_given_and_those_that_are_too_young_counted(old_app: App) -> None:
    rows = _old(old_app)
    assert _old_batch(rows, _BEFORE)[POSITION].to_pylist() == ["1", "2", "3"]
    assert _old_batch(rows, _BEFORE, upto=2)[POSITION].to_pylist() == ["1", "2"]
    assert rows.younger(_BEFORE, _upto(rows.rows), 100) == 2
    assert rows.younger(_BEFORE, _upto(rows.rows), 1) == 1
    assert rows.younger(_BEFORE, _upto(rows.rows, 4), 100) == 1
    with rows.old_rows(_BEFORE, _upto(rows.rows, 1), _upto(rows.rows), 1) as batches:
        assert [one[POSITION].to_pylist() for one in batches] == [["2"]]
    rows.close()


def test_only_rows_that_are_as_they_were_read_are_deleted(old_app: App) -> None:
    rows = _old(old_app)
    batch = _old_batch(rows, _BEFORE)
    old_app.execute("UPDATE events SET action = 'other' WHERE id = 'b'", "DELETE FROM events WHERE id = 'c'")
    assert rows.delete(_keys(batch), batch[VERSION].to_pylist()) == ["deleted", "changed", "gone"]
    rows.close()
    assert _left(old_app) == ["b", "d", "e"]
    old_app.run()
    assert old_app.run().problems == []


@pytest.mark.parametrize(
    ("was", "becomes"),
    [
        ("1", "'1'"), ("1", "1.5"), ("NULL", "''"), ("0.1", "0.1 + 1e-17 * 2"), ("X'61'", "'a'"),
        ("'a'", "'a' || char(0)"),
    ],
)  # fmt: skip
def test_every_change_of_a_value_is_seen(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, was: str, becomes: str
) -> None:
    app = new_app(tmp_path, TABLE.rstrip().removesuffix(")") + ', "any", "left")')
    monkeypatch.setenv(URL, url_of(app.path))
    app.source = replace(app.source, exclude=("left",))
    app.insert_row(id="a", created_at="2026-03-01 10:00:00")
    for column in ("any", "left"):
        app.execute(f'UPDATE events SET "{column}" = {was}')
        rows = _old(app)
        batch = _old_batch(rows, _BEFORE)
        app.execute(f'UPDATE events SET "{column}" = {becomes}')
        assert rows.delete(_keys(batch), batch[VERSION].to_pylist()) == ["changed"]
        rows.close()


def test_a_row_that_a_trigger_passes_over_is_kept_and_one_that_it_refuses_stops_all(old_app: App) -> None:
    old_app.execute(
        "CREATE TRIGGER keeps BEFORE DELETE ON events WHEN old.id = 'b' BEGIN SELECT RAISE(IGNORE); END"
    )
    rows = _old(old_app)
    batch = _old_batch(rows, _BEFORE)
    assert rows.delete(_keys(batch)[1:2], batch[VERSION].to_pylist()[1:2]) == ["kept"]
    old_app.execute(
        "CREATE TRIGGER refuses BEFORE DELETE ON events WHEN old.id = 'c'"
        " BEGIN SELECT RAISE(ABORT, 'append-only'); END"
    )
    with pytest.raises(SourceError) as raised:
        rows.delete(_keys(batch), batch[VERSION].to_pylist())
    assert "append-only; nothing of this transaction was deleted" in raised.value.message
    assert "trigger" in raised.value.hint
    rows.close()
    assert _left(old_app) == ["a", "b", "c", "d", "e"]


def test_what_another_process_holds_is_told_as_locked(old_app: App) -> None:
    old_app.source = replace(old_app.source, statement_timeout_seconds=0.1)
    rows = _old(old_app)
    batch = _old_batch(rows, _BEFORE)
    holder = python(
        "import sqlite3, sys, time\n"
        "connection = sqlite3.connect(sys.argv[1], isolation_level=None)\n"
        "connection.execute('BEGIN IMMEDIATE'); print('held', flush=True); time.sleep(0.8)\n"
        "connection.execute('COMMIT')",
        old_app.path,
    )
    assert holder.stdout is not None
    assert holder.stdout.readline() == "held\n"
    assert rows.delete(_keys(batch), batch[VERSION].to_pylist()) == ["locked"] * 3
    ended([holder])
    assert rows.delete(_keys(batch), batch[VERSION].to_pylist()) == ["deleted"] * 3
    rows.close()


@pytest.mark.parametrize("action", ["CASCADE", "SET NULL", "SET DEFAULT"])
def test_a_table_whose_rows_take_others_with_them_is_refused(old_app: App, action: str) -> None:
    old_app.execute(f"CREATE TABLE notes (event INTEGER REFERENCES Events (n) ON DELETE {action})")
    with pytest.raises(ConfigError, match="would delete or change rows of notes"):
        _old(old_app)


def test_a_row_that_another_one_points_to_is_not_deleted(old_app: App) -> None:
    old_app.execute(
        "CREATE TABLE notes (event INTEGER REFERENCES events (n))", "INSERT INTO notes VALUES (2)"
    )
    rows = _old(old_app)
    batch = _old_batch(rows, _BEFORE)
    with pytest.raises(SourceError) as raised:
        rows.delete(_keys(batch), batch[VERSION].to_pylist())
    rows.close()
    assert "rows of another table point to these" in raised.value.hint
    assert len(_left(old_app)) == 5


def test_without_being_asked_to_delete_nothing_can_be(old_app: App) -> None:
    rows = _old(old_app, deletes=False)
    batch = _old_batch(rows, _BEFORE)
    with pytest.raises(SourceError):
        rows.delete(_keys(batch), batch[VERSION].to_pylist())
    rows.close()
    assert len(_left(old_app)) == 5


def test_a_page_of_no_bound_is_empty(old_app: App) -> None:
    rows = _open(old_app)
    with rows.page(None, Bound(None), 10) as batches:
        assert list(batches) == []
    assert rows.behind(None, Bound(None), 10) == 5
    rows.close()
