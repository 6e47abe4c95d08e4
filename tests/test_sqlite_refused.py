"""Tables whose rows could be lost are refused; a file that cannot be read is told, and never created."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from archiver.database.mapping import Column
from archiver.database.settings import Location
from archiver.database.sqlite import open_sqlite
from archiver.database.sqlite_connection import path_of
from archiver.database.sqlite_table import affinity, is_autoincrement
from archiver.errors import ArchiverError, ConfigError, SourceError
from tests.sqlite_rows import TABLE, URL, App, new_app, url_of, wait_for

_DIES = """
import os, signal, sqlite3, sys
connection = sqlite3.connect(sys.argv[1], isolation_level=None)
connection.execute("PRAGMA cache_size = 1")
connection.execute("BEGIN")
connection.execute("UPDATE events SET action = hex(zeroblob(100))")
print("written", flush=True)
os.kill(os.getpid(), signal.SIGKILL)
"""

_HOLDS = """
import sqlite3, sys
connection = sqlite3.connect(sys.argv[1])
connection.execute("SELECT * FROM events").fetchall()
print("open", flush=True)
sys.stdin.read()
"""


@pytest.fixture
def app(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> App:
    made = new_app(tmp_path)
    monkeypatch.setenv(URL, url_of(made.path))
    return made


def _refused(app: App, **changes: Any) -> ArchiverError:
    with pytest.raises(ArchiverError) as raised:
        open_sqlite(replace(app.source, **changes), Location(url_of(app.path)))
    report = app.run(**changes)
    (problem,) = report.problems
    assert problem.startswith(raised.value.message)
    assert problem.endswith(raised.value.hint)
    assert report.commits == []
    return raised.value


@pytest.mark.parametrize(
    ("tables", "reason"),
    [
        ([TABLE.replace(" AUTOINCREMENT", "")], "has no AUTOINCREMENT"),
        ([TABLE.replace(" AUTOINCREMENT", " /* AUTOINCREMENT */")], "has no AUTOINCREMENT"),
        (["CREATE TABLE events (id TEXT PRIMARY KEY)"], "has no AUTOINCREMENT"),
        (["CREATE TABLE events (id TEXT PRIMARY KEY) WITHOUT ROWID"], "is a table WITHOUT ROWID"),
        ([TABLE.replace("events", "other"), "CREATE VIEW events AS SELECT * FROM other"], "is a view"),
        (["CREATE VIRTUAL TABLE events USING fts5(id)"], "is a virtual table"),
        ([TABLE.replace("events", "event")], "did you mean event?"),
        ([TABLE.replace("id TEXT", "uid TEXT")], "no column for id"),
        ([TABLE.replace("created_at TEXT", "created_at INTEGER")], "nothing tells what numbers count"),
    ],
)  # fmt: skip
def test_a_table_that_is_unfit_is_refused_with_the_reason(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tables: list[str], reason: str
) -> None:
    app = new_app(tmp_path, *tables)
    monkeypatch.setenv(URL, url_of(app.path))
    error = _refused(app)
    assert isinstance(error, ConfigError)
    assert reason in error.message
    assert error.hint


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"strategy": "xid8"}, "xid8 is a strategy for PostgreSQL"),
        ({"strategy": "settled"}, "settled is a strategy for PostgreSQL"),
        ({"table": None, "query": "SELECT * FROM events"}, "a query of SQLite cannot be archived"),
        ({"position": "created_at"}, "rows of SQLite are read by their rowid, which is 'n'"),
        ({"key": ("id",)}, "rows of SQLite are read by their rowid"),
        ({"columns": {"tenant_id": "nowhere"}}, "there is no column 'nowhere'"),
    ],
)
def test_settings_that_would_lose_rows_or_mean_nothing_are_refused(
    app: App, changes: dict[str, Any], reason: str
) -> None:
    error = _refused(app, **changes)
    assert isinstance(error, ConfigError)
    assert reason in error.message


def test_the_rowid_may_be_named_as_position_and_key_and_strategy(app: App) -> None:
    app.insert("a")
    report = app.run(strategy="rowid", position="N", key=("n",), table="main.EVENTS")
    assert (report.counts.archived, report.problems) == (1, [])


def test_a_column_without_a_type_that_holds_numbers_is_refused_where_an_instant_is_expected(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    app = new_app(tmp_path, TABLE.replace("created_at TEXT", "created_at"))
    monkeypatch.setenv(URL, url_of(app.path))
    app.insert_row(id="a", created_at=1774520100)
    error = _refused(app)
    assert "holds numbers" in error.message
    statement = error.hint.partition(": ")[2].partition(";")[0]
    app.execute(statement)  # the hint can be followed
    report = app.run(columns={"created_at": "created_at_text", "created_at_unix": "created_at"})
    assert (report.counts.archived, report.problems) == (1, [])
    assert '"created_at":"2026-03-26T10:15:00.000Z"' in app.bodies()[0]
    assert '"created_at_unix":1774520100' in app.bodies()[0]


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (None, "No such file or directory"),
        (b"", "is empty"),
        (b"no database " * 1_000, "file is not a database"),
    ],
)
def test_a_file_that_is_no_database_is_told_and_none_is_created(
    app: App, content: bytes | None, reason: str
) -> None:
    app.path.unlink()
    if content is not None:
        app.path.write_bytes(content)
    error = _refused(app)
    assert isinstance(error, SourceError)
    assert reason in error.message
    assert error.hint
    assert app.path.exists() == (content is not None)


def test_a_folder_is_no_database(app: App) -> None:
    app.path.unlink()
    app.path.mkdir()
    assert "is no file" in _refused(app).message


def test_a_damaged_file_stops_the_source_where_it_was(app: App) -> None:
    app.insert(*(f"{number:04}" for number in range(2_000)))
    app.run(batch_rows=100, max_row_bytes=1024)
    before = app.cursor()
    app.insert(*(f"{number:04}" for number in range(2_000, 4_000)))
    content = bytearray(app.path.read_bytes())
    for page in range(len(content) // 4096 // 2, len(content) // 4096):
        content[page * 4096 : page * 4096 + 8] = b"\x99" * 8
    app.path.write_bytes(content)
    report = app.run()
    assert "database disk image is malformed" in report.problems[0]
    assert app.cursor() == before
    assert "SELECT" not in report.problems[0]


def test_what_a_dead_writer_left_is_never_archived(app: App) -> None:
    app.insert(*(f"{number:04}" for number in range(500)))
    process = subprocess.Popen(
        [sys.executable, "-c", _DIES, str(app.path)], stdout=subprocess.PIPE, text=True
    )
    wait_for(process, "written")
    process.communicate()
    assert process.returncode == -signal.SIGKILL
    assert app.path.with_name(app.path.name + "-journal").stat().st_size > 0
    error = _refused(app)
    assert "attempt to write a readonly database" in error.message
    assert "to roll back what a writer left that died" in error.hint
    app.execute("SELECT count(*) FROM events")  # a writer
    assert app.run().counts.archived == 500
    assert all('"action":"document.created"' in one for one in app.bodies())


def test_a_reader_of_wal_mode_leaves_no_files_that_the_owner_could_not_write(
    app: App, monkeypatch: pytest.MonkeyPatch
) -> None:
    app.insert("a")
    app.execute("PRAGMA journal_mode = wal")
    monkeypatch.setattr(os, "geteuid", lambda: app.path.stat().st_uid + 1)
    monkeypatch.setattr(os, "getegid", lambda: app.path.stat().st_gid + 1)
    app.path.chmod(0o664)
    error = _refused(app)
    assert "is in WAL mode, nobody has it open" in error.message
    assert not list(app.path.parent.glob("app.db-*"))
    holder = subprocess.Popen(
        [sys.executable, "-c", _HOLDS, str(app.path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    wait_for(holder, "open")
    assert app.run().counts.archived == 1
    holder.communicate()
    app.path.chmod(0o666)
    assert app.run().problems == []


def test_nothing_in_the_file_or_beside_it_is_changed(app: App) -> None:
    app.insert("a")
    before = app.path.read_bytes(), sorted(app.path.parent.iterdir())
    app.run()
    assert (app.path.read_bytes(), sorted(app.path.parent.iterdir())) == before


@pytest.mark.parametrize(
    ("url", "path"),
    [
        ("sqlite:////data/app.db", "/data/app.db"),
        ("sqlite:////data/my%20app.db?mode=ro", "/data/my app.db"),
        ("file:/data/app.db", "/data/app.db"),
        ("file:///data/app.db?mode=rwc", "/data/app.db"),
        ("file://localhost/data/app.db", "/data/app.db"),
        ("sqlite:///data/app.db", str(Path("data/app.db").absolute())),
        ("file:app.db", str(Path("app.db").absolute())),
    ],
)
def test_a_url_names_a_file(url: str, path: str) -> None:
    assert path_of(Location(url)) == path


@pytest.mark.parametrize(
    "url",
    ["sqlite://", "sqlite:///:memory:", "file:", "sqlite://host/app.db", "file:/a.db?vfs=x", "file:/a%00b"],
)  # fmt: skip
def test_a_url_that_names_no_file_is_refused_without_being_shown(url: str) -> None:
    with pytest.raises(ConfigError) as raised:
        path_of(Location(url))
    assert url not in raised.value.message


def test_autoincrement_is_known_as_a_keyword_only() -> None:
    assert is_autoincrement("CREATE TABLE t(a integer primary key AutoIncrement)")
    assert is_autoincrement("CREATE TABLE t(a integer primary key/**/autoincrement)")
    for sql in ("'autoincrement'", '"autoincrement"', "[autoincrement]", "`autoincrement`", "autoincrement_"):
        assert not is_autoincrement(f"CREATE TABLE t({sql})")
    assert not is_autoincrement("CREATE TABLE t(a -- autoincrement\n)")


@pytest.mark.parametrize(
    ("declared", "expected"),
    [
        ("INT", "integer"), ("BIGINT", "integer"), ("FLOATING POINT", "integer"), ("CHARINT", "integer"),
        ("VARCHAR(10)", "text"), ("clob", "text"), ("BLOB", "none"), ("", "none"),
        ("DOUBLE", "real"), ("float", "real"), ("DATETIME", "numeric"), ("JSON", "numeric"),
        ("ANY", "numeric"),
    ],
)  # fmt: skip
def test_a_columns_affinity_is_what_sqlites_manual_says(declared: str, expected: str) -> None:
    assert affinity(Column("c", declared).type) == expected
    assert affinity("ANY", is_strict=True) == "none"
