"""`archiver sources`: what the settings make of the rows is told before anything is archived."""

from __future__ import annotations

import os
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from tests.calling import Archiver, Done, archiver
from tests.services.postgres import PASSWORD, PostgresDatabase

__all__ = ["archiver"]  # a fixture: pytest finds it here by name

URL = "TEST_INSPECTED_URL"
TABLE = """
CREATE TABLE public.audit (
    id text PRIMARY KEY, workspace_id text NOT NULL, actor_id text NOT NULL, action text NOT NULL,
    details jsonb, secret text, amount numeric, created_at timestamptz NOT NULL DEFAULT now(),
    xid xid8 NOT NULL DEFAULT pg_current_xact_id());
CREATE INDEX audit_place ON public.audit (xid, id);
"""
ROWS = """
INSERT INTO public.audit (id, workspace_id, actor_id, action, details, secret, amount, created_at) VALUES
    ('e1', 'ws_1', 'user_1', 'document.created', '{"a": 1}', 'hush', 1.50, '2026-03-26 10:15:00.5+00'),
    ('e2', '', 'user_1', 'document.created', NULL, NULL, NULL, '2026-03-26 10:16:00+00'),
    ('e3', 'ws_1', E'user\\u001b[31m\\n1', 'document.created', NULL, NULL, NULL, 'infinity');
"""
SETTINGS = 'columns = { metadata = "details" }\nexclude = ["secret"]'


@pytest.fixture(autouse=True)
def _without_url(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(URL, raising=False)


@pytest.fixture
def audit(postgres: PostgresDatabase, monkeypatch: pytest.MonkeyPatch) -> PostgresDatabase:
    postgres.execute(TABLE + ROWS)
    monkeypatch.setenv(URL, postgres.url)
    return postgres


def configured(*lines: str, table: str = "public.audit") -> None:
    """Write the configuration in this folder."""
    told = ["[sources.app]", 'type = "database"', f'url_env = "{URL}"', f'table = "{table}"', *lines]
    Path("archiver.toml").write_text("\n".join(told), encoding="utf-8")


def checks_of(done: Done) -> dict[str, tuple[str, str]]:
    """What was looked at: status and what was found, by name."""
    told = done.document["checks"]
    return {one["name"].removeprefix("source app: "): (one["status"], one["found"]) for one in told}


def test_rows_are_judged_and_columns_are_told_before_there_is_an_archive(
    archiver: Archiver, audit: PostgresDatabase
) -> None:
    configured(SETTINGS)
    done = archiver("sources", "inspect", "app")
    assert done.code == 3, done.err
    for words in (
        "strategy     xid8",
        "covers not   changes to rows that were read",
        "order        xid, id",
        "3 rows, the first",
        'valid        {"workspace_id":"ws_1","id":"e1","actor_id":"user_1","action":"document.created",'
        '"metadata":{"a": 1},"created_at":"2026-03-26T10:15:00.500000Z","amount":1.50}',
        "QUARANTINED  invalid: ",
        "left out: secret, xid",
        "2 of these 3 rows would be quarantined",
    ):
        assert words in done.out
    assert {"details", "metadata"} <= set(done.out.split())
    assert [one.name for one in Path().iterdir()] == ["archiver.toml"]  # nothing was written
    assert audit.query("SELECT count(*) FROM audit") == [(3,)]


def test_what_the_database_holds_is_shown_as_text_and_never_sent_to_the_terminal(
    archiver: Archiver, audit: PostgresDatabase
) -> None:
    audit.execute('ALTER TABLE public.audit ADD COLUMN "\x1b]0;x\x07\nna{me" text')
    configured(SETTINGS)
    for form in ("table", "json"):
        done = archiver("sources", "inspect", "app", "--format", form)
        assert done.code == 3
        assert "\x1b" not in done.out
        assert "\x07" not in done.out
    lines = archiver("sources", "inspect", "app").out.splitlines()
    assert [one for one in lines if one.startswith("na{me")] == []


def test_the_last_rows_come_newest_first(archiver: Archiver, audit: PostgresDatabase) -> None:
    audit.execute("INSERT INTO audit (id, workspace_id, actor_id, action) VALUES ('e0', 'ws_1', 'u', 'a.b')")
    configured(SETTINGS)
    told = archiver("sources", "inspect", "app", "--last", "--rows", 2, "--json").document
    assert [one["body"].count('"e0"') + 2 * one["body"].count('"e3"') for one in told["rows"]] == [1, 2]
    first = archiver("sources", "inspect", "app", "--rows", 1, "--json").document
    assert '"e1"' in first["rows"][0]["body"]
    assert first["ordered"]


def test_a_table_without_an_index_is_told_and_not_sorted(archiver: Archiver, audit: PostgresDatabase) -> None:
    audit.execute("DROP INDEX audit_place")
    configured(SETTINGS)
    done = archiver("sources", "inspect", "app", "--json")
    assert checks_of(done)["index"][0] == "warning"
    assert not done.document["ordered"]
    assert 'CREATE INDEX CONCURRENTLY ON "public"."audit" ("xid", "id")' in str(done.document["checks"])


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ('strategy = "settled"', "grant"),
        ('columns = { metadata = "detials" }', "did you mean details?"),
        ('columns = { event_type = "action" }', "deliveries are known by it"),
        ('key = "amount"', "no unique index"),
        ('strategy = "rowid"', "strategy for SQLite"),
    ],
)
def test_a_refusal_is_text_with_what_to_do_and_shows_what_else_there_is(
    archiver: Archiver, audit: PostgresDatabase, settings: str, words: str
) -> None:
    configured(settings, 'exclude = ["secret"]')
    with audit.role() as url:
        audit.execute(f"GRANT SELECT ON audit TO {url.split('//')[1].split(':')[0]}")
        os.environ[URL] = url
        done = archiver("sources", "inspect", "app")
    assert done.code == 2
    assert done.err == ""
    assert words.lower() in done.out.lower()
    assert "REFUSED" in done.out
    assert "a run would archive nothing of this source" in done.out
    assert "connection: PostgreSQL" in done.out


