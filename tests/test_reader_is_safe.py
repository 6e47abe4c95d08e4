"""The same attacks through the library: variables of the caller, parameters, the memory of the process."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pandas as pd
import polars as pl
import pyarrow as pa
import pytest

import archiver
from archiver.errors import ArchiverError, ConfigError, QueryError
from tests.test_sql_is_safe import ENDLESS, Place, place, shared

__all__ = ["place", "shared"]  # fixtures: pytest finds them here by name

secret_of_the_module = pa.table({"secret": ["s3cr3t"]})


@pytest.fixture
def reader(place: Place) -> archiver.Reader:
    """Over the place whose every byte is compared afterwards."""
    return archiver.open(place.folder / "archive", memory_limit="200MB", timeout_seconds=20)


@pytest.mark.parametrize(
    "name", ["frame", "table", "lazy", "batches", "dataset", "secret_of_the_module", "reader", "relation"]
)
def test_a_variable_of_the_caller_is_no_table(reader: archiver.Reader, name: str) -> None:
    frame = pd.DataFrame({"secret": ["s3cr3t"]})
    table = pa.Table.from_pandas(frame)
    lazy = pl.LazyFrame({"secret": ["s3cr3t"]})
    batches = pa.RecordBatchReader.from_batches(table.schema, table.to_batches())
    relation = dataset = table
    assert all(one is not None for one in (frame, lazy, batches, relation, dataset))
    for statement in (
        f"SELECT * FROM {name}",
        f'SELECT * FROM "{name}"',
        f"FROM {name} LIMIT 1",
        f"SELECT (SELECT secret FROM {name})",
        f"SUMMARIZE {name}",
        f"DESCRIBE {name}",
        f"WITH x AS (FROM {name}) FROM x",
        f"SELECT * FROM events JOIN {name} ON true",
        f"FROM query_table('{name}')",
        f"FROM query('FROM {name}')",
        f"FROM summary((FROM {name}))",
        f"FROM histogram('{name}', secret)",
    ):
        with pytest.raises(QueryError) as failed:
            reader.sql(statement).arrow()
        assert "s3cr3t" not in failed.value.message


@pytest.mark.parametrize("name", ["events", "alerts", "quarantine", "commits", "supplements"])
def test_a_variable_of_the_caller_takes_no_views_place(reader: archiver.Reader, name: str) -> None:
    scope: dict[str, Any] = {"reader": reader, name: pa.table({"secret": ["s3cr3t"]})}
    exec(f"found = reader.sql('SELECT * FROM {name}').arrow()", scope)
    assert "secret" not in scope["found"].column_names


INJECTIONS = [
    "'; DROP VIEW events; --",
    "' OR '1'='1",
    "') UNION SELECT * FROM read_text('/etc/passwd') --",
    "%' ; COPY events TO 'out.csv'; --",
    "$since",
    "?",
    "\\'; SELECT 1",
    "x'||getenv('HOME')||'",
    "/* */ --",
    "\N{FULLWIDTH APOSTROPHE}; DROP VIEW events",
]


@pytest.mark.parametrize("text", INJECTIONS)
def test_a_value_is_a_value_wherever_it_is_given(reader: archiver.Reader, text: str) -> None:
    assert reader.query("failed_logins", workspace=text).arrow().num_rows == 0
    assert reader.query("failed_logins", action=text.replace("%", "")).arrow().num_rows == 0
    assert reader.events(workspace=text).arrow().num_rows == 0
    assert reader.events(workspace=text).pl().collect().height == 0
    assert reader.events().pl().filter(pl.col("id") == text).collect().height == 0
    assert reader.sql("SELECT $x AS x", {"x": text}).pl().item() == text
    assert reader.sql("SELECT ? AS x", [text]).pl().item() == text
    for name in ("since", "at_least"):
        with pytest.raises(ConfigError):
            reader.query("failed_logins", **{name: text})
    with pytest.raises(ConfigError):
        reader.query("failed_logins", **{text: 1})
    with pytest.raises(ArchiverError):
        reader.query(text)
    with pytest.raises(ConfigError):
        reader.events(columns=[text])


@pytest.mark.parametrize(
    "name", ["../failed_logins", "/etc/passwd", "failed_logins.sql", "failed_logins\0", ""]
)
def test_a_query_is_named_and_no_path(reader: archiver.Reader, name: str) -> None:
    with pytest.raises(ConfigError):
        reader.query(name)


def test_a_query_file_may_do_no_more_than_a_statement(place: Place, tmp_path: Path) -> None:
    header = "-- title: t\n-- answers: a\n-- when: w\n"
    copy = f"COPY (SELECT 1) TO '{place.data}' (FORMAT csv, USE_TMP_FILE false)"
    for number, text in enumerate(
        [copy, f"WITH x AS ({copy}) FROM x", "FROM read_text('/etc/passwd')", "SELECT 1; SELECT 2"]
    ):
        (tmp_path / f"bad_{number}.sql").write_text(f"{header}{text}\n")
    reader = archiver.open(place.folder / "archive", queries=tmp_path)
    for number in range(4):
        with pytest.raises(ArchiverError):
            reader.query(f"bad_{number}").arrow()


@pytest.mark.parametrize("form", ["arrow", "pl", "df", "show", "_repr_html_"])
def test_no_form_of_an_answer_is_endless(place: Place, form: str) -> None:
    reader = archiver.open(place.folder / "archive", timeout_seconds=0.5)
    started = time.monotonic()
    with pytest.raises(QueryError, match="no answer within"):
        getattr(reader.sql(ENDLESS), form)()
    assert time.monotonic() - started < 20


@pytest.mark.parametrize(
    "constant",
    [
        "sleep_ms(600000)::VARCHAR",
        "(SELECT sleep_ms(600000))::VARCHAR",
        "(WITH RECURSIVE t(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM t) SELECT max(n)::VARCHAR FROM t)",
    ],
)
@pytest.mark.parametrize("column", ["id", "workspace_id", "dt"])
def test_what_a_column_is_compared_with_is_not_endless(place: Place, column: str, constant: str) -> None:
    """Constants are looked at before the statement runs, to see which files it can want."""
    reader = archiver.open(place.folder / "archive", memory_limit="200MB", timeout_seconds=0.5)
    started = time.monotonic()
    with pytest.raises(QueryError):
        reader.sql(f"SELECT id FROM events WHERE {column} = {constant}").arrow()
    assert time.monotonic() - started < 20
    assert reader.sql("SELECT 1 AS one").pl().item() == 1


GIGABYTES = [
    "SELECT length(repeat('x', 3500000000)) FROM range(4)",
    "SELECT length(string_agg(repeat('x', 10000000), '')) FROM range(1000)",
    "SELECT list_sum(list_transform(range(4000000000), lambda x: x))",
    "SELECT id FROM events WHERE id = md5(list_sum(range(4000000000))::VARCHAR)",
    "SELECT len(list_resize([1], 4000000000, 1))",
    "SELECT len(array_agg(a.range)) FROM range(1000000) a, range(10000) b",
    "SELECT length(printf('%2000000000d', 1))",
    "SELECT id FROM events WHERE id = repeat('x', 3500000000)",
    "WITH RECURSIVE t(s) AS (SELECT 'x' UNION ALL SELECT s || s FROM t) SELECT max(length(s)) FROM t",
    "WITH RECURSIVE t(n) AS (SELECT [1] UNION ALL SELECT n || n FROM t) SELECT max(len(n)) FROM t",
]


def test_no_statement_takes_gigabytes_of_a_process_that_limits_itself(place: Place) -> None:
    program = f"""
import resource
import archiver
from archiver.errors import QueryError
from archiver.query.session import limited_memory
reader = archiver.open({str(place.folder / "archive")!r}, memory_limit="100MB", timeout_seconds=1)
for statement in {GIGABYTES!r}:
    try:
        with limited_memory("100MB"):
            reader.sql(statement).arrow()
        print("answered", statement)
    except QueryError as error:
        assert len(error.message) < 1_200
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024)
print(reader.sql("SELECT 'still alive' AS said").pl().item())
"""
    root = Path(archiver.__file__).parent.parent
    done = subprocess.run(
        [sys.executable, "-c", program],
        env={**os.environ, "PYTHONPATH": str(root)},
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
    )
    assert done.stderr == ""
    assert done.stdout.splitlines()[-1] == "still alive"
    assert int(done.stdout.splitlines()[-2]) < 2_500, done.stdout  # MiB
