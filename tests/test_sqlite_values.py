"""What each value of SQLite becomes in a row's body: none is lost, and none is taken for another."""

from __future__ import annotations

import json
import random
import sqlite3
import struct
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from tests.sqlite_rows import TABLE, URL, App, new_app, url_of

_COLUMNS = {
    "metadata": "JSON", "targets": "TEXT", "version": "INTEGER", "session_id": "",
    "whole": "INTEGER", "part": "REAL", "sum": "DECIMAL(10, 2)", "note": "TEXT", "any": "", "raw": "BLOB",
    "tags": "TEXT",
}  # fmt: skip


@pytest.fixture
def app(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> App:
    more = ", ".join(f'"{name}" {typ}' for name, typ in _COLUMNS.items())
    made = new_app(tmp_path, TABLE.rstrip().removesuffix(")") + f", {more})")
    monkeypatch.setenv(URL, url_of(made.path))
    return made


def _body(app: App, **values: Any) -> dict[str, str]:
    """Archive one row with these values; return the JSON text of each of its members."""
    app.insert_row(**values)
    report = app.run()
    assert (report.counts.archived, report.problems) == (1, [])
    (body,) = app.bodies()
    pairs = json.loads(body, object_pairs_hook=list, parse_float=_Digits, parse_int=_Digits)
    return {name: str(value) if isinstance(value, _Digits) else json.dumps(value) for name, value in pairs}


class _Digits(str):
    """A number as it stands."""

    __slots__ = ()


def test_the_body_is_the_row_with_the_members_of_an_event_first(app: App) -> None:
    app.insert_row(
        id="a", created_at="2026-03-26 10:15:00", metadata='{"plan": "pro"}', version=2, note='5"', any=1.5
    )
    app.run()
    assert app.bodies() == [
        '{"workspace_id":"ws_1","id":"a","actor_id":"u","action":"a.b","metadata":{"plan": "pro"},'
        '"version":2,"created_at":"2026-03-26T10:15:00.000000Z","n":1,"note":"5\\"","any":1.5}'
    ]


@pytest.mark.parametrize(
    ("column", "value", "expected"),
    [
        ("whole", -(2**63), "-9223372036854775808"),
        ("whole", 2**63 - 1, "9223372036854775807"),
        ("whole", "five", '"five"'),
        ("whole", 1.5, "1.5"),
        ("part", 0.1, "0.1"),
        ("part", 1, "1"),
        ("part", 5e-324, "5e-324"),
        ("part", 1e300, "1e+300"),
        ("part", float("inf"), '"Infinity"'),
        ("part", float("-inf"), '"-Infinity"'),
        ("sum", "12.50", "12.5"),  # SQLite keeps no more of it
        ("sum", "abc", '"abc"'),
        ("note", 5, '"5"'),
        ("note", "", '""'),
        ("note", "a\0b", '"a\\u0000b"'),
        ("note", b"\x00\xff", '"\\\\x00ff"'),
        ("any", 5, "5"),
        ("any", "5", '"5"'),
        ("any", '{"x":1}', '"{\\"x\\":1}"'),
        ("any", 2.5, "2.5"),
        ("any", float("inf"), '"Infinity"'),
        ("raw", b"", '"\\\\x"'),
        ("raw", "true", '"true"'),
        ("metadata", '[{"a": 1.10}]', '[[["a", 1.10]]]'),
        ("metadata", "null", "null"),
        ("metadata", 5, "5"),
        ("session_id", 5, '"5"'),
        ("session_id", 0.5, '"0.5"'),
        ("tags", '"}', '"\\"}"'),
    ],
)
def test_a_value_becomes(app: App, column: str, value: Any, expected: str) -> None:
    if column == "metadata" and not isinstance(value, str | None):
        app.source = _with(app, columns={"settings": "metadata"})
        column, member = "metadata", "settings"
    elif column == "metadata":
        app.source = _with(app, columns={"settings": "metadata"}, json=("metadata",))
        member = "settings"
    else:
        member = column
    found = _body(app, **{column: value})[member]
    assert found.replace('"1.10"', "1.10") == expected


def _with(app: App, **changes: Any) -> Any:
    from dataclasses import replace  # noqa: PLC0415

    return replace(app.source, **changes)


def test_hashes_as_bytes_are_hexadecimal_digits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    app = new_app(tmp_path, TABLE.rstrip().removesuffix(")") + ", event_hash BLOB, previous_event_hash TEXT)")
    monkeypatch.setenv(URL, url_of(app.path))
    told = _body(app, event_hash=b"\xab" * 32, previous_event_hash=b"\x01" * 32)
    assert told["event_hash"] == f'"{"ab" * 32}"'
    assert told["previous_event_hash"] == f'"{"01" * 32}"'


def test_null_is_left_out(app: App) -> None:
    assert not {"note", "any", "raw", "metadata"} & set(_body(app, id="a"))


def test_a_column_named_as_json_is_json_and_text_that_is_none_cannot_add_a_member(app: App) -> None:
    app.source = _with(app, json=("tags",))
    app.insert_row(id="a", tags='["x",  1.0]')
    app.insert_row(id="b", tags='"y","id":"z"')
    assert app.run().counts.archived == 2
    first, second = app.bodies()
    assert '"tags":["x",  1.0]' in first
    assert json.loads(second)["tags"] == '"y","id":"z"'
    assert json.loads(second)["id"] == "b"


def test_binary_json_is_written_as_json(app: App) -> None:
    """X'4C' and so on: SQLite's JSONB of {"k":[1,2]}."""
    assert _body(app, metadata=bytes.fromhex("7c176b4b13311332"))["metadata"] == '[["k", ["1", "2"]]]'


def test_a_json_text_that_a_column_made_by_sqlite_returns_is_a_text(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = TABLE.rstrip().removesuffix(")") + ", made AS (json_object('id', 'other')))"
    app = new_app(tmp_path, made)
    monkeypatch.setenv(URL, url_of(app.path))
    assert _body(app)["made"] == json.dumps('{"id":"other"}')


def test_each_real_number_reads_back_as_the_same_number(app: App) -> None:
    random.seed(7)
    numbers = [struct.unpack("<d", random.randbytes(8))[0] for _ in range(2_000)]
    numbers = [one for one in numbers if abs(one) < float("inf")] + [-0.0, 1e22, 1e23, 2**53 + 1.0, 0.1 + 0.2]
    with closing(sqlite3.connect(app.path)) as connection, connection:
        connection.executemany(
            'INSERT INTO events (id, workspace_id, actor_id, action, "any", session_id)'
            " VALUES (?, 'w', 'u', 'x', ?, ?)",
            [(str(row), one, one) for row, one in enumerate(numbers)],
        )
    assert app.run().counts.archived == len(numbers)
    bodies = {int(body["id"]): body for body in map(json.loads, app.bodies())}
    assert [bodies[row]["any"] for row in range(len(numbers))] == numbers
    assert [float(bodies[row]["session_id"]) for row in range(len(numbers))] == numbers


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2026-03-26 10:15:00", "2026-03-26T10:15:00.000000Z"),
        ("2026-03-26T10:15:00", "2026-03-26T10:15:00.000000Z"),
        ("2026-03-26 10:15:00.5", "2026-03-26T10:15:00.500000Z"),
        ("2026-03-26 10:15:00.123456", "2026-03-26T10:15:00.123456Z"),
        ("2026-03-26 10:15:00.1234567", "2026-03-26T10:15:00.1234567Z"),
        ("2026-03-26 10:15:00+02:00", "2026-03-26T10:15:00+02:00"),
        ("2026-03-26 10:15:00.25-05:30", "2026-03-26T10:15:00.25-05:30"),
        ("2026-03-26T10:15:00Z", "2026-03-26T10:15:00Z"),
    ],
)
def test_an_instant_without_a_zone_is_utc(app: App, text: str, expected: str) -> None:
    assert _body(app, created_at=text)["created_at"] == json.dumps(expected)