def test_rows_are_shown_where_only_the_strategy_is_refused(
    archiver: Archiver, audit: PostgresDatabase
) -> None:
    audit.execute("ALTER TABLE audit DROP COLUMN xid; ALTER TABLE audit ALTER created_at DROP DEFAULT")
    configured(SETTINGS)
    done = archiver("sources", "inspect", "app", "--json")
    assert done.code == 2
    assert [one["outcome"] for one in done.document["rows"]] == ["archived", "quarantined", "quarantined"]
    assert not done.document["ordered"]
    assert "no default" in done.document["errors"][0]["message"]


def test_a_role_without_rights_is_told_which_it_needs(archiver: Archiver, audit: PostgresDatabase) -> None:
    configured(SETTINGS)
    with audit.role() as url:
        os.environ[URL] = url
        done = archiver("sources", "inspect", "app")
        assert done.code == 1
        assert "GRANT SELECT ON" in done.out
        audit.execute(f"GRANT SELECT (id) ON audit TO {url.split('//')[1].split(':')[0]}")
        done = archiver("sources", "inspect", "app")
    assert done.code == 1
    assert "permission denied" in done.out


def test_row_security_that_hides_rows_is_refused(archiver: Archiver, audit: PostgresDatabase) -> None:
    audit.execute("ALTER TABLE audit ENABLE ROW LEVEL SECURITY")
    configured(SETTINGS)
    with audit.role() as url:
        audit.execute(f"GRANT SELECT ON audit TO {url.split('//')[1].split(':')[0]}")
        os.environ[URL] = url
        done = archiver("sources", "inspect", "app")
    assert done.code == 2
    assert "may hide rows from this role" in done.out


def test_the_url_is_in_no_output(archiver: Archiver, audit: PostgresDatabase) -> None:
    outputs = []
    for url in (audit.url, audit.url.replace("/archiver_test_", "/nowhere_"), "mysql://u:" + PASSWORD):
        os.environ[URL] = url
        for lines in ([SETTINGS], ['columns = { id = "nothing" }']):
            configured(*lines)
            for words in (["inspect", "app"], ["inspect", "app", "--json"], ["list"]):
                done = archiver("sources", *words, "--verbose")
                outputs.append(done.out + done.err)
    assert [one for one in outputs if PASSWORD in one] == []


def test_a_file_with_the_url_that_all_may_read_is_told(archiver: Archiver, audit: PostgresDatabase) -> None:
    Path("url").write_text(audit.url + "\n")
    configured(SETTINGS)
    text = Path("archiver.toml").read_text().replace(f'url_env = "{URL}"', 'url_file = "url"')
    Path("archiver.toml").write_text(text)
    for mode, status in ((0o644, "warning"), (0o640, "ok")):
        Path("url").chmod(mode)
        assert checks_of(archiver("sources", "inspect", "app", "--json"))["url"][0] == status


