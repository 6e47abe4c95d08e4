"""Quarantined entries sent through again: moved once, or left where they are."""

from __future__ import annotations

from pathlib import Path

import pytest

from archiver.archive import Archive, open_archive
from archiver.ledger import commit as protocol
from archiver.pipeline import run
from archiver.requeue import RequeueReport, entries, requeue
from archiver.validate import Rules
from tests.support import MemoryBatch, MemorySource, event, ids_of, new_archive

STRICT = Rules(
    source="spool",
    schemas={"events": '{"properties":{"data":{"required":["session_id"]}}}'},
)


@pytest.fixture
def archive(tmp_path: Path) -> Archive:
    archive = new_archive(tmp_path / "a")
    bodies = [event("a", session_id="s"), event("b"), event("c"), event("b"), b"rubbish"]
    report = run(archive, MemorySource([MemoryBatch(bodies)]), rules=STRICT, workers=0)
    assert report.reasons == {"invalid": 3, "not_json": 1}
    return archive


def _requeue(archive: Archive, *, dry_run: bool = False, **chosen: object) -> RequeueReport:
    return requeue(
        archive,
        lambda source: Rules(source=source),
        lambda entry: all(getattr(entry.rejection, name) == value for name, value in chosen.items()),
        dry_run=dry_run,
    )


def test_what_passes_now_is_moved_and_counted_once(archive: Archive) -> None:
    report = _requeue(archive)
    assert report.counts.to_json() == {
        "read": 3,
        "archived": 2,
        "supplements": 0,
        "duplicates": 1,
        "quarantined": 0,
    }
    assert report.stayed == {"not_json": 1}
    assert ids_of(archive) == ["a", "b", "c"]
    totals = archive.ledger.snapshot.totals
    assert totals.adds_up()
    assert (totals.read, totals.quarantined) == (5, 1)
    assert [entry.rejection.reason for entry in entries(archive)] == ["not_json"]


def test_a_second_requeue_finds_nothing_to_move(archive: Archive) -> None:
    _requeue(archive)
    report = _requeue(archive)
    assert (report.counts.read, report.commits) == (0, [])


def test_only_what_was_chosen_is_moved(archive: Archive) -> None:
    assert _requeue(archive, event_id="c").counts.read == 1
    assert ids_of(archive) == ["a", "c"]


def test_a_dry_run_says_what_would_pass_and_moves_nothing(archive: Archive) -> None:
    report = _requeue(archive, dry_run=True)
    assert (report.counts.read, report.stayed) == (3, {"not_json": 1})
    assert archive.ledger.refresh().sequence == 1


def test_two_operators_at_once_move_an_entry_once(archive: Archive, monkeypatch: pytest.MonkeyPatch) -> None:
    original, raced = protocol.commit, []

    def commit(ledger, content, **rest):  # type: ignore[no-untyped-def]
        if not raced:
            raced.append(True)
            _requeue(open_archive(archive.store), event_id="b")
        return original(ledger, content, **rest)

    monkeypatch.setattr(protocol, "commit", commit)
    report = _requeue(archive)
    assert report.counts.read == 1  # c; both b went with the other
    moved = [name for commit in archive.ledger.since(-1) for name in commit.content.moved]
    assert len(moved) == len(set(moved)) == 3
    assert ids_of(archive) == ["a", "b", "c"]


def test_large_requeues_are_cut_into_several_commits(
    archive: Archive, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("archiver.requeue._PASS_ENTRIES", 1)
    assert len(_requeue(archive).commits) == 3
    assert archive.ledger.snapshot.totals.adds_up()


def test_a_dry_run_tells_conflicts_and_duplicates_as_the_requeue_would(archive: Archive) -> None:
    run(archive, MemorySource([MemoryBatch([event("b", session_id="s")])]), rules=STRICT, workers=0)
    run(
        archive,
        MemorySource([MemoryBatch([event("c", session_id="s", action="x")])]),
        rules=STRICT,
        workers=0,
    )
    foreseen = _requeue(archive, dry_run=True)
    done = _requeue(archive)
    assert foreseen.counts == done.counts
    assert foreseen.stayed == done.stayed == {"not_json": 1, "conflict": 1}
