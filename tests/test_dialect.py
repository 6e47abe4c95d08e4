"""Named queries as text for other engines: values, conditions, and what means something else there."""

from __future__ import annotations

import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import duckdb
import pytest
import sqlglot
from sqlglot import exp

from archiver.errors import ConfigError, QueryError
from archiver.query.catalog import Catalog, Query, Value
from archiver.query.dialect import DIALECTS, FOREIGN, translate

# Each is a text that could end a literal, a comment or a line, or be taken for a variable.
HOSTILE = (
    "'; DROP TABLE x; --",
    "it''s",
    "back\\slash \\' \\",
    'double " quote and ` backtick',
    "line\nbreak\r\n\ttab",
    "${spark.app.name} ${env:PATH} $${x}",
    "{{ jinja }} %s %(x)s :name $1 ? @p",
    "-- comment */ /* another",
    "ü 😀 \u2028",
    "",
)


def written(statement: str) -> Query:
    return Query("own", Path("own.sql"), "T", "A?", "W", statement)


def asks_for(text: str) -> tuple[Query, dict[str, Value]]:
    """A query whose one row is its one value."""
    return written("SELECT $text AS text"), {"text": text}


def body(statement: str, dialect: str, **values: Value) -> str:
    """The translation on one line, without its header."""
    lines = translate(written(statement), values, dialect).splitlines()
    joined = " ".join(line.strip() for line in lines if not line.startswith("--"))
    return joined.replace("( ", "(").replace(" )", ")")


@pytest.mark.parametrize("dialect", DIALECTS)
@pytest.mark.parametrize("query", list(Catalog()), ids=lambda query: query.name)
def test_every_query_can_be_parsed_in_every_dialect(query: Query, dialect: str) -> None:
    text = translate(query, query.bind({}), dialect)
    tree = sqlglot.parse_one(text, read=dialect)
    assert isinstance(tree, exp.Query)
    assert not list(tree.find_all(exp.Placeholder, exp.Parameter))
    if "$since_day" in query.statement:
        assert "1970-01-01" in text


@pytest.mark.parametrize("dialect", DIALECTS)
@pytest.mark.parametrize("text", HOSTILE)
def test_a_hostile_text_stays_one_text(text: str, dialect: str) -> None:
    told = translate(*asks_for(text), dialect)
    assert len(sqlglot.parse(told, read=dialect)) == 1
    tree = sqlglot.parse_one(told, read=dialect)
    assert "".join(one.name for one in tree.find_all(exp.Literal, bfs=False)) == text
    header, _, _ = told.partition("\nSELECT")
    assert all(line.startswith("-- ") for line in header.split("\n"))
    assert "${" not in told if dialect == "spark" else True


@pytest.mark.parametrize("text", HOSTILE)
def test_a_hostile_text_is_that_text_on_duckdb(text: str) -> None:
    assert duckdb.sql(translate(*asks_for(text), "duckdb")).fetchall() == [(text,)]


@pytest.mark.parametrize("text", ["a\0b", "\ud800"])
def test_a_text_that_no_engine_takes_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match=r"^text: "):
        translate(*asks_for(text), "athena")


def test_a_text_that_is_too_long_for_a_statement_is_refused() -> None:
    with pytest.raises(QueryError, match="longer than"):
        translate(*asks_for("x" * 300_000), "athena")


@pytest.mark.parametrize("dialect", DIALECTS)
def test_a_condition_on_a_parameter_is_settled(dialect: str) -> None:
    asked = "SELECT id FROM events WHERE dt = $day AND ($workspace IS NULL OR workspace = $workspace)"
    assert body(asked, dialect, day="2026-03-01", workspace=None) == (
        "SELECT id FROM events WHERE dt = '2026-03-01'"
    )
    assert body(asked, dialect, day="2026-03-01", workspace="ws_1") == (
        "SELECT id FROM events WHERE dt = '2026-03-01' AND workspace = 'ws_1'"
    )


