"""Strategy `settled`, step by step: each of its rules, a row that is lost without it, and not with it."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace

import pytest

from archiver.database.postgres import PostgresRows
from tests.database.broken import OF_SETTLED
from tests.database.playing import Playground, playground
from tests.database.schedules import Interrupted
from tests.database.tables import Reader, events_table, opened, source_of
from tests.services.postgres import Databases, PostgresDatabase, Session

Story = Callable[[Playground, pytest.MonkeyPatch], set[str]]


class _Once:
    """Does something once, before the first statement that holds a text."""

    def __init__(self, text: str, act: Callable[[], object]) -> None:
        self._text, self._act, self._is_done = text, act, False

    def __call__(self, sql: str) -> None:
        if self._text in sql and not self._is_done:
            self._is_done = True
            self._act()


@contextmanager
def _before(rows: PostgresRows, text: str, act: Callable[[], object]) -> Iterator[None]:
    plain = rows.connection
    rows.connection = Interrupted(plain, _Once(text, act))
    try:
        yield
    finally:
        rows.connection = plain
        plain.run("ROLLBACK")


@pytest.fixture(scope="module")
def one_ground(postgres_server: Databases) -> Iterator[Playground]:
    database = PostgresDatabase(postgres_server, postgres_server.fresh_database())
    with playground(database, "settled") as one:
        if not one.prepares:
            pytest.skip("this server has max_prepared_transactions = 0")
        one.sessions[0].run(
            "CREATE PROCEDURE slow() LANGUAGE plpgsql AS $$ BEGIN PERFORM pg_advisory_lock(1); COMMIT;"
            " PERFORM pg_advisory_unlock(1); PERFORM pg_advisory_lock(2);"
            " INSERT INTO events (id) VALUES ('old'); PERFORM pg_advisory_unlock(2); END $$"
        )
        yield one
    postgres_server.drop_database(database.url)


@pytest.fixture
def ground(one_ground: Playground) -> Playground:
    one_ground.rows.connection.run("ROLLBACK")
    for session in one_ground.sessions:
        session.run("ROLLBACK")
        session.run("SELECT set_config('lock_timeout', '5s', false)")
    one_ground.sessions[0].run("TRUNCATE events")
    one_ground.sessions[0].run("ALTER TABLE events ALTER COLUMN created_at SET DEFAULT now()")
    return one_ground


def _reader(ground: Playground, patch: pytest.MonkeyPatch) -> Reader:
    return Reader(ground.source, ground.rows, patch)


def _an_open_transaction(ground: Playground, patch: pytest.MonkeyPatch) -> set[str]:
    """Older, and committed after a younger one was read."""
    reader, (old, young, *_) = _reader(ground, patch), ground.sessions
    old.run("BEGIN")
    old.run("INSERT INTO events (id) VALUES ('old')")
    young.run("INSERT INTO events (id) VALUES ('young')")
    reader.run()
    old.run("COMMIT")
    reader.run()
    return set(reader.seen)


def _a_commit_before_the_look(ground: Playground, patch: pytest.MonkeyPatch) -> set[str]:
    """It ends before the sessions are looked at, and after the reader's work began."""
    reader, (old, young, *_) = _reader(ground, patch), ground.sessions
    old.run("BEGIN")
    old.run("INSERT INTO events (id) VALUES ('old')")
    young.run("INSERT INTO events (id) VALUES ('young')")
    with _before(ground.rows, "pg_stat_activity", lambda: old.run("COMMIT")):
        reader.run()
    reader.run()
    return set(reader.seen)


def _a_prepared_transaction(ground: Playground, patch: pytest.MonkeyPatch) -> set[str]:
    reader, (old, young, *_) = _reader(ground, patch), ground.sessions
    old.run("BEGIN")
    old.run("INSERT INTO events (id) VALUES ('old')")
    young.run("INSERT INTO events (id) VALUES ('young')")
    old.run("PREPARE TRANSACTION 'one'")
    reader.run()
    old.run("COMMIT PREPARED 'one'")
    reader.run()
    return set(reader.seen)


def _a_transaction_prepared_during_the_look(ground: Playground, patch: pytest.MonkeyPatch) -> set[str]:
    reader, (old, young, *_) = _reader(ground, patch), ground.sessions
    old.run("BEGIN")
    old.run("INSERT INTO events (id) VALUES ('old')")
    young.run("INSERT INTO events (id) VALUES ('young')")
    with _before(ground.rows, "pg_stat_activity", lambda: old.run("PREPARE TRANSACTION 'one'")):
        reader.run()
    old.run("COMMIT PREPARED 'one'")
    reader.run()
    return set(reader.seen)


