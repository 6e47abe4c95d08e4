"""A table of events in a PostgreSQL and an archive of it, to be held against each other."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

import pyarrow.fs
import pytest

from archiver import clock
from archiver.archive import Archive, open_archive
from archiver.database.settings import Database
from archiver.pipeline import RunReport, run
from archiver.reconcile import ReconcileReport, reconcile
from archiver.sources.database import DatabaseBatch, DatabaseSource
from archiver.store.local import LocalStore
from archiver.validate import Rules
from tests.services.postgres import Databases, PostgresDatabase
from tests.support import new_archive

URL_ENV = "TEST_RECONCILED_URL"
XID = "xid xid8 NOT NULL DEFAULT pg_current_xact_id()"
DAY = "2026-03-26"


class ReadingStore(LocalStore):
    """A local store that notes which objects are read."""

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self.read: Counter[str] = Counter()

    def get(self, key: str, **rest: Any) -> bytes:
        self.read[key] += 1
        return super().get(key, **rest)

    def arrow(self) -> tuple[pyarrow.fs.FileSystem, str]:
        self.read["events/ through Arrow"] += 1
        return super().arrow()

    @property
    def data_files_read(self) -> int:
        return sum(count for key, count in self.read.items() if key.startswith(("events/", "supplements/")))


class _Begun(DatabaseSource):
    """A source whose run ends after some batches."""

    most: int | None = None

    def batches(self, base: Callable[[], int]) -> Iterator[DatabaseBatch]:
        return islice(super().batches(base), self.most)


@dataclass
class Application:
    """An application's database and the archive of its events."""

    database: PostgresDatabase
    archive: Archive
    source: Database = field(default_factory=lambda: Database("app", url_env=URL_ENV, table="events"))

    def insert(
        self,
        *ids: str,
        at: str = f"{DAY}T12:00:00Z",
        workspace: str | None = "ws_1",
        action: str | None = "document.created",
        passed_over: bool = False,
    ) -> None:
        """Insert rows; those `passed_over` with a position that lies before the cursor, as a run would that
        had read before all transactions ended."""
        xid = "1" if passed_over else None
        with self.database.session(autocommit=True) as session:
            for one in ids:
                session.run(
                    "INSERT INTO events (id, workspace_id, actor_id, action, created_at, xid)"
                    " SELECT $1, $2, 'user_1', $3, $4::timestamptz,"
                    " coalesce($5::text::xid8, pg_current_xact_id())",
                    one, workspace, action, at, xid,
                )  # fmt: skip

    def run(self, *, batches: int | None = None) -> RunReport:
        """Archive what the database has, or no more than so many batches."""
        source = _Begun(self.source, lambda: self.archive.ledger.snapshot.cursors.get(self.source.name))
        source.most = batches
        return run(self.archive, source, rules=Rules(source=self.source.name), workers=0)

    def reconcile(self, *, repair: bool = False, **options: Any) -> ReconcileReport:
        """Compare March 2026, with the head of now."""
        options.setdefault("since_us", clock.from_text("2026-03-01T00:00:00.000000Z"))
        options.setdefault("until_us", clock.from_text("2026-04-01T00:00:00.000000Z"))
        self.archive = open_archive(self.archive.store)
        rules = Rules(source=self.source.name) if repair else None
        return reconcile(self.archive, self.source, rules=rules, **options)


def table(*more: str, name: str = "events") -> str:
    """A script that makes the table, nothing in it required but what tells rows apart."""
    columns = (
        "id text PRIMARY KEY",
        "workspace_id text",
        "actor_id text",
        "action text",
        "created_at timestamptz DEFAULT now()",
        "occurred_at timestamptz",
        XID,
        *more,
    )
    return f"CREATE TABLE {name} ({', '.join(columns)})"


@pytest.fixture(scope="module")
def shared_database(postgres_server: Databases) -> Iterator[PostgresDatabase]:
    """One database for a module's tests, since to make one takes longer than most of them."""
    url = postgres_server.fresh_database()
    try:
        yield PostgresDatabase(postgres_server, url)
    finally:
        postgres_server.drop_database(url)


@pytest.fixture
def app(
    shared_database: PostgresDatabase, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Application]:
    """An empty table of events and an empty archive."""
    monkeypatch.setitem(os.environ, URL_ENV, shared_database.url)
    shared_database.query(table())
    yield Application(shared_database, new_archive(ReadingStore(tmp_path / "archive")))
    shared_database.query("DROP TABLE IF EXISTS events, others")


def missing(report: ReconcileReport) -> list[str]:
    """The ids of the missing rows that are told."""
    return sorted(one.id or "" for one in report.missing_rows)


def only_archived(report: ReconcileReport) -> list[str]:
    return sorted(one.id or "" for one in report.only_archived_events)
