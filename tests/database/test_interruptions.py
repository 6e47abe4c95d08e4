"""What goes wrong while a database is read: a clear error, the cursor where it was, nothing twice."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from archiver.archive import Archive, open_archive
from archiver.database.connection import Connection
from archiver.errors import ConfigError
from archiver.sources.database import DatabaseBatch
from tests.database.tables import XID, archived, events_table, source_of
from tests.faults.check import check_archive
from tests.services.postgres import PostgresDatabase, PostgresServer
from tests.support import ids_of, new_archive

_TERMINATE = """
SELECT pg_terminate_backend(pid) FROM pg_stat_activity
WHERE application_name = 'archiver' AND datname = current_database()
"""


def _rows(count: int, *, first: int = 1, more: str = "") -> str:
    """A script that inserts rows, each with an id of four digits."""
    columns = "id, note" if more else "id"
    values = f"to_char(n, 'FM0000'){more}"
    return f"INSERT INTO events ({columns}) SELECT {values} FROM generate_series({first}, {count}) AS n;"


def _ids(count: int) -> set[str]:
    return {f"{one:04d}" for one in range(1, count + 1)}


@pytest.fixture
def archive(tmp_path: Path) -> Archive:
    return new_archive(tmp_path / "archive")


def _after_commits(patch: pytest.MonkeyPatch, act: Callable[[], object], *, which: int | None = 1) -> None:
    """Do something behind the commit with this number (None: behind each) of a run."""
    count = 0
    acknowledge = DatabaseBatch.acknowledge

    def acting(self: DatabaseBatch) -> None:
        nonlocal count
        count += 1
        acknowledge(self)
        if which in (None, count):
            act()

    patch.setattr(DatabaseBatch, "acknowledge", acting)


def test_a_session_that_is_ended_mid_stream_leaves_the_cursor(
    postgres: PostgresDatabase, archive: Archive, monkeypatch: pytest.MonkeyPatch
) -> None:
    postgres.execute(events_table(XID, "note text") + _rows(4_000, more=", repeat('x', 12000)"))
    batches = Connection._batches

    def ended(self: Connection, *arguments: Any) -> Iterator[pa.RecordBatch]:
        for batch in batches(self, *arguments):
            yield batch
            postgres.query(_TERMINATE)

    with monkeypatch.context() as patch:
        patch.setattr(Connection, "_batches", ended)
        report = archived(archive, source_of(postgres.url))
    (problem,) = report.problems
    assert problem.startswith("source app: ")
    assert (report.commits, archive.ledger.refresh().cursors) == ([], {})
    report = archived(archive, source_of(postgres.url))
    assert (report.problems, report.counts.archived) == ([], 4_000)
    assert set(ids_of(archive)) == _ids(4_000)


def test_a_statement_that_takes_too_long_is_told(postgres: PostgresDatabase, archive: Archive) -> None:
    postgres.execute(events_table(XID) + _rows(3))
    slow = "SELECT *, (CASE WHEN id = '0003' THEN pg_sleep(20) END)::text AS slept FROM events"
    settings = {"query": slow, "table": None, "key": ("id",)}
    report = archived(archive, source_of(postgres.url, **settings, statement_timeout_seconds=0.5))
    (problem,) = report.problems
    assert "statement timeout" in problem
    assert (report.commits, archive.ledger.refresh().cursors) == ([], {})


@pytest.mark.parametrize(
    ("change", "undo", "message"),
    [
        ("ALTER TABLE events RENAME TO moved", "ALTER TABLE moved RENAME TO events", "does not exist"),
        (
            "ALTER TABLE events RENAME actor_id TO who",
            "ALTER TABLE events RENAME who TO actor_id",
            'column "actor_id" does not exist',
        ),
        (
            "ALTER TABLE events ALTER note TYPE json USING to_json(note)",
            "ALTER TABLE events ALTER note TYPE text USING note::text",
            "",
        ),
        (
            "REVOKE SELECT ON events FROM archiver_test",
            "GRANT SELECT ON events TO archiver_test",
            "permission denied",
        ),
    ],
)
def test_a_table_that_changes_between_pages(
    change: str,
    undo: str,
    message: str,
    postgres: PostgresDatabase,
    archive: Archive,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    postgres.execute(events_table(XID, "note text") + _rows(6, more=", 'x'"))
    source = source_of(postgres.url, batch_rows=2)
    with monkeypatch.context() as patch:
        _after_commits(patch, lambda: postgres.execute(change))
        report = archived(archive, source)
    if message:
        (problem,) = report.problems
        assert message in problem
        assert "pg_" not in problem
        assert archive.ledger.refresh().cursors["app"]["key"] == ["0002"]
        try:  # the next run says it as well, before it reads
            problems = archived(archive, source).problems
        except ConfigError as error:
            problems = [error.message + error.hint]
        assert len(problems) == 1
        assert archive.ledger.refresh().cursors["app"]["key"] == ["0002"]
    postgres.execute(undo)
    assert archived(archive, source).problems == []
    check_archive(archive.store, events=_ids(6))


def test_a_server_that_stops_and_comes_again(
    own_postgres_server: PostgresServer, archive: Archive, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = own_postgres_server
    database = PostgresDatabase(server, server.fresh_database())
    database.execute(events_table(XID) + _rows(6))
    source = source_of(database.url, batch_rows=2)
    with monkeypatch.context() as patch:
        _after_commits(patch, lambda: server.stop(at_once=True))
        (problem,) = archived(archive, source).problems
    assert problem.startswith("source app: ")
    (problem,) = archived(archive, source).problems  # it is still down
    assert "refused" in problem
    assert archive.ledger.refresh().cursors["app"]["key"] == ["0002"]
    server.start()
    assert archived(archive, source).counts.archived == 4
    check_archive(archive.store, events=_ids(6))


def test_a_row_too_large_stops_behind_what_was_archived(postgres: PostgresDatabase, archive: Archive) -> None:
    postgres.execute(
        events_table(XID, "note text")
        + _rows(5)
        + "UPDATE events SET note = repeat('é', 3000) WHERE id = '0004'"
    )
    source = source_of(postgres.url, max_row_bytes=5_000)
    for archived_now in (3, 0):
        report = archived(archive, source)
        (problem,) = report.problems
        assert "key '0004', has 60" in problem
        assert "max_row_bytes is 5000" in problem
        assert report.counts.archived == archived_now
        assert archive.ledger.refresh().cursors["app"]["key"] == ["0003"]
    report = archived(archive, source_of(postgres.url, max_row_bytes=5_000, exclude=("note",)))
    assert (report.problems, report.counts.archived) == ([], 2)
    check_archive(archive.store, events=_ids(5))


def test_of_two_runs_at_once_one_plans_anew(
    postgres: PostgresDatabase, archive: Archive, monkeypatch: pytest.MonkeyPatch
) -> None:
    postgres.execute(events_table(XID) + _rows(10))
    source, moves, others = source_of(postgres.url, batch_rows=4), DatabaseBatch.moves, []

    def overtaken(self: DatabaseBatch) -> dict[str, Any]:
        """Before this run's first commit, another does all its work."""
        if not others:
            others.append(None)
            others[0] = archived(open_archive(archive.store), source)
        return moves(self)

    monkeypatch.setattr(DatabaseBatch, "moves", overtaken)
    report = archived(archive, source)
    assert others[0].counts.archived == 10
    assert (report.problems, report.counts.read, report.put_back) == ([], 0, 1)
    postgres.execute(_rows(11, first=11))
    assert archived(archive, source).counts.archived == 1
    check_archive(archive.store, events=_ids(11))


