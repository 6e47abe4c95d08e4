"""Statements written for Athena and Trino, asked of DuckDB: values as Trino's documentation gives them.

Most were also asked of a Trino 435.
"""

from __future__ import annotations

import time
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import duckdb
import pytest
from click.testing import CliRunner

import archiver
from archiver.cli.main import cli
from archiver.errors import QueryError
from archiver.query.dialect import from_dialect
from archiver.query.pasted import LONGEST_PASTED
from archiver.query.statement import checked
from tests.queries.case import archive_of
from tests.queries.cases.failed_logins import CASES

TEN = datetime(2026, 3, 29, 10, 11, 12, tzinfo=UTC)
AT = "TIMESTAMP '2026-03-29 10:11:12 UTC'"
URL = "'https://user@example.com:8080/a/b?x=1&y=2%203#frag'"
JSON = """'{"a":{"b":[1,"x",true]},"n":null}'"""

VALUES: list[tuple[str, Any]] = [
    # Times.
    ("date_parse('2026-03-29 10:11:12', '%Y-%m-%d %H:%i:%s')", TEN.replace(tzinfo=None)),
    ("from_iso8601_timestamp('2026-03-29T12:11:12+02:00')", TEN),
    ("from_iso8601_date('2026-03-29')", date(2026, 3, 29)),
    ("from_unixtime(1774779072)", TEN),
    (f"to_unixtime({AT})", 1774779072.0),
    ("date_diff('day', TIMESTAMP '2026-03-01 12:00:00', TIMESTAMP '2026-03-02 11:00:00')", 0),
    ("date_diff('minute', TIMESTAMP '2026-03-01 12:00:30', TIMESTAMP '2026-03-01 12:01:29')", 0),
    ("date_diff('hour', TIMESTAMP '2026-03-02 12:00:00', TIMESTAMP '2026-03-02 10:30:00')", -1),
    ("date_diff('month', DATE '2026-01-31', DATE '2026-02-28')", 1),
    ("date_add('day', 3, DATE '2026-03-29')", date(2026, 4, 1)),
    ("date_add('month', 1, DATE '2026-01-31')", date(2026, 2, 28)),
    ("date_add('hour', -2, TIMESTAMP '2026-03-29 12:11:12')", TEN.replace(tzinfo=None)),
    ("DATE '2026-03-29' + INTERVAL '1' DAY", date(2026, 3, 30)),
    ("date_trunc('week', DATE '2026-03-29')", date(2026, 3, 23)),
    (f"date_trunc('hour', {AT})", TEN.replace(minute=0, second=0)),
    (f"hour(at_timezone({AT}, 'Asia/Tokyo'))", 19),
    (f"hour({AT} AT TIME ZONE 'Asia/Tokyo')", 19),
    ("hour(TIMESTAMP '2026-03-29 10:00:00' AT TIME ZONE 'Asia/Tokyo')", 19),
    ("with_timezone(TIMESTAMP '2026-03-29 19:11:12', 'Asia/Tokyo')", TEN),
    ("date_format(TIMESTAMP '2026-03-09 15:01:02', '%Y-%m-%d %H:%i:%s %W')", "2026-03-09 15:01:02 Monday"),
    ("format_datetime(TIMESTAMP '2026-03-29 10:11:12', 'yyyy-MM-dd''T''HH:mm')", "2026-03-29T10:11"),
    ("parse_datetime('2026-03-29 10:11:12', 'yyyy-MM-dd HH:mm:ss')", TEN),
    ("day_of_week(DATE '2026-03-29')", 7),
    ("extract(DOW FROM DATE '2026-03-29')", 7),
    ("extract(DAY_OF_WEEK FROM DATE '2026-03-29')", 7),
    ("day_of_year(DATE '2026-03-29')", 88),
    ("year(DATE '2026-03-29')", 2026),
    ("millisecond(TIMESTAMP '2026-03-29 10:11:12.5')", 500),
    ("to_milliseconds(INTERVAL '1' SECOND)", 1000),
    (f"CAST({AT} AS date)", date(2026, 3, 29)),
    # JSON.
    (f"json_extract_scalar({JSON}, '$.a.b[1]')", "x"),
    (f"json_extract_scalar({JSON}, '$.a.b[2]')", "true"),
    (f"json_extract_scalar({JSON}, '$.a')", None),
    (f"json_extract_scalar({JSON}, '$.n')", None),
    ("(SELECT max(json_extract_scalar(x, '$.a')) FROM (VALUES 'no json', '{') t(x))", None),
    ("""json_extract_scalar('{"a b":5}', '$["a b"]')""", "5"),
    (f"json_format(json_extract({JSON}, '$.a'))", '{"b":[1,"x",true]}'),
    ("json_extract('no json', '$.a')", None),
    ("""CAST(json_extract('{"a":"x"}', '$.a') AS varchar)""", "x"),
    ("""CAST(json_extract('{"a":[1,2]}', '$.a') AS array(bigint))""", [1, 2]),
    ("""cardinality(CAST(json_parse('["a","b"]') AS array(json)))""", 2),
    ("json_array_length('[1,2,3]')", 3),
    ("""json_size('{"a":{"x":1,"y":2}}', '$.a')""", 2),
    # Texts.
    (r"regexp_like('1a 2b', '\d+b')", True),
    (r"regexp_extract('1a 2b', '\d+[a-z]')", "1a"),
    (r"regexp_extract('1a 2b', '(\d+)([a-z])', 2)", "a"),
    (r"regexp_extract('zzz', '\d+')", None),
    (r"regexp_extract_all('1a 2b', '\d+')", ["1", "2"]),
    (r"regexp_replace('1a 2b', '(\d)([a-z])', '$2$1')", "a1 b2"),
    (r"regexp_replace('1a 2b', '\d')", "a b"),
    ("split('a.b.c', '.')[2]", "b"),
    ("split_part('a.b.c', '.', 2)", "b"),
    ("strpos('abcabc', 'c')", 3),
    ("position('c' IN 'abc')", 3),
    ("substr('abcdef', -2)", "ef"),
    ("concat('a', NULL) IS NULL", True),
    ("format('%s-%d', 'a', 5)", "a-5"),
    ("codepoint('a')", 97),
    ("to_hex(md5(to_utf8('a')))", "0CC175B9C0F1B6A831C399E269772661"),
    (f"url_extract_host({URL})", "example.com"),
    (f"url_extract_path({URL})", "/a/b"),
    (f"url_extract_port({URL})", 8080),
    ("url_extract_port('https://example.com/')", None),
    (f"url_extract_protocol({URL})", "https"),
    (f"url_extract_query({URL})", "x=1&y=2%203"),
    (f"url_extract_fragment({URL})", "frag"),
    (f"url_extract_parameter({URL}, 'y')", "2 3"),
    (f"url_extract_parameter({URL}, 'z')", None),
    ("url_encode('a b/c~')", "a+b%2Fc%7E"),
    # Arrays.
    ("element_at(ARRAY['a', 'b'], 5)", None),
    ("element_at(ARRAY['a', 'b'], -1)", "b"),
    ("cardinality(ARRAY[1, 2, 3])", 3),
    ("array_join(ARRAY['a', NULL, 'b'], ',', '-')", "a,-,b"),
    ("contains(ARRAY['a', 'b'], 'b')", True),
    ("any_match(ARRAY[1, 2, 3], x -> x > 2)", True),
    ("all_match(ARRAY[1, 2, 3], x -> x > 2)", False),
    ("none_match(ARRAY[1, 2, 3], x -> x > 5)", True),
    ("transform(ARRAY[1, 2], x -> x + 1)", [2, 3]),
    ("filter(ARRAY[1, 2, 3], x -> x > 1)", [2, 3]),
    ("reduce(ARRAY[1, 2, 3], 0, (s, x) -> s + x, s -> s)", 6),
    ("reduce(ARRAY[1, 2, 3], 0, (s, x) -> s + x, s -> s * 10)", 60),
    ("reduce(ARRAY[5, 50], 0, (s, x) -> s + x, s -> IF(s > 10, 'much', 'little'))", "much"),
    ("array_distinct(ARRAY[3, 1, 3, 2])", [3, 1, 2]),
    ("array_union(ARRAY[2, 1], ARRAY[2, 3])", [2, 1, 3]),
    ("arrays_overlap(ARRAY[1, 2], ARRAY[2, 3])", True),
    ("slice(ARRAY[1, 2, 3, 4], 2, 2)", [2, 3]),
    ("sequence(1, 3)", [1, 2, 3]),
    ("map(ARRAY['a'], ARRAY[1])['a']", 1),
    ("(SELECT max(n) FROM (VALUES 1) v(z) CROSS JOIN UNNEST(ARRAY['a', 'b']) WITH ORDINALITY AS t(x, n))", 2),
    # Numbers, and what cannot be.
    ("7 / 2", 3),
    ("-7 / 2", -3),
    ("7.0 / 2", 3.5),
    ("(SELECT a / b FROM (VALUES (7, 2)) t(a, b))", 3),
    ("(SELECT a / b FROM (VALUES (7e0, 2)) t(a, b))", 3.5),
    ("(SELECT sum(x) / count(*) FROM (VALUES 1, 2, 4) t(x))", 2),
    ("try_cast('x' AS bigint)", None),
    ("try(CAST('x' AS bigint))", None),
    ("CAST(2.5 AS bigint)", 3),
    ("greatest(1, NULL)", None),
    ("is_nan(nan())", True),
    ("1 IS DISTINCT FROM NULL", True),
    # Aggregates.
    ("(SELECT max_by(x, y) FROM (VALUES ('a', 1), ('b', 2)) t(x, y))", "b"),
    ("(SELECT arbitrary(x) FROM (VALUES 'a') t(x))", "a"),
    ("(SELECT count_if(x > 1) FROM (VALUES 1, 2, 3) t(x))", 2),
    ("(SELECT bool_and(x > 1) FROM (VALUES 1, 2, 3) t(x))", False),
    ("(SELECT every(x > 0) FROM (VALUES 1, 2, 3) t(x))", True),
    ("(SELECT approx_distinct(x) FROM (VALUES 1, 2, 2) t(x))", 2),
    ("(SELECT approx_percentile(x, 0.5) FROM (VALUES 1, 2, 3) t(x))", 2),
    ("(SELECT listagg(x, ',') WITHIN GROUP (ORDER BY x) FROM (VALUES 'b', 'a') t(x))", "a,b"),
    ("(SELECT x FROM (VALUES 1, NULL) t(x) ORDER BY x DESC LIMIT 1)", 1),
]


