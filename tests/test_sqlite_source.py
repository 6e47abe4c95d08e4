"""Rows of a SQLite table: each of them is archived once, whatever else is going on."""

from __future__ import annotations

import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path

import pytest

from archiver.database import sqlite
from archiver.database.base import Bound
from archiver.database.settings import Location
from archiver.database.sqlite import open_sqlite
from archiver.errors import SourceError
from tests.sqlite_rows import INSERT, TABLE, URL, App, ended, new_app, python, url_of, wait_for

_WRITER = """
import random, sqlite3, sys, time
path, name, seed = sys.argv[1:]
random = random.Random(int(seed))
connection = sqlite3.connect(path, timeout=60, isolation_level=None)
for number in range(100):
    time.sleep(0.005)
    ids = [f"{name}-{number}-{one}" for one in range(random.randint(1, 20))]
    connection.execute("BEGIN IMMEDIATE")
    connection.executemany(INSERT, [(one,) for one in ids])
    if random.random() < 0.3:
        connection.execute("ROLLBACK")
        continue
    if random.random() < 0.3:  # the newest rows go before anybody can see them
        gone = ids[len(ids) // 2 :]
        connection.executemany("DELETE FROM events WHERE id = ?", [(one,) for one in gone])
        ids = ids[: len(ids) // 2]
    connection.execute("COMMIT")
    print(*ids)
""".replace("INSERT", repr(INSERT))

_LOCKER = """
import sqlite3, sys
connection = sqlite3.connect(sys.argv[1], isolation_level=None)
connection.execute("BEGIN EXCLUSIVE")
print("locked", flush=True)
sys.stdin.read()
"""


