"""What could lose rows is refused, and says why and what to do."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest

from archiver.database.base import Bound
from archiver.errors import ArchiverError, ConfigError, SourceError
from tests.database.tables import XID, events_table, opened, source_of
from tests.services.postgres import PostgresDatabase

_KEYLESS = "id text NOT NULL"

# What is wrong: the table's script, the settings, and what the message and the hint say.
REFUSED: dict[str, tuple[str, dict, str, str]] = {
    "an xid column that may be null": (
        events_table("xid xid8 DEFAULT pg_current_xact_id()"), {}, "'xid' may be null", "NOT NULL",
    ),
    "an xid column with another default": (
        events_table("xid xid8 NOT NULL DEFAULT '0'"), {}, "has the default '0'::xid8", "rows get lost",
    ),
    "an xid column without a default": (
        events_table("xid xid8 NOT NULL"), {}, "has no default", "rows get lost",
    ),
    "two xid columns": (
        events_table(XID, XID.replace("xid ", "other ", 1)), {}, "several columns of type xid8", "",
    ),
    "an xid column that is not there": (
        events_table(), {"strategy": "xid8"}, "no column of type xid8", "ADD COLUMN xid",
    ),
    "a partition with another default": (
        events_table(XID, "PRIMARY KEY (id, action)", key="id text").removesuffix(";")
        + " PARTITION BY LIST (action); CREATE TABLE one PARTITION OF events DEFAULT;"
        "ALTER TABLE one ALTER COLUMN xid SET DEFAULT '7';",
        {}, "in the table or one of its partitions", "",
    ),
    "no unique index": (events_table(XID, key=_KEYLESS), {}, "neither a primary key nor", "primary key"),
    "a unique index of some rows": (
        events_table(XID, key=_KEYLESS) + "CREATE UNIQUE INDEX ON events (id) WHERE action <> 'x';",
        {}, "neither a primary key nor", "",
    ),
    "a unique index that is checked late": (
        events_table(XID, key="id text NOT NULL UNIQUE DEFERRABLE INITIALLY DEFERRED"),
        {}, "neither a primary key nor", "",
    ),
    "a key that may be null": (
        events_table(XID, key="id text UNIQUE"), {}, "key column 'id' may be null", "NOT NULL",
    ),
    "a key that is not unique": (
        events_table(XID), {"key": ("action",)}, "no unique index guarantees", "primary key",
    ),
    "a key that is not there": (events_table(XID), {"key": ("ident",)}, "no column 'ident'", ""),
    "a query without a key": (
        events_table(XID), {"query": "SELECT * FROM events", "table": None}, "needs `key`", "",
    ),
    "a view without a key": (
        events_table(XID) + "CREATE VIEW seen AS SELECT * FROM events;",
        {"table": "seen"}, "needs `key`", "",
    ),
    "nulls in the key of a query": (
        events_table(XID) + "INSERT INTO events (id) VALUES ('a');",
        {"query": "SELECT *, NULL::text AS k FROM events", "table": None, "key": ("k",)},
        "is null", "leave these rows out",
    ),
    "two columns of one name in a query": (
        events_table(XID),
        {"query": "SELECT *, id FROM events", "table": None, "key": ("id",)},
        "two columns", "",
    ),
    "a query for settled": (
        events_table(), {"query": "SELECT * FROM events", "table": None, "key": ("id",)},
        "settled needs a table", "xid8",
    ),
    "a time that clients must set": (
        events_table(created_at="created_at timestamptz NOT NULL"), {}, "has no default", "SET DEFAULT now()",
    ),
    "a time of another default": (
        events_table(created_at="created_at timestamptz NOT NULL DEFAULT now() - interval '1 day'"),
        {}, "times that clients set", "",
    ),
    "a time that may be null": (
        events_table(created_at="created_at timestamptz DEFAULT now()"), {}, "may be null", "NOT NULL",
    ),
    "a time without a zone": (
        events_table(created_at="created_at timestamp NOT NULL DEFAULT now()"), {},
        "type timestamp;", "time zone",
    ),
    "a time that is not there": (
        events_table(), {"strategy": "settled", "position": "written_at"}, "no column 'written_at'", "",
    ),
    "a materialized view": (
        events_table(XID) + "CREATE MATERIALIZED VIEW seen AS SELECT * FROM events;",
        {"table": "seen", "key": ("id",)}, "materialized view", "name the table",
    ),
    "a table with children": (
        events_table(XID) + "CREATE TABLE child () INHERITS (events);", {}, "'child' inherits", "partitions",
    ),
    "a key of a type that is not found": (
        "DROP SCHEMA IF EXISTS away CASCADE; CREATE SCHEMA away; CREATE TYPE away.mood AS ENUM ('a');"
        + events_table(XID, key="id away.mood PRIMARY KEY"),
        {}, "'id' is of type \"mood\"", "search_path",
    ),
    "no such table": ("SELECT 1;", {}, "no table 'events'", "schema"),
    "a sequence": ("CREATE SEQUENCE events;", {}, "no table and no view", ""),
}  # fmt: skip


@pytest.mark.parametrize("what", REFUSED)
def test_is_refused(what: str, shared: PostgresDatabase) -> None:
    script, settings, message, hint = REFUSED[what]
    shared.execute(script)
    with pytest.raises(ConfigError, match=message) as raised, opened(shared.url, **settings):
        pass
    assert raised.value.message.startswith("source app")
    assert hint in raised.value.hint


@pytest.fixture(scope="module")
def one_database(postgres_server) -> Iterator[PostgresDatabase]:
    url = postgres_server.fresh_database()
    yield PostgresDatabase(postgres_server, url)
    postgres_server.drop_database(url)


@pytest.fixture
def shared(one_database: PostgresDatabase) -> PostgresDatabase:
    """An empty schema in a database of this module's."""
    one_database.execute("SET client_min_messages = error; DROP SCHEMA public CASCADE; CREATE SCHEMA public")
    return one_database


