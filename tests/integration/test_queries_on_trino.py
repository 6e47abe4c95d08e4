"""Each named query gives on Trino the rows that it gives on DuckDB.

`ARCHIVER_TEST_TRINO_URL` names a server and a schema of a catalog that can be written to, such
as the memory connector's: `http://127.0.0.1:8080/memory/default`. Without it nothing is tested.
Schemas that the tests make there have names that begin with `archiver_test_`.
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pyarrow as pa
import pytest
import urllib3

import archiver
from archiver import clock
from archiver.query import ddl, ddl_lines
from archiver.query.catalog import Catalog
from archiver.query.ddl import Target
from archiver.query.dialect import translate
from tests.integration.other_engines import CASES, Together, comparable, name_of, rows_of, together
from tests.queries.case import archive_of
from tests.queries.cases.failed_logins import CASES as FAILED
from tests.support import archive_rows, row
from tests.test_dialect import HOSTILE, asks_for

URL = os.environ.get("ARCHIVER_TEST_TRINO_URL", "")
if not URL:
    pytest.skip("ARCHIVER_TEST_TRINO_URL names no server", allow_module_level=True)
TYPES = {"string": "varchar", "int64": "bigint", "timestamp[us, tz=UTC]": "timestamp(6) with time zone"}


@dataclass(frozen=True)
class Trino:
    """Trino's client protocol: one POST, then GETs for as long as there is a next address."""

    url: str
    catalog: str
    schema: str
    http: urllib3.PoolManager

    def ask(self, statement: str) -> list[list[Any]]:
        headers = {
            "X-Trino-User": "archiver-tests",
            "X-Trino-Catalog": self.catalog,
            "X-Trino-Schema": self.schema,
            # Not that of the tables' times, so that a day of the session would be seen.
            "X-Trino-Time-Zone": "America/New_York",
            "X-Trino-Client-Capabilities": "PARAMETRIC_DATETIME",
        }
        reply = self.http.request(
            "POST", f"{self.url}/v1/statement", body=statement.encode(), headers=headers
        ).json()
        columns, rows = reply.get("columns"), list(reply.get("data", ()))
        while "nextUri" in reply and "error" not in reply:
            reply = self.http.request("GET", reply["nextUri"], headers=headers).json()
            columns, rows = reply.get("columns", columns), rows + reply.get("data", [])
        assert "error" not in reply, f"{reply['error']['message']}\n{statement}"
        kinds = [column["type"] for column in columns or ()]
        return [[_value(value, kind) for value, kind in zip(row, kinds, strict=True)] for row in rows]


def _value(value: Any, kind: str) -> Any:
    if value is None or "time zone" not in kind:
        return float(value) if value is not None and kind.startswith("decimal") else value
    return datetime.fromisoformat(value.replace(" UTC", "+00:00"))


@pytest.fixture(scope="module")
def trino() -> Trino:
    parts = urlsplit(URL)
    _, catalog, schema = parts.path.split("/")
    return Trino(f"{parts.scheme}://{parts.netloc}", catalog, schema, urllib3.PoolManager())


@pytest.fixture(scope="module")
def known(tmp_path_factory: pytest.TempPathFactory) -> Together:
    return together(tmp_path_factory.mktemp("cases"))


@pytest.fixture
def schema(trino: Trino) -> Iterator[Trino]:
    """An empty schema of one test's own."""
    own = replace(trino, schema=f"archiver_test_{secrets.token_hex(8)}")
    trino.ask(f"CREATE SCHEMA {own.schema}")
    yield own
    own.ask("DROP TABLE IF EXISTS events")
    trino.ask(f"DROP SCHEMA {own.schema}")


def _literal(value: Any) -> str:
    if value is None:
        return "NULL"
    if isinstance(value, datetime):
        return f"TIMESTAMP '{clock.to_text(clock.to_us(value))[:-1].replace('T', ' ')} UTC'"
    return str(value) if isinstance(value, int) else "'" + str(value).replace("'", "''") + "'"


def _fill(trino: Trino, table: pa.Table) -> None:
    columns = ", ".join(f'"{field.name}" {TYPES[str(field.type)]}' for field in table.schema)
    trino.ask(f"CREATE TABLE events ({columns})")
    rows = [f"({', '.join(map(_literal, row.values()))})" for row in table.to_pylist()]
    for start in range(0, len(rows), 100):
        trino.ask(f"INSERT INTO events VALUES {', '.join(rows[start : start + 100])}")


@pytest.mark.parametrize("number", range(len(CASES)), ids=name_of)
def test_a_query_finds_on_trino_what_it_finds_on_duckdb(number: int, known: Together, schema: Trino) -> None:
    if number not in known.asked:
        pytest.skip("it asks the quarantine or has supplements, of which only we tell, or half a character")
    one = known.asked[number]
    _fill(schema, known.rows(one))
    assert one.answer(schema.ask(translate(one.query, one.values, "trino"))) == one.wanted


@pytest.mark.parametrize("dialect", ["trino", "athena"])
def test_a_hostile_text_is_a_text_on_trino(trino: Trino, dialect: str) -> None:
    for text in HOSTILE:
        assert trino.ask(translate(*asks_for(text), dialect)) == [[text]]


def test_the_view_of_lines_and_the_views_of_queries_are_read_by_trino(schema: Trino, tmp_path: Path) -> None:
    """The table of lines itself needs Hive's connector: here a table with the same columns stands for it."""
    archive = archive_of(tmp_path / "a", FAILED[0].deliveries)
    archive_rows(archive, row("r0", timestamp="?", data={"id": "x"}), row("r1", version=2))
    ours = archiver.open(tmp_path / "a")
    target = Target(*("trino", "s3://none", "jsonl.gz"), database=schema.schema, catalog=schema.catalog)
    rows = ours.sql("SELECT body, workspace, dt FROM events").arrow().to_pylist()
    values = ", ".join(f"({', '.join(map(_literal, row.values()))})" for row in rows)
    schema.ask("CREATE TABLE events_lines (body varchar, workspace varchar, dt varchar)")
    schema.ask(f"INSERT INTO events_lines VALUES {values}")
    made = ["events"]
    schema.ask(ddl_lines.view(target))
    asked_of = "timestamp, event_time, id, actor_id, actor_name, action, ip_country, version, shape, dt"
    try:
        for query, text in ddl.views(target, Catalog()):
            if not text.startswith("--"):
                schema.ask(text)
                made.append(query.name)
        wanted = ours.sql(f"SELECT {asked_of} FROM events ORDER BY event_time, id").arrow()
        asked_for = asked_of.replace("timestamp", '"timestamp"')
        told = schema.ask(f"SELECT {asked_for} FROM events ORDER BY event_time, id")
        assert comparable(told) == comparable(rows_of(wanted))
        for name in made:
            schema.ask(f"SELECT * FROM {name}")
        failed = ours.query("failed_logins").arrow()
        assert comparable(schema.ask("SELECT * FROM failed_logins")) == comparable(rows_of(failed))
    finally:
        for name in made:
            schema.ask(f"DROP VIEW {name}")
        schema.ask("DROP TABLE events_lines")
