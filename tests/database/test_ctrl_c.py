"""Ctrl-C ends a run over a database at once, whatever it waits for there, and without a traceback."""

from __future__ import annotations

import os
import signal
import socket
import sqlite3
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from archiver.database.postgres_url import with_timeouts
from archiver.database.sqlite_connection import connect_sqlite
from tests.database.tables import XID, events_table, source_of
from tests.services.postgres import PostgresDatabase
from tests.services.process import wait_until
from tests.support import new_archive

_OURS = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'archiver' AND state = 'active'"


def _start(folder: Path, url: str, settings: str) -> subprocess.Popen[str]:
    new_archive(folder / "archive")
    (folder / "archiver.toml").write_text(
        f'[archive]\nlocation = "archive"\n[sources.app]\ntype = "database"\nurl_env = "APP_URL"\n{settings}'
    )
    return subprocess.Popen(
        [sys.executable, "-m", "archiver", "run"],
        cwd=folder,
        env=os.environ | {"APP_URL": url, "PYTHONPATH": str(Path.cwd())},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def _interrupted(run: subprocess.Popen[str]) -> None:
    os.killpg(run.pid, signal.SIGINT)
    try:
        told, errors = run.communicate(timeout=5)
    finally:
        run.kill()
    assert (run.returncode, told) == (130, ""), errors
    assert errors.strip() == "interrupted; nothing is lost, run again"


@pytest.mark.parametrize("where", ["before the page", "in the page"])
def test_ctrl_c_while_the_server_works(where: str, postgres: PostgresDatabase, tmp_path: Path) -> None:
    postgres.execute(events_table(XID) + "INSERT INTO events (id) VALUES ('a');")
    # The first column is only computed where the page asks for it, the position for each question.
    slow = (
        "pg_sleep(60)::text AS slept, *"
        if where == "in the page"
        else (
            "id, workspace_id, actor_id, action, created_at,"
            " CASE WHEN pg_sleep(60) IS NOT NULL THEN xid END AS xid"
        )
    )
    query = f"SELECT {slow} FROM events"
    run = _start(tmp_path, postgres.url, f'query = "{query}"\nkey = "id"\n')
    wait_until("the server is asked", lambda: postgres.query(_OURS)[0][0] > 0, seconds=20)
    time.sleep(0.5)
    _interrupted(run)
    wait_until("the server was told", lambda: postgres.query(_OURS)[0][0] == 0, seconds=5)


def test_ctrl_c_while_a_server_does_not_answer(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(20)
        port = server.getsockname()[1]
        run = _start(tmp_path, f"postgresql://role@127.0.0.1:{port}/db", 'table = "events"\n')
        accepted, _ = server.accept()
        with accepted:
            time.sleep(0.5)
            _interrupted(run)


def test_ctrl_c_while_sqlite_works(tmp_path: Path) -> None:
    file = tmp_path / "app.db"
    made = sqlite3.connect(file)
    made.execute("CREATE TABLE events (id TEXT)")
    made.close()
    source = source_of(f"sqlite:///{file}")
    count = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 2000000)"
    count += " SELECT count(*) FROM n"
    with connect_sqlite(source, source.location()) as connection:
        timer = threading.Timer(0.1, lambda: os.kill(os.getpid(), signal.SIGINT))
        timer.start()
        with pytest.raises(KeyboardInterrupt):
            connection.fetch(count, 1)
        timer.join()
        assert connection.fetch("SELECT 1 AS one", 1)["one"].to_pylist() == [1]


def test_a_server_is_not_waited_for_without_an_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PGCONNECT_TIMEOUT", raising=False)
    plain = "postgresql://role:word@db.example.com/app"
    assert "?connect_timeout=30&keepalives_idle=60" in with_timeouts(plain)
    assert "?sslmode=require&connect_timeout=30&" in with_timeouts(f"{plain}?sslmode=require")
    assert with_timeouts(f"{plain}?connect_timeout=5").count("connect_timeout") == 1
    assert with_timeouts("postgresql://role:a/b@db/app") == "postgresql://role:a/b@db/app"
