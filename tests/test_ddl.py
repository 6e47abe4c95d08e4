"""Tables and views on other engines, by their shape; `integration/` has them on a real Spark and Trino."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import boto3
import duckdb
import pyarrow as pa
import pytest
import sqlglot
from botocore.validate import ParamValidator
from click.testing import CliRunner
from sqlglot import exp

from archiver import columns
from archiver.archive import Archive
from archiver.cli.main import cli
from archiver.delta.publish import publish
from archiver.errors import ConfigError
from archiver.query import ddl, ddl_lines
from archiver.query.catalog import Catalog
from archiver.validate import Rules, Validator
from tests.properties.event_bodies import block_of
from tests.queries.case import archive_of, delivery, rubbish
from tests.support import event, row

NAMES = [*columns.SCHEMAS["events"].names, "workspace", "dt"]
PLACES = {
    "athena": "s3://audit/it's",
    "trino": "s3://audit/it's",
    "bigquery": "gs://audit/it's",
    "spark": None,
}
UNKNOWN = ("ADD IF NOT EXISTS", "WITH PARTITION COLUMNS")
DELIVERIES = (
    delivery("e1", "29 10:00:00", "a", "user.login"),
    delivery("e2", "30 10:00:00", "a", "user.login", workspace="it's 100%"),
    rubbish(b"no json"),
)


@pytest.fixture(scope="module")
def parquet(tmp_path_factory: pytest.TempPathFactory) -> Archive:
    archive = archive_of(tmp_path_factory.mktemp("ddl") / "it's", DELIVERIES)
    publish(archive)
    return archive


@pytest.fixture(scope="module")
def lines(tmp_path_factory: pytest.TempPathFactory) -> Archive:
    return archive_of(tmp_path_factory.mktemp("ddl") / "it's", DELIVERIES, format="jsonl.gz")


def statements(target: ddl.Target) -> list[str]:
    views = [text for _, text in ddl.views(target, Catalog()) if not text.startswith("--")]
    more = [ddl.quarantine(target)] if ddl.quarantine(target) else []
    return [*ddl.tables(target), *more, *views]


@pytest.mark.parametrize("form", ["parquet", "lines"])
@pytest.mark.parametrize("engine", PLACES)
def test_what_is_printed_can_be_parsed(engine: str, form: str, request: pytest.FixtureRequest) -> None:
    target = ddl.target_of(request.getfixturevalue(form), engine, location=PLACES[engine])
    for statement in statements(target):
        if statement.startswith(("CALL", "MSCK")) or any(one in statement for one in UNKNOWN):
            continue  # of which sqlglot knows no more than the first word
        assert len(sqlglot.parse(statement, read=target.dialect)) == 1
        assert not isinstance(sqlglot.parse_one(statement, read=target.dialect), exp.Command)
    whole = ddl.text(target, Catalog())
    assert all(line.startswith("-- ") for line in whole.split("\n\n", maxsplit=1)[0].splitlines())


@pytest.mark.parametrize("engine", PLACES)
def test_the_view_of_lines_has_the_columns_of_events(engine: str, lines: Archive) -> None:
    target = ddl.target_of(lines, engine, location=PLACES[engine])
    tree = sqlglot.parse_one(ddl_lines.view(target), read=target.dialect)
    assert tree.expression.named_selects == NAMES


@pytest.mark.parametrize("engine", PLACES)
def test_each_query_of_events_has_a_view_and_no_other(engine: str, parquet: Archive) -> None:
    target = ddl.target_of(parquet, engine, location=PLACES[engine])
    for query, text in ddl.views(target, Catalog()):
        if query.name == "quarantine_by_reason":
            assert text.startswith("-- no view quarantine_by_reason: it reads quarantine, of which only")
            continue
        assert text.startswith(f"CREATE OR REPLACE VIEW {target.name(query.name)} AS\n")
        read = {
            one.sql() for one in sqlglot.parse_one(text, read=target.dialect).expression.find_all(exp.Table)
        }
        assert any(one.startswith(target.name("events")) for one in read)


def test_a_view_of_athena_has_no_time_with_a_zone(parquet: Archive) -> None:
    target = ddl.target_of(parquet, "athena", location="s3://audit/x")
    (text,) = [text for query, text in ddl.views(target, Catalog()) if query.name == "failed_logins"]
    assert "CAST(AT_TIMEZONE(first_at, 'UTC') AS TIMESTAMP(3)) AS first_at,\n" in text
    assert "  failures,\n" in text


def test_athenas_table_is_the_delta_log(parquet: Archive) -> None:
    target = ddl.target_of(parquet, "athena", location="s3://audit/it's/", database="logs")
    assert ddl.tables(target)[1] == (
        "CREATE EXTERNAL TABLE IF NOT EXISTS `logs`.`events`\n"
        "LOCATION 's3://audit/it\\'s/events/'\nTBLPROPERTIES ('table_type' = 'DELTA')"
    )
    said = ddl.text(target, None)
    assert "-- Athena keeps milliseconds of times." in said
    assert "-- What supplements add to events is not shown" in said


def test_the_view_of_lines_tells_a_row_of_a_database_from_a_delivery() -> None:
    """On DuckDB, as sqlglot has it say the same; `integration/` asks Trino itself."""
    more = {"actor_name": "N", "resource": "document", "event_hash": "a" * 64, "version": 2}
    odd = {"timestamp": "yesterday", "data": {"id": "x", "created_at": "?"}, "actor": {"id": "y"}}
    nested = json.loads(event("n", created_at="2026-03-26T10:00:00Z"))
    nested["data"]["actor"] = {"id": nested["data"].pop("actor_id")}
    bodies = [
        event("e0", created_at="2026-03-26T09:00:00.5Z", **more),
        json.dumps(nested).encode(),
        row("r0", **more, **odd),
        row("r1", created_at=None, occurred_at="2026-03-26T11:00:00.25+01:00", metadata={"a": 1}),
    ]
    block = replace(block_of(bodies), shape="archived")
    archived = Validator(Rules("s")).validate(block).tables["events"]
    target = ddl.Target(*("trino", "s3://none", "jsonl.gz"), database="main", catalog="memory")
    with duckdb.connect() as connection:
        connection.execute("CREATE TABLE events_lines (body VARCHAR, workspace VARCHAR, dt VARCHAR)")
        connection.executemany(
            "INSERT INTO events_lines VALUES (?, 'ws_1', '')", [[one.decode()] for one in bodies]
        )
        connection.execute(sqlglot.transpile(ddl_lines.view(target), read="trino", write="duckdb")[0])
        told = connection.sql("SELECT * FROM events ORDER BY event_time, id").to_arrow_table()
    wanted = pa.Table.from_batches([archived]).sort_by([("event_time", "ascending"), ("id", "ascending")])
    assert sorted(wanted["shape"].to_pylist()) == ["nested", "row", "row", "webhook"]
    for name in columns.SCHEMAS["events"].names:
        if name not in ddl_lines._UNKNOWN:
            assert told[name].to_pylist() == wanted[name].to_pylist(), name


def test_athenas_partitions_of_lines_are_those_of_the_ledger(lines: Archive) -> None:
    target = ddl.target_of(lines, "athena", location="s3://audit/x")
    (added,) = [one for one in ddl.tables(target) if one.startswith("ALTER")]
    assert added.splitlines()[1:] == [
        "  PARTITION (`workspace` = 'it\\'s 100%', `dt` = '2026-03-30') "
        "LOCATION 's3://audit/x/events/workspace=it%27s%20100%25/dt=2026-03-30/'",
        "  PARTITION (`workspace` = 'ws_1', `dt` = '2026-03-29') "
        "LOCATION 's3://audit/x/events/workspace=ws_1/dt=2026-03-29/'",
    ]


def test_projected_partitions_take_the_workspace_from_the_query(lines: Archive) -> None:
    target = ddl.target_of(lines, "athena", location="s3://audit/x", partitions="projected")
    made = ddl.tables(target)
    assert not [one for one in made if one.startswith("ALTER")]
    assert "'projection.workspace.type' = 'injected'" in made[1]
    assert "'storage.location.template' = 's3://audit/x/events/workspace=${workspace}/dt=${dt}/'" in made[1]
    assert all(text.startswith("-- no view ") for _, text in ddl.views(target, Catalog()))


def test_projected_days_go_back_to_the_first_of_the_archive(lines: Archive) -> None:
    target = ddl.target_of(lines, "athena", location="s3://audit/x", partitions="projected")
    assert "'projection.dt.range' = '2020-01-01,NOW+1DAY'" in ddl.tables(target)[1]
    imported = replace(target, live=(*target.live, ("ws_1", "1999-12-31", "events/x")))
    assert "'projection.dt.range' = '1999-12-31,NOW+1DAY'" in ddl.tables(imported)[1]


@pytest.mark.parametrize("partitions", ddl.PARTITIONS)
@pytest.mark.parametrize("form", ["parquet", "lines"])
def test_glue_takes_the_table(form: str, partitions: str, request: pytest.FixtureRequest) -> None:
    target = ddl.target_of(
        request.getfixturevalue(form), "glue", location="s3://audit/x", partitions=partitions
    )
    table = json.loads(ddl.text(target, Catalog()))
    client = boto3.client("glue", region_name="us-east-1", aws_access_key_id="x", aws_secret_access_key="x")
    shape = client.meta.service_model.operation_model("CreateTable").input_shape
    report = ParamValidator().validate({"DatabaseName": "logs", "TableInput": table}, shape)
    assert not report.has_errors(), report.generate_report()
    if form == "lines":
        assert ("projection.enabled" in table["Parameters"]) is (partitions == "projected")
        return
    kinds = {"string": "string", "int64": "bigint", "timestamp[us, tz=UTC]": "timestamp"}
    assert [(one["Name"], one["Type"]) for one in table["StorageDescriptor"]["Columns"]] == [
        *((one.name, kinds[str(one.type)]) for one in columns.SCHEMAS["events"]),
        *(("workspace", "string"), ("dt", "string")),
    ]
    assert table["Parameters"]["table_type"] == "DELTA"


@pytest.mark.parametrize(
    ("engine", "told", "message"),
    [
        ("athena", {}, "athena reads s3://"),
        ("glue", {"location": "gs://x/y"}, "glue reads s3://"),
        ("trino", {}, "trino reads"),
        ("bigquery", {"location": "s3://x/y"}, "connection"),
        ("bigquery", {"location": "gs://x/y", "connection": "a`b"}, "no name of a connection"),
        ("athena", {"location": "s3://x/y", "database": "a`; DROP"}, "no name of a database"),
        ("trino", {"location": "s3://x/y", "catalog": 'a"b'}, "no name of a catalog"),
        ("athena", {"location": "s3://x/\n"}, "cannot be printed"),
        ("spark", {"location": "/x/${env:HOME}"}, "cannot be printed"),
        ("spark", {"location": "/x/[a]*"}, "takes this for a pattern"),
        ("athena", {"location": "s3://x/y", "partitions": "guessed"}, "registered or projected"),
        ("mysql", {}, "no engine is called 'mysql'"),
    ],
)
def test_what_cannot_be_had_is_an_error_that_says_so(
    engine: str, told: dict[str, str], message: str, parquet: Archive
) -> None:
    with pytest.raises(ConfigError, match=message):
        ddl.target_of(parquet, engine, **told)


def test_without_a_delta_log_there_is_no_table(tmp_path: Path) -> None:
    archive = archive_of(tmp_path / "a", ())
    for info in list(archive.store.list("events/_delta_log/")):
        archive.store.delete([info.key])
    with pytest.raises(ConfigError, match="no Delta log"):
        ddl.target_of(archive, "spark")


def test_without_a_quarantine_there_is_no_table_of_it(tmp_path: Path) -> None:
    archive = archive_of(tmp_path / "a", DELIVERIES[:1], format="jsonl.gz")
    assert ddl.quarantine(ddl.target_of(archive, "spark")) == ""
    assert "quarantine_files" not in ddl.text(ddl.target_of(archive, "spark"), Catalog())


def test_the_command_prints_it(parquet: Archive, tmp_path: Path) -> None:
    place = ["--archive", parquet.store.location]
    done = CliRunner().invoke(cli, ["ddl", "spark", *place, "--database", "logs"])
    assert done.exit_code == 0, done.output
    assert "CREATE TABLE IF NOT EXISTS logs.events\nUSING DELTA\n" in done.stdout
    assert "CREATE OR REPLACE VIEW logs.failed_logins AS" in done.stdout
    done = CliRunner().invoke(cli, ["ddl", "spark", *place, "--no-views", "--json"])
    assert "VIEW" not in json.loads(done.stdout)["text"]
    file = tmp_path / "made.sql"
    done = CliRunner().invoke(cli, ["ddl", "glue", *place, "--location", "s3://x/y", "--output", str(file)])
    assert json.loads(file.read_text())["Name"] == "events"
    own = tmp_path / "own"
    own.mkdir()
    (own / "mine.sql").write_text(
        "-- title: T\n-- answers: A?\n-- when: W\nSELECT count(*) AS n FROM events\n"
    )
    done = CliRunner().invoke(cli, ["ddl", "spark", *place, "--queries", str(own)])
    assert "VIEW archiver.mine AS" in done.stdout