def test_truth_is_settled_without_changing_what_a_condition_means() -> None:
    asked = "SELECT id FROM events WHERE NOT $only OR a = 1"
    assert body(asked, "trino", only=False) == "SELECT id FROM events"
    assert body(asked, "trino", only=True) == "SELECT id FROM events WHERE a = 1"
    mixed = "SELECT id FROM events WHERE a = 1 AND ($x IS NULL OR b = $x OR c = 2)"
    assert body(mixed, "trino", x="y").endswith("WHERE a = 1 AND (b = 'y' OR c = 2)")
    assert body("SELECT id FROM events WHERE $x IS NOT NULL AND a = 1", "trino", x=None).endswith(
        "WHERE FALSE"
    )
    assert body("SELECT coalesce($x, a) AS a FROM events", "trino", x=None) == (
        "SELECT COALESCE(NULL, a) AS a FROM events"
    )


@pytest.mark.parametrize(
    ("dialect", "text"),
    [
        ("athena", "TIMESTAMP '2026-03-01 11:30:00.000 UTC'"),
        ("trino", "TIMESTAMP '2026-03-01 11:30:00.000 UTC'"),
        ("spark", "TIMESTAMP '2026-03-01 11:30:00.000Z'"),
        ("bigquery", "TIMESTAMP '2026-03-01 11:30:00.000+00'"),
    ],
)
def test_an_instant_is_written_in_utc_with_all_its_digits(dialect: str, text: str) -> None:
    told = body("SELECT $at AS x", dialect, at=datetime.fromisoformat("2026-03-01T12:30:00+01:00"))
    assert told == f"SELECT {text} AS x"
    exact = datetime(2026, 3, 1, 0, 0, 0, 1, UTC)
    assert "00:00:00.000001" in body("SELECT $at AS x", dialect, at=exact)


def test_numbers_keep_their_kind_and_sign() -> None:
    assert body("SELECT a - $n AS x", "trino", n=-5) == "SELECT a - (-5) AS x"
    assert body("SELECT $n AS x", "trino", n=0.5) == "SELECT 0.5E0 AS x"
    assert body("SELECT $n AS x", "trino", n=1e300) == "SELECT 1E+300 AS x"
    assert body("SELECT $n AS x", "trino", n=2**62) == f"SELECT {2**62} AS x"


@pytest.mark.parametrize(
    ("statement", "trino", "spark", "bigquery"),
    [
        (
            "$n * INTERVAL '1' MINUTE",
            "INTERVAL '15' MINUTE",
            "INTERVAL '15' MINUTE",
            "INTERVAL 15 MINUTE",
        ),
        ("epoch(t)", "TO_UNIXTIME(t)", "(UNIX_MICROS(t) / 1000000E0)", "(UNIX_MICROS(t) / 1000000E0)"),
        (
            "to_timestamp(a)",
            "FROM_UNIXTIME(a, 'UTC')",
            "TIMESTAMP_SECONDS(a)",
            "TIMESTAMP_MICROS(CAST(a * 1000000E0 AS INT64))",
        ),
        (
            "isodow(t)",
            "(DAY_OF_WEEK(t))",
            "(WEEKDAY(t) + 1)",
            "(MOD(EXTRACT(DAYOFWEEK FROM t) + 5, 7) + 1)",
        ),
        (
            "extract(isodow FROM t)",
            "(DAY_OF_WEEK(t))",
            "(WEEKDAY(t) + 1)",
            "(MOD(EXTRACT(DAYOFWEEK FROM t) + 5, 7) + 1)",
        ),
        ("a / b", "CAST(a AS DOUBLE) / b", "CAST(a AS DOUBLE) / b", "a / b"),
        ("a LIKE 'x\\_%'", "a LIKE 'x\\_%'", "a LIKE 'x\\\\\\\\_%'", "a LIKE 'x\\\\\\\\_%'"),
        ("a LIKE 'x!_' ESCAPE '!'", "a LIKE 'x!_' ESCAPE '!'", "a LIKE 'x!_' ESCAPE '!'", "a LIKE 'x\\\\_'"),
        (
            "greatest(a, b)",
            "GREATEST(COALESCE(a, b), COALESCE(b, a))",
            "GREATEST(a, b)",
            "GREATEST(COALESCE(a, b), COALESCE(b, a))",
        ),
        (
            "min(a) FILTER (WHERE b)",
            "MIN(a) FILTER(WHERE b)",
            "MIN(a) FILTER(WHERE b)",
            "MIN(IF(b, a, NULL))",
        ),
        (
            "json_extract_string(j, '$[*].id')",
            "FILTER(TRANSFORM(CAST(JSON_PARSE(j) AS ARRAY(JSON)), element -> "
            "JSON_EXTRACT_SCALAR(element, '$.id')), element -> element IS NOT NULL)",
            "FILTER(TRANSFORM(FROM_JSON(j, 'array<string>'), element -> "
            "GET_JSON_OBJECT(element, '$.id')), element -> element IS NOT NULL)",
            "ARRAY(SELECT JSON_EXTRACT_SCALAR(element, '$.id') FROM UNNEST(JSON_QUERY_ARRAY(j)) AS element "
            "WHERE JSON_EXTRACT_SCALAR(element, '$.id') IS NOT NULL)",
        ),
    ],
)
def test_what_means_something_else_elsewhere_is_written_otherwise(
    statement: str, trino: str, spark: str, bigquery: str
) -> None:
    values = {"n": 15} if "$n" in statement else {}
    for dialect, wanted in (("trino", trino), ("athena", trino), ("spark", spark), ("bigquery", bigquery)):
        assert body(f"SELECT {statement} AS x FROM events", dialect, **values) == (
            f"SELECT {wanted} AS x FROM events"
        )


