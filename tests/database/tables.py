"""Tables of events in a PostgreSQL, and sources that read them."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from archiver.archive import Archive
from archiver.database.base import Rows
from archiver.database.open import open_rows
from archiver.database.settings import Database
from archiver.pipeline import RunReport, run
from archiver.sources import database as database_module
from archiver.sources.database import DatabaseSource
from archiver.validate import Rules

XID = "xid xid8 NOT NULL DEFAULT pg_current_xact_id()"
URL_ENV = "TEST_DATABASE_URL"


def events_table(
    *more: str,
    name: str = "events",
    key: str = "id text PRIMARY KEY",
    created_at: str = "created_at timestamptz NOT NULL DEFAULT now()",
) -> str:
    """A script that makes a table of events; only the id needs to be given."""
    columns = (
        key,
        "workspace_id text NOT NULL DEFAULT 'ws_1'",
        "actor_id text NOT NULL DEFAULT 'user_1'",
        "action text NOT NULL DEFAULT 'document.created'",
        created_at,
        *more,
    )
    return f"CREATE TABLE {name} ({', '.join(filter(None, columns))});"


def source_of(url: str, **settings: Any) -> Database:
    """Settings of a source that reads `events`; not held against what `archiver.toml` may say."""
    os.environ[URL_ENV] = url
    if "query" not in settings:
        settings.setdefault("table", "events")
    return Database(name="app", url_env=URL_ENV, **settings)


@contextmanager
def opened(url: str, **settings: Any) -> Iterator[Rows]:
    """The rows of a source, opened as a run opens them."""
    rows = open_rows(source_of(url, **settings))
    try:
        yield rows
    finally:
        rows.close()


def archived(archive: Archive, source: Database, *, rewind: bool = False) -> RunReport:
    """Archive what the database has, as `archiver run` does."""
    rows = DatabaseSource(source, lambda: archive.ledger.snapshot.cursors.get(source.name), rewind=rewind)
    report = RunReport()
    try:
        return run(archive, rows, rules=Rules(source=source.name), workers=0, report=report)
    finally:
        report.databases[source.name] = rows.lag.to_json()


def ids_in(block: Any) -> list[str]:
    """The ids of the rows of a block, in their order."""
    column = next(one.column for one in block.layout if one.member == "id")
    return [str(one) for one in block.rows[column].to_pylist()]


class Reader:
    """Reads as a run does, into memory: its cursor moves with each batch, as in a ledger.

    Attributes:
        seen: How often each id was archived.
        cursor: As a ledger would hold it.
    """

    def __init__(self, source: Database, rows: Rows, patch: pytest.MonkeyPatch) -> None:
        self.source = source
        self.seen: Counter[str] = Counter()
        self.cursor: dict[str, Any] | None = None
        self._rows = rows
        # Connecting takes longer than a whole schedule.
        patch.setattr(database_module, "open_rows", lambda _: _Kept(rows))

    def run(self, *, dies_in: int | None = None) -> int:
        """Read all that may be read; `dies_in` names a batch that is read and never committed."""
        count = 0
        for number, batch in enumerate(DatabaseSource(self.source, lambda: self.cursor).batches(lambda: 0)):
            ids = [one for block in batch.read() for one in ids_in(block)]
            if number == dies_in:
                batch.release()
                continue
            self.seen.update(ids)
            self.cursor = batch.moves()["after"]
            batch.acknowledge()
            count += len(ids)
        return count


class _Kept:
    """Rows that stay open, and are not counted: that is for reports."""

    def __init__(self, rows: Rows) -> None:
        self._rows = rows

    def __getattr__(self, name: str) -> Any:
        return getattr(self._rows, name)

    def behind(self, *_: Any) -> int:
        return 0

    def estimate(self) -> None:
        return None

    def close(self) -> None:
        pass
