"""`archiver reconcile --repair`, and what the command says and returns."""

from __future__ import annotations

import sqlite3
import time
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from archiver.database.settings import Database
from archiver.reconcile import comparison, portions, repair
from archiver.reconcile.report import Place
from archiver.sources import database
from tests.calling import Archiver, archiver
from tests.reconciling import DAY, URL_ENV, Application, app, missing, only_archived, shared_database
from tests.support import archive_bodies, event, ids_of, new_archive

__all__ = ["app", "archiver", "shared_database"]

MARCH = ("--since", "2026-03-01", "--until", "2026-04-01")


@pytest.fixture
def configured(app: Application, archiver: Archiver) -> Archiver:
    """The command line in a folder whose archiver.toml names both."""
    Path("archiver.toml").write_text(
        f'[archive]\nlocation = "{app.archive.store.location}"\n'
        f'[sources.app]\ntype = "database"\nurl_env = "{URL_ENV}"\ntable = "events"\n'
    )
    return archiver


# --- repairing ------------------------------------------------------------------------------


def test_a_missing_row_that_is_not_valid_goes_into_quarantine_once(app: Application) -> None:
    app.insert("a1")
    app.run()
    app.insert("bad", action=None, passed_over=True)
    app.insert("nobody", workspace=None, passed_over=True)
    first = app.reconcile(repair=True)
    assert first.repair is not None
    assert (first.missing, first.repair.counts.quarantined, first.exit_code) == (2, 2, 3)
    second = app.reconcile(repair=True)
    assert second.repair is not None
    assert (second.missing, second.quarantined, second.repair.counts.read, second.exit_code) == (0, 2, 0, 0)


def test_a_row_that_a_webhook_brought_meanwhile_adds_to_it(
    app: Application, monkeypatch: pytest.MonkeyPatch
) -> None:
    app.insert("a1")
    app.run()
    app.insert("lost", passed_over=True)
    real = repair.run

    def later(archive: Any, *given: Any, **named: Any) -> Any:
        archive_bodies(app.archive, event("lost", timestamp=f"{DAY}T12:00:00Z"))
        return real(archive, *given, **named)

    monkeypatch.setattr(repair, "run", later)
    report = app.reconcile(repair=True)
    assert report.repair is not None
    assert (report.repair.counts.supplements, report.exit_code) == (1, 0)
    assert ids_of(app.archive) == ["a1", "lost"]


def test_a_row_that_left_the_database_meanwhile_is_told(
    app: Application, monkeypatch: pytest.MonkeyPatch
) -> None:
    app.insert("a1")
    app.run()
    app.insert("lost", "gone", passed_over=True)
    real = repair.run

    def later(*given: Any, **named: Any) -> Any:
        app.database.query("DELETE FROM events WHERE id = 'gone'")
        return real(*given, **named)

    monkeypatch.setattr(repair, "run", later)
    report = app.reconcile(repair=True)
    assert report.repair is not None
    assert (report.repair.counts.read, report.repair.gone, report.repair.left) == (1, 1, 0)
    assert report.exit_code == 0


def test_rows_beyond_what_one_batch_holds_are_repaired_in_the_next(
    app: Application, monkeypatch: pytest.MonkeyPatch
) -> None:
    app.insert("a1")
    app.run()
    app.insert(*(f"lost{number}" for number in range(7)), passed_over=True)
    monkeypatch.setattr(repair, "_ASKED_AT_ONCE", 4)
    monkeypatch.setattr(repair, "_SLICE_ROWS", 2)
    monkeypatch.setattr(database, "BATCH_BYTES", 1)
    report = app.reconcile(repair=True)
    assert report.repair is not None
    assert (report.repair.counts.archived, len(report.repair.commits), report.repair.gone) == (7, 4, 0)
    assert app.reconcile().missing == 0