def _a_slow_look(ground: Playground, patch: pytest.MonkeyPatch) -> set[str]:
    """Between looking at the sessions and reckoning the cap others begin, and one of them stays open."""
    reader, (old, young, *_) = _reader(ground, patch), ground.sessions

    def meanwhile() -> None:
        old.run("BEGIN")
        old.run("INSERT INTO events (id) VALUES ('old')")
        young.run("INSERT INTO events (id) VALUES ('young')")

    with _before(ground.rows, "pg_prepared_xacts", meanwhile):
        reader.run()
    old.run("COMMIT")
    reader.run()
    return set(reader.seen)


def _a_procedure(ground: Playground, patch: pytest.MonkeyPatch) -> set[str]:
    """Its second transaction begins late, and gives its rows the time of the CALL."""
    reader, (old, young, watcher, *_) = _reader(ground, patch), ground.sessions
    young.run("ALTER TABLE events ALTER COLUMN created_at SET DEFAULT statement_timestamp()")
    watcher.run("SELECT pg_advisory_lock(1)")
    watcher.run("SELECT pg_advisory_lock(2)")
    with _in_thread(lambda: old.run("CALL slow()")) as wait:
        _until(watcher, "SELECT 1::int4 FROM pg_locks WHERE locktype = 'advisory' AND NOT granted")
        young.run("INSERT INTO events (id) VALUES ('young')")
        watcher.run("SELECT pg_advisory_unlock(1)")
        _until(
            watcher,
            "SELECT 1::int4 FROM pg_locks WHERE locktype = 'advisory' AND NOT granted AND objid = 2",
        )
        reader.run()
        watcher.run("SELECT pg_advisory_unlock(2)")
        wait()
    reader.run()
    return set(reader.seen)


def _a_column_that_rounds(ground: Playground, patch: pytest.MonkeyPatch) -> set[str]:
    """`timestamptz(0)`: a row's time lies before its transaction's start."""
    (old, young, *_), rounded = ground.sessions, "created_at timestamptz(0) NOT NULL DEFAULT now()"
    old.run("DROP TABLE IF EXISTS rounded")
    old.run(events_table(name="rounded", created_at=rounded))
    settings = {"table": "rounded", "lag_seconds": 0.0}
    with opened(ground.url, **settings) as rows:
        assert isinstance(rows, PostgresRows)
        source = source_of(ground.url, **settings)
        reader = Reader(source, rows, patch)
        while not 0.05 < time.time() % 1 < 0.2:
            time.sleep(0.01)
        young.run("INSERT INTO rounded (id) VALUES ('young')")
        old.run("BEGIN")
        old.run("INSERT INTO rounded (id) VALUES ('old')")
        reader.run()
        old.run("COMMIT")
        time.sleep(1)
        reader.run()
        return set(reader.seen)


def _rows_of_one_time(ground: Playground, patch: pytest.MonkeyPatch) -> set[str]:
    reader = _reader(ground, patch)
    reader.source = replace(ground.source, batch_rows=1)
    ground.sessions[0].run("INSERT INTO events (id) VALUES ('old'), ('young')")
    reader.run()
    return set(reader.seen)


@contextmanager
def _in_thread(act: Callable[[], object]) -> Iterator[Callable[[], None]]:
    with ThreadPoolExecutor(1) as pool:
        future = pool.submit(act)
        yield lambda: (future.result(timeout=20), None)[1]


def _until(session: Session, sql: str) -> None:
    for _ in range(2_000):
        if session.run(sql):
            return
    pytest.fail(f"never: {sql}")


STORIES: dict[str, Story] = {
    "the clock alone as the cap": _an_open_transaction,
    "cap and rows in one snapshot": _a_commit_before_the_look,
    "prepared transactions passed over": _a_prepared_transaction,
    "the time of PREPARE as the start": _a_prepared_transaction,
    "prepared transactions first": _a_transaction_prepared_during_the_look,
    "the clock read behind the sessions": _a_slow_look,
    "the start of the transaction alone": _a_procedure,
    "a cursor of the position alone": _rows_of_one_time,
    "a column that rounds": _a_column_that_rounds,
}


@pytest.mark.parametrize("story", dict.fromkeys(STORIES.values()), ids=lambda one: one.__name__[1:])
def test_no_row_is_lost(story: Story, ground: Playground, monkeypatch: pytest.MonkeyPatch) -> None:
    assert story(ground, monkeypatch) == {"old", "young"}


@pytest.mark.parametrize("rule", OF_SETTLED)
def test_a_row_is_lost_with(rule: str, ground: Playground, monkeypatch: pytest.MonkeyPatch) -> None:
    OF_SETTLED[rule](monkeypatch)
    assert len(STORIES[rule](ground, monkeypatch)) == 1
