"""What a run over a database tells, and who asks later: progress, report, metrics, status, doctor."""

from __future__ import annotations

import io
import os
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from archiver.archive import init_archive
from archiver.cli import bars
from archiver.config import read_settings
from archiver.database.look import Look
from archiver.database.postgres_look import check_encryption
from archiver.database.settings import Location
from archiver.doctor.sources import check_sources
from archiver.reached import reached
from archiver.runs import run_sources
from archiver.store.local import LocalStore
from tests.calling import Archiver, archiver
from tests.services.postgres import PostgresDatabase, as_user
from tests.test_run_metrics import parsed

__all__ = ["archiver"]  # a fixture: pytest finds it here by name

URL = "TEST_WATCHED_URL"
TABLE = """
CREATE TABLE audit (id text PRIMARY KEY, workspace_id text NOT NULL, actor_id text NOT NULL,
    action text NOT NULL, created_at timestamptz NOT NULL DEFAULT now(),
    xid xid8 NOT NULL DEFAULT pg_current_xact_id());
CREATE INDEX ON audit (xid, id);
"""
INSERT = "INSERT INTO audit (id, workspace_id, actor_id, action) VALUES ($1, 'ws_1', 'user_1', 'a.b')"
SETTINGS = """
[archive]
location = "archive"
[sources.app]
type = "database"
url_env = "{url}"
table = "audit"
batch_rows = 100
"""
SUCCESS = "archiver_run_database_last_success_timestamp_seconds"


class Recorded:
    """Progress that is kept."""

    def __init__(self) -> None:
        self.calls: list[Any] = []
        self.rows = 0

    def start(self, what: str, total_bytes: int | None, total_rows: int | None = None) -> None:
        self.calls.append((what, total_bytes, total_rows))

    def advance(self, *, bytes_done: int = 0, rows: int = 0) -> None:
        self.rows += rows if len(self.calls) == 1 else 0  # of the first piece of work

    def finish(self) -> None:
        self.calls.append("finished")


@pytest.fixture
def here(archiver: Archiver, monkeypatch: pytest.MonkeyPatch) -> Archiver:
    """A configuration in this folder, and an archive."""
    monkeypatch.setenv(URL, "postgresql://nobody@127.0.0.1:1/nowhere")
    Path("archiver.toml").write_text(SETTINGS.format(url=URL), encoding="utf-8")
    init_archive(LocalStore(Path("archive")), rounds=0)
    return archiver


@pytest.fixture
def audit(here: Archiver, postgres: PostgresDatabase, monkeypatch: pytest.MonkeyPatch) -> PostgresDatabase:
    monkeypatch.setenv(URL, postgres.url)
    postgres.execute(TABLE)
    return postgres


def filled(audit: PostgresDatabase, first: int, last: int) -> None:
    audit.execute(
        "INSERT INTO audit (id, workspace_id, actor_id, action)"
        f" SELECT 'e' || n, 'ws_1', 'user_1', 'a.b' FROM generate_series({first}, {last}) n; ANALYZE audit"
    )


def run_watched() -> Recorded:
    progress = Recorded()
    run_sources(LocalStore(Path("archive")), read_settings(Path("archiver.toml")), progress=progress)
    return progress


def test_progress_goes_across_batches_and_knows_about_how_many_rows_there_are(
    audit: PostgresDatabase,
) -> None:
    filled(audit, 1, 350)
    first = run_watched()
    assert first.calls[:2] == [("archiving app", None, 350), "finished"]
    assert first.rows == 350
    filled(audit, 351, 500)
    later = run_watched()
    assert later.calls[:2] == [("archiving app", None, 150), "finished"]  # not the whole table again
    assert later.rows == 150


def test_a_bar_of_rows_shows_how_many_of_about_how_many(monkeypatch: pytest.MonkeyPatch) -> None:
    screen = io.StringIO()
    monkeypatch.setattr(
        bars, "Console", lambda **_: Console(file=screen, force_terminal=True, width=120, color_system=None)
    )
    shown = bars.Bars()
    shown.start("archiving app", None, 2000)
    shown.advance(bytes_done=1, rows=500)
    assert shown._bars is not None
    shown._bars.refresh()
    shown.advance(rows=2500)
    assert shown._bars.tasks[0].total == 3000  # the estimate was too low
    shown.finish()
    assert "500 of about 2,000 rows" in screen.getvalue()