@pytest.fixture(scope="module")
def duck() -> duckdb.DuckDBPyConnection:
    connection = duckdb.connect()
    connection.execute("SET TimeZone='UTC'")
    return connection


@pytest.mark.parametrize(("asked", "wanted"), VALUES, ids=[asked for asked, _ in VALUES])
def test_a_function_of_trino_has_trinos_value(
    asked: str, wanted: Any, duck: duckdb.DuckDBPyConnection
) -> None:
    text = checked(from_dialect(f"SELECT {asked} AS x", "athena"))
    (found,) = duck.sql(text).to_arrow_table()["x"].to_pylist()
    assert found == wanted
    assert isinstance(found, bool) == isinstance(wanted, bool)


@pytest.mark.parametrize(
    "statement",
    [
        "CREATE TABLE x AS SELECT * FROM events",
        "INSERT INTO events SELECT * FROM events",
        "UNLOAD (SELECT * FROM events) TO 's3://bucket/x' WITH (format = 'PARQUET')",
        "DROP TABLE events",
        "MSCK REPAIR TABLE events",
        "ALTER TABLE events ADD PARTITION (dt = 'x')",
        "SELECT 1; SELECT 2",
        "SELECT 1; DROP TABLE events",
        "",
        "PREPARE x FROM SELECT 1",
        "SET SESSION x = 1",
    ],
)
@pytest.mark.parametrize("dialect", ["athena", "trino", "spark", "bigquery"])
def test_what_does_more_than_read_is_refused(statement: str, dialect: str) -> None:
    with pytest.raises(QueryError):
        checked(from_dialect(statement, dialect))


