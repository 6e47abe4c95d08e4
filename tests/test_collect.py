"""Deleting what nothing reaches: fence first, look again, then delete."""

from __future__ import annotations

import os
import time
from collections.abc import Iterable
from datetime import timedelta
from pathlib import Path
from typing import Any, cast

import pytest
from click.testing import CliRunner

from archiver import clock, layout
from archiver.archive import Archive, AsOf, open_archive
from archiver.cli.collect import collect_command
from archiver.collect import _unreachable, collect
from archiver.compact import compact
from archiver.errors import ConfigError, PermissionDeniedError
from archiver.ledger import commit as protocol
from archiver.ledger.entry import Content, Hold, Operation
from archiver.ledger.files import Files
from archiver.store.base import Deleted, Store
from archiver.store.local import LocalStore
from archiver.verify import verify
from tests.support import archive_bodies, event, ids_of, new_archive

NOW = timedelta(0)


@pytest.fixture
def archive(tmp_path: Path) -> Archive:
    archive = new_archive(tmp_path / "a")
    archive_bodies(archive, event("a"), b"rubbish")
    return archive


def _leave_behind(store: Store, batch: str = "0" * 32) -> tuple[str, str]:
    """Write what a dead attempt would leave; return its name and its key."""
    attempt = layout.new_attempt()
    key = f"events/workspace=w/dt=2026-03-26/{batch}-{attempt}-0.parquet"
    store.put(key, b"x")
    return attempt, key


def test_a_silent_attempt_is_fenced_and_its_files_deleted(archive: Archive) -> None:
    attempt, key = _leave_behind(archive.store)
    report = collect(archive, grace=NOW, force=True)
    assert (report.fenced, report.deleted) == ([attempt], [key])
    assert attempt in open_archive(archive.store).ledger.snapshot.fenced
    assert ids_of(archive) == ["a"]


def test_what_a_commit_names_is_never_deleted(archive: Archive) -> None:
    before = {info.key for info in archive.store.list()}
    report = collect(archive, grace=NOW, force=True)
    assert report.deleted == report.fenced == []
    assert {info.key for info in archive.store.list()} == before


def test_a_young_attempt_is_left_alone(archive: Archive, tmp_path: Path) -> None:
    _, key = _leave_behind(archive.store)
    assert collect(archive).young == 1
    old = time.time() - 25 * 3600
    os.utime(tmp_path / "a" / key, (old, old))
    assert collect(archive).deleted == [key]


def test_one_young_object_keeps_all_of_its_attempt(archive: Archive, tmp_path: Path) -> None:
    attempt, key = _leave_behind(archive.store)
    archive.store.put(layout.quarantine_file("0" * 32, attempt, 0), b"y")
    old = time.time() - 25 * 3600
    os.utime(tmp_path / "a" / key, (old, old))
    assert collect(archive).deleted == []


def test_an_attempt_overtaken_by_another_of_its_batch_needs_no_fence(archive: Archive) -> None:
    batch = next(
        iter(
            archive.ledger.snapshot.batches.keys()
            - {open_archive(archive.store).ledger.read(0).content.batch}
        )
    )
    _, key = _leave_behind(archive.store, batch)
    report = collect(archive)
    assert (report.fenced, report.deleted) == ([], [key])


def test_a_dry_run_lists_and_changes_nothing(archive: Archive) -> None:
    attempt, key = _leave_behind(archive.store)
    report = collect(archive, grace=NOW, force=True, dry_run=True)
    assert (report.fenced, report.deleted) == ([attempt], [key])
    assert archive.store.get(key) == b"x"
    assert archive.ledger.refresh().sequence == 1


def test_a_grace_below_an_hour_needs_force(archive: Archive) -> None:
    with pytest.raises(ConfigError):
        collect(archive, grace=timedelta(minutes=59))


def test_an_attempt_that_commits_before_the_fence_keeps_its_files(
    archive: Archive, monkeypatch: pytest.MonkeyPatch
) -> None:
    attempt, key = _leave_behind(archive.store)
    doomed, _ = _leave_behind(archive.store, "1" * 32)
    original, raced = protocol.commit, []

    def commit(ledger, content, **rest):  # type: ignore[no-untyped-def]
        if not raced:
            raced.append(True)
            from archiver.ledger.entry import DataFile, digest_of  # noqa: PLC0415

            file = DataFile(key, digest_of(b"x"), 1, 1, 0, 0)
            slow = Content("append", "0" * 32, attempt, added=(file,))
            other = open_archive(archive.store).ledger
            assert isinstance(original(other, slow, seen=other.snapshot.sequence), protocol.Committed)
        return original(ledger, content, **rest)

    monkeypatch.setattr(protocol, "commit", commit)
    report = collect(archive, grace=NOW, force=True)
    assert report.fenced == [doomed]
    assert archive.store.get(key) == b"x"