def test_trino_groups_by_what_stands_behind_an_alias() -> None:
    asked = "SELECT lower(action) AS what, count(*) AS n FROM events GROUP BY what HAVING n > 1 ORDER BY what"
    told = body(asked, "trino")
    assert "GROUP BY LOWER(action) HAVING (COUNT(*)) > 1 ORDER BY what" in told
    shadowed = "SELECT max(name) AS name, id FROM events GROUP BY id HAVING count(name) > 1"
    assert "HAVING COUNT(name) > 1" in body(shadowed, "trino")


@pytest.mark.parametrize(("dialect", "last"), [("trino", False), ("spark", True), ("bigquery", True)])
def test_nulls_come_last_everywhere(dialect: str, last: bool) -> None:
    assert ("NULLS LAST" in body("SELECT a FROM events ORDER BY a", dialect)) is last
    assert "NULLS LAST" not in body("SELECT row_number() OVER (ORDER BY a) AS n FROM events", "bigquery")


@pytest.mark.parametrize("dialect", FOREIGN)
def test_what_has_no_equal_is_named(dialect: str) -> None:
    with pytest.raises(QueryError, match="list_transform"):
        translate(written("SELECT list_transform_all(a) AS x FROM events"), {}, dialect)
    with pytest.raises(QueryError, match="own cannot be written"):
        translate(written("SELECT FROM WHERE"), {}, dialect)


@pytest.mark.parametrize(
    "statement", ["SELECT 1; DROP TABLE events", "COPY (SELECT 1) TO 'f'", "DROP TABLE t"]
)
@pytest.mark.parametrize("dialect", ["athena", "duckdb"])
def test_only_one_select_is_written_for_anybody(statement: str, dialect: str) -> None:
    with pytest.raises(QueryError, match="it is no SELECT, or more than one"):
        body(statement, dialect)


def test_an_unknown_dialect_is_refused() -> None:
    with pytest.raises(ConfigError, match="'mysql'"):
        translate(*asks_for("x"), "mysql")


def test_sqlglot_is_imported_only_by_who_needs_it() -> None:
    asked = (
        "import sys, archiver.cli.main, archiver.cli.sql, archiver.cli.ddl, archiver.query.dialect; "
        "sys.exit('sqlglot' in sys.modules)"
    )
    subprocess.run([sys.executable, "-c", asked], check=True, timeout=60)
