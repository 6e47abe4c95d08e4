"""A SQLite table through all of it: archived, held against the archive, repaired, purged, verified."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from tests.calling import Archiver, archiver
from tests.purging import after_proof
from tests.sqlite_rows import INSERT, TABLE, URL, App, new_app, url_of


@pytest.fixture
def app(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> App:
    made = new_app(tmp_path)
    monkeypatch.setenv(URL, url_of(made.path))
    (tmp_path / "archiver.toml").write_text(
        f'[archive]\nlocation = "{tmp_path / "archive"}"\n[sources.app]\ntype = "database"\n'
        f'url_env = "{URL}"\ntable = "events"\npurge = true\n'
    )
    return made


__all__ = ["after_proof", "archiver"]  # fixtures: pytest finds them here by name

Ask = Callable[..., dict[str, Any]]


@pytest.fixture
def ask(app: App, archiver: Archiver) -> Ask:
    def asked(*arguments: str, code: int = 0) -> dict[str, Any]:
        done = archiver(*arguments, "--json", "-c", app.path.parent / "archiver.toml")
        assert done.code == code, done.err
        return done.document

    return asked


def _days_ago(app: App, *names: str, days: int) -> None:
    with closing(sqlite3.connect(app.path)) as connection, connection:
        for name in names:
            connection.execute(
                INSERT.replace("action)", "action, created_at)").replace(
                    "'document.created')", "'document.created', datetime('now', ?))"
                ),
                (name, f"-{days} days"),
            )


def test_what_was_passed_over_is_repaired_and_then_purged_and_what_changed_is_not(app: App, ask: Ask) -> None:
    _days_ago(app, "a", "b", "c", days=5)
    _days_ago(app, "young", days=0)
    ask("run")
    # A client that chooses a rowid below the cursor: no run reads it.
    app.insert_row(id="low", n=-7, created_at="2026-01-01 00:00:00")
    app.execute("UPDATE events SET created_at = (SELECT created_at FROM events WHERE n = 1) WHERE n = -7")
    assert ask("run")["archived"] == 0
    found = ask("reconcile", "app", "--since", "10d", code=1)
    assert [row["id"] for row in found["missing_rows"]] == ["low"]
    ask("reconcile", "app", "--since", "10d", "--repair")
    assert app.ids() == ["a", "b", "c", "low", "young"]
    assert app.cursor()["position"] == "4"
    ask("reconcile", "app", "--since", "10d")

    app.execute("UPDATE events SET action = 'other' WHERE id = 'b'")
    ask("purge", "app", "--older-than", "2d", "--dry-run", code=3)
    ask("purge", "app", "--older-than", "2d", code=3)
    with closing(sqlite3.connect(app.path)) as connection:
        assert [one for (one,) in connection.execute("SELECT id FROM events ORDER BY id")] == ["b", "young"]
    app.insert("next")
    assert ask("run")["archived"] == 1
    ask("verify")
    assert app.ids() == ["a", "b", "c", "low", "next", "young"]


def test_nothing_is_purged_that_only_says_it_was_archived(app: App, ask: Ask) -> None:
    """An older copy with other rows below the cursor: their bodies are not in the archive."""
    _days_ago(app, "a", "b", days=5)
    ask("run")
    app.execute("DELETE FROM events", "DELETE FROM sqlite_sequence")
    _days_ago(app, "x", "y", days=5)
    ask("purge", "app", "--older-than", "2d", code=3)
    with closing(sqlite3.connect(app.path)) as connection:
        assert connection.execute("SELECT count(*) FROM events").fetchone() == (2,)


def test_ids_and_workspaces_that_are_numbers_of_any_kind_are_found_again(app: App, ask: Ask) -> None:
    table = TABLE.replace("id TEXT NOT NULL, workspace_id TEXT", "id NUMERIC, workspace_id")
    app.execute("DROP TABLE events", table)
    for value in (1.5, 7, 1e20, "text", 0.1 + 0.2):
        app.insert_row(id=value)
        app.insert_row(id=value, workspace_id=-0.5)
    ask("run")
    told = ask("reconcile", "app", "--ids")
    assert (told["missing"], told["only_archived"], told["database"]) == (0, 0, 10)
    app.execute("DELETE FROM sqlite_sequence", "UPDATE events SET created_at = datetime('now', '+40 days')")
    told = ask("reconcile", "app", "--ids")
    assert told["only_archived"] == 10  # beyond the identity window they are others
    app.execute("UPDATE events SET created_at = datetime('now', '+20 days')")
    assert ask("reconcile", "app", "--ids")["only_archived"] == 0


def test_a_row_in_quarantine_is_told_as_one_and_a_corrected_mapping_is_read_by_a_rewind(
    app: App, ask: Ask, archiver: Archiver
) -> None:
    app.insert("a")
    app.execute("ALTER TABLE events ADD COLUMN details TEXT NOT NULL DEFAULT '{}'")
    path = app.path.parent / "archiver.toml"
    right = path.read_text()
    path.write_text(right + 'columns = { version = "details" }\n')
    ask("run", code=3)
    listed = archiver("quarantine", "list", "-c", path)
    assert "a row of app\n" in listed.out
    assert "at byte" not in listed.out
    assert ask("quarantine", "list")["entries"][0]["shape"] == "row"
    path.write_text(right + 'columns = { metadata = "details" }\n')
    assert ask("quarantine", "requeue", "--all")["archived"] == 0  # its body is as it was made
    assert ask("run")["read"] == 0
    assert ask("run", "--rewind", "app")["archived"] == 1


def test_a_column_that_comes_while_it_runs_is_not_deleted_unseen(
    app: App, archiver: Archiver, ask: Ask, after_proof: Callable[[Callable[[], Any]], None]
) -> None:
    _days_ago(app, "a", "b", days=5)
    ask("run")
    after_proof(lambda: app.execute("ALTER TABLE events ADD COLUMN case_number TEXT"))
    done = archiver("purge", "app", "--older-than", "2d", "-c", app.path.parent / "archiver.toml")
    assert done.code == 1
    assert "events got other columns meanwhile" in done.err
    with closing(sqlite3.connect(app.path)) as connection:
        assert connection.execute("SELECT id FROM events").fetchall() == [("a",), ("b",)]


def test_a_run_that_could_not_look_does_not_say_that_there_is_nothing_new(
    app: App, archiver: Archiver
) -> None:
    settings = app.path.parent / "archiver.toml"
    assert archiver("run", "-c", settings).out.startswith("nothing new\n")
    app.path.unlink()
    lost = archiver("run", "-c", settings)
    assert (lost.code, lost.out.splitlines()[0]) == (1, "nothing archived")