def test_more_than_one_call_repairs_is_left_to_the_next(
    app: Application, monkeypatch: pytest.MonkeyPatch
) -> None:
    app.insert("a1")
    app.run()
    app.insert("lost1", "lost2", "lost3", passed_over=True)
    monkeypatch.setattr(comparison, "MOST_REPAIRED", 2)
    first = app.reconcile(repair=True, limit=1)
    assert first.repair is not None
    assert (first.missing, len(first.missing_rows), first.repair.left, first.exit_code) == (3, 1, 1, 1)
    assert app.reconcile(repair=True).exit_code == 0
    assert app.reconcile().missing == 0


def test_a_key_of_several_columns_and_types_finds_its_rows(app: Application) -> None:
    app.database.execute(
        "ALTER TABLE events DROP CONSTRAINT events_pkey, ADD part date NOT NULL DEFAULT '2026-03-26',"
        " ADD n uuid NOT NULL DEFAULT gen_random_uuid(), ADD PRIMARY KEY (part, n)"
    )
    app.insert("a1")
    app.run()
    app.insert("lost", passed_over=True)
    report = app.reconcile(repair=True)
    assert missing(report) == ["lost"]
    assert [len(one.key) for one in report.missing_rows] == [2]
    assert app.reconcile(every_id=True).missing == 0


# --- much at once ---------------------------------------------------------------------------