@pytest.mark.parametrize(
    "default",
    ["now()", "CURRENT_TIMESTAMP", "transaction_timestamp()", "statement_timestamp()", "clock_timestamp()"],
)
def test_a_time_of_the_server_is_taken(default: str, shared: PostgresDatabase) -> None:
    shared.execute(events_table(created_at=f"created_at timestamptz NOT NULL DEFAULT {default}"))
    with opened(shared.url) as rows:
        assert rows.strategy == "settled"


def test_a_table_with_an_xid_column_is_read_by_it(shared: PostgresDatabase) -> None:
    shared.execute(events_table(XID))
    with opened(shared.url) as rows:
        assert (rows.strategy, rows.keys) == ("xid8", 1)


def _bound(database: PostgresDatabase, url: str = "") -> Bound:
    with opened(url or database.url, lag_seconds=0.0) as rows:
        return rows.bound(None)


def _granted(database: PostgresDatabase, url: str) -> str:
    name = url.split("//")[1].split(":", maxsplit=1)[0]
    database.execute(f"GRANT USAGE ON SCHEMA public TO {name}; GRANT SELECT ON events TO {name}")
    return name


def test_settled_refuses_a_role_that_does_not_see_the_others(shared: PostgresDatabase) -> None:
    shared.execute(events_table())
    with shared.role() as url:
        _granted(shared, url)
        with pytest.raises(ConfigError, match="does not see when others' transactions") as raised:
            _bound(shared, url)
        assert "pg_read_all_stats" in raised.value.hint
    with shared.role("pg_read_all_stats") as url:
        _granted(shared, url)
        assert _bound(shared, url).value


def test_xid8_needs_no_more_than_select(shared: PostgresDatabase) -> None:
    shared.execute(events_table(XID))
    with shared.role() as url:
        _granted(shared, url)
        assert _bound(shared, url).value
    with shared.role() as url, pytest.raises(ArchiverError, match=r"permission denied|no table") as raised:
        _bound(shared, url)
    assert raised.value.hint


def test_settled_refuses_a_server_that_does_not_track(shared: PostgresDatabase) -> None:
    shared.execute(events_table())
    with shared.role("pg_read_all_stats") as url:
        name = _granted(shared, url)
        shared.execute(f"ALTER ROLE {name} SET track_activities = off", superuser=True)
        with pytest.raises(ConfigError, match="track_activities is off"):
            _bound(shared, url)


def test_settled_refuses_while_a_session_is_not_tracked(shared: PostgresDatabase) -> None:
    shared.execute(events_table())
    with shared.session(superuser=True, autocommit=True) as hidden:
        hidden.run("SET track_activities = off")
        hidden.run("BEGIN")
        with pytest.raises(SourceError, match="1 sessions hide") as raised:
            _bound(shared)
        assert "nothing was read" in raised.value.hint
        # Tracked again in the same transaction, its start is still unknown.
        hidden.run("SET track_activities = on")
        with pytest.raises(SourceError, match="1 sessions hide"):
            _bound(shared)
        hidden.run("COMMIT")
        assert _bound(shared).value