def test_a_run_tells_what_it_read_and_what_waits_behind_an_open_transaction(
    here: Archiver, audit: PostgresDatabase
) -> None:
    filled(audit, 1, 3)
    assert "database app: 3 rows read, 3 archived; read up to " in here("run").out
    assert "database app: 0 rows read, 0 archived; read up to " in here("run").out
    with audit.session() as writer:
        writer.run(INSERT, "open")
        audit.query(INSERT, "waits")
        done = here("run", "--metrics-file", "m.prom")
        told = parsed(Path("m.prom").read_text())
        assert told[("archiver_run_database_waiting_rows", "app")] == 1
        assert "1 row waits: a transaction that began at " in done.out
        lag = here("status", "--connect", "--json").document["sources"][0]["lag"]
        assert (lag["behind"], lag["waiting"]) == (1, 1)
        writer.commit()
    report = here("run", "--json").document["databases"]["app"]
    assert (report["read"], report["archived"], report["rows"], report["went_well"]) == (2, 2, 0, True)


def test_metrics_keep_when_a_run_last_went_well_over_a_database(
    here: Archiver, audit: PostgresDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    filled(audit, 1, 2)
    here("run", "--metrics-file", "m.prom")
    well = parsed(Path("m.prom").read_text())
    assert well[("archiver_run_database_read", "app")] == 2
    monkeypatch.setenv(URL, "postgresql://nobody@127.0.0.1:1/nowhere")
    done = here("run", "--metrics-file", "m.prom")
    assert done.code == 1
    assert "database app: not archived" in done.out
    failed = parsed(Path("m.prom").read_text())
    assert failed[(SUCCESS, "app")] == well[(SUCCESS, "app")]
    assert ("archiver_run_database_waiting_rows", "app") not in failed  # nobody knows
    Path("m.prom").unlink()
    here("run", "--metrics-file", "m.prom")
    assert (SUCCESS, "app") not in parsed(Path("m.prom").read_text())


def test_status_needs_no_database(
    here: Archiver, audit: PostgresDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert "database    app: nothing was archived of it yet" in here("status").out
    filled(audit, 1, 2)
    here("run")
    monkeypatch.delenv(URL)
    done = here("status")
    assert done.code == 0
    assert "database    app: public.audit up to " in done.out
    assert "(xid8), last moved by commit 1 at " in done.out
    done = here("status", "--connect")
    assert done.code == 0
    assert f"cannot be asked: source app: the variable {URL} is not set" in done.out
    Path("archiver.toml").write_text("")  # the ledger still knows of it
    (told,) = here("status", "--archive", "archive", "--json").document["sources"]
    assert (told["source"], told["commit"], told["counts"]["archived"]) == ("app", 1, 2)
    told = here("status", "--archive", "archive", "--as-of", "0", "--json").document
    assert told["sources"] == []


def test_when_a_cursor_last_moved_is_found_behind_commits_of_others(
    here: Archiver, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(URL, f"sqlite:///{tmp_path}/app.db")
    insert = "INSERT INTO audit (id, workspace_id, actor_id, action, created_at) VALUES (?, 'w', 'u', 'a', ?)"
    with closing(sqlite3.connect(tmp_path / "app.db")) as connection, connection:
        connection.execute(
            "CREATE TABLE audit (n INTEGER PRIMARY KEY AUTOINCREMENT, id TEXT, workspace_id TEXT,"
            " actor_id TEXT, action TEXT, created_at TEXT)"
        )
        connection.execute(insert, ("e1", "2026-03-26T10:15:00Z"))
    assert here("run").code == 0
    for number in range(3):
        assert here("hold", "set", f"h{number}", "--workspace", "w", "--reason", "r").code == 0
    from archiver.archive import open_archive  # noqa: PLC0415  (as a later process would)

    (found,) = reached(open_archive(LocalStore(Path("archive"))), ["app"])
    assert (found.commit, found.position, found.strategy) == (1, "1", "rowid")
    (absent, found) = reached(open_archive(LocalStore(Path("archive"))), ["other"])
    assert (absent.source, absent.strategy, found.source) == ("other", "", "app")


def checks(**environment: str) -> dict[str, tuple[str, str]]:
    os.environ.update(environment)
    settings = read_settings(Path("archiver.toml"))
    return {
        one.name.removeprefix("source app: "): (one.status, one.found)
        for one in check_sources(settings, None)
    }


def test_doctor_is_content_with_a_role_that_only_reads(here: Archiver, audit: PostgresDatabase) -> None:
    filled(audit, 1, 2)
    with audit.role() as url:
        audit.execute(f"GRANT SELECT ON audit TO {url.split('//')[1].split(':')[0]}")
        found = checks(**{URL: url})
    assert {name for name, (status, _) in found.items() if status != "ok"} == set()
    assert {"connection", "encryption", "table", "strategy", "rights", "index", "lag"} <= set(found)


def test_doctor_names_each_fault_of_a_database(here: Archiver, audit: PostgresDatabase) -> None:
    filled(audit, 1, 2)
    status, told = checks(**{URL: audit.superuser_url})["role"]
    assert status == "warning"
    assert told.endswith(" is a superuser")
    with audit.role() as url:
        audit.execute(f"GRANT SELECT, UPDATE ON audit TO {url.split('//')[1].split(':')[0]}")
        assert checks(**{URL: url})["rights"] == ("warning", "the role may also UPDATE")
    assert checks(**{URL: as_user(audit.url, "nobody_of_this_name", "x")})["connection"][0] == "failed"
    assert checks(**{URL: ""})["url"] == ("failed", f"source app: the variable {URL} is not set")
    audit.execute("DROP INDEX audit_xid_id_idx")
    assert checks(**{URL: audit.url})["index"][0] == "warning"
    text = Path("archiver.toml").read_text()
    Path("archiver.toml").write_text(text.replace('table = "audit"', 'table = "audits"'))
    failed = {name: one for name, one in checks(**{URL: audit.url}).items() if one[0] == "failed"}
    assert len(failed) == 1
    assert "there is no table 'audits'" in next(iter(failed.values()))[1]


def test_doctor_tells_of_what_is_held_back_for_long(
    here: Archiver, audit: PostgresDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    from archiver.database import look  # noqa: PLC0415

    with audit.session() as writer:
        writer.run(INSERT, "open")
        audit.query(INSERT, "waits")
        assert checks(**{URL: audit.url})["lag"][0] == "ok"
        monkeypatch.setattr(look, "_LONG_LAG_SECONDS", 0.0)
        status, found = checks(**{URL: audit.url})["lag"]
    assert status == "warning"
    assert found.startswith("1 row waits: a transaction that began at ")


@pytest.mark.parametrize(
    ("url", "mode", "is_encrypted", "is_remote", "status"),
    [
        ("postgresql://r@db.example.com/x", "", False, True, "warning"),
        ("postgresql://r@db.example.com/x", "", True, True, "warning"),
        ("postgresql://r@db.example.com/x?sslmode=require", "", True, True, "warning"),
        ("postgresql://r@db.example.com/x?sslmode=verify-full", "", True, True, "ok"),
        ("postgresql://r@db.example.com/x?sslrootcert=system", "", True, True, "ok"),
        ("postgresql://r@db.example.com/x", "verify-ca", True, True, "ok"),
        ("postgresql://r@db.example.com/x?sslmode=prefer", "verify-full", False, True, "warning"),
        ("postgresql://r@127.0.0.1/x", "", False, False, "ok"),
    ],
)
def test_a_network_that_could_be_listened_to_is_warned_of(
    monkeypatch: pytest.MonkeyPatch, url: str, mode: str, is_encrypted: bool, is_remote: bool, status: str
) -> None:
    monkeypatch.setenv("PGSSLMODE", mode)
    monkeypatch.delenv("PGSSLROOTCERT", raising=False)
    found = Look("app")
    check_encryption(found, Location(url), is_encrypted=is_encrypted, is_remote=is_remote)
    assert [one.status for one in found.checks] == [status]
    assert "db.example.com" not in str(found.checks)


def test_doctor_of_the_command_line_fails_for_a_database(here: Archiver) -> None:
    done = here("doctor")
    assert done.code == 1
    assert "FAIL  source app: connection: " in done.out