def test_a_comparison_in_small_portions_finds_the_same(
    app: Application, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number, day in enumerate(("2026-03-02", "2026-03-03", "2026-03-24", "2026-03-25")):
        app.insert(f"a{number}", f"b{number}", at=f"{day}T10:00:00Z")
        app.insert(f"c{number}", at=f"{day}T20:00:00Z", workspace="ws_2")
    archive_bodies(app.archive, event("c1", workspace="ws_2", timestamp="2026-03-24T00:00:00Z"))
    app.run()
    app.insert("lost1", at="2026-03-03T23:00:00Z", passed_over=True)
    app.insert("lost2", at="2026-03-25T23:00:00Z", workspace="ws_2", passed_over=True)
    archive_bodies(app.archive, event("w1", workspace="ws_2", timestamp="2026-03-02T00:00:00Z"))
    whole = app.reconcile(every_id=True).to_json()
    monkeypatch.setattr(portions, "PORTION_ROWS", 1)
    monkeypatch.setattr(portions.divided, "__defaults__", (1,))
    monkeypatch.setattr(comparison, "_ASKED_AT_ONCE", 1)
    report = app.reconcile(every_id=True)
    assert missing(report) == ["lost1", "lost2"]
    assert only_archived(report) == ["w1"]
    assert report.to_json() | {"seconds": 0} == whole | {"seconds": 0}


def test_portions_hold_few_rows_and_few_days() -> None:
    places = [Place(f"w{number}", day, due=5, archived=5) for day in (0, 1, 20) for number in range(3)]
    made = list(portions.divided(places, limit=60))
    assert [(one.since_day, one.until_day, len(one.places)) for one in made] == [(0, 2, 6), (20, 21, 3)]
    cut = list(portions.divided(places, limit=25))
    assert [(one.since_day, len(one.places), one.is_part) for one in cut[:2]] == [(0, 2, True), (0, 1, True)]
    assert sum(len(one.places) for one in cut) == 9


def test_200_000_rows_are_compared_in_seconds(app: Application) -> None:
    app.database.query(
        "INSERT INTO events (id, workspace_id, actor_id, action, created_at)"
        " SELECT 'e' || n, 'ws_' || n % 3, 'u', 'x', '2026-03-20'::timestamptz + n * interval '1 second'"
        " FROM generate_series(1, 200000) AS n"
    )
    app.run()
    app.insert("lost", passed_over=True)
    started = time.monotonic()
    counted = app.reconcile()
    assert time.monotonic() - started < 10
    assert (missing(counted), counted.compared) == (["lost"], 1)
    report = app.reconcile(every_id=True)
    assert time.monotonic() - started < 20
    assert (missing(report), report.compared, report.database) == (["lost"], 10, 200_001)


# --- another database -----------------------------------------------------------------------


def test_a_sqlite_table_is_compared_and_repaired_in_the_same_way(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "app.db"
    monkeypatch.setenv(URL_ENV, f"sqlite:///{path}")
    insert = f"INSERT INTO events VALUES (?, ?, 'ws_1', 'u', 'x', '{DAY}T23:59:59.9Z')"
    with closing(sqlite3.connect(path)) as one:
        one.execute(
            "CREATE TABLE events (n INTEGER PRIMARY KEY AUTOINCREMENT, id TEXT, workspace_id TEXT,"
            " actor_id TEXT, action TEXT, created_at TEXT)"
        )
        one.executemany(insert, [(2, "a1"), (3, "a2")])
        one.commit()
        source = Database("app", url_env=URL_ENV, table="events")
        application = Application(None, new_archive(tmp_path / "archive"), source)  # type: ignore[arg-type]
        archive_bodies(application.archive, event("a1", timestamp="2026-03-27T00:00:01Z"))
        application.run()
        one.executemany(insert, [(1, "lost"), (4, "next")])
        one.commit()
    report = application.reconcile(repair=True)
    assert (missing(report), report.waiting, report.elsewhere) == (["lost"], 1, 1)
    again = application.reconcile(every_id=True)
    assert (again.missing, again.only_archived, again.waiting, again.database) == (0, 0, 1, 3)


# --- the command ----------------------------------------------------------------------------


def test_the_command_tells_what_is_missing_by_its_exit_code(app: Application, configured: Archiver) -> None:
    app.insert("a1")
    app.run()
    done = configured("reconcile", "app", *MARCH)
    assert done.code == 0
    assert "COMPLETE" in done.out
    app.insert("lost", passed_over=True)
    archive_bodies(app.archive, event("w1", timestamp=f"{DAY}T12:00:00Z"))
    done = configured("reconcile", "app", *MARCH, "--ids")
    assert done.code == 1
    assert "MISSING    1 row; --repair archives what is missing" in done.out
    assert "only in the archive: 1" in done.out
    tree = configured("reconcile", "app", *MARCH, "--ids", "--repair", "--json").document
    assert tree["message_type"] == "reconcile_report"
    assert (tree["missing"], tree["missing_rows"][0]["id"], tree["repair"]["archived"]) == (1, "lost", 1)
    done = configured("reconcile", "app", *MARCH, "--ids")
    assert (done.code, "1   events" in done.out) == (0, False)


def test_a_repair_that_ends_in_quarantine_has_its_own_exit_code(
    app: Application, configured: Archiver
) -> None:
    app.insert("a1")
    app.run()
    app.insert("bad", action=None, passed_over=True)
    done = configured("reconcile", "app", *MARCH, "--repair")
    assert done.code == 3
    assert "archiver quarantine list" in done.out


def test_text_of_events_cannot_steer_the_terminal(app: Application, configured: Archiver) -> None:
    app.insert("a1")
    app.run()
    app.insert("lost\x1b[2J\n", workspace="ws\x1b]0;x\x07", passed_over=True)
    done = configured("reconcile", "app", *MARCH)
    assert done.code == 1
    assert "\x1b" not in done.out
    assert "lost\\x1b[2J\\x0a" in done.out.replace("\n", "\\x0a")
    assert "\x1b" not in configured("reconcile", "app", *MARCH, "--json").out


def test_what_cannot_be_done_is_said_without_the_password(
    app: Application, configured: Archiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert configured("reconcile", "other").code == 2
    app.insert("a1")
    assert "never read" in configured("reconcile", "app").err
    app.run()
    password = app.database.server.password or "none"
    app.database.execute("ALTER TABLE events RENAME workspace_id TO tenant")
    for words in ((), ("--json",)):
        done = configured("reconcile", "app", *words, *MARCH)
        assert done.code != 0
        assert password not in done.out + done.err
    monkeypatch.delenv(URL_ENV)
    assert configured("reconcile", "app").code == 2