def test_row_level_security_is_refused(shared: PostgresDatabase) -> None:
    shared.execute(events_table(XID) + "ALTER TABLE events ENABLE ROW LEVEL SECURITY;")
    with shared.role() as url:
        _granted(shared, url)
        with pytest.raises(ConfigError, match="row-level security") as raised:
            _bound(shared, url)
        assert "BYPASSRLS" in raised.value.hint
        key = {"query": "SELECT * FROM events", "table": None, "key": ("id",)}
        with pytest.raises(SourceError, match="row-level security"), opened(url, **key):
            pass


def test_what_is_waited_for_is_told_to_a_role_that_may_not_see_it(shared: PostgresDatabase) -> None:
    shared.execute(events_table(XID))
    with shared.role() as url, shared.session() as writer:
        _granted(shared, url)
        assert _bound(shared, url).why == ""
        writer.run("INSERT INTO events (id) VALUES ('a')")
        shared.execute("INSERT INTO events (id) VALUES ('b')")
        assert "an older transaction is still open" in _bound(shared, url).why


@pytest.mark.parametrize(
    "setting",
    [
        "client_encoding = 'LATIN1'",
        "default_transaction_isolation = 'serializable'",
        "default_transaction_deferrable = on",
        "idle_in_transaction_session_timeout = '50ms'",
        "idle_session_timeout = '50ms'",
        "datestyle = 'SQL, DMY'",
        "timezone = 'Asia/Kolkata'",
    ],
)
def test_settings_of_the_role_change_nothing(setting: str, shared: PostgresDatabase) -> None:
    shared.execute(events_table(XID, "note text") + "INSERT INTO events (id, note) VALUES ('a', 'grün');")
    with shared.role() as url:
        name = _granted(shared, url)
        shared.execute(f"ALTER ROLE {name} SET {setting}", superuser=True)
        with opened(url) as rows:
            bound = rows.bound(None)
            with rows.page(None, bound, 10) as pages:
                (page,) = pages
                time.sleep(0.2)
            page.validate(full=True)
            column = next(one.column for one in rows.layout if one.member == "note")
            assert page[column].to_pylist() == ["grün"]
            isolation = (
                "SELECT current_setting('transaction_isolation'), current_setting('transaction_deferrable')"
            )
            assert rows.connection.rows(isolation) == [("read committed", "off")]  # type: ignore[attr-defined]


def test_what_is_waited_for_is_told(shared: PostgresDatabase) -> None:
    shared.execute(events_table())
    with shared.session() as writer:
        writer.run("INSERT INTO events (id) VALUES ('a')")
        assert "a transaction that began at" in _bound(shared).why
        with opened(shared.url, lag_seconds=60.0) as rows:  # it is younger than what is waited for anyway
            assert rows.bound(None).why == ""
    assert _bound(shared).why == ""


def test_a_dump_from_an_older_server_is_refused(shared: PostgresDatabase) -> None:
    shared.execute(
        events_table(XID) + "INSERT INTO events (id) VALUES ('a'), ('b');"
        "UPDATE events SET xid = '4611686018427387904' WHERE id = 'a';"
    )
    with opened(shared.url) as rows:
        with pytest.raises(SourceError, match="'xid' holds 4611686018427387904, but the server") as raised:
            rows.bound(None)
        assert "UPDATE" in raised.value.hint
        assert "--rewind" in raised.value.hint
        # What the hint says mends it.
        shared.execute("UPDATE events SET xid = '0' WHERE xid >= '4611686018427387904'")
        bound = rows.bound(None)
        with rows.page(None, bound, 10) as pages:
            assert [one for page in pages for one in page["k0"].to_pylist()] == ["a", "b"]


def test_a_setting_that_means_nothing_is_refused(shared: PostgresDatabase) -> None:
    shared.execute(events_table(XID))
    for settings, message in (
        ({"columns": {"actor_name": "nobody"}}, "no column 'nobody'"),
        ({"exclude": ("nothing",)}, "no column 'nothing'"),
        ({"exclude": ("actor_id",)}, "no column for actor_id"),
        ({"columns": {"event_type": "action"}}, "'event_type'"),
        ({"strategy": "rowid"}, "rowid is a strategy for SQLite"),
    ):
        with pytest.raises(ConfigError, match=message), opened(shared.url, **settings):
            pass
    assert "password" not in repr(source_of(shared.url))
