"""Deleting what nothing reaches: fence first, look again, then delete."""

from __future__ import annotations

import os
import time
from datetime import timedelta
from pathlib import Path

import pytest

from archiver import layout
from archiver.archive import Archive, open_archive
from archiver.collect import collect
from archiver.errors import ConfigError
from archiver.ledger import commit as protocol
from archiver.ledger.entry import Content
from archiver.store.base import Store
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