def test_a_first_run_commits_on_the_way_and_holds_no_snapshot_while_it_commits(
    postgres: PostgresDatabase, archive: Archive, monkeypatch: pytest.MonkeyPatch
) -> None:
    postgres.execute(events_table(XID) + _rows(1_000))
    open_ones = []
    ours = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'archiver' AND {}"
    moves = DatabaseBatch.moves

    def looked(self: DatabaseBatch) -> dict[str, Any]:
        there = postgres.query(ours.format("datname = current_database()"))
        open_ones.append((there[0][0], postgres.query(ours.format("xact_start IS NOT NULL"))[0][0]))
        return moves(self)

    monkeypatch.setattr(DatabaseBatch, "moves", looked)
    report = archived(archive, source_of(postgres.url, batch_rows=250))
    assert len(report.commits) == 4
    assert open_ones == [(1, 0)] * 4
    check_archive(archive.store, events=_ids(1_000))


def test_a_run_archives_what_was_there_when_it_began(
    postgres: PostgresDatabase, archive: Archive, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else a run behind a busy table would never end."""
    postgres.execute(events_table(XID) + _rows(4))
    more = iter(range(5, 100))

    def another() -> None:
        number = next(more)
        postgres.execute(_rows(number, first=number))

    _after_commits(monkeypatch, another, which=None)
    source = source_of(postgres.url, batch_rows=2)
    assert archived(archive, source).counts.archived == 4
    assert archived(archive, source).counts.archived == 2
