"""Another server than the one that was read: nothing is passed over, and --rewind archives nothing twice."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

from archiver.errors import SourceError
from tests.database.tables import XID, archived, events_table, opened, source_of
from tests.faults.check import check_archive
from tests.services.postgres import PostgresDatabase, PostgresServer, programs
from tests.support import new_archive


def _two_rows(database: PostgresDatabase, script: str) -> None:
    database.execute(script + "INSERT INTO events (id) VALUES ('a'), ('b');")


def test_a_replica_is_refused_and_after_a_fail_over_the_run_stops(
    own_postgres_server: PostgresServer, tmp_path: Path
) -> None:
    server = own_postgres_server
    database = PostgresDatabase(server, server.fresh_database())
    _two_rows(database, events_table(XID))
    archive = new_archive(tmp_path / "archive")
    assert archived(archive, source_of(database.url)).counts.archived == 2
    with server.standby() as replica:
        database.execute("INSERT INTO events (id) VALUES ('late')")
        copy = replica.url(database.name)
        with pytest.raises(SourceError, match="replica") as raised, opened(copy):
            pass
        assert "primary" in raised.value.hint
        server.wait_for(replica)
        replica.promote()
        replica.execute("INSERT INTO events (id) VALUES ('c')", copy)
        report = archived(archive, source_of(copy))
        assert report.counts.read == 0
        (problem,) = report.problems
        assert "not the database that was read before: its timeline 1, now 2" in problem
        assert "`archiver run --rewind app`" in problem
        report = archived(archive, source_of(copy), rewind=True)
        assert (report.problems, report.counts.archived, report.counts.duplicates) == ([], 2, 2)
        assert archived(archive, source_of(copy)).counts.read == 0
    check_archive(archive.store, events={"a", "b", "c", "late"})


def test_a_dump_in_another_server_stops_the_run(
    postgres: PostgresDatabase, own_postgres_server: PostgresServer, tmp_path: Path
) -> None:
    """Loaded into a younger server its numbers are not reached yet; mended, it is read from the first row."""
    # The older server is far ahead.
    _two_rows(postgres, events_table(XID))
    postgres.execute("UPDATE events SET xid = '1000000000'")
    folder = programs()
    assert folder is not None
    dump = subprocess.run(
        [folder / "pg_dump", "--no-owner", "-d", postgres.url], capture_output=True, text=True, check=True
    ).stdout
    postgres.execute("UPDATE events SET xid = '1'")
    archive = new_archive(tmp_path / "archive")
    assert archived(archive, source_of(postgres.url)).counts.archived == 2

    young = own_postgres_server.fresh_database()
    own_postgres_server.execute(dump, young)
    (problem,) = archived(archive, source_of(young)).problems
    assert "not the database that was read before: the server's identifier" in problem
    (problem,) = archived(archive, source_of(young), rewind=True).problems
    assert "'xid' holds 1000000000" in problem
    own_postgres_server.execute("UPDATE events SET xid = '0'; INSERT INTO events (id) VALUES ('c')", young)
    report = archived(archive, source_of(young), rewind=True)
    assert (report.problems, report.counts.archived, report.counts.duplicates) == ([], 1, 2)
    check_archive(archive.store, events={"a", "b", "c"})


def test_an_older_copy_of_the_same_server_stops_the_run(postgres: PostgresDatabase, tmp_path: Path) -> None:
    """A copy of its disk has the same identifier and timeline, but its numbers went back."""
    _two_rows(postgres, events_table(XID))
    archive = new_archive(tmp_path / "archive")
    assert archived(archive, source_of(postgres.url)).counts.archived == 2
    cursor = dict(archive.ledger.snapshot.cursors["app"])
    ahead = str(int(cursor["bound"]) + 1_000_000)
    with opened(postgres.url) as rows:
        from archiver.database.cursor import Cursor  # noqa: PLC0415

        with pytest.raises(SourceError, match=f"up to {ahead} before: an older copy") as raised:
            rows.bound(Cursor.from_json("app", {**cursor, "bound": ahead}))
    assert "--rewind app" in raised.value.hint


def test_another_table_strategy_or_key_stops_the_run(postgres: PostgresDatabase, tmp_path: Path) -> None:
    script = events_table(XID) + "CREATE UNIQUE INDEX ON events (id, action);"
    _two_rows(postgres, script + events_table(XID, name="others"))
    archive = new_archive(tmp_path / "archive")
    assert archived(archive, source_of(postgres.url)).counts.archived == 2
    for settings, what in (
        ({"table": "others"}, "the table 'public.events', now 'public.others'"),
        ({"strategy": "settled"}, "strategy 'xid8', now 'settled'"),
        ({"key": ("id", "action")}, "key columns 1, now 2"),
    ):
        (problem,) = archived(archive, source_of(postgres.url, **settings)).problems
        assert what in problem
    assert json.dumps(archive.ledger.snapshot.cursors["app"]).count("xid8") == 1


def test_another_key_of_as_many_columns_stops_the_run(postgres: PostgresDatabase, tmp_path: Path) -> None:
    """Behind the value of one column rows of the same transaction could be passed over by another."""
    _two_rows(postgres, events_table(XID, "other text NOT NULL UNIQUE DEFAULT gen_random_uuid()"))
    archive = new_archive(tmp_path / "archive")
    assert archived(archive, source_of(postgres.url)).counts.archived == 2
    (problem,) = archived(archive, source_of(postgres.url, key=("other",))).problems
    assert "position and key 'xid, id', now 'xid, other'" in problem
    assert "--rewind" in problem


@pytest.mark.parametrize("batch_rows", [1, 2, 100])
def test_rewind_archives_nothing_twice(postgres: PostgresDatabase, tmp_path: Path, batch_rows: int) -> None:
    postgres.execute(events_table(XID) + "INSERT INTO events (id) SELECT n FROM generate_series(1, 7) AS n")
    archive = new_archive(tmp_path / "archive")
    source = source_of(postgres.url, batch_rows=batch_rows)
    assert archived(archive, source).counts.archived == 7
    cursor = archive.ledger.snapshot.cursors["app"]
    report = archived(archive, source, rewind=True)
    assert (report.counts.archived, report.counts.duplicates, report.problems) == (0, 7, [])
    after = archive.ledger.snapshot.cursors["app"]
    assert (after["position"], after["key"]) == (cursor["position"], cursor["key"])
    check_archive(archive.store, events=set("1234567"))