@pytest.fixture
def app(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> App:
    made = new_app(tmp_path)
    monkeypatch.setenv(URL, url_of(made.path))
    return made


def test_rows_are_archived_once_and_the_next_run_takes_those_behind_them(app: App) -> None:
    app.insert("a", "b", "c")
    assert app.run().counts.archived == 3
    assert app.run().counts.archived == 0
    app.insert("d")
    report = app.run()
    assert (report.counts.archived, report.problems) == (1, [])
    assert app.ids() == ["a", "b", "c", "d"]
    assert (app.cursor()["strategy"], app.cursor()["position"]) == ("rowid", "4")


def test_an_empty_table_is_nothing_to_do(app: App) -> None:
    report = app.run()
    assert (report.commits, report.problems) == ([], [])


def test_a_run_commits_after_each_batch_of_rows(app: App, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sqlite, "_CHUNK_ROWS", 3)
    app.insert(*(f"{number:02}" for number in range(25)))
    report = app.run(batch_rows=10)
    assert (report.counts.archived, len(report.commits)) == (25, 3)
    assert app.ids() == [f"{number:02}" for number in range(25)]


def test_the_smallest_rowid_of_all_is_read_too(app: App) -> None:
    app.execute(
        f"INSERT INTO events VALUES ({-(2**63)}, 'a', 'w', 'u', 'x', '2026-03-26 10:15:00')",
        "INSERT INTO events VALUES (0, 'b', 'w', 'u', 'x', '2026-03-26 10:15:00')",
    )
    app.run()
    assert app.ids() == ["a", "b"]


@pytest.mark.parametrize("journal", ["wal", "delete"])
def test_no_row_is_lost_or_repeated_while_processes_write_roll_back_and_delete(
    app: App, journal: str
) -> None:
    app.execute(f"PRAGMA journal_mode = {journal}")
    writers = [python(_WRITER, app.path, f"writer{number}", number) for number in range(3)]
    runs = 0
    while any(one.poll() is None for one in writers):
        report = app.run(batch_rows=50)
        assert report.problems == []
        runs += 1
    committed = " ".join(ended(writers)).split()
    assert app.run().problems == []
    assert runs > 1
    assert app.ids() == sorted(committed)


def test_rows_behind_deleted_newest_rows_are_read(app: App) -> None:
    """With AUTOINCREMENT their rowids do not come again."""
    app.insert("a", "b", "c")
    app.run()
    app.execute("DELETE FROM events WHERE id IN ('b', 'c')")
    app.insert("d", "e")
    report = app.run()
    assert (report.counts.archived, report.problems) == (2, [])
    assert app.ids() == ["a", "b", "c", "d", "e"]


def test_a_table_that_was_emptied_goes_on(app: App) -> None:
    app.insert("a", "b")
    app.run()
    app.execute("DELETE FROM events")
    assert app.run().problems == []
    app.insert("c")
    assert app.run().counts.archived == 1


def _restored(app: App, *after: str) -> None:
    """Restore a copy that is older than the cursor, and go on writing into it."""
    app.insert("a", "b")
    shutil.copy(app.path, app.path.with_suffix(".old"))
    app.insert("c", "d")
    app.run()
    shutil.copy(app.path.with_suffix(".old"), app.path)
    app.insert(*after)


@pytest.mark.parametrize(
    "after",
    [
        pytest.param((), id="as-it-was"),
        pytest.param(("e",), id="behind-the-cursor"),
        pytest.param(("e", "f"), id="at-the-cursor"),
        pytest.param(("e", "f", "g"), id="past-the-cursor"),
    ],
)
def test_an_older_copy_stops_the_source_until_it_is_rewound(app: App, after: tuple[str, ...]) -> None:
    _restored(app, *after)
    report = app.run()
    assert (report.counts.archived, len(report.problems)) == (0, 1)
    assert "is not as it was" in report.problems[0]
    assert app.cursor()["position"] == "4"
    rewound = app.run(rewind=True)
    assert (rewound.counts.archived, rewound.counts.duplicates, rewound.problems) == (len(after), 2, [])
    assert app.run().problems == []
    assert app.ids() == sorted(["a", "b", "c", "d", *after])


def test_an_older_copy_is_known_by_its_times_where_the_id_is_the_rowid(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    app = new_app(tmp_path, TABLE.replace("n INTEGER", "id INTEGER").replace(", id TEXT NOT NULL", ""))
    monkeypatch.setenv(URL, url_of(app.path))
    app.execute("INSERT INTO events VALUES (1, 'w', 'u', 'x', '2026-03-26 10:15:00')")
    app.run()
    app.execute("UPDATE events SET created_at = '2026-03-26 10:15:01'")
    assert "the row with id 1 is not the one that was read" in app.run().problems[0]


def test_a_reset_sequence_stops_the_source(app: App) -> None:
    app.insert("a", "b")
    app.run()
    app.execute("DELETE FROM events", "DELETE FROM sqlite_sequence")
    app.insert("c")
    assert "read up to 2, but it has come only to 1" in app.run().problems[0]


def test_a_table_that_was_renamed_is_missed_by_its_name(app: App) -> None:
    app.insert("a")
    app.run()
    app.execute("ALTER TABLE events RENAME TO event")
    report = app.run()
    assert "there is no table 'events' (did you mean event?)" in report.problems[0]
    assert app.cursor()["position"] == "1"


def test_a_column_that_is_dropped_between_two_pages_ends_the_run_and_nothing_is_made_up(
    app: App, monkeypatch: pytest.MonkeyPatch
) -> None:
    """SQLite would take the quoted name of a missing column for a text."""
    monkeypatch.setattr(sqlite, "_CHUNK_ROWS", 2)
    app.execute("ALTER TABLE events ADD COLUMN tenant_id TEXT DEFAULT 't'")
    app.insert("a", "b", "c", "d")
    rows = open_sqlite(app.source, Location(url_of(app.path)))
    with rows.page(None, Bound("5"), 10) as pages:
        assert next(pages).num_rows == 2
        drop = "ALTER TABLE events DROP COLUMN tenant_id"
        ended([python(f"import sqlite3, sys; sqlite3.connect(sys.argv[1]).execute({drop!r})", app.path)])
        with pytest.raises(SourceError) as raised:
            next(pages)
    rows.close()
    assert "no such column: t.tenant_id" in raised.value.message
    assert "SELECT" not in raised.value.message
    assert "renamed or dropped" in raised.value.hint


def test_between_two_chunks_nothing_is_held_that_a_writer_waits_for(
    app: App, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sqlite, "_CHUNK_ROWS", 2)
    app.insert("a", "b", "c", "d")
    rows = open_sqlite(app.source, Location(url_of(app.path)))
    with rows.page(None, Bound("5"), 10) as pages:
        assert next(pages).num_rows == 2
        writer = python(_LOCKER.replace("sys.stdin.read()", "connection.execute('COMMIT')"), app.path)
        assert ended([writer]) == ["locked\n"]
        assert next(pages).num_rows == 2
    rows.close()


def test_a_locked_database_is_waited_for_and_then_told(app: App) -> None:
    app.insert("a")
    locker = subprocess.Popen(
        [sys.executable, "-c", _LOCKER, str(app.path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    wait_for(locker, "locked")
    report = app.run(statement_timeout_seconds=0.2)
    locker.communicate(timeout=30)
    assert "database is locked" in report.problems[0]
    assert app.cursor() is None
    assert app.run().counts.archived == 1


def test_a_row_that_is_too_large_is_named_and_what_lies_before_it_is_archived(
    app: App, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sqlite, "_CHUNK_ROWS", 2)
    app.execute("ALTER TABLE events ADD COLUMN note TEXT")
    app.insert("a", "b", "c")
    app.insert_row(id="d", note="x" * 5_000)
    app.insert("e")
    report = app.run(max_row_bytes=4_096)
    assert "the row with n 4 has 5" in report.problems[0]
    assert app.ids() == ["a", "b", "c"]
    app.run()
    assert app.ids() == ["a", "b", "c", "d", "e"]


def test_one_statement_reads_no_more_than_fits(app: App, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sqlite, "_CHUNK_BYTES", 1_000)
    app.insert(*(character * 300 for character in "abcdef"))
    rows = open_sqlite(app.source, Location(url_of(app.path)))
    with rows.page(None, rows.bound(None), 100) as pages:
        sizes = [one.num_rows for one in pages]
    rows.close()
    assert sizes == [3, 3]


def test_a_killed_run_goes_on_where_it_stopped(app: App, tmp_path: Path) -> None:
    rows = 100_000
    with closing(sqlite3.connect(app.path)) as connection, connection:
        connection.executemany(INSERT, ((f"{number:06}",) for number in range(rows)))
    settings = tmp_path / "archiver.toml"
    settings.write_text(
        f'[archive]\nlocation = "{tmp_path / "archive"}"\n[sources.app]\ntype = "database"\n'
        f'url_env = "{URL}"\ntable = "events"\nbatch_rows = 10000\n'
    )
    command = [sys.executable, "-m", "archiver", "run", "--config", str(settings), "--json", "--workers", "0"]
    kills = 0
    for wanted in (3, 6):
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        while process.poll() is None and app.archive.ledger.refresh().sequence < wanted:
            time.sleep(0.005)
        if process.poll() is None:
            process.send_signal(signal.SIGKILL)
            kills += 1
        process.wait()
    done = subprocess.run(command, capture_output=True, check=False, env=os.environ, text=True)
    assert done.returncode == 0, done.stderr
    assert kills == 2
    assert app.ids() == [f"{number:06}" for number in range(rows)]
