"""A database's URL and password are shown to nobody: not in errors, logs, reports, the ledger or a repr."""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
import traceback
from pathlib import Path

import pytest

from archiver.database.connection import scrubbed, secrets_of
from archiver.database.open import open_rows
from archiver.database.settings import Database, Location
from archiver.errors import ArchiverError
from tests.database.tables import XID, events_table, opened, source_of
from tests.services.postgres import PASSWORD, PostgresDatabase, PostgresServer
from tests.support import new_archive

WRONG = "s3cr3t-Zq9%21x"  # as a URL writes it
DECODED = "s3cr3t-Zq9!x"


def _told(error: BaseException) -> str:
    hint = error.hint if isinstance(error, ArchiverError) else ""
    return "".join(traceback.format_exception(error)) + repr(error) + str(error) + hint


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://role:{0}@127.0.0.1:1/db",
        "postgresql://role:{0}@no-such-host.invalid/db",
        "postgresql://role:{0}@127.0.0.1:port/db",
        "postgresql://127.0.0.1:1/db?user=role&password={0}",
        "postgresql://role:{0}@127.0.0.1:1/db?no_such_option={0}",
        "postgresql://role:one@{0}@127.0.0.1:1/db",
        "postgresql://role:one/{0}@127.0.0.1:1/db",
        "postgresql://role:one:{0}@127.0.0.1:1/db",
        "postgresql://role:{0}%zz@127.0.0.1:1/db",
        "postgresql://role:{0}",
        *(
            "postgresql://role:{0}" + one + "s3cr3t@127.0.0.1:1/db"
            for one in ("%zz", "%", " ", "[", "@", "/", "?", "#")
        ),
        *(
            "postgresql://role:s3cr3t" + one + "{0}@127.0.0.1:1/db"
            for one in ("%00", "\t", "]", "@", "/", "&=")
        ),
        "postgresql://role:{0}%zz",
        "postgresql:/role:{0} x@127.0.0.1:1/db",
        "postgresql:password={0} s3cr3t x",
        "postgresql://127.0.0.1:1/db?user=role&passwd={0}%zz",
        "postgresql://127.0.0.1:1/db?{0}%zz",
        "postgresql://role:x@127.0.0.1:1/db?sslmode={0}",
        "postgresql://role:x@127.0.0.1:1/db?connect_timeout={0}",
        "postgresql://role:x@127.0.0.1:{0}%zz/db",
        "mysql://role:{0}@127.0.0.1/db",
        "{0}",
    ],
)
def test_no_error_of_a_connection_shows_the_password(url: str) -> None:
    with pytest.raises(ArchiverError) as raised:
        open_rows(source_of(url.format(WRONG)))
    told = _told(raised.value)
    assert "s3cr3t" not in told
    assert DECODED not in told
    assert raised.value.hint


def test_a_wrong_password_is_not_shown(own_postgres_server: PostgresServer) -> None:
    url = own_postgres_server.owner_url.replace(PASSWORD, WRONG)
    with pytest.raises(ArchiverError, match="password authentication failed") as raised:
        open_rows(source_of(url))
    assert "s3cr3t" not in _told(raised.value)
    assert "check role, password" in raised.value.hint


def test_a_location_shows_itself_to_nobody(postgres: PostgresDatabase) -> None:
    location = Location(postgres.url)
    shown = f"{location} {location!r} {location!s:>80}" + repr([location]) + str({"a": location})
    assert postgres.server.password not in shown
    postgres.execute(events_table(XID))
    with opened(postgres.url) as rows:
        assert postgres.server.password not in repr(rows)
        with pytest.raises(ArchiverError) as raised:
            rows.connection.run("SELECT * FROM nowhere")  # type: ignore[attr-defined]
        assert postgres.server.password not in _told(raised.value)
    source = source_of(postgres.url)
    assert postgres.server.password.encode() not in pickle.dumps(source)


def test_text_of_the_server_that_quotes_the_url_is_scrubbed() -> None:
    secrets = secrets_of(Location("postgresql://role:p%40ss@host/db"))
    text = scrubbed("at postgresql://role:p%40ss@host/db, p@ss, postgres://other:else@host", secrets)
    assert "ss" not in text.replace("postgres", "")
    assert "else" not in text


def test_a_file_with_the_url_is_told_by_its_name_alone(tmp_path: Path) -> None:
    path = tmp_path / "url"
    path.write_bytes(b"\xff" + WRONG.encode())
    source = Database(name="app", url_file=str(path), table="events")
    with pytest.raises(ArchiverError, match="not UTF-8") as raised:
        open_rows(source)
    assert "s3cr3t" not in _told(raised.value)


@pytest.mark.parametrize("works", [True, False])
def test_a_run_leaves_no_trace_of_the_password(
    works: bool, postgres: PostgresDatabase, tmp_path: Path
) -> None:
    postgres.execute(events_table(XID) + "INSERT INTO events (id) VALUES ('a');")
    (tmp_path / "archiver.toml").write_text(
        '[archive]\nlocation = "archive"\n[sources.app]\ntype = "database"\nurl_env = "APP_URL"\n'
        f'table = "{"events" if works else "nowhere"}"\n'
    )
    new_archive(tmp_path / "archive")
    done = subprocess.run(
        [
            *(sys.executable, "-m", "archiver", "run", "--json", "-v", "--log-format", "json"),
            *("--report", "report.json", "--metrics-file", "metrics.prom"),
        ],
        cwd=tmp_path,
        env=os.environ | {"APP_URL": postgres.url, "PYTHONPATH": str(Path.cwd())},
        capture_output=True,
        check=False,
    )
    assert done.returncode == (0 if works else 1), done.stderr
    secret = postgres.server.password.encode()
    assert secret not in done.stdout + done.stderr
    written = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert {"report.json", "metrics.prom"} <= {path.name for path in written}
    for path in written:
        assert secret not in path.read_bytes(), path
        assert b"postgresql://" not in path.read_bytes(), path
