"""Whatever anybody writes as SQL: it reads the archive's views or fails, it changes nothing, and it ends."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import duckdb
import pyarrow as pa
import pytest

from archiver.archive import Archive, open_archive
from archiver.errors import ArchiverError, QueryError
from archiver.query.session import open_session
from archiver.query.statement import LONGEST_STATEMENT, checked
from tests.support import archive_bodies, event, new_archive

ENDLESS = """
    SELECT count(*) FROM range(99999) a, range(99999) b, range(99999) c
    WHERE (a.range + b.range * c.range) % 7 = 1
"""


@dataclass(frozen=True)
class Place:
    """An archive, things beside it that no statement may see, and what all of it looks like."""

    folder: Path
    archive: Archive
    data: str
    before: dict[str, tuple[int, int, bytes]]

    def now(self) -> dict[str, tuple[int, int, bytes]]:
        return _looks(self.folder)


def _looks(folder: Path) -> dict[str, tuple[int, int, bytes]]:
    found = {}
    for path in sorted(folder.rglob("*")):
        status = path.stat()
        found[str(path)] = (status.st_ino, status.st_mtime_ns, path.read_bytes() if path.is_file() else b"")
    return found


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Place:
    folder = tmp_path_factory.mktemp("safe")
    archive = new_archive(folder / "archive")
    archive_bodies(archive, event("e1"), event("e2", workspace="ws_2"), b"{}")
    # With a supplement, so that the view `events` has a table beneath it to be meddled with.
    archive_bodies(archive, event("e1", actor_name="Eve"))
    (folder / "spool").mkdir()
    (folder / "spool/secret.csv").write_text("secret\n1\n")
    (folder / "spool/secret.json").write_text('{"secret": 1}\n')
    data = next(iter((folder / "archive/events").rglob("*.parquet")))
    return Place(folder, archive, str(data), _looks(folder))


@pytest.fixture
def place(shared: Place, monkeypatch: pytest.MonkeyPatch) -> Iterator[Place]:
    monkeypatch.chdir(shared.folder)
    yield shared
    assert shared.now() == shared.before


ESCAPES = [
    # reading what is not the archive's rows
    "SELECT * FROM read_text('/etc/passwd')",
    "SELECT * FROM read_blob('/etc/passwd')",
    "SELECT * FROM read_csv('{folder}/spool/secret.csv')",
    "SELECT * FROM read_csv_auto('{folder}/spool/secret.csv')",
    "SELECT * FROM read_json('{folder}/spool/secret.json')",
    "SELECT * FROM '{folder}/spool/secret.csv'",
    "SELECT * FROM 'spool/secret.json'",
    'SELECT * FROM "spool/secret.json"',
    "SELECT * FROM read_text('{folder}/archive/_ledger/*')",
    "SELECT * FROM read_json('{folder}/archive/_ledger/00000000000000000000.json')",
    "SELECT * FROM '{folder}/archive/_ledger/00000000000000000000.json'",
    "SELECT * FROM glob('{folder}/**')",
    "SELECT * FROM glob('/etc/*')",
    "SELECT * FROM read_parquet('{folder}/archive/*/*/*/*.parquet')",
    "SELECT * FROM parquet_scan('{data}')",
    "SELECT * FROM parquet_metadata('{data}')",
    "SELECT * FROM sniff_csv('{folder}/spool/secret.csv')",
    "SELECT * FROM read_duckdb('{data}')",
    "SELECT * FROM 'https://example.com/x.parquet'",
    "SELECT * FROM 's3://example/x.parquet'",
    "SELECT getenv('HOME')",
    "SELECT * FROM archive",  # a variable of the program that calls
    "SELECT * FROM place",
    "SELECT * FROM pandas_scan(1)",
    "SELECT * FROM arrow_scan(1, 2, 3)",
    "SELECT * FROM python_map_function((SELECT 1))",
    "SELECT * FROM which_secret('x', 's3')",
    "SELECT * FROM duckdb_secrets()",
    "SELECT * FROM read_ndjson_objects('{folder}/spool/secret.json')",
    "SELECT * FROM read_text(['/etc/passwd', '/etc/group'])",
    "SELECT (SELECT content FROM read_text('/etc/passwd'))",
    "SELECT * FROM events, LATERAL read_text('/etc/passwd')",
    "SELECT * FROM parquet_schema('{data}')",
    "SELECT * FROM parquet_file_metadata('{data}')",
    "SELECT * FROM parquet_kv_metadata('{data}')",
    "SELECT * FROM parquet_bloom_probe('{data}', 'id', 'e1')",
    "SELECT * FROM \"READ_TEXT\"('/etc/passwd')",
    "SELECT * FROM main.read_text('/etc/passwd')",
    "SELECT * FROM system.main.read_text('/etc/passwd')",
    "FROM histogram('{folder}/spool/secret.csv', secret)",
    "FROM histogram_values('{folder}/spool/secret.csv', secret)",
    "DESCRIBE '{folder}/spool/secret.csv'",
    "SUMMARIZE '{folder}/spool/secret.csv'",
    "SUMMARIZE SELECT * FROM read_text('/etc/passwd')",
    "DESCRIBE SELECT * FROM read_text('/etc/passwd')",
    "SHOW ALL TABLES FROM read_text('/etc/passwd')",
    "FROM query_table('{folder}/spool/secret.csv')",
    "FROM query_table(['events', '{folder}/spool/secret.csv'])",
    "FROM query('FROM read_text(''/etc/passwd'')')",
    "FROM duckdb_logs()",
    "FROM duckdb_temporary_files()",
    "FROM duckdb_external_file_cache()",
    "FROM duckdb_databases()",
    "FROM duckdb_variables()",
    "SELECT * FROM sqlite_master, read_csv('/etc/passwd')",
    "VALUES ((SELECT content FROM read_text('/etc/passwd')))",
    "SELECT * FROM events WHERE id IN (SELECT content FROM read_text('/etc/passwd'))",
    "SELECT * FROM range(1) ORDER BY (SELECT content FROM read_text('/etc/passwd'))",
    "SELECT 1 LIMIT (SELECT length(content) FROM read_text('/etc/passwd'))",
    "PIVOT read_text('/etc/passwd') ON filename IN ('/etc/passwd')",
    "UNPIVOT (FROM read_text('/etc/passwd')) ON content",
    # writing
    "COPY events TO STDOUT",
    "COPY events FROM '{folder}/spool/secret.csv'",
    "COPY FROM DATABASE memory TO other",
    "EXPORT DATABASE '{folder}/out' (FORMAT parquet)",
    "COPY (SELECT 1) TO '{folder}/out.csv'",
    "COPY events TO '{folder}/out.parquet'",
    "COPY (SELECT 1) TO '{data}' (FORMAT csv, USE_TMP_FILE false)",
    "WITH x AS (COPY (SELECT 1 AS a) TO '{folder}/out.csv') SELECT * FROM x",
    "WITH x AS (COPY (SELECT 1 AS a) TO '{data}' (FORMAT csv, USE_TMP_FILE false)) SELECT * FROM x",
    "WITH y AS (SELECT 1), x AS (COPY (SELECT 1) TO '{data}' (USE_TMP_FILE false)) FROM y",
    "SELECT (WITH x AS (COPY (SELECT 1) TO '{data}' (USE_TMP_FILE false)) SELECT 1)",
    "SELECT 1 WHERE EXISTS (WITH x AS (COPY (SELECT 1) TO '{data}' (USE_TMP_FILE false)) SELECT 1)",
    "EXPLAIN ANALYZE COPY (SELECT 1) TO '{data}' (FORMAT csv, USE_TMP_FILE false)",
    "EXPLAIN ANALYZE WITH x AS (COPY (SELECT 1) TO '{data}' (FORMAT csv, USE_TMP_FILE false)) FROM x",
    "EXPLAIN /* */ ANALYZE COPY (SELECT 1) TO '{data}' (FORMAT csv, USE_TMP_FILE false)",
    "EXPLAIN (ANALYZE, FORMAT ') SELECT 1 --') COPY (SELECT 1) TO '{data}' (USE_TMP_FILE false)",
    "FROM query('WITH x AS (COPY (SELECT 1) TO ''{data}'' (USE_TMP_FILE false)) FROM x')",
    "FROM json_execute_serialized_sql(json_serialize_sql('SELECT 1'))",
    "EXPORT DATABASE '{folder}/out'",
    "IMPORT DATABASE '{folder}/out'",
    "ATTACH '{folder}/out.db'",
    "CREATE TABLE t AS SELECT 1",
    "CREATE TEMP TABLE t AS SELECT 1",
    "WITH x AS (INSERT INTO _events SELECT * FROM _events RETURNING *) SELECT * FROM x",
    "WITH x AS (DELETE FROM events RETURNING *) SELECT * FROM x",
    "INSERT INTO events SELECT * FROM events",
    "DELETE FROM quarantine",
    "UPDATE commits SET archived = 0",
    "TRUNCATE events",
    # changing what others read
    "CREATE OR REPLACE VIEW events AS SELECT 1",
    "DROP VIEW events",
    "ALTER VIEW events RENAME TO e",
    "CREATE MACRO f() AS 1",
    "CREATE SECRET s (TYPE s3)",
    "COMMENT ON VIEW events IS 'x'",
    "CREATE OR REPLACE TEMP VIEW events AS SELECT 1",
    "CREATE TEMP MACRO count(x) AS 0",
    "CREATE SCHEMA s",
    "CREATE SEQUENCE s",
    "CREATE TYPE t AS ENUM ('x')",
    "CREATE INDEX i ON _events (id)",
    "DROP TABLE IF EXISTS _events CASCADE",
    "MERGE INTO events USING events AS other ON true WHEN MATCHED THEN DELETE",
    "WITH events AS (UPDATE _events SET id = 'x' RETURNING *) SELECT * FROM events",
    "SELECT * FROM (DELETE FROM events RETURNING *)",
    "EXPLAIN ANALYZE DELETE FROM events",
    "EXPLAIN ANALYZE CREATE TABLE t AS SELECT 1",
    # changing the session
    "SET enable_external_access = true",
    "SET allowed_paths = ['/']",
    "SET lock_configuration = false",
    "RESET lock_configuration",
    "SET memory_limit = '100GB'",
    "SET TimeZone = 'Asia/Tokyo'",
    "SET VARIABLE x = 1",
    "PRAGMA enable_profiling",
    "PRAGMA database_list",
    "FROM enable_logging(storage = 'file', storage_path = '{folder}/log')",
    "FROM enable_profiling(save_location = '{folder}/profile')",
    "FROM checkpoint()",
    "FROM truncate_duckdb_logs()",
    "CALL pragma_version()",
    "CHECKPOINT",
    "VACUUM",
    "BEGIN",
    "USE memory",
    "PREPARE p AS SELECT 1",
    "EXECUTE p",
    "RESET ALL",
    "SET GLOBAL threads = 1",
    "SET SESSION search_path = 'x'",
    "SET temp_directory = '{folder}'",
    "SET custom_extension_repository = 'https://example.com'",
    "PRAGMA enable_external_access",
    "PRAGMA threads = 1",
    "PRAGMA import_database('{folder}')",
    "PRAGMA show_tables",
    "SELECT nextval('s')",
    "DETACH memory",
    "ATTACH ':memory:' AS other",
    "ATTACH 'https://example.com/x.db' (READ_ONLY)",
    "CALL duckdb_tables()",
    "CALL enable_logging('QueryLog')",
    "EXECUTE IMMEDIATE 'SELECT 1'",
    "DEALLOCATE p",
    "COMMIT",
    "LOAD 'parquet'; SELECT 1",
    "UPDATE EXTENSIONS",
    "DROP SECRET s",
    "CREATE PERSISTENT SECRET s (TYPE s3, KEY_ID 'x')",
    # foreign code
    "INSTALL httpfs",
    "FORCE INSTALL httpfs FROM 'https://example.com'",
    "LOAD httpfs",
    "LOAD '{folder}/x.duckdb_extension'",
    "SELECT * FROM postgres_scan('host=example.com', 'public', 't')",
    "SELECT * FROM register_external_resource('a', 'b', 'c')",
    # more, or less, than one statement
    "SELECT 1; SELECT 2",
    "SELECT 1; COPY (SELECT 1) TO '{folder}/out.csv'",
    "SELECT 1;; DROP VIEW events",
    "",
    "   ;  ",
    "-- nothing",
    "SELECT 1 AS \0",
    "SELECT '\ud800'",
    "no SQL at all",
    "PIVOT events ON action",
    # monsters
    "SELECT " + "(" * 2_000 + "1" + ")" * 2_000,
    "SELECT " + "[" * 2_000 + "]" * 2_000,
    "SELECT " + "NOT " * 20_000 + "true",
    "SELECT '" + "x" * LONGEST_STATEMENT + "'",
    "SELECT list(range) FROM range(1000000000)",
    "SELECT string_agg(repeat('x', 1000000), '') FROM range(3000)",
]


@pytest.mark.parametrize("escape", ESCAPES, ids=lambda text: text[:60].encode("ascii", "replace").decode())
def test_it_fails_and_changes_nothing(place: Place, escape: str) -> None:
    statement = escape.replace("{folder}", str(place.folder)).replace("{data}", place.data)
    with pytest.raises(QueryError) as failed:
        open_session(place.archive, memory_limit="200MB", timeout_seconds=20).sql(statement).arrow()
    assert failed.value.message
    assert "Traceback" not in failed.value.message
    assert len(failed.value.message) < 1_200


def test_the_statements_that_overwrite_a_data_file_would_do_so_without_the_check(
    place: Place, tmp_path: Path
) -> None:
    """A lock, closed access and the type SELECT do not stop it: the look into the syntax tree does."""
    victim = tmp_path / "data.parquet"
    victim.write_bytes(Path(place.data).read_bytes())
    statement = f"WITH x AS (COPY (SELECT 1) TO '{victim}' (FORMAT csv, USE_TMP_FILE false)) SELECT * FROM x"
    with duckdb.connect(":memory:") as connection:
        connection.execute("SET allowed_paths=$1", [[str(victim)]])
        connection.execute("SET enable_external_access=false")
        connection.execute("SET lock_configuration=true")
        (only,) = connection.extract_statements(statement)
        assert only.type == duckdb.StatementType.SELECT
        connection.sql(statement).to_arrow_table()
    assert victim.read_bytes() != Path(place.data).read_bytes()
    with pytest.raises(QueryError, match="does not only read"):
        checked(statement)


def test_a_variable_of_the_program_is_no_table(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("archiver.query.session.leak", pa.table({"secret": [1]}), raising=False)
    with pytest.raises(QueryError, match="leak does not exist"):
        open_session(place.archive).sql("SELECT * FROM leak").arrow()


@pytest.mark.parametrize(
    "statement",
    [
        "SELECT 1;",
        "FROM events",
        "TABLE events",
        "VALUES (1)",
        "WITH RECURSIVE t AS (SELECT 1 AS n UNION ALL SELECT n + 1 FROM t WHERE n < 3) SELECT * FROM t",
        "WITH t AS MATERIALIZED (SELECT 1) (SELECT * FROM t UNION SELECT 2) EXCEPT SELECT 3",
        "SELECT row_number() OVER (ORDER BY id) FROM events QUALIFY true",
        "SELECT * FROM json_each('[1]'), range(2), unnest([1]) AS u",
        "SELECT list_transform([1], lambda x: x + 1), [y FOR y IN [1]], {'type': 'COPY_QUERY_NODE'}",
        "PIVOT events ON action IN ('x')",
        "SELECT 'COPY; DROP -- ' AS \"info_type\"",
        "EXPLAIN (ANALYZE, FORMAT json) SELECT 1",
        "explain analyze\n select 1",
        "SUMMARIZE events",
        "SELECT 1" + " + 1" * 400,
    ],
)
def test_what_only_reads_is_answered(place: Place, statement: str) -> None:
    open_session(place.archive).sql(statement).arrow()


@pytest.mark.parametrize(
    "statement",
    [
        ENDLESS,
        "SELECT * FROM range(1000000000000)",
        "WITH RECURSIVE t(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM t) SELECT count(*) FROM t",
        "SELECT sleep_ms(600000)",
    ],
)
def test_what_does_not_end_is_ended(place: Place, statement: str) -> None:
    started = time.monotonic()
    with pytest.raises(QueryError, match="no answer within"):
        for _ in open_session(place.archive, timeout_seconds=0.5).sql(statement).batches():
            pass
    assert time.monotonic() - started < 10


def test_a_stream_that_fails_is_our_own_error(place: Place) -> None:
    """Text of the archive's own faults comes through, and not as DuckDB's wrapping of it."""
    archive = open_archive(place.archive.store)
    archive.ledger.snapshot.quarantine.append((1, _NoObject()))  # type: ignore[arg-type]
    session = open_session(archive)
    with pytest.raises(ArchiverError, match=r"_quarantine/gone"):
        session.sql("SELECT * FROM quarantine").arrow()


class _NoObject:
    key = "_quarantine/gone"


def command(place: Place, statement: str, *options: str) -> list[str]:
    located = ["--archive", str(place.folder / "archive")]
    return [sys.executable, "-m", "archiver", "sql", statement, *located, *options]


def test_strings_of_gigabytes_are_refused_to_the_command(place: Place) -> None:
    told = subprocess.run(
        command(place, "SELECT length(repeat('x', 3500000000)) FROM range(4)", "--limit-memory", "200MB"),
        capture_output=True,
        text=True,
        check=False,
    )
    assert told.returncode == 1
    assert told.stdout == ""
    assert "Out of Memory" in told.stderr
    assert "Traceback" not in told.stderr


def test_ctrl_c_ends_a_statement(place: Place) -> None:
    asked = subprocess.Popen(
        command(place, ENDLESS), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    time.sleep(1)
    deadline = time.monotonic() + 60
    try:
        while _cpu_seconds(asked.pid) < 5 and time.monotonic() < deadline:  # it has started, and computes
            assert asked.poll() is None
            time.sleep(0.1)
        asked.send_signal(signal.SIGINT)
        out, err = asked.communicate(timeout=15)
    finally:
        asked.kill()
        asked.communicate()
    assert asked.returncode == 130
    assert out == ""
    assert "interrupted" in err
    assert "Traceback" not in err
    assert "nanobind" not in err


def _cpu_seconds(process: int) -> float:
    fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / 100