def test_a_database_in_utf_16_says_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    app = new_app(tmp_path, "PRAGMA encoding = 'UTF-16le'", TABLE)
    monkeypatch.setenv(URL, url_of(app.path))
    found = _body(app, id="\u00e4\u20ac\U0001f600", created_at="2026-03-26 10:15:00.5")
    assert json.loads(found["id"]) == "\u00e4\u20ac\U0001f600"
    assert found["created_at"] == '"2026-03-26T10:15:00.500000Z"'
    assert app.run().problems == []


@pytest.mark.parametrize(
    "value",
    ["2026-03-26", "2026-03-26 10:15", "2026-02-30 10:15:00", "2026-03-26 10:15:00\0", "26.3.2026", 5, b"x"],
)
def test_what_is_no_instant_is_quarantined_as_it_is(app: App, value: Any) -> None:
    app.insert("first")  # a column in which every value is a number would be refused as a whole
    app.insert_row(id="odd", created_at=value)
    report = app.run()
    assert (report.counts.archived, report.counts.quarantined) == (1, 1)


def test_text_that_is_no_utf_8_is_quarantined_and_the_rows_around_it_are_archived(app: App) -> None:
    app.insert("a")
    app.execute(
        'INSERT INTO events (id, workspace_id, actor_id, action, note, "any")'
        " VALUES (CAST(X'62FF' AS TEXT), 'w', 'u', 'x', CAST(X'FF22' AS TEXT), CAST(X'FF22' AS TEXT))"
    )
    report = app.run()
    assert (report.counts.archived, report.counts.quarantined, report.problems) == (1, 1, [])
    app.insert("c")
    assert app.run().counts.archived == 1
    assert app.ids() == ["a", "c"]


