"""`archiver run` over a database as its own process: killed on its way, and two at once."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from archiver.archive import open_archive
from archiver.store.local import LocalStore
from tests.database.tables import XID, events_table
from tests.faults.check import check_archive
from tests.services.postgres import PostgresDatabase
from tests.services.process import wait_until
from tests.support import new_archive

ROWS = 6_000
PAGE = 500


@pytest.fixture
def place(tmp_path: Path, postgres: PostgresDatabase) -> Path:
    """A folder with a configuration and an archive; the database has some pages of rows."""
    postgres.execute(
        events_table(XID)
        + "CREATE INDEX ON events (xid, id);"
        + "".join(
            f"INSERT INTO events (id) SELECT n FROM generate_series({first}, {first + 99}) AS n;"
            for first in range(1, ROWS, 100)
        )
    )
    (tmp_path / "archiver.toml").write_text(
        f'[archive]\nlocation = "archive"\n[sources.app]\ntype = "database"\nurl_env = "APP_URL"\n'
        f'table = "events"\nbatch_rows = {PAGE}\n'
    )
    new_archive(tmp_path / "archive")
    return tmp_path


def _start(place: Path, url: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "archiver", "run", "--json"],
        cwd=place,
        env=os.environ | {"APP_URL": url, "PYTHONPATH": str(Path.cwd())},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_a_killed_run_leaves_whole_pages_and_the_next_goes_on(
    place: Path, postgres: PostgresDatabase
) -> None:
    store = LocalStore(place / "archive")
    run = _start(place, postgres.url)
    wait_until(
        "two pages are committed", lambda: open_archive(store).ledger.snapshot.sequence >= 2, seconds=30
    )
    run.kill()
    run.communicate(timeout=30)
    killed = open_archive(store).ledger.snapshot
    assert 2 <= killed.sequence < ROWS // PAGE
    assert killed.totals.archived == PAGE * killed.sequence
    ((at,),) = postgres.query(
        "SELECT count(*) FROM events WHERE (xid, id) <= ($1::text::xid8, $2)",
        killed.cursors["app"]["position"],
        killed.cursors["app"]["key"][0],
    )
    assert at == killed.totals.archived
    again = _start(place, postgres.url)
    told, errors = again.communicate(timeout=60)
    assert again.returncode == 0, errors
    assert json.loads(told)["archived"] == ROWS - at
    check_archive(store, events={str(one) for one in range(1, ROWS + 1)})


def test_of_two_runs_at_once_each_row_is_archived_once(place: Path, postgres: PostgresDatabase) -> None:
    runs = [_start(place, postgres.url) for _ in range(2)]
    told = [one.communicate(timeout=90) for one in runs]
    assert [one.returncode for one in runs] in ([0, 0], [0, 1], [1, 0]), told
    reports = [json.loads(one[0]) for one in told]
    assert sum(one["archived"] for one in reports) == ROWS
    assert sum(one["duplicates"] for one in reports) == 0
    for one in reports:  # a run that was overtaken again and again says so
        assert all("overtaken" in problem for problem in one["problems"])
    check_archive(LocalStore(place / "archive"), events={str(one) for one in range(1, ROWS + 1)})
