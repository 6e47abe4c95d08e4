"""Nothing is deleted on the word of a cache: the commits must say so."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest

from archiver import clock, layout
from archiver.archive import Archive, open_archive
from archiver.collect import collect
from archiver.confirm import confirm
from archiver.errors import IntegrityError
from archiver.ledger import commit as protocol
from archiver.ledger.entry import Content, Hold
from tests.support import archive_bodies, event, new_archive

ATTEMPT = "0" * 27 + "7"


@pytest.fixture
def archive(tmp_path: Path) -> Archive:
    archive = new_archive(tmp_path / "archive")
    archive_bodies(archive, event("a"), b"rubbish")
    archive_bodies(archive, event("b"))
    return archive


def _commit(archive: Archive, operation: str, *, oldest_readable: int = 0, **parts: object) -> None:
    content = Content(operation, f"{clock.now_us():032x}", layout.new_attempt(), **parts)  # type: ignore[arg-type]
    outcome = protocol.commit(
        archive.ledger, content, seen=archive.ledger.snapshot.sequence, oldest_readable=oldest_readable
    )
    assert isinstance(outcome, protocol.Committed)


def _key(archive: Archive, number: int = 0) -> str:
    return sorted(archive.ledger.snapshot.files)[number]


def _refused(archive: Archive, key: str, why: str) -> None:
    with pytest.raises(IntegrityError, match=why):
        confirm(archive.ledger, [key])


def test_a_live_file_stays_whatever_the_snapshot_in_memory_says(archive: Archive) -> None:
    key = _key(archive)
    archive.ledger.snapshot.files.remove([key], 1)
    archive.ledger.snapshot.oldest_readable = 1
    with pytest.raises(IntegrityError, match="was about to be deleted, but it is live"):
        collect(archive, grace=timedelta(0), force=True)
    assert archive.store.get(key)


def test_what_a_commit_names_stays(archive: Archive) -> None:
    _refused(archive, archive.ledger.snapshot.quarantine[0][1].key, "a commit names it")


def test_a_file_that_a_kept_snapshot_needs_stays(archive: Archive) -> None:
    key = _key(archive)
    _commit(archive, "expire", removed=(key,))
    _refused(archive, key, "commit 2 may still be asked for")
    _commit(archive, "fence", oldest_readable=3)
    confirm(archive.ledger, [key])


def test_an_expired_file_that_a_hold_covers_stays(archive: Archive) -> None:
    key = _key(archive)
    _commit(archive, "expire", removed=(key,))
    _commit(archive, "fence", oldest_readable=3)
    _commit(archive, "hold", hold=Hold("case-1", "ws_1"))
    _refused(archive, key, "the hold case-1 covers it")
    _commit(archive, "hold", hold=Hold("case-1", released=True))
    confirm(archive.ledger, [key])


def test_files_of_an_attempt_stay_until_it_can_never_commit(archive: Archive) -> None:
    key = layout.quarantine_file("b" * 32, ATTEMPT, 0)
    _refused(archive, key, "its attempt may still commit")
    _commit(archive, "fence", fenced=(ATTEMPT,))
    confirm(archive.ledger, [key])
    committed = layout.origin_of(_key(archive))
    assert committed is not None
    overtaken = layout.quarantine_file(committed.batch, ATTEMPT[::-1], 0)
    confirm(archive.ledger, [overtaken])
    _refused(archive, layout.quarantine_file(committed.batch, committed.attempt, 9), "was committed")


def test_strangers_are_not_deleted(archive: Archive) -> None:
    _refused(archive, "events/readme.txt", "no object of an attempt")


def test_a_broken_chain_stops_every_deletion(archive: Archive) -> None:
    path = Path(archive.store.local_path(layout.commit(1)) or "")
    path.chmod(0o644)
    path.write_bytes(path.read_bytes().replace(b'"duplicates":0', b'"duplicates":1'))
    opened = open_archive(archive.store) if archive.ledger.checkpoint is not None else archive
    _refused(opened, layout.quarantine_file("b" * 32, ATTEMPT, 0), "expected the previous commit")
