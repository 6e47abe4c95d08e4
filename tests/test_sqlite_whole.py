"""A SQLite table through all of it: archived, held against the archive, repaired, purged, verified."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from tests.calling import Archiver, archiver
from tests.sqlite_rows import INSERT, URL, App, new_app, url_of


@pytest.fixture
def app(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> App:
    made = new_app(tmp_path)
    monkeypatch.setenv(URL, url_of(made.path))
    (tmp_path / "archiver.toml").write_text(
        f'[archive]\nlocation = "{tmp_path / "archive"}"\n[sources.app]\ntype = "database"\n'
        f'url_env = "{URL}"\ntable = "events"\npurge = true\n'
    )
    return made


__all__ = ["archiver"]  # a fixture: pytest finds it here by name

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
