"""A table, an archive, and purges of one by the other."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from archiver.archive import Archive, open_archive
from archiver.database.settings import Database
from archiver.pipeline import RunReport
from archiver.purge import PurgeReport, purge
from archiver.purge.proof import Proof, Row
from archiver.spans import parse_span
from tests.database.tables import XID, archived, events_table, source_of
from tests.services.postgres import PostgresDatabase
from tests.support import new_archive

_MIDNIGHT = datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0)


def ago(days: float) -> str:
    """A time so many days before the last midnight (UTC), as rows and deliveries write it."""
    return (_MIDNIGHT - timedelta(days)).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


@dataclass
class Purging:
    """A database of one table, `events`, an archive, and the settings that lead from one to the other."""

    database: PostgresDatabase
    archive: Archive
    source: Database
    reports: list[PurgeReport] = field(default_factory=list)

    def create(self, *columns: str, **parts: str) -> None:
        """Make the table, with an xid column and `columns` besides."""
        self.database.execute(events_table(XID, *columns, **parts))

    def insert(self, *ids: str, days: float = 100, **values: Any) -> None:
        """Add rows, by default old ones."""
        names = ["id", "created_at", *values]
        marks = [f"${number + 1}" for number in range(len(names))]
        types = {"created_at": "::text::timestamptz", "metadata": "::text::json", "xid": "::text::xid8"}
        told = ", ".join(mark + types.get(name, "") for mark, name in zip(marks, names, strict=True))
        with self.database.session(autocommit=True) as session:
            for one in ids:
                session.run(
                    f"INSERT INTO events ({', '.join(names)}) VALUES ({told})",
                    one,
                    ago(days),
                    *values.values(),
                )

    def run(self) -> RunReport:
        return archived(self.archive, self.source)

    def purge(self, older_than: str = "90d", **options: Any) -> PurgeReport:
        self.reports.append(PurgeReport(self.source.name))
        return purge(
            open_archive(self.archive.store),
            self.source,
            parse_span(older_than),
            report=self.reports[-1],
            **options,
        )

    def set(self, **settings: Any) -> None:
        self.source = replace(self.source, **settings)

    def ids(self) -> list[str]:
        """Of the rows that are in the table."""
        return [one for (one,) in self.database.query("SELECT id::text FROM events ORDER BY 1")]


@pytest.fixture
def purging(postgres: PostgresDatabase, tmp_path: Path) -> Purging:
    return Purging(postgres, new_archive(tmp_path / "archive"), source_of(postgres.url, purge=True))


def wait_for_a_lock(database: PostgresDatabase) -> None:
    """Return when a session of ours waits for another's lock."""
    until = time.monotonic() + 20
    while time.monotonic() < until:
        if database.query(
            "SELECT 1 FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'",
            superuser=True,
        ):
            return
        time.sleep(0.02)
    raise TimeoutError("nobody waits for a lock")


@pytest.fixture
def after_proof(monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[[], Any]], None]:
    """Let something happen when the first page is proven, and nothing of it deleted yet."""

    def at(what: Callable[[], Any]) -> None:
        prove, waiting = Proof.prove, [what]

        def proven(self: Proof, page: Any) -> list[Row]:
            rows = prove(self, page)
            while waiting:
                waiting.pop()()
            return rows

        monkeypatch.setattr(Proof, "prove", proven)

    return at