def test_the_cursor_and_what_waits_behind_it_are_told(archiver: Archiver, audit: PostgresDatabase) -> None:
    configured(SETTINGS)
    Path("archiver.toml").write_text(
        '[archive]\nlocation = "archive"\n' + Path("archiver.toml").read_text(), encoding="utf-8"
    )
    assert archiver("init", "--no-file").code == 0
    assert archiver("run").code == 3
    with audit.session() as writer:
        writer.run("INSERT INTO audit (id, workspace_id, actor_id, action) VALUES ('n1', 'ws_1', 'u', 'a.b')")
        later = "INSERT INTO audit (id, workspace_id, actor_id, action) VALUES ('n2', 'ws_1', 'u', 'a.b')"
        audit.query(later)
        told = archiver("sources", "inspect", "app", "--json").document
        assert (told["behind"], told["waiting"]) == (1, 1)
        assert "is still open" in told["held_back_by"]
        assert told["cursor"]["commit"] == 1
        assert "last moved by commit 1 at" in archiver("sources", "inspect", "app").out
    configured(SETTINGS, 'strategy = "settled"')
    Path("archiver.toml").write_text(
        '[archive]\nlocation = "archive"\n' + Path("archiver.toml").read_text(), encoding="utf-8"
    )
    done = archiver("sources", "inspect", "app")
    assert done.code == 1
    assert "this is not the database that was read before" in done.out


def test_rows_of_a_partitioned_table_are_estimated_once(archiver: Archiver, audit: PostgresDatabase) -> None:
    audit.execute(
        "DROP TABLE audit;"
        + TABLE.replace("id text PRIMARY KEY", "id text NOT NULL")
        .replace("pg_current_xact_id());", "pg_current_xact_id(), PRIMARY KEY (id, created_at))")
        .replace("CREATE INDEX", "PARTITION BY RANGE (created_at); CREATE INDEX")
        + "CREATE TABLE p PARTITION OF audit FOR VALUES FROM ('2026-01-01') TO ('infinity');"
        + ROWS.replace("'infinity'", "'2026-03-27'")
        + "ANALYZE audit"
    )
    configured(SETTINGS)
    assert archiver("sources", "inspect", "app", "--json").document["estimate"] == 3


def test_settled_tells_that_young_rows_wait(archiver: Archiver, audit: PostgresDatabase) -> None:
    audit.execute("INSERT INTO audit (id, workspace_id, actor_id, action) VALUES ('now', 'ws_1', 'u', 'a.b')")
    configured(SETTINGS, 'strategy = "settled"')
    done = archiver("sources", "inspect", "app", "--json")
    assert done.code == 3, done.out
    told = done.document
    assert (told["strategy"], told["behind"], told["waiting"]) == ("settled", 4, 2)  # and infinity
    assert told["held_back_by"] == "they are younger than lag_seconds"
    assert 50 < told["lag_seconds"] < 120


def test_a_sqlite_file_is_inspected_in_the_same_way(
    archiver: Archiver, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with closing(sqlite3.connect(tmp_path / "app.db")) as connection, connection:
        connection.execute(
            "CREATE TABLE audit (n INTEGER PRIMARY KEY AUTOINCREMENT, id TEXT, workspace_id TEXT,"
            " actor_id TEXT, action TEXT, created_at TEXT)"
        )
        rows = [(f"e{n}", "ws_1", "u", "a.b", "2026-03-26T10:15:00Z") for n in range(5)]
        connection.executemany(
            "INSERT INTO audit (id, workspace_id, actor_id, action, created_at) VALUES (?, ?, ?, ?, ?)", rows
        )
    monkeypatch.setenv(URL, f"sqlite:///{tmp_path}/app.db")
    configured(table="audit")
    done = archiver("sources", "inspect", "app", "--rows", 2)
    assert done.code == 0, done.out + done.err
    assert "strategy     rowid" in done.out
    assert "a run can begin" in done.out
    last = archiver("sources", "inspect", "app", "--rows", 2, "--last", "--json").document["rows"]
    assert [('"e4"' in one["body"], '"e3"' in one["body"]) for one in last] == [(True, False), (False, True)]
    configured(table="audits")
    done = archiver("sources", "inspect", "app")
    assert done.code == 2
    assert "did you mean audit?" in done.out


def test_sources_are_listed_without_a_connection(archiver: Archiver, monkeypatch: pytest.MonkeyPatch) -> None:
    configured()
    assert f"in {URL}, which is not set" in archiver("sources", "list").out
    monkeypatch.setenv(URL, "postgresql://nobody@192.0.2.1/x")
    (told,) = archiver("sources", "list", "--json").document["sources"]
    assert told == {"name": "app", "reads": "public.audit", "strategy": "auto", "url": f"in {URL}"}
    Path("archiver.toml").write_text("")
    assert archiver("sources", "list").code == 2
    assert archiver("sources", "inspect", "app").code == 2
