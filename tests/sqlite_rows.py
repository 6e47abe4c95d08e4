"""A SQLite database of events, and what a run makes of it."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
from collections.abc import Iterable
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from archiver.archive import Archive
from archiver.config import Settings
from archiver.database.settings import Database
from archiver.pipeline import RunReport
from archiver.runs import run_sources
from tests.support import ids_of, new_archive, rows_of

URL = "APP_DATABASE_URL"
TABLE = """
CREATE TABLE events (
    n INTEGER PRIMARY KEY AUTOINCREMENT, id TEXT NOT NULL, workspace_id TEXT NOT NULL,
    actor_id TEXT NOT NULL, action TEXT NOT NULL, created_at TEXT NOT NULL DEFAULT CURRENT_TIMESTAMP
)
"""
INSERT = (
    "INSERT INTO events (id, workspace_id, actor_id, action) VALUES (?, 'ws_1', 'user_1', 'document.created')"
)


@dataclass
class App:
    """An application with a database, an archive, and what connects them."""

    path: Path
    archive: Archive
    source: Database

    def execute(self, *statements: str) -> None:
        with closing(sqlite3.connect(self.path)) as connection, connection:
            for one in statements:
                connection.execute(one)

    def insert(self, *ids: str) -> None:
        """Insert events, and commit them together."""
        with closing(sqlite3.connect(self.path)) as connection, connection:
            connection.executemany(INSERT, [(one,) for one in ids])

    def insert_row(self, **values: Any) -> None:
        """Insert one event with these values; what is not given is as in any event."""
        row = {"id": "e", "workspace_id": "ws_1", "actor_id": "u", "action": "a.b"} | values
        names = ", ".join(f'"{one}"' for one in row)
        with closing(sqlite3.connect(self.path)) as connection, connection:
            connection.execute(
                f"INSERT INTO events ({names}) VALUES ({', '.join('?' * len(row))})", list(row.values())
            )

    def run(self, *, rewind: bool = False, **changes: Any) -> RunReport:
        settings = Settings(sources={"app": replace(self.source, **changes)}, workers=0)
        return run_sources(self.archive.store, settings, rewind=["app"] if rewind else [])

    def bodies(self) -> list[str]:
        return [row["body"] for row in sorted(rows_of(self.archive), key=lambda one: one["body"])]

    def ids(self) -> list[str]:
        return ids_of(self.archive)

    def cursor(self) -> Any:
        return self.archive.ledger.refresh().cursors.get("app")


def new_app(folder: Path, *tables: str) -> App:
    """Create a database and an archive; the URL is in the variable `URL`, which the caller sets."""
    app = App(
        folder / "app.db", new_archive(folder / "archive"), Database("app", url_env=URL, table="events")
    )
    app.execute(*(tables or (TABLE,)))
    return app


def url_of(path: Path) -> str:
    return f"sqlite:///{path}"


def python(script: str, *arguments: Any) -> subprocess.Popen[str]:
    """Start another process: this one's SQLite and the driver's must not lock one file at a time."""
    return subprocess.Popen(
        [sys.executable, "-c", script, *map(str, arguments)], stdout=subprocess.PIPE, text=True
    )


def wait_for(process: subprocess.Popen[str], line: str) -> None:
    assert process.stdout is not None
    assert process.stdout.readline().strip() == line


def ended(processes: Iterable[subprocess.Popen[str]]) -> list[str]:
    """Wait until they are done, and return what each has written."""
    told = []
    for one in processes:
        output, _ = one.communicate(timeout=60)
        assert one.returncode == 0
        told.append(output)
    return told
