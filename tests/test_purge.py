"""`purge`: which rows go, and that nothing goes that the archive does not hold."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from archiver.archive import open_archive
from archiver.compact import compact
from archiver.compact.plan import Policy
from archiver.config import Retention
from archiver.errors import CommitConflictError, ConfigError, IntegrityError, SourceError
from archiver.identity import Identities
from archiver.progress import Silent
from archiver.purge import purge
from archiver.retain import retain
from archiver.spans import parse_span
from archiver.validate import Rules
from tests.conftest import S3Place
from tests.database.tables import XID
from tests.purging import Purging, after_proof, ago, purging
from tests.support import archive_bodies, event, ids_of, new_archive

__all__ = ["after_proof", "purging"]  # fixtures: pytest finds them here by name


def _delivered(event_id: str, days: float = 100, **members: Any) -> bytes:
    """What a webhook tells of a row that `Purging.insert` adds, all of it."""
    return event(event_id, timestamp=ago(days), created_at=ago(days), **members)


def test_old_rows_that_are_archived_go_and_the_others_stay(purging: Purging) -> None:
    purging.create("metadata jsonb", "note text")
    purging.insert("a", "b", metadata='{"n": 1.50}', note='say "x"')
    purging.insert("first too new", days=90)
    purging.insert("last old", days=90.0001)
    purging.run()
    purging.insert("not read yet")
    report = purging.purge()
    assert purging.ids() == ["first too new", "not read yet"]
    assert (report.rows, report.stayed, report.needs_somebody) == (3, {"too_new": 1}, False)
    assert report.deleted == {("ws_1", ago(100)[:10]): 2, ("ws_1", ago(90.0001)[:10]): 1}
    assert (report.before, report.not_archived_columns) == (ago(90)[:10], ("xid",))
    assert ids_of(purging.archive) == ["a", "b", "first too new", "last old"]
    assert purging.purge().rows == 0


def test_a_row_that_the_database_calls_old_is_looked_at_again(
    purging: Purging, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("archiver.database.postgres_old.PostgresOldRows._aged", lambda *_: "true")
    purging.create()
    purging.insert("new", days=90)
    purging.insert("old", days=91)
    purging.run()
    report = purging.purge()
    assert (purging.ids(), list(report.stayed)) == (["new"], ["too_new"])


def test_a_row_behind_the_cursor_stays_whatever_the_archive_holds(purging: Purging) -> None:
    purging.create()
    purging.insert("a")
    purging.run()
    purging.insert("b")
    archive_bodies(purging.archive, _delivered("b"))
    purging.purge()
    assert purging.ids() == ["b"]


def test_a_dry_run_says_what_a_purge_then_does_and_deletes_nothing(purging: Purging) -> None:
    purging.create("metadata json")
    purging.insert("a", "b", "c")
    purging.run()
    purging.database.execute("UPDATE events SET metadata = '{\"k\": 1}' WHERE id = 'b'")
    told = purging.purge(dry_run=True)
    assert purging.ids() == ["a", "b", "c"]
    done = purging.purge()
    assert purging.ids() == ["b"]
    assert (told.deleted, told.stayed, told.verified_files) == (
        done.deleted,
        done.stayed,
        done.verified_files,
    )
    assert (told.rows, told.verified_files, told.transactions) == (2, 1, 0)


def test_a_limit_ends_a_purge_and_the_next_goes_on(purging: Purging) -> None:
    purging.create()
    purging.insert(*"abcde")
    purging.run()
    report = purging.purge(limit=2, batch_rows=1)
    assert (report.rows, report.transactions, report.stopped) == (2, 2, "limit")
    assert purging.ids() == ["c", "d", "e"]
    assert purging.purge(limit=3).rows == 3


def test_progress_is_told_with_an_estimate(purging: Purging) -> None:
    class Telling(Silent):
        total: int | None = None
        rows = 0

        def start(self, what: str, total_bytes: int | None, total_rows: int | None = None) -> None:
            self.total = total_rows

        def advance(self, *, bytes_done: int = 0, rows: int = 0) -> None:
            self.rows += rows

    telling = Telling()
    purging.create()
    purging.insert("a", "b")
    purging.run()
    purging.database.execute("ANALYZE events")
    purging.purge(progress=telling)
    assert (telling.rows, telling.total) == (2, 2)


def test_without_purge_in_the_settings_nothing_is_deleted(purging: Purging) -> None:
    purging.create()
    purging.insert("a")
    purging.run()
    purging.set(purge=False)
    with pytest.raises(ConfigError) as raised:
        purging.purge()
    assert "purge = true under [sources.app]" in raised.value.hint
    assert purging.purge(dry_run=True).rows == 1
    assert purging.ids() == ["a"]


def test_a_source_that_was_never_archived_is_refused(purging: Purging) -> None:
    purging.create()
    purging.insert("a")
    with pytest.raises(SourceError, match="no row of it was archived yet"):
        purging.purge()


def test_a_row_that_was_never_archived_stays(purging: Purging) -> None:
    purging.create()
    purging.insert("a")
    purging.run()
    purging.insert("late", xid="1")  # as if it had been passed over
    report = purging.purge()
    assert purging.ids() == ["late"]
    assert (report.stayed, report.needs_somebody) == ({"not_archived": 1}, True)
    assert [(one.id, one.key) for one in report.examples["not_archived"]] == [("late", ("late",))]


def test_a_row_that_knows_more_than_the_archive_stays(purging: Purging) -> None:
    purging.create("metadata json", "note text")
    archive_bodies(
        purging.archive,
        _delivered("less", metadata={"a": {"b": 1}}),
        _delivered("all", metadata={"a": {"b": 1, "c": 2}}, note="n"),
    )
    purging.insert("z")
    purging.run()
    purging.insert("less", "all", metadata='{"a": {"b": 1.0, "c": 2}}', note="n", xid="1")
    report = purging.purge()
    assert purging.ids() == ["less"]
    assert report.examples["differs"][0].detail == "not in the archive: metadata.a.c, note"
    assert report.stayed == {"differs": 1}


def test_a_row_whose_rest_is_a_supplement_goes(purging: Purging) -> None:
    purging.create("metadata json", "note text")
    archive_bodies(purging.archive, _delivered("a", metadata={"k": 1}))
    purging.insert("a", metadata='{"k": 1}', note="n")
    assert purging.run().counts.supplements == 1
    assert purging.purge(dry_run=True).rows == 1
    # By its members: a further one is null now, so its bytes are in no file.
    purging.database.execute("UPDATE events SET metadata = '{ \"k\" : 1 }'")
    report = purging.purge()
    assert (purging.ids(), report.verified_files) == ([], 2)


def test_a_row_that_was_changed_since_it_was_archived_stays(purging: Purging) -> None:
    purging.create("note text")
    purging.insert("a", note="then")
    purging.insert("b")
    purging.run()
    purging.database.execute("UPDATE events SET note = 'now' WHERE id = 'a'")
    report = purging.purge()
    assert purging.ids() == ["a"]
    assert report.examples["differs"][0].detail == 'note: archived "then", now "now"'


def test_a_row_in_quarantine_stays(purging: Purging) -> None:
    # The archive holds what a careless parser would make of it.
    purging.create("metadata json")
    archive_bodies(purging.archive, _delivered("a", metadata={"k": 2}))
    purging.insert("a", metadata='{"k": 1, "k": 2}')
    purging.insert("b", metadata='{"k": 2}')
    assert purging.run().counts.quarantined == 1
    report = purging.purge()
    assert purging.ids() == ["a"]
    assert report.stayed == {"in_quarantine": 1}
    assert report.examples["in_quarantine"][0].detail.startswith("invalid: metadata: ")


def test_what_a_users_schema_refuses_is_said_to_be_in_quarantine(purging: Purging) -> None:
    purging.create()
    purging.insert("a")
    purging.run()
    purging.insert("b", xid="1", action="forbidden")
    schema = json.dumps({"properties": {"action": {"not": {"const": "forbidden"}}}})
    report = purging.purge(rules=Rules("app", {"events": schema}))
    assert (report.stayed, purging.ids()) == ({"in_quarantine": 1}, ["b"])


def test_an_event_of_another_time_is_another_event(purging: Purging) -> None:
    purging.create()
    archive_bodies(purging.archive, event("a", timestamp=ago(140)))
    purging.insert("z")
    purging.run()
    purging.insert("a", xid="1")
    assert purging.purge().stayed == {"not_archived": 1}


def _damage(purging: Purging, workspace: str) -> str:
    (file,) = purging.archive.ledger.refresh().files.select("events", workspaces=[workspace])
    content = bytearray(purging.archive.store.get(file.key))
    content[100] ^= 1
    purging.archive.store.delete([file.key])
    purging.archive.store.put(file.key, bytes(content))
    return file.key


def test_of_a_damaged_file_nothing_is_deleted(purging: Purging) -> None:
    purging.create()
    purging.insert("a", "b")
    purging.insert("c", workspace_id="ws_2")
    purging.run()
    key = _damage(purging, "ws_1")
    for dry_run in (True, False):
        with pytest.raises(IntegrityError) as raised:
            purging.purge(dry_run=dry_run)
        assert raised.value.message.startswith(f"{key}: expected sha256:")
    assert {"a", "b"} <= set(purging.ids())


def test_a_file_that_is_gone_is_damage_and_deletes_nothing(purging: Purging) -> None:
    purging.create()
    purging.insert("a")
    purging.run()
    (file,) = purging.archive.ledger.snapshot.files.select("events")
    purging.archive.store.delete([file.key])
    with pytest.raises(IntegrityError, match="missing, though the ledger names it"):
        purging.purge()
    assert purging.ids() == ["a"]


def test_each_file_is_read_once(purging: Purging, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("archiver.purge.run._PAGE_ROWS", 2)
    purging.create()
    purging.insert(*"abcdefg")
    purging.run()
    (file,) = purging.archive.ledger.snapshot.files.select("events")
    report = purging.purge()
    assert (report.rows, report.verified_files, report.verified_bytes) == (7, 1, file.bytes)


def test_a_file_that_no_commit_names_proves_nothing(purging: Purging, tmp_path: Path) -> None:
    purging.create()
    purging.insert("a")
    purging.run()
    purging.insert("b", xid="1")
    other = new_archive(tmp_path / "other")
    archive_bodies(other, _delivered("b"))
    (made,) = other.ledger.snapshot.files.select("events")
    archive = open_archive(purging.archive.store)
    (there,) = archive.ledger.snapshot.files.select("events")
    planted = replace(made, key=there.key.replace("-0.parquet", "-9.parquet"))
    archive.store.put(planted.key, other.store.get(made.key))
    archive.ledger.snapshot.files.add(planted, 1)  # as a forged checkpoint would have it
    with pytest.raises(IntegrityError, match="no commit named it"):
        purge(archive, purging.source, parse_span("90d"))
    assert purging.ids() == ["a", "b"]


def test_a_compaction_meanwhile_sends_the_page_to_the_new_files(
    purging: Purging, after_proof: Callable[[Callable[[], Any]], None]
) -> None:
    purging.create()
    for one in "abc":
        purging.insert(one)
        purging.run()
    after_proof(lambda: compact(open_archive(purging.archive.store), Policy(min_files=2)))
    report = purging.purge()
    assert (purging.ids(), report.rows, report.verified_files) == ([], 3, 4)


def test_what_expired_meanwhile_is_not_deleted(
    purging: Purging, after_proof: Callable[[Callable[[], Any]], None]
) -> None:
    purging.create()
    purging.insert(*"ab")
    purging.insert("c", days=95)
    purging.run()
    after_proof(lambda: retain(open_archive(purging.archive.store), Retention(keep=parse_span("97d"))))
    report = purging.purge()
    assert (purging.ids(), report.stayed) == (["a", "b"], {"not_archived": 2})


def test_an_archive_that_never_stands_still_is_given_up(
    purging: Purging, monkeypatch: pytest.MonkeyPatch
) -> None:
    purging.create()
    purging.insert("a")
    purging.run()
    monkeypatch.setattr("archiver.purge.run._Purge._are_live", lambda *_: False)
    with pytest.raises(CommitConflictError):
        purging.purge()
    assert purging.ids() == ["a"]


def test_columns_that_are_not_archived_go_only_if_somebody_says_so(purging: Purging) -> None:
    purging.create("secret text", "who text")
    purging.set(exclude=("secret",), columns={"actor_id": "who"})
    purging.insert("a", secret="s", who="u")
    purging.run()
    assert purging.purge(dry_run=True).not_archived_columns == ("actor_id", "xid", "secret")
    with pytest.raises(ConfigError, match="would go with the rows: actor_id, secret") as raised:
        purging.purge()
    assert "--without-excluded" in raised.value.hint
    assert purging.ids() == ["a"]
    assert purging.purge(without_excluded=True).rows == 1


def test_an_archive_of_json_lines_proves_as_well(purging: Purging, tmp_path: Path) -> None:
    purging.archive = new_archive(tmp_path / "lines", format="jsonl.zst")
    purging.create("metadata json", "note text")
    archive_bodies(purging.archive, _delivered("told", metadata={"k": 1}))
    purging.insert("told", "more", metadata='{"k":\n1}')
    purging.insert("plain", note="n")
    purging.run()
    purging.insert("never", xid="1")
    purging.insert("changed", note="then")
    purging.run()
    purging.database.execute("UPDATE events SET note = 'now' WHERE id = 'changed'")
    report = purging.purge()
    assert (purging.ids(), report.stayed) == (["changed", "never"], {"not_archived": 1, "differs": 1})


def test_an_archive_on_s3_proves_as_well(purging: Purging, moto_bucket: S3Place) -> None:
    purging.archive = new_archive(moto_bucket.store())
    purging.create()
    purging.insert("a", "b")
    purging.run()
    (file,) = purging.archive.ledger.snapshot.files.select("events")
    report = purging.purge(batch_rows=1)
    assert (report.rows, report.verified_bytes, purging.ids()) == (2, file.bytes, [])


def test_memory_that_is_full_costs_reading_and_no_row(
    purging: Purging, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("archiver.purge.verified._REMEMBERED_ROWS", 1)
    monkeypatch.setattr("archiver.purge.verified._HELD_BYTES", 1)
    monkeypatch.setattr("archiver.purge.run._PAGE_ROWS", 2)
    purging.create()
    for number, one in enumerate("abcdef"):
        purging.insert(one, workspace_id=f"ws_{number % 2}")
    purging.run()
    report = purging.purge()
    assert (purging.ids(), report.verified_files) == ([], 2)
    assert report.verified_bytes > sum(file.bytes for file in purging.archive.ledger.snapshot.files.values())


def test_rows_without_created_at_are_as_old_as_they_say(purging: Purging) -> None:
    purging.database.execute(
        f"CREATE TABLE events (id text PRIMARY KEY, workspace_id text, actor_id text, action text, {XID},"
        " created_at timestamptz, occurred_at text)"
    )
    for one, created, occurred in (
        ("a", None, ago(100)),
        ("b", None, ago(80)),
        ("c", ago(80), ago(100)),
        ("d", ago(100), ago(80)),
    ):
        purging.database.query(
            "INSERT INTO events VALUES ($1, 'ws', 'u', 'x', DEFAULT, $2::text::timestamptz, $3)",
            one, created, occurred,
        )  # fmt: skip
    purging.run()
    purging.purge()
    assert purging.ids() == ["b", "c"]


def test_a_purge_beside_runs_takes_no_row_that_was_not_archived(purging: Purging) -> None:
    purging.create()
    stop = threading.Event()
    problems: list[BaseException] = []

    def write_and_run() -> None:
        try:
            for number in range(6):
                purging.insert(f"{number:02}-a", f"{number:02}-b")
                purging.archive.ledger.refresh()
                purging.run()
        except BaseException as error:
            problems.append(error)
        finally:
            stop.set()

    purging.insert("first")
    purging.run()
    writer = threading.Thread(target=write_and_run)
    writer.start()
    deleted = 0
    while not stop.is_set():
        deleted += purging.purge(batch_rows=1).rows
    writer.join()
    deleted += purging.purge().rows
    assert problems == []
    assert (deleted, purging.ids()) == (13, [])
    assert len(ids_of(purging.archive)) == 13


def test_every_row_is_looked_up_by_the_files_and_not_by_a_stale_index(
    purging: Purging, monkeypatch: pytest.MonkeyPatch
) -> None:
    purging.create()
    purging.insert("a", "b")
    purging.run()
    hits = Identities.hits

    def wrong(self: Identities, frame: Any, background: Any) -> Any:
        """An index that swears that every row is in every file."""
        found = hits(self, frame, background)
        return {file.key: next(iter(found.values())) for file in background.files.select()}

    archive_bodies(purging.archive, event("other", timestamp=ago(100)))
    purging.insert("c", xid="1")
    monkeypatch.setattr(Identities, "hits", wrong)
    assert purging.purge().rows == 2
    assert purging.ids() == ["c"]
