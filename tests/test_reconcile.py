"""A database held against the archive: what is missing is found, what is not is not called so."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from archiver import clock
from archiver.archive import open_archive
from archiver.compact import compact
from archiver.config import Retention
from archiver.database.settings import Database
from archiver.errors import ConfigError, SourceError
from archiver.ledger.entry import DataFile
from archiver.reconcile import archived, reconcile
from archiver.spans import Span
from archiver.store.base import Store
from archiver.verify import verify
from tests.reconciling import (
    DAY,
    URL_ENV,
    Application,
    ReadingStore,
    app,
    missing,
    only_archived,
    shared_database,
    table,
)
from tests.support import archive_bodies, event, new_archive

__all__ = ["app", "shared_database"]


def _webhook(event_id: str, at: str, workspace: str = "ws_1") -> bytes:
    return event(event_id, workspace=workspace, timestamp=at)


# --- where nothing is missing ---------------------------------------------------------------


def test_where_counts_agree_no_data_file_is_read(app: Application) -> None:
    app.insert("a1", "a2")
    app.insert("b1", workspace="ws_2", at="2026-03-27T00:00:00Z")
    app.run()
    store = app.archive.store
    assert isinstance(store, ReadingStore)
    store.read.clear()
    report = app.reconcile()
    assert (report.database, report.archived, report.missing, report.compared) == (3, 3, 0, 0)
    assert report.places == 2
    assert store.data_files_read == 0
    assert report.exit_code == 0


def test_rows_behind_the_cursor_are_not_missing(app: Application) -> None:
    app.insert("a1")
    app.run()
    app.insert("a2", "a3")
    report = app.reconcile()
    assert (report.database, report.waiting, report.missing) == (1, 2, 0)


def test_rows_of_one_transaction_behind_the_cursor_are_not_missing(app: Application) -> None:
    app.source = Database("app", url_env=URL_ENV, table="events", batch_rows=2)
    app.database.query(
        "INSERT INTO events (id, workspace_id, actor_id, action, created_at)"
        f" SELECT 'e' || n, 'ws_1', 'u', 'x', '{DAY}T12:00:00Z' FROM generate_series(1, 5) AS n"
    )
    app.run(batches=1)
    report = app.reconcile(every_id=True)
    assert (report.database, report.waiting, report.missing) == (2, 3, 0)


def test_a_webhook_of_a_row_that_is_not_due_is_not_only_archived(app: Application) -> None:
    app.insert("a1")
    app.run()
    app.insert("a2")
    archive_bodies(app.archive, _webhook("a2", f"{DAY}T12:00:01Z"))
    report = app.reconcile()
    assert (report.compared, report.missing, report.only_archived) == (1, 0, 0)


def test_an_event_delivered_after_midnight_is_not_missing(app: Application) -> None:
    app.insert("late", at=f"{DAY}T23:59:59.900Z")
    app.insert("noon")
    archive_bodies(app.archive, _webhook("late", "2026-03-27T00:00:01Z"))
    app.run()
    report = app.reconcile()
    assert {(one.day, one.due, one.archived) for one in report.days} == set()
    assert (report.missing, report.only_archived, report.elsewhere, report.compared) == (0, 0, 1, 2)


@pytest.mark.parametrize(("since", "until"), [(DAY, "2026-03-27"), ("2026-03-27", "2026-03-28")])
def test_what_lies_beyond_the_days_that_are_asked_for_is_looked_for(
    app: Application, since: str, until: str
) -> None:
    app.insert("late", at=f"{DAY}T23:59:59.900Z")
    archive_bodies(app.archive, _webhook("late", "2026-03-27T00:00:01Z"))
    app.run()
    report = app.reconcile(
        since_us=clock.from_text(f"{since}T00:00:00.000000Z"),
        until_us=clock.from_text(f"{until}T00:00:00.000000Z"),
    )
    assert (report.missing, report.only_archived, report.compared) == (0, 0, 1)


def test_a_webhook_delivered_weeks_later_is_found_in_the_identity_window(app: Application) -> None:
    app.insert("a1")
    archive_bodies(app.archive, _webhook("a1", "2026-04-20T12:00:00Z"))
    app.run()
    report = app.reconcile()
    assert (report.missing, report.elsewhere) == (0, 1)


def test_rows_that_add_to_a_webhook_or_repeat_it_are_not_missing(app: Application) -> None:
    archive_bodies(app.archive, _webhook("a1", f"{DAY}T12:00:01Z"), _webhook("a2", f"{DAY}T12:00:01Z"))
    app.insert("a1", "a2", "a3")
    assert app.run().counts.supplements == 2
    report = app.reconcile(every_id=True)
    assert (report.database, report.archived, report.missing, report.compared) == (3, 3, 0, 1)


def test_two_rows_with_one_id_are_one_event(app: Application) -> None:
    app.database.execute("ALTER TABLE events DROP CONSTRAINT events_pkey, ADD n serial PRIMARY KEY")
    app.source = Database("app", url_env=URL_ENV, table="events", exclude=("n",))
    app.insert("a1", "a1", "a2")
    assert app.run().counts.duplicates == 1
    report = app.reconcile()
    assert (report.database, report.archived, report.missing, report.repeated) == (3, 2, 0, 1)


def test_rows_in_quarantine_are_told_apart_and_need_no_look_at_ids(app: Application) -> None:
    app.insert("good")
    app.insert("bad", action=None)
    assert app.run().counts.quarantined == 1
    report = app.reconcile()
    assert (report.database, report.archived, report.quarantined, report.missing) == (2, 1, 1, 0)
    assert report.compared == 0
    again = app.reconcile(every_id=True)
    assert (again.quarantined, again.missing, again.exit_code) == (1, 0, 0)


def test_a_row_without_identity_is_known_in_quarantine_by_its_body(app: Application) -> None:
    app.insert("bad", workspace=None)
    app.insert("good")
    app.run()
    report = app.reconcile(every_id=True)
    assert (report.quarantined, report.missing) == (1, 0)
    app.insert("worse", workspace=None, passed_over=True)
    report = app.reconcile()
    assert (report.quarantined, missing(report)) == (1, ["worse"])


def test_a_row_that_left_quarantine_without_being_archived_is_missing(
    app: Application, monkeypatch: pytest.MonkeyPatch
) -> None:
    app.insert("bad", action=None)
    app.insert("good")
    app.run()
    monkeypatch.setattr("archiver.reconcile.quarantined.entries", lambda *_: iter(()))
    assert missing(app.reconcile()) == ["bad"]


def test_what_retention_lets_expire_is_not_missed(app: Application) -> None:
    app.insert("a1")
    app.run()
    app.insert("a2", passed_over=True)
    assert app.reconcile().missing == 1
    report = app.reconcile(retention=Retention(keep=Span(2, "mo")))
    assert (report.missing, report.places, report.retained) == (0, 0, 1)
    own = Retention(keep=Span(2, "mo"), workspaces={"ws_1": None})
    assert app.reconcile(retention=own).missing == 1


# --- where something is ---------------------------------------------------------------------


@pytest.mark.parametrize("form", ["parquet", "jsonl.gz"])
def test_a_row_that_was_passed_over_is_found_and_repaired_once(
    app: Application, tmp_path: Path, form: str
) -> None:
    app.archive = new_archive(ReadingStore(tmp_path / form), format=form)
    app.insert("a1", "a2")
    app.insert("b1", workspace="ws_2")
    app.run()
    app.insert("lost", passed_over=True)
    assert app.run().counts.read == 0
    before = app.archive.ledger.refresh().cursors["app"]
    report = app.reconcile()
    assert (missing(report), report.missing, report.compared, report.exit_code) == (["lost"], 1, 1, 1)
    assert [(one.workspace, one.due, one.archived, one.missing) for one in report.days] == [("ws_1", 3, 2, 1)]

    repaired = app.reconcile(repair=True)
    assert repaired.repair is not None
    assert (repaired.repair.counts.archived, repaired.repair.left, repaired.exit_code) == (1, 0, 0)
    assert app.archive.ledger.refresh().cursors["app"] == before
    again = app.reconcile(repair=True, every_id=True)
    assert again.repair is not None
    assert (again.missing, again.repair.counts.read, again.database, again.archived) == (0, 0, 4, 4)
    app.insert("later")
    assert app.run().counts.archived == 1
    assert verify(app.archive.store).damage_count == 0


def test_a_row_with_an_old_time_is_found_under_settled(app: Application) -> None:
    app.database.execute("DROP TABLE events")
    app.database.execute(
        table().replace("created_at timestamptz DEFAULT", "created_at timestamptz NOT NULL DEFAULT")
    )
    app.source = Database("app", url_env=URL_ENV, table="events", strategy="settled", lag_seconds=0)
    app.insert("a1")
    app.run()
    app.insert("older", at=f"{DAY}T11:00:00Z")  # by its client, which this strategy does not cover
    assert app.run().counts.read == 0
    report = app.reconcile(repair=True)
    assert missing(report) == ["older"]
    assert app.reconcile(every_id=True).missing == 0


def test_an_event_that_only_came_by_webhook_is_told_and_is_no_error(app: Application) -> None:
    app.insert("a1")
    app.run()
    archive_bodies(app.archive, _webhook("w1", f"{DAY}T12:00:00Z"))
    report = app.reconcile()
    assert (only_archived(report), report.only_archived, report.missing) == (["w1"], 1, 0)
    assert report.exit_code == 0


def test_days_that_were_purged_are_counted_without_asking_for_each_event(app: Application) -> None:
    app.insert("old1", "old2", at="2026-03-10T12:00:00Z")
    app.insert("a1")
    app.run()
    app.database.query("DELETE FROM events WHERE created_at < '2026-03-20'")
    report = app.reconcile(limit=1)
    assert (report.only_archived, len(report.only_archived_events), report.compared) == (2, 1, 0)
    assert app.reconcile(every_id=True).only_archived == 2


def test_equal_counts_may_hide_a_missing_row_which_ids_find(app: Application) -> None:
    app.insert("a1")
    app.run()
    app.insert("lost", passed_over=True)
    archive_bodies(app.archive, _webhook("w1", f"{DAY}T12:00:00Z"))
    assert app.reconcile().missing == 0
    report = app.reconcile(every_id=True)
    assert (missing(report), only_archived(report)) == (["lost"], ["w1"])


def test_an_id_of_another_workspace_or_beyond_the_window_is_another_event(app: Application) -> None:
    app.insert("a1")
    app.insert("b1", workspace="ws_2")
    app.run()
    app.insert("twin", "old", passed_over=True)
    archive_bodies(
        app.archive,
        _webhook("twin", f"{DAY}T12:00:00Z", "ws_2"),
        _webhook("old", "2026-02-23T11:00:00Z"),  # an hour more than 31 days before the row
        _webhook("near", "2026-02-23T13:00:00Z"),
    )
    report = app.reconcile()
    assert (missing(report), only_archived(report)) == (["old", "twin"], ["twin"])


def test_a_row_that_has_its_time_in_occurred_at_alone_counts_under_it(app: Application) -> None:
    app.insert("a1", "a2")
    app.database.query("UPDATE events SET created_at = NULL, occurred_at = '2026-03-05T00:00:00Z'")
    app.run()
    app.insert("lost", passed_over=True)
    app.database.query(
        "UPDATE events SET created_at = NULL, occurred_at = '2026-03-05T23:59:59.999999Z' WHERE id = 'lost'"
    )
    report = app.reconcile()
    assert [(one.to_json()["day"], one.due, one.missing) for one in report.days] == [("2026-03-05", 3, 1)]


@pytest.mark.parametrize("typ", ["text", "timestamp"])
def test_times_in_columns_of_other_types_count_under_their_utc_day(app: Application, typ: str) -> None:
    written = {
        "text": "'2026-03-06T01:30:00.1234567+02:00'",
        "timestamp": "'2026-03-05T23:30:00'",
    }[typ]
    app.database.execute(
        "ALTER TABLE events ALTER created_at DROP DEFAULT,"
        f" ALTER created_at TYPE {typ} USING created_at::{typ}"
    )
    app.database.query(
        "INSERT INTO events (id, workspace_id, actor_id, action, created_at)"
        f" VALUES ('a1', 'ws_1', 'u', 'x', {written})"
    )
    assert app.run().counts.archived == 1
    app.database.query(
        "INSERT INTO events (id, workspace_id, actor_id, action, created_at, xid)"
        f" VALUES ('lost', 'ws_1', 'u', 'x', {written}, '1')"
    )
    if typ == "text":
        app.database.query(
            "INSERT INTO events (id, workspace_id, created_at, xid) VALUES ('no', 'ws_1', 'soon', '1')"
        )
    report = app.reconcile()
    assert [(one.to_json()["day"], one.due, one.missing) for one in report.days] == [("2026-03-05", 2, 1)]
    assert missing(app.reconcile(every_id=True)) == ["lost"]


def test_a_constant_workspace_is_the_one_that_counts(app: Application) -> None:
    app.database.execute(
        "ALTER TABLE events DROP COLUMN workspace_id; ALTER TABLE events ADD workspace_id int"
    )
    app.source = Database(
        "app",
        url_env=URL_ENV,
        table="events",
        constants={"workspace_id": "ws 'one'"},
        exclude=("workspace_id",),
    )
    app.insert("a1", workspace=None)
    app.run()
    app.insert("lost", workspace=None, passed_over=True)
    report = app.reconcile()
    assert [(one.workspace, one.due, one.archived) for one in report.days] == [("ws 'one'", 2, 1)]
    assert missing(app.reconcile(every_id=True, repair=True)) == ["lost"]
    assert app.reconcile(every_id=True).missing == 0


def test_names_and_texts_of_any_kind_reach_the_statements_as_values(app: Application) -> None:
    hostile = """ws_'"\\;--{}%s $1 \u2028 é"""
    app.database.execute('ALTER TABLE events RENAME COLUMN id TO "i""d; {0} NAME"')
    app.source = Database(
        "app", url_env=URL_ENV, table="events", columns={"id": 'i"d; {0} NAME'}, key=('i"d; {0} NAME',)
    )
    for name, xid in (("a'1", "pg_current_xact_id()"), ('l"o$1st\\', "'1'::xid8")):
        app.database.query(
            f"INSERT INTO events VALUES ($1, $2, 'u', 'x', '{DAY}T12:00:00Z', NULL, {xid})", name, hostile
        )
        app.run()
    report = app.reconcile(repair=True)
    assert missing(report) == ['l"o$1st\\']
    assert app.reconcile(every_id=True).missing == 0


