"""`purge` and a real PostgreSQL: transactions beside it, triggers, rights, and a process that is killed."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from archiver.database.connection import DatabaseError
from archiver.database.open import open_old_rows
from archiver.database.postgres_old import open_postgres_old
from archiver.errors import ConfigError, SourceError
from archiver.purge.run import _Purge
from tests.calling import Archiver, archiver
from tests.database.tables import URL_ENV, XID, events_table, source_of
from tests.purging import Purging, after_proof, ago, purging, wait_for_a_lock
from tests.services.postgres import PASSWORD

__all__ = ["after_proof", "archiver", "purging"]  # fixtures: pytest finds them here by name

_APPEND_ONLY = """
CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
    IF current_setting('immutable.allow_archive', true) IS DISTINCT FROM 'on' THEN
        RAISE EXCEPTION 'append-only';
    END IF;
    RETURN OLD;
END $$;
CREATE TRIGGER append_only BEFORE DELETE ON events FOR EACH ROW EXECUTE FUNCTION refuse();
"""


@pytest.mark.parametrize("ending", ["commit", "rollback"])
def test_a_row_that_another_transaction_holds_goes_only_as_it_was_read(purging: Purging, ending: str) -> None:
    purging.create("note text")
    purging.insert(*"abc", note="then")
    purging.run()
    with purging.database.session() as other:
        other.run("UPDATE events SET note = 'now' WHERE id = 'b'")
        worker = threading.Thread(target=purging.purge)
        worker.start()
        wait_for_a_lock(purging.database)
        getattr(other, ending)()
        worker.join()
    (report,) = purging.reports
    if ending == "commit":
        assert (purging.ids(), report.stayed, report.rows) == (["b"], {"changed_since": 1}, 2)
        assert report.needs_somebody
    else:
        assert (purging.ids(), report.stayed, report.rows) == ([], {}, 3)


def test_a_row_that_is_changed_between_reading_and_deleting_stays(
    purging: Purging, after_proof: Callable[[Callable[[], Any]], None]
) -> None:
    purging.create("note text")
    purging.insert(*"abcd")
    purging.run()
    after_proof(
        lambda: purging.database.execute(
            "UPDATE events SET note = 'now' WHERE id = 'a'; UPDATE events SET note = NULL WHERE id = 'b';"
            " DELETE FROM events WHERE id = 'c'"
        )
    )
    report = purging.purge()
    assert purging.ids() == ["a", "b"]
    assert (report.rows, report.gone, report.stayed) == (1, 1, {"changed_since": 2})


def test_a_row_that_is_held_for_too_long_is_left_to_the_next_purge(
    purging: Purging, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("archiver.database.postgres_old._LOCK_TIMEOUT", "100ms")
    purging.create("note text")
    purging.insert(*"abc")
    purging.run()
    with purging.database.session() as other:
        other.run("UPDATE events SET note = 'now' WHERE id = 'b'")
        report = purging.purge(batch_rows=1)
    assert (purging.ids(), report.stayed, report.needs_somebody) == (["b"], {"locked": 1}, False)
    assert purging.purge().rows == 1


def test_a_trigger_is_opened_by_the_setting_and_for_these_transactions_alone(purging: Purging) -> None:
    purging.create()
    purging.insert("a", "b")
    purging.database.execute(_APPEND_ONLY)
    purging.run()
    with pytest.raises(DatabaseError, match=r"append-only.*nothing of this") as raised:
        purging.purge()
    assert "purge_setting" in raised.value.hint
    assert purging.ids() == ["a", "b"]
    purging.set(purge_setting="immutable.allow_archive=on")
    assert purging.purge(limit=1).rows == 1
    rows = open_postgres_old(purging.source, purging.source.location(), deletes=True)
    versions = purging.database.query("SELECT xmin::text FROM events")
    assert rows.delete([("b",)], list(*versions)) == ["deleted"]
    assert rows.rows.connection.value("SELECT current_setting('immutable.allow_archive', true)") == ""
    rows.close()


def test_a_trigger_that_passes_rows_over_is_told(purging: Purging) -> None:
    purging.create()
    purging.insert("a", "b")
    purging.database.execute(
        "CREATE FUNCTION pass_over() RETURNS trigger LANGUAGE plpgsql AS"
        " $$ BEGIN IF OLD.id = 'a' THEN RETURN NULL; END IF; RETURN OLD; END $$;"
        "CREATE TRIGGER pass_over BEFORE DELETE ON events FOR EACH ROW EXECUTE FUNCTION pass_over();"
    )
    purging.run()
    report = purging.purge()
    assert (purging.ids(), report.rows, report.stayed) == (["a"], 1, {"kept_by_database": 1})


def test_a_role_needs_to_read_and_to_delete_and_nothing_else(purging: Purging) -> None:
    purging.database.execute(events_table())  # strategy `settled`, whose runs need to see all sessions
    purging.insert("a", "b")
    purging.run()
    with purging.database.role() as url:
        role = url.split("//")[1].split(":")[0]
        purging.database.execute(f"GRANT SELECT ON events TO {role}")
        purging.source = source_of(url, purge=True)
        assert purging.purge(dry_run=True).rows == 2
        with pytest.raises(SourceError, match=r"may not delete from public\.events") as raised:
            purging.purge()
        assert raised.value.hint.startswith('GRANT DELETE ON "public"."events" TO the role')
        assert PASSWORD not in f"{raised.value.message} {raised.value.hint}"
        purging.database.execute(f"GRANT DELETE ON events TO {role}")
        assert purging.purge().rows == 2


def test_a_dry_run_could_not_delete_if_it_would(purging: Purging) -> None:
    purging.create()
    purging.insert("a")
    rows = open_old_rows(purging.source, deletes=False)
    ((version,),) = purging.database.query("SELECT xmin::text FROM events")
    with pytest.raises(DatabaseError, match="read-only transaction"):
        rows.delete([("a",)], [version])
    rows.close()
    assert purging.ids() == ["a"]


@pytest.mark.parametrize("action", ["CASCADE", "SET NULL", "SET DEFAULT"])
def test_a_table_whose_rows_take_others_with_them_is_refused(purging: Purging, action: str) -> None:
    purging.create()
    purging.insert("a")
    purging.run()
    purging.database.execute(f"CREATE TABLE notes (event text REFERENCES events ON DELETE {action})")
    with pytest.raises(ConfigError, match="would delete or change rows of notes"):
        purging.purge()
    purging.database.execute("DROP TABLE notes; CREATE TABLE notes (event text REFERENCES events)")
    purging.database.execute("INSERT INTO notes VALUES ('a')")
    with pytest.raises(DatabaseError) as raised:
        purging.purge()
    assert "rows of another table point to these" in raised.value.hint
    assert purging.ids() == ["a"]


def test_another_database_of_the_same_name_is_refused(purging: Purging) -> None:
    purging.create()
    purging.insert("a")
    purging.run()
    purging.database.execute("ALTER TABLE events RENAME TO events_2")
    purging.set(table="events_2")
    with pytest.raises(SourceError, match="not the database that was read before"):
        purging.purge()


def test_a_query_is_nothing_to_delete_from(purging: Purging) -> None:
    purging.create()
    purging.database.execute("CREATE VIEW seen AS SELECT * FROM events")
    purging.set(table="seen", key=("id",))
    with pytest.raises(ConfigError, match="is a query or a view"):
        purging.purge()


def test_keys_of_any_type_in_any_partition_are_found_again(purging: Purging) -> None:
    purging.database.execute(
        f"""
        CREATE TYPE kind AS ENUM ('it''s', 'b');
        CREATE TABLE events (id text, workspace_id text, actor_id text, action text, {XID},
            created_at timestamptz, n numeric, u uuid, k kind, "b c" bytea, f float8,
            PRIMARY KEY (created_at, id, n, u, k, "b c", f)) PARTITION BY RANGE (created_at);
        CREATE TABLE one PARTITION OF events FOR VALUES FROM ('2000-01-01') TO ('{ago(100)}');
        CREATE TABLE two PARTITION OF events FOR VALUES FROM ('{ago(100)}') TO ('2999-01-01');
        """
    )
    purging.database.query(
        "INSERT INTO events SELECT 'a\"\\'' ' || g, 'ws', 'u', 'x', pg_current_xact_id(),"
        " $1::text::timestamptz + g * interval '7 hours 0.000001 s', 1.50 + g, gen_random_uuid(), 'it''s',"
        " '\\x00ff', 0.1::float8 + g FROM generate_series(0, 9) g",
        ago(101),
    )
    purging.run()
    report = purging.purge(batch_rows=3)
    assert (report.rows, report.stayed, purging.ids()) == (10, {}, [])


def test_two_rows_with_one_key_are_never_deleted_for_one(purging: Purging) -> None:
    purging.create()
    rows = open_old_rows(purging.source, deletes=True)
    purging.database.execute("CREATE TABLE heir () INHERITS (events)")
    with purging.database.session() as one:
        one.run("INSERT INTO events (id) VALUES ('a')")
        one.run("INSERT INTO heir (id) VALUES ('a')")
        one.commit()
    ((version,), _) = purging.database.query("SELECT xmin::text FROM events")
    for keys in ([("a",)], [("a",), ("a",)]):
        with pytest.raises(SourceError, match="have one key"):
            rows.delete(keys, [version] * len(keys))
    rows.close()
    assert purging.ids() == ["a", "a"]


def test_a_purge_that_is_killed_leaves_whole_transactions_and_the_next_goes_on(
    purging: Purging, tmp_path: Path
) -> None:
    purging.create("note text")
    ids = [f"{number:02}" for number in range(20)]
    purging.insert(*ids)
    purging.run()
    (tmp_path / "archiver.toml").write_text(
        f'[archive]\nlocation = "{purging.archive.store.location}"\n'
        f'[sources.app]\ntype = "database"\nurl_env = "{URL_ENV}"\ntable = "events"\npurge = true\n'
    )
    words = ("-m", "archiver", "purge", "app", "--older-than", "90d", "--batch-rows", "4")
    with purging.database.session() as other:
        other.run("UPDATE events SET note = 'now' WHERE id = '09'")
        killed = subprocess.Popen([sys.executable, *words], cwd=tmp_path)
        try:
            wait_for_a_lock(purging.database)
        finally:
            killed.send_signal(signal.SIGKILL)
            killed.wait()
    assert purging.ids() == ids[8:]
    assert purging.purge().rows == 12
    assert purging.ids() == []


def test_the_command_tells_what_it_did_and_ends_with_a_code(
    purging: Purging, archiver: Archiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(URL_ENV, purging.database.url)
    purging.create("note text")
    purging.insert("a", "b\x1b[31m", note="then")
    purging.run()
    settings = f'[archive]\nlocation = "{purging.archive.store.location}"\n'
    settings += f'[sources.app]\ntype = "database"\nurl_env = "{URL_ENV}"\ntable = "events"\n'
    Path("archiver.toml").write_text(settings)
    words = ("purge", "app", "--older-than", "90d")
    assert "nothing may be deleted from it" in (refused := archiver(*words)).err
    assert refused.code == 2
    told = archiver(*words, "--dry-run")
    assert told.code == 0
    assert "2 rows of days before" in told.out
    assert "would be deleted" in told.out
    assert "purge = true is not under [sources.app]" in told.out
    Path("archiver.toml").write_text(settings + "purge = true\n")
    purging.database.query("UPDATE events SET note = 'now' WHERE id <> 'a'")
    done = archiver(*words)
    assert done.code == 3
    assert "1 row of days before" in done.out
    assert "stay: 1 say something else than the archive, or more" in done.out
    assert "\x1b" not in done.out
    again = archiver(*words, "--json")
    assert again.code == 3
    assert again.document["message_type"] == "purge_report"
    assert again.document["stayed"] == {"differs": 1}
    assert "b\\u001b[31m" in again.out
    (example,) = again.document["examples"]["differs"]
    assert example["detail"] == 'note: archived "then", now "now"'
    assert archiver("purge", "other", "--older-than", "90d").code == 2
    assert purging.database.server.password not in done.out + done.err + again.out


def test_a_command_that_fails_half_way_says_how_many_rows_are_gone(
    purging: Purging, archiver: Archiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(URL_ENV, purging.database.url)
    purging.create()
    purging.insert(*"abc")
    purging.database.execute(
        "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS"
        " $$ BEGIN IF OLD.id = 'c' THEN RAISE EXCEPTION 'never'; END IF; RETURN OLD; END $$;"
        "CREATE TRIGGER refuse BEFORE DELETE ON events FOR EACH ROW EXECUTE FUNCTION refuse();"
    )
    purging.run()
    Path("archiver.toml").write_text(
        f'[archive]\nlocation = "{purging.archive.store.location}"\n'
        f'[sources.app]\ntype = "database"\nurl_env = "{URL_ENV}"\ntable = "events"\npurge = true\n'
    )
    done = archiver("purge", "app", "--older-than", "90d", "--batch-rows", "1")
    assert done.code == 1
    assert "2 rows deleted before this" in done.err
    assert "ERROR: never" in done.err
    assert "nothing of this transaction was deleted" in done.err
    assert purging.ids() == ["c"]


def test_a_column_that_comes_while_it_runs_is_not_deleted_unseen(
    purging: Purging, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("archiver.purge.run._PAGE_ROWS", 2)
    purging.create()
    purging.insert(*"abcd")
    purging.run()
    place = _Purge._place

    def between_pages(self: _Purge, page: Any) -> Any:
        purging.database.execute("ALTER TABLE events ADD COLUMN case_number text")
        purging.database.execute("UPDATE events SET case_number = '7'")
        return place(self, page)

    monkeypatch.setattr(_Purge, "_place", between_pages)
    with pytest.raises(SourceError, match="got other columns meanwhile"):
        purging.purge()
    assert purging.ids() == ["c", "d"]


def test_a_partition_whose_parent_has_rows_that_point_to_it_is_refused(purging: Purging) -> None:
    purging.database.execute(
        events_table(XID, key="id text", name="root").rstrip(";")
        + " PARTITION BY RANGE (created_at); ALTER TABLE root ADD PRIMARY KEY (id, created_at);"
        "CREATE TABLE events PARTITION OF root DEFAULT;"
        "CREATE TABLE notes (id text, at timestamptz, FOREIGN KEY (id, at) REFERENCES root ON DELETE CASCADE)"
    )
    purging.insert("a")
    purging.run()
    with pytest.raises(ConfigError, match="would delete or change rows of notes"):
        purging.purge()


def test_a_key_that_cascades_and_came_while_it_runs_stops_the_transaction(
    purging: Purging, after_proof: Callable[[Callable[[], Any]], None]
) -> None:
    purging.create()
    purging.insert("a")
    purging.run()
    notes = (
        "CREATE TABLE notes (event text REFERENCES events ON DELETE CASCADE);INSERT INTO notes VALUES ('a')"
    )
    after_proof(lambda: purging.database.execute(notes))
    with pytest.raises(ConfigError, match="would delete or change rows of notes"):
        purging.purge()
    assert purging.ids() == ["a"]
    assert purging.database.query("SELECT count(*) FROM notes") == [(1,)]
