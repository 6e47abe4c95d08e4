"""Every type of PostgreSQL as a body, and names that only quoting keeps apart."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from archiver.archive import Archive
from archiver.requeue import entries
from tests.database.tables import XID, archived, events_table, source_of
from tests.faults.check import check_archive
from tests.services.postgres import PostgresDatabase
from tests.support import new_archive, rows_of

_MADE = """
CREATE TYPE mood AS ENUM ('sad', 'it''s "ok"');
CREATE TYPE pair AS (a int4, b text);
CREATE DOMAIN positive AS int4 CHECK (VALUE > 0);
CREATE DOMAIN small AS positive CHECK (VALUE < 100);
CREATE DOMAIN moment AS timestamptz;
"""

# Type, value in SQL, and the member's JSON as it stands in the body; None where it is left out.
VALUES: list[tuple[str, str, str | None]] = [
    ("int2", "-32768", "-32768"),
    ("int4", "2147483647", "2147483647"),
    ("int8", "-9223372036854775808", "-9223372036854775808"),
    ("oid", "4294967295", "4294967295"),
    ("numeric", "1.500", "1.500"),
    ("numeric", "'-123456789012345678901234567890.000000001'", "-123456789012345678901234567890.000000001"),
    ("numeric", "1e400", "1" + "0" * 400),
    ("numeric", "'NaN'", '"NaN"'),
    ("numeric", "'-Infinity'", '"-Infinity"'),
    ("numeric(6,2)", "1", "1.00"),
    ("float8", "0.1", "0.1"),
    ("float8", "1e300", "1e+300"),
    ("float8", "'-0'", "-0"),
    ("float8", "'Infinity'", '"Infinity"'),
    ("float8", "'NaN'", '"NaN"'),
    ("float4", "0.1", "0.1"),
    ("money", "12.5", '"$12.50"'),
    ("bool", "false", "false"),
    ("text", "''", '""'),
    ("text", "E'a\\nb\\t\\x01\\x7f\"\\\\'", '"a\\nb\\t\\u0001\x7f\\"\\\\"'),
    ("text", "'🙂 Łódź \u2028'", '"🙂 Łódź \u2028"'),
    ("text", "'{\"a\": 1}'", '"{\\"a\\": 1}"'),
    ("text", "NULL", None),
    ("varchar(3)", "'abc'", '"abc"'),
    ("char(4)", "'ab'", '"ab"'),
    ('"char"', "'x'", '"x"'),
    ("name", "'a name'", '"a name"'),
    ("bytea", "'\\x00ff'", '"\\\\x00ff"'),
    ("uuid", "'9B1DEB4D-3B7D-4BAD-9BDD-2B0D7B3DCB6D'", '"9b1deb4d-3b7d-4bad-9bdd-2b0d7b3dcb6d"'),
    ("date", "'2026-03-26'", '"2026-03-26"'),
    ("date", "'infinity'", '"infinity"'),
    ("date", "'0044-03-15 BC'", '"0044-03-15 BC"'),
    ("time", "'10:15:00.5'", '"10:15:00.5"'),
    ("timetz", "'10:15:00+02'", '"10:15:00+02"'),
    ("timestamp", "'2026-03-26 10:15:00'", '"2026-03-26T10:15:00.000000"'),
    ("timestamp", "'infinity'", '"infinity"'),
    ("timestamp", "'0044-03-15 12:00:00 BC'", '"0044-03-15 12:00:00 BC"'),
    ("timestamp", "'9999-12-31 23:59:59.999999'", '"9999-12-31T23:59:59.999999"'),
    ("timestamp", "'10000-01-01 00:00:00'", '"10000-01-01 00:00:00"'),
    ("timestamptz", "'2026-03-26 10:15:00.1234567+02'", '"2026-03-26T08:15:00.123457Z"'),
    ("timestamptz", "'0001-01-01 00:00:00Z'", '"0001-01-01T00:00:00.000000Z"'),
    ("timestamptz", "'9999-12-31 23:59:59.999999Z'", '"9999-12-31T23:59:59.999999Z"'),
    ("timestamptz", "'10000-01-01 00:00:00Z'", '"10000-01-01 00:00:00+00"'),
    ("timestamptz", "'-infinity'", '"-infinity"'),
    ("timestamptz", "'0044-03-15 12:00:00Z BC'", '"0044-03-15 12:00:00+00 BC"'),
    ("moment", "'2026-03-26 10:15:00Z'", '"2026-03-26T10:15:00.000000Z"'),
    ("interval", "'1 year 2 days 3.5 seconds'", '"P1Y2DT3.5S"'),
    ("json", '\'{"b":1, "a": 1e400, "n": null}\'', '{"b":1, "a": 1e400, "n": null}'),
    ("json", "'null'", "null"),
    ("json", "' 5 '", " 5 "),
    ("jsonb", '\'{"b": 1.10, "a": [1e3, "\\u0001"], "b": 2}\'', '{"a": [1000, "\\u0001"], "b": 2}'),
    ("jsonb", "'123456789012345678901234567890.10'", "123456789012345678901234567890.10"),
    ("jsonb", "'null'", "null"),
    ("int4[]", "'{1,NULL,3}'", "[1, null, 3]"),
    ("text[]", "ARRAY['a\"b', '{}']", '["a\\"b", "{}"]'),
    ("int4[][]", "'{{1,2},{3,4}}'", "[[1, 2], [3, 4]]"),
    ("numeric[]", "'{1.50}'", "[1.50]"),
    ("numeric[]", "'{NaN}'", '["NaN"]'),
    ("pair", "ROW(1, 'x')", '{"a": 1, "b": "x"}'),
    ("pair[]", "ARRAY[ROW(1, NULL)::pair]", '[{"a": 1, "b": null}]'),
    ("mood", "'it''s \"ok\"'", '"it\'s \\"ok\\""'),
    ("small", "7", "7"),
    ("int4range", "'[1,5)'", '"[1,5)"'),
    ("int4multirange", "'{[1,2),[5,9)}'", '"{[1,2),[5,9)}"'),
    ("tstzrange", "'[2026-03-26 10:15Z,)'", '"[\\"2026-03-26 10:15:00+00\\",)"'),
    ("inet", "'10.0.0.1'", '"10.0.0.1"'),
    ("inet", "'10.0.0.0/8'", '"10.0.0.0/8"'),
    ("cidr", "'10.0.0.0/8'", '"10.0.0.0/8"'),
    ("macaddr", "'08:00:2B:01:02:03'", '"08:00:2b:01:02:03"'),
    ("bit(3)", "B'101'", '"101"'),
    ("varbit", "B'10'", '"10"'),
    ("xml", "'<a>&amp;</a>'", '"<a>&amp;</a>"'),
    ("tsvector", "'a:1 b:2'", "\"'a':1 'b':2\""),
    ("point", "'(1,2)'", '"(1,2)"'),
    ("box", "'(1,1),(0,0)'", '"(1,1),(0,0)"'),
    ("pg_lsn", "'0/16B3748'", '"0/16B3748"'),
    ("regclass", "'pg_class'", '"pg_class"'),
    ("xid8", "'18446744073709551615'", '"18446744073709551615"'),
    ("hstore", "'a=>1,b=>NULL'", '{"a": "1", "b": null}'),
    ("citext", "'MiXed'", '"MiXed"'),
]


@pytest.fixture
def archive(tmp_path: Path) -> Archive:
    return new_archive(tmp_path / "archive")


def _bodies(archive: Archive) -> list[str]:
    return [one["body"] for one in rows_of(archive)]


def _members(text: str) -> dict[str, str]:
    """The members of a body, each as its text stands there."""
    found, at = {}, 1
    decoder = json.JSONDecoder(parse_float=str, parse_int=str)
    while text[at] != "}":
        at += text[at] == ","
        name, colon = decoder.raw_decode(text, at)
        value = colon + 1
        while text[value] == " ":
            value += 1
        _, end = decoder.raw_decode(text, value)
        while text[end] == " ":
            end += 1
        found[name], at = text[colon + 1 : end], end
    return found


def test_every_type_stands_in_the_body_as_the_format_says(
    postgres: PostgresDatabase, archive: Archive
) -> None:
    postgres.execute("CREATE EXTENSION hstore; CREATE EXTENSION citext;", superuser=True)
    columns = [f"t{number} {typ}" for number, (typ, _, _) in enumerate(VALUES)]
    postgres.execute(_MADE + events_table(*columns, XID))
    names = ", ".join(f"t{number}" for number in range(len(VALUES)))
    values = ", ".join(value for _, value, _ in VALUES)
    postgres.execute(f"INSERT INTO events (id, {names}) VALUES ('a', {values});")
    report = archived(archive, source_of(postgres.url, position="xid", strategy="xid8"))
    assert (report.problems, report.counts.archived) == ([], 1), report
    (body,) = _bodies(archive)
    members = _members(body)
    wrong = {
        (typ, value): (found, expected)
        for number, (typ, value, expected) in enumerate(VALUES)
        if (found := members.get(f"t{number}")) != expected
    }
    assert not wrong
    assert list(members)[:2] == ["workspace_id", "id"]
    assert "xid" not in members
    check_archive(archive.store, events={"a"})


@pytest.mark.parametrize(
    ("column", "value", "reason"),
    [
        ("occurred_at timestamptz", "'infinity'", "invalid"),
        ("version numeric", "1.5", "invalid"),
        ("version text", "'three'", "invalid"),
        ("metadata json", '\'{"a": 1, "a": 2}\'', "invalid"),
        ("metadata jsonb", "'[1]'", "invalid"),
        ("metadata text", "'{\"a\": 1'", "invalid"),
        ("targets jsonb", "'[{\"id\": 1}]'", "invalid"),
        ("event_hash text", "'xyz'", "invalid"),
    ],
)
def test_a_row_that_is_no_valid_event_is_quarantined_with_its_body(
    column: str, value: str, reason: str, postgres: PostgresDatabase, archive: Archive
) -> None:
    name = column.split(maxsplit=1)[0]
    postgres.execute(
        events_table(column, XID) + f"INSERT INTO events (id, {name}) VALUES ('bad', {value});"
        "INSERT INTO events (id) VALUES ('good');"
    )
    report = archived(archive, source_of(postgres.url))
    assert (report.problems, report.counts.archived, report.reasons) == ([], 1, {reason: 1})
    (entry,) = entries(archive)
    assert entry.rejection.shape == "row"
    assert f'"{name}":'.encode() in entry.rejection.body
    assert archived(archive, source_of(postgres.url)).counts.read == 0
    check_archive(archive.store, events={"good"})


def test_hashes_in_columns_of_bytes_are_archived_as_hexadecimal_digits(
    postgres: PostgresDatabase, archive: Archive
) -> None:
    postgres.execute(
        events_table("event_hash bytea", "previous_event_hash bytea", "salt bytea", XID)
        + f"INSERT INTO events (id, event_hash, salt) VALUES ('a', '\\x{'aB' * 32}', '\\xff');"
        "INSERT INTO events (id, event_hash) VALUES ('short', '\\xab');"
    )
    report = archived(archive, source_of(postgres.url))
    assert (report.counts.archived, report.reasons) == (1, {"invalid": 1})
    (told,) = rows_of(archive)
    assert (told["event_hash"], told["previous_event_hash"]) == ("ab" * 32, None)
    assert told["extra"] == '{"salt":"\\\\xff"}'
    check_archive(archive.store, events={"a"})


def test_a_text_cannot_add_members_to_a_body(postgres: PostgresDatabase, archive: Archive) -> None:
    for number, text in enumerate(('1, "id": "forged"', '{}, "id": "forged"', '"x", "id": "forged"', "1} {")):
        postgres.execute(
            (events_table("metadata text", "note text", XID) if number == 0 else "")
            + f"INSERT INTO events (id, metadata, note) VALUES ('{number}', '{{}}', '{text}');"
        )
    report = archived(archive, source_of(postgres.url, json=("note",)))
    assert (report.problems, report.counts.archived) == ([], 4)
    check_archive(archive.store, events=set("0123"))


NAMES = [
    'a"b; drop table x',
    'a""b; drop table x',
    "it's",
    "with space",
    "UPPER",
    "select",
    "🙂",
    "a.b",
    "back\\slash",
    "%s $1 {x}",
    "n" * 63,
]


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


@pytest.mark.parametrize("strategy", ["xid8", "settled"])
def test_any_name_is_quoted(strategy: str, postgres: PostgresDatabase, archive: Archive) -> None:
    """Of tables, schemas, columns and keys; nothing is looked for in a search path."""
    postgres.execute("CREATE TABLE x (id text)")
    expected = set()
    for number, name in enumerate(NAMES):
        table = f"{_quoted('schema ' + name[:50])}.{_quoted(name)}"
        key = _quoted(name[:60] + "key"[: 63 - len(name[:60].encode())])
        position = (
            f"{_quoted('p' + name[:55])} xid8 NOT NULL DEFAULT pg_current_xact_id()"
            if strategy == "xid8"
            else ""
        )
        postgres.execute(
            f"CREATE SCHEMA {_quoted('schema ' + name[:50])};"
            + events_table(position, f"{_quoted(name)} text", name=table, key=f"{key} text PRIMARY KEY")
            + f"INSERT INTO {table} ({key}, {_quoted(name)}) VALUES ('{number}', 'v');"
        )
        source = source_of(
            postgres.url,
            table=table,
            columns={"id": key[1:-1].replace('""', '"')},
            lag_seconds=0.0,
            batch_rows=1,
        )
        report = archived(archive, replace(source, name=f"s{number}"))
        assert (report.problems, report.counts.archived) == ([], 1), name
        expected.add(str(number))
    found = [_members(body) for body in _bodies(archive)]
    assert {json.loads(one["id"]) for one in found} == expected
    for one in found:
        assert any(one.get(name) == '"v"' for name in NAMES)
    assert postgres.query("SELECT count(*) FROM x") == [(0,)]