# --- how it is asked ------------------------------------------------------------------------


def test_what_is_missing_is_found_where_files_were_compacted_away_meanwhile(
    app: Application, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(4):
        app.insert(f"a{number}")
        app.run()
    app.insert("lost", passed_over=True)
    real = archived.hashes_of
    calls: list[str] = []

    def vanishing(store: Store, file: DataFile) -> Any:
        if not calls:
            calls.append(file.key)
            compact(open_archive(store))
            store.delete([file.key])
        return real(store, file)

    monkeypatch.setattr(archived, "hashes_of", vanishing)
    assert missing(app.reconcile()) == ["lost"]
    assert calls


def test_a_database_that_was_never_read_is_an_error(app: Application) -> None:
    app.insert("a1")
    with pytest.raises(SourceError, match="never read"):
        app.reconcile()


def test_another_database_than_the_cursors_is_refused(app: Application) -> None:
    app.insert("a1")
    app.run()
    app.database.execute("ALTER TABLE events RENAME TO others")
    app.source = Database("app", url_env=URL_ENV, table="others")
    with pytest.raises(SourceError, match="not the database that was read before"):
        app.reconcile()


def test_no_day_at_all_is_a_configuration_error(app: Application) -> None:
    with pytest.raises(ConfigError, match="no day"):
        reconcile(app.archive, app.source, since_us=clock.now_us(), until_us=0)


def test_by_default_the_last_days_and_today_are_compared(app: Application) -> None:
    app.database.query(
        "INSERT INTO events (id, workspace_id, actor_id, action, created_at) VALUES"
        " ('now', 'ws_1', 'u', 'x', now()), ('old', 'ws_1', 'u', 'x', now() - interval '31 days')"
    )
    app.run()
    report = app.reconcile(since_us=None, until_us=None)
    assert (report.database, report.archived, report.until_day - report.since_day) == (1, 1, 30)