def test_an_object_that_no_commit_explains_is_left_for_verify(archive: Archive) -> None:
    (file,) = archive.ledger.snapshot.files.values()
    strange = file.key.replace("-0.parquet", "-9.parquet")
    archive.store.put(strange, b"x")
    archive.store.put("events/readme.txt", b"foreign")
    report = collect(archive, grace=NOW, force=True)
    assert report.unexplained == [strange]
    assert report.deleted == []


def test_lists_and_quarantine_of_dead_attempts_go_too(archive: Archive) -> None:
    attempt = layout.new_attempt()
    keys = {layout.quarantine_file("0" * 32, attempt, 0), layout.file_list("0" * 32, attempt, 0)}
    for key in keys:
        archive.store.put(key, b"x")
    assert set(collect(archive, grace=NOW, force=True).deleted) == keys


# --- files that compaction or expiry removed -------------------------------------------------------


def _commit(archive: Archive, operation: Operation, **parts: object) -> int:
    content = Content(operation, os.urandom(16).hex(), layout.new_attempt(), **parts)  # type: ignore[arg-type]
    done = protocol.commit(archive.ledger, content, seen=archive.ledger.snapshot.sequence)
    assert isinstance(done, protocol.Committed)
    return done.commit.sequence


def _expire(archive: Archive, event_id: str) -> tuple[str, int]:
    """Archive an event in a file of its own and let it expire; return the file and the removing commit."""
    before = set(archive.ledger.snapshot.files)
    archive_bodies(archive, event(event_id))
    (key,) = set(archive.ledger.snapshot.files) - before
    return key, _commit(archive, "expire", removed=(key,))


def _is_there(archive: Archive, key: str) -> bool:
    return key in {info.key for info in archive.store.list("events/")}


def _die_before_deleting(archive: Archive) -> None:
    """Collect, and end between the commit and the deletion of data files."""
    delete = archive.store.delete

    def die(keys):  # type: ignore[no-untyped-def]
        if any(key.startswith("events/") for key in keys):
            raise KeyboardInterrupt
        return delete(keys)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(archive.store, "delete", die)
        with pytest.raises(KeyboardInterrupt):
            collect(archive, keep_snapshots=NOW, force=True)


def test_an_expired_file_stays_as_long_as_its_snapshot_is_kept(
    archive: Archive, monkeypatch: pytest.MonkeyPatch
) -> None:
    key, gone = _expire(archive, "b")
    assert collect(archive, grace=NOW, force=True).deleted == []
    later = clock.now_us() + 8 * 86_400_000_000
    monkeypatch.setattr(clock, "now_us", lambda: later)
    report = collect(archive, grace=NOW, force=True)
    assert (report.deleted, report.superseded, report.oldest_readable) == ([key], 1, gone)
    assert not _is_there(archive, key)
    with pytest.raises(ConfigError, match=f"commit {gone - 1} is no longer readable"):
        open_archive(archive.store, as_of=AsOf(gone - 1))
    assert open_archive(archive.store, as_of=AsOf(gone)).ledger.snapshot.sequence == gone
    assert verify(archive.store).damages == []


def test_the_oldest_readable_commit_is_raised_only_where_something_goes(archive: Archive) -> None:
    _expire(archive, "b")
    collect(archive, keep_snapshots=NOW, force=True)
    head = archive.ledger.refresh().sequence
    for _ in range(2):
        assert collect(archive, keep_snapshots=NOW, force=True).deleted == []
    assert archive.ledger.refresh().sequence == head
    archive_bodies(archive, event("c"))
    collect(archive, keep_snapshots=NOW, force=True)
    assert archive.ledger.refresh().sequence == head + 1


def test_a_fence_alone_does_not_raise_it(archive: Archive) -> None:
    attempt, _ = _leave_behind(archive.store)
    assert collect(archive, grace=NOW, keep_snapshots=NOW, force=True).fenced == [attempt]
    assert archive.ledger.refresh().oldest_readable == 0