def test_a_type_that_changes_in_the_middle_of_a_column_changes_nothing(app: App) -> None:
    values = [None] * 3_000 + [1, "text", 2.5, b"\x01", 10**18]
    with closing(sqlite3.connect(app.path)) as connection, connection:
        connection.executemany(
            'INSERT INTO events (id, workspace_id, actor_id, action, "any", whole)'
            " VALUES (?, 'w', 'u', 'x', ?, ?)",
            [(str(row), one, one) for row, one in enumerate(values)],
        )
    assert app.run().counts.archived == len(values)
    bodies = {int(body["id"]): body for body in map(json.loads, app.bodies())}
    found = [bodies[row].get("any") for row in range(len(values))]
    assert found == [*values[:3003], "\\x01", 10**18]


def test_names_that_are_made_to_break_out_do_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    app = new_app(
        tmp_path,
        """CREATE TABLE "ev""ents'; DROP TABLE x" ("a""b" INTEGER PRIMARY KEY AUTOINCREMENT, "i d" TEXT,
        workspace_id, actor_id, action, created_at DEFAULT CURRENT_TIMESTAMP, "rowid" TEXT)""",
        """INSERT INTO "ev""ents'; DROP TABLE x" ("i d", workspace_id, actor_id, action, rowid)
        VALUES ('a', 'w', 'u', 'x', 'not the rowid')""",
    )
    monkeypatch.setenv(URL, url_of(app.path))
    app.source = _with(
        app, table="ev\"ents'; DROP TABLE x", columns={"id": "i d"}, constants={"tenant_id": "o'b\\"}
    )
    report = app.run()
    assert (report.counts.archived, report.problems) == (1, [])
    body = json.loads(app.bodies()[0])
    assert (body["id"], body["tenant_id"], body['a"b'], body["rowid"]) == ("a", "o'b\\", 1, "not the rowid")