@pytest.mark.parametrize(
    ("statement", "named"),
    [
        ("SELECT word_stem('x') AS x", "word_stem"),
        ("SELECT human_readable_seconds(5) AS x", "human_readable_seconds"),
        ("SELECT date_diff('day') AS x", "date_diff with 1 arguments"),
        ("SELECT x FROM UNNEST(ARRAY[1], ARRAY[2]) AS t(x, y)", "UNNEST of several"),
        ("SELECT regexp_replace('a', 'a', '${name}') AS x", "regexp_replace"),
        ("SELECT format_datetime(now(), 'QQQQ') AS x", "QQQQ"),
        ("SELECT * FROM logs.orders", "'orders'"),
        ("SELECT * FROM read_csv('/etc/passwd')", "read_csv"),
        ("SELECT FROM WHERE", "cannot be translated from athena"),
    ],
)
def test_what_has_no_equal_is_named(statement: str, named: str) -> None:
    with pytest.raises(QueryError, match=named):
        checked(from_dialect(statement, "athena"))


@pytest.mark.parametrize("dialect", ["athena", "trino", "spark", "bigquery"])
def test_a_table_is_known_in_whatever_database_it_was(dialect: str) -> None:
    mark = '"' if dialect in ("athena", "trino") else "`"
    named = ".".join(f"{mark}{part}{mark}" for part in ("AwsDataCatalog", "logs", "Events"))
    told = from_dialect(f"WITH own AS (SELECT id FROM {named}) SELECT id FROM own", dialect)
    assert told == "WITH own AS (SELECT id FROM events) SELECT id FROM own"