def test_a_hold_does_not_keep_what_a_compaction_took_over(archive: Archive) -> None:
    for number in range(3):
        archive_bodies(archive, event(f"n{number}"))
    old = set(archive.ledger.snapshot.files)
    compact(archive)
    _commit(archive, "hold", hold=Hold("case-7"))
    report = collect(archive, keep_snapshots=NOW, force=True)
    assert (set(report.deleted), report.held) == (old, [])


def test_one_commit_declares_dead_and_raises_the_oldest_readable(archive: Archive) -> None:
    key, gone = _expire(archive, "b")
    attempt, left = _leave_behind(archive.store)
    report = collect(archive, grace=NOW, keep_snapshots=NOW, force=True)
    assert sorted(report.deleted) == sorted([key, left])
    commit = archive.ledger.read(archive.ledger.refresh().sequence)
    assert (commit.sequence, commit.content.operation) == (gone + 1, "fence")
    assert (commit.content.fenced, commit.oldest_readable) == ((attempt,), gone)


def test_who_raises_it_deletes_nothing_that_a_later_commit_removed(archive: Archive) -> None:
    first, _ = _expire(archive, "b")
    second: list[str] = []
    original = protocol.commit

    def commit(ledger, content, **rest):  # type: ignore[no-untyped-def]
        if content.operation == "fence" and not second:
            second.append("at work")
            second.append(_expire(open_archive(archive.store), "c")[0])
        return original(ledger, content, **rest)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(protocol, "commit", commit)
        report = collect(archive, keep_snapshots=NOW, force=True)
    assert report.deleted == [first]
    assert _is_there(archive, second[1])


def test_what_a_crash_left_between_commit_and_deletion_goes_the_next_time(archive: Archive) -> None:
    key, gone = _expire(archive, "b")
    _die_before_deleting(archive)
    assert _is_there(archive, key)
    assert archive.ledger.refresh().oldest_readable == gone
    assert collect(archive).deleted == [key]


def test_a_dry_run_says_from_where_on_as_of_would_work(archive: Archive, tmp_path: Path) -> None:
    key, gone = _expire(archive, "b")
    report = collect(archive, keep_snapshots=NOW, force=True, dry_run=True)
    assert (report.deleted, report.oldest_readable) == ([key], gone)
    assert (archive.ledger.refresh().sequence, archive.ledger.snapshot.oldest_readable) == (gone, 0)
    options = ["--archive", str(tmp_path / "a"), "--keep-snapshots", "0s", "--force", "--dry-run"]
    told = CliRunner().invoke(collect_command, options).output
    assert key in told
    assert f"--as-of would work from commit {gone} on" in told


def test_snapshots_kept_for_less_than_an_hour_need_force(archive: Archive) -> None:
    with pytest.raises(ConfigError, match="snapshots kept"):
        collect(archive, keep_snapshots=timedelta(minutes=59))


def test_an_expired_file_that_a_hold_covers_stays_and_can_be_asked_for(archive: Archive) -> None:
    early, _ = _expire(archive, "b")
    key, gone = _expire(archive, "c")
    later, _ = _expire(archive, "d")
    about = archive.ledger.at(gone - 1).files[key]
    assert about.min_us == about.max_us
    hold = Hold("case-7", workspace="ws_1")
    _commit(archive, "hold", hold=hold)
    report = collect(archive, keep_snapshots=NOW, force=True)
    assert (report.deleted, report.held) == ([], sorted([early, key, later]))
    _commit(archive, "hold", hold=Hold("case-7", released=True))
    assert sorted(collect(archive, keep_snapshots=NOW, force=True).deleted) == sorted([early, key, later])


def test_only_what_went_before_a_held_file_expired_goes(archive: Archive) -> None:
    before, _ = _expire(archive, "b")
    archive_bodies(archive, event("c", workspace="ws_2"))
    (key,) = (file.key for file in archive.ledger.snapshot.files.select(workspaces=("ws_2",)))
    gone = _commit(archive, "expire", removed=(key,))
    after, _ = _expire(archive, "d")
    _commit(archive, "hold", hold=Hold("case-7", workspace="ws_2"))
    report = collect(archive, keep_snapshots=NOW, force=True)
    assert (report.deleted, report.held, report.oldest_readable) == ([before], [key], gone - 1)
    assert _is_there(archive, after)
    assert key in open_archive(archive.store, as_of=AsOf(gone - 1)).ledger.snapshot.files
    assert verify(archive.store).damages == []


def test_a_hold_that_comes_after_the_commit_still_saves_its_files(archive: Archive) -> None:
    key, _ = _expire(archive, "b")
    _die_before_deleting(archive)
    _commit(archive, "hold", hold=Hold("case-7"))
    report = collect(archive, keep_snapshots=NOW, force=True)
    assert (report.deleted, report.held) == ([], [key])
    assert _is_there(archive, key)


def test_a_hold_between_plan_and_fence_keeps_its_snapshot(
    archive: Archive, monkeypatch: pytest.MonkeyPatch
) -> None:
    key, gone = _expire(archive, "b")
    listing = _unreachable

    def late(*arguments: Any) -> Any:
        found = listing(*arguments)
        other = open_archive(archive.store)
        if not other.ledger.snapshot.holds:
            _commit(other, "hold", hold=Hold("case-7"))
        return found

    monkeypatch.setattr("archiver.collect._unreachable", late)
    report = collect(archive, keep_snapshots=NOW, force=True)
    assert (report.deleted, report.held, report.oldest_readable) == ([], [key], 0)
    assert key in open_archive(archive.store, as_of=AsOf(gone - 1)).ledger.snapshot.files


def test_a_hold_that_comes_while_commits_are_read_saves_its_files(
    archive: Archive, monkeypatch: pytest.MonkeyPatch
) -> None:
    key, _ = _expire(archive, "b")
    archive_bodies(archive, event("c", workspace="ws_2"))
    (other,) = (file.key for file in archive.ledger.snapshot.files.select(workspaces=("ws_2",)))
    _commit(archive, "expire", removed=(other,))

    def late(*_: Any) -> None:
        _commit(open_archive(archive.store), "hold", hold=Hold("case-7", workspace="ws_1"))

    monkeypatch.setattr("archiver.collect.confirm", late)
    report = collect(archive, keep_snapshots=NOW, force=True)
    assert (report.deleted, report.held, report.superseded) == ([other], [key], 1)
    assert _is_there(archive, key)


def test_who_may_not_delete_probes_and_caches_collects_all_the_same(
    archive: Archive, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    _, key = _leave_behind(archive.store)
    archive.store.put(f"{layout.CHECKPOINT_PARTS}loose.parquet", b"x")
    delete = LocalStore.delete

    def refusing(self: LocalStore, keys: Iterable[str]) -> Deleted:
        for one in keys:
            if one.startswith((layout.PROBES, layout.CHECKPOINTS)):
                raise PermissionDeniedError(f"{one}: s3:DeleteObject answered AccessDenied")
            delete(self, [one])
        return Deleted()

    monkeypatch.setattr(LocalStore, "delete", refusing)
    report = collect(archive, grace=NOW, force=True)
    assert (report.deleted, report.caches) == ([key], 0)
    assert "replaced caches stay" in caplog.text


def test_probes_of_somebody_who_was_killed_go_once_nobody_can_need_them(archive: Archive) -> None:
    store = cast(LocalStore, archive.store)
    old, young = f"{layout.PROBES}0-0", f"{layout.PROBES}0-1"
    for key in (old, young):
        store.put(key, b"x")
    path = store.local_path(old)
    assert path is not None
    os.utime(path, (time.time() - 3700,) * 2)
    # However short the grace: a first run that tries the store at this moment must not be misled.
    assert collect(archive, grace=NOW, force=True, dry_run=True).temporaries == 0
    assert collect(archive, grace=NOW, force=True).temporaries == 1
    assert [info.key for info in store.list(layout.PROBES)] == [young]


def test_a_file_that_the_folded_ledger_forgot_is_explained_by_its_commit(archive: Archive) -> None:
    key, _ = _expire(archive, "b")
    _die_before_deleting(archive)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Files, "superseded", lambda self: {})
        _commit(archive, "hold", hold=Hold("case-7"))
        report = collect(archive, keep_snapshots=NOW, force=True)
        assert (report.held, report.deleted, report.unexplained) == ([key], [], [])
        _commit(archive, "hold", hold=Hold("case-7", released=True))
        report = collect(archive, keep_snapshots=NOW, force=True)
        assert (report.deleted, report.unexplained) == ([key], [])