def test_what_is_too_long_or_too_deep_is_refused_quickly() -> None:
    for monster in (
        "SELECT " + "(" * 500 + "1" + ")" * 500,
        "SELECT " + "abs(" * 60 + "1" + ")" * 60,
        "SELECT " + "-" * 3_000 + "1",
        "SELECT " + "NOT " * 3_000 + "true",
        "SELECT 1 AS x\0",
        "x" * (LONGEST_PASTED + 1),
    ):
        started = time.monotonic()
        with pytest.raises(QueryError):
            checked(from_dialect(monster, "athena"))
        assert time.monotonic() - started < 20


def test_sql_takes_a_pasted_statement_and_shows_its_translation(tmp_path: Path) -> None:
    archive_of(tmp_path / "a", CASES[0].deliveries)
    asked = (
        'SELECT actor_id, count_if(action = \'auth.login_failed\') AS n FROM "logs"."events" '
        "WHERE event_time >= from_iso8601_timestamp('2026-03-29T00:00:00Z') GROUP BY 1 "
        "ORDER BY 2 DESC LIMIT 1"
    )
    place = ["--archive", str(tmp_path / "a")]
    done = CliRunner().invoke(
        cli, ["sql", "--dialect", "athena", "--format", "csv", *place, "--verbose", asked]
    )
    assert done.exit_code == 0, done.output
    assert done.stdout == "actor_id,n\nmallory,7\n"
    assert "translated from athena: SELECT" in done.stderr
    told = from_dialect(asked, "athena")
    assert archiver.open(tmp_path / "a").sql(told).arrow().to_pylist() == [{"actor_id": "mallory", "n": 7}]


def test_sql_does_not_write_for_who_pastes(tmp_path: Path) -> None:
    archive_of(tmp_path / "a", CASES[0].deliveries)
    place = ["--archive", str(tmp_path / "a")]
    done = CliRunner().invoke(cli, ["sql", "--dialect", "athena", *place, "DROP TABLE events"])
    assert isinstance(done.exception, QueryError)
    assert "only a SELECT" in done.exception.message
