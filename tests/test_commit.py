"""Steps 3 and 4 of the commit protocol, one rule a test."""

from __future__ import annotations

from pathlib import Path

import pytest

from archiver import layout
from archiver.archive import Archive
from archiver.errors import (
    ArchiveNotFoundError,
    CommitConflictError,
    CommitStateUnknownError,
    IntegrityError,
    PermissionDeniedError,
)
from archiver.ledger import commit as protocol
from archiver.ledger.commit import AlreadyCommitted, Committed, Fenced, PlanAgain
from archiver.ledger.entry import Content, Counts, DataFile, decode, decode_list, digest_of, encode_list
from archiver.ledger.ledger import Ledger
from archiver.store.local import LocalStore
from tests.faults.faulty_store import FaultPlan, FaultyStore
from tests.support import new_archive


def _content(batch: str = "b", **parts: object) -> Content:
    return Content("append", _batch(batch), layout.new_attempt(), **parts)  # type: ignore[arg-type]


def _batch(letter: str) -> str:
    return letter.encode().hex().zfill(32)


def _file(number: int) -> DataFile:
    key = f"events/workspace=w/dt=2026-03-26/{number:032x}-{layout.new_attempt()}-0.parquet"
    return DataFile(key, digest_of(b""), 10, 1, 0, 0)


def _commit(ledger: Ledger, content: Content, **rest: object) -> protocol.Outcome:
    return protocol.commit(
        ledger,
        content,
        seen=ledger.snapshot.sequence,
        pause=lambda _: None,
        **rest,  # type: ignore[arg-type]
    )


@pytest.fixture
def archive(tmp_path: Path) -> Archive:
    return new_archive(tmp_path / "a")


def test_a_commit_takes_the_next_slot_and_names_its_predecessor(archive: Archive) -> None:
    before = archive.ledger.snapshot.digest
    outcome = _commit(archive.ledger, _content())
    assert isinstance(outcome, Committed)
    stored = archive.store.get(layout.commit(1))
    assert decode(stored, "x").previous == before
    assert outcome.commit.digest == digest_of(stored) == archive.ledger.snapshot.digest


def test_the_same_content_has_the_same_bytes_after_reading(archive: Archive) -> None:
    _commit(archive.ledger, _content(added=(_file(1),), counts=Counts(1, 1)))
    stored = archive.store.get(layout.commit(1))
    assert decode(stored, "x").encode() == stored


def test_a_batch_that_is_in_the_ledger_is_only_acknowledged(archive: Archive) -> None:
    _commit(archive.ledger, _content("b"))
    assert _commit(archive.ledger, _content("b")) == AlreadyCommitted(1)
    assert archive.ledger.refresh().sequence == 1


def test_a_batch_that_another_process_committed_meanwhile_is_found(archive: Archive) -> None:
    other = Ledger.open(archive.store)
    _commit(other, _content("b"))
    assert _commit(archive.ledger, _content("b")) == AlreadyCommitted(1)


def test_a_fenced_attempt_stops(archive: Archive) -> None:
    ours = _content("b")
    _commit(archive.ledger, Content("fence", "f" * 32, layout.new_attempt(), fenced=(ours.attempt,)))
    assert isinstance(_commit(archive.ledger, ours), Fenced)


def test_a_moved_cursor_means_plan_again(archive: Archive) -> None:
    first = _content("b", source={"name": "db", "before": None, "after": "5"})
    assert isinstance(_commit(archive.ledger, first), Committed)
    late = _content("c", source={"name": "db", "before": None, "after": "4"})
    assert isinstance(_commit(archive.ledger, late), PlanAgain)
    following = _content("d", source={"name": "db", "before": "5", "after": "9"})
    assert isinstance(_commit(archive.ledger, following), Committed)


def test_removing_a_file_that_is_not_live_means_plan_again(archive: Archive) -> None:
    file = _file(1)
    _commit(archive.ledger, _content("b", added=(file,)))
    assert isinstance(_commit(archive.ledger, _content("c", removed=(file.key,))), Committed)
    assert isinstance(_commit(archive.ledger, _content("d", removed=(file.key,))), PlanAgain)


def test_an_entry_is_moved_out_of_quarantine_once(archive: Archive) -> None:
    assert isinstance(_commit(archive.ledger, _content("b", moved=((1, 7),))), Committed)
    assert isinstance(_commit(archive.ledger, _content("c", moved=((1, 7), (1, 8)))), PlanAgain)


def test_commits_behind_seen_that_add_files_are_held_against_ours(archive: Archive) -> None:
    seen = archive.ledger.snapshot.sequence
    _commit(Ledger.open(archive.store), _content("other", added=(_file(1),)))
    asked: list[int] = []

    def collides(commits: object) -> bool:
        asked.extend(commit.sequence for commit in commits)  # type: ignore[attr-defined]
        return True

    outcome = protocol.commit(archive.ledger, _content("b"), seen=seen, collides=collides)
    assert isinstance(outcome, PlanAgain)
    assert asked == [1]


def test_a_lost_slot_leads_to_the_next_one(archive: Archive) -> None:
    stale = Ledger.open(archive.store)
    _commit(archive.ledger, _content("b"))
    stale.refresh = lambda: stale.snapshot if stale.snapshot.sequence < 1 else Ledger.refresh(stale)  # type: ignore[method-assign]
    assert not protocol.put_in_slot(
        archive.store, protocol.Commit(1, stale.snapshot.digest, 0, 0, _content("c"))
    )


def test_a_commit_is_never_before_the_previous_one(archive: Archive, monkeypatch: pytest.MonkeyPatch) -> None:
    _commit(archive.ledger, _content("b"))
    before = archive.ledger.snapshot.committed_us
    monkeypatch.setattr("archiver.clock.now_us", lambda: 0)
    _commit(archive.ledger, _content("c"))
    assert archive.ledger.snapshot.committed_us == before


@pytest.mark.parametrize("fault", ["fails", "lands_without_reply", "lands_later"])
def test_a_lost_reply_is_asked_of_the_slot(tmp_path: Path, fault: str) -> None:
    inner = LocalStore(tmp_path / "a")
    new_archive(inner)
    plan = FaultPlan()
    ledger = Ledger.open(FaultyStore(inner, plan))
    plan.on("put_once", fault)  # type: ignore[arg-type]
    assert isinstance(_commit(ledger, _content("b")), Committed)
    plan.release()
    assert Ledger.open(inner).snapshot.batches.keys() >= {_batch("b")}
    assert Ledger.open(inner).snapshot.sequence == 1


def test_a_put_that_lands_later_never_takes_a_second_slot(tmp_path: Path) -> None:
    inner = LocalStore(tmp_path / "a")
    new_archive(inner)
    plan = FaultPlan()
    plan.on("put_once", "lands_later", nth=0)
    with pytest.raises(CommitStateUnknownError):
        _commit(Ledger.open(FaultyStore(inner, plan)), _content("b"))
    _commit(Ledger.open(inner), _content("other"))  # takes the slot first
    plan.release()
    assert _batch("b") not in Ledger.open(inner).snapshot.batches
    plan_again = Ledger.open(inner)
    assert isinstance(_commit(plan_again, _content("b")), Committed)


def test_no_answer_at_all_is_exit_12_and_deletes_nothing(tmp_path: Path) -> None:
    inner = LocalStore(tmp_path / "a")
    new_archive(inner)
    inner.put("events/x", b"1")
    plan = FaultPlan()
    ledger = Ledger.open(FaultyStore(inner, plan))
    plan.on("put_once", "fails", nth=0)
    with pytest.raises(CommitStateUnknownError) as raised:
        _commit(ledger, _content("b"))
    assert raised.value.exit_code == 12
    assert not [call for call in plan.calls if call.method == "delete"]


def test_a_refused_first_put_is_told_as_it_is(tmp_path: Path) -> None:
    inner = LocalStore(tmp_path / "a")
    ledger = new_archive(inner).ledger

    class Refusing(FaultyStore):
        def put_once(self, key: str, content: bytes) -> None:
            raise PermissionDeniedError(f"{key}: s3:PutObject is missing")

    ledger.store = Refusing(inner, FaultPlan())
    with pytest.raises(PermissionDeniedError):
        _commit(ledger, _content("b"))


def test_others_who_always_come_first_are_exit_11(archive: Archive, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(protocol, "put_in_slot", lambda *_, **__: False)
    with pytest.raises(CommitConflictError) as raised:
        _commit(archive.ledger, _content("b"))
    assert raised.value.exit_code == 11


def test_a_refit_may_leave_nothing_to_commit(archive: Archive) -> None:
    outcome = _commit(archive.ledger, _content("b"), refit=lambda *_: None)
    assert isinstance(outcome, PlanAgain)
    assert archive.ledger.refresh().sequence == 0


def test_an_empty_place_is_no_archive(tmp_path: Path) -> None:
    with pytest.raises(ArchiveNotFoundError):
        Ledger.open(LocalStore(tmp_path / "nothing"))


def test_a_ledger_without_its_first_commit_is_never_begun_anew(archive: Archive) -> None:
    _commit(archive.ledger, _content("b"))
    archive.store.delete([layout.commit(0)])
    with pytest.raises(IntegrityError):
        new_archive(archive.store)


def test_a_changed_commit_breaks_the_chain(archive: Archive) -> None:
    for batch in "bcd":
        _commit(archive.ledger, _content(batch))
    key = layout.commit(2)
    changed = archive.store.get(key).replace(_batch("c").encode(), _batch("x").encode())
    archive.store.put(key, changed, mode="overwrite")
    with pytest.raises(IntegrityError) as raised:
        Ledger.open(archive.store)
    assert layout.commit(3) in raised.value.message


def test_a_gap_in_the_chain_is_no_shorter_ledger(archive: Archive) -> None:
    for batch in "bcd":
        _commit(archive.ledger, _content(batch))
    archive.store.delete([layout.commit(2)])
    with pytest.raises(IntegrityError) as raised:
        Ledger.open(archive.store)
    assert layout.commit(2) in raised.value.message


def test_an_unknown_format_is_refused_with_the_way_out(archive: Archive) -> None:
    changed = archive.store.get(layout.commit(0)).replace(b'"format":1', b'"format":2')
    with pytest.raises(IntegrityError) as raised:
        decode(changed, "c")
    assert "newer version" in raised.value.hint


def test_files_beyond_a_thousand_stand_in_lists_beside_the_commit(archive: Archive) -> None:
    from archiver.attempt import write_lists  # noqa: PLC0415

    files = tuple(_file(number) for number in range(1_500))
    content = _content("b", added=files)
    lists = write_lists(archive.store, files, "b" * 32, layout.new_attempt())
    listed = Content(**{name: getattr(content, name) for name in Content.__slots__} | {"lists": lists})
    _commit(archive.ledger, listed)
    assert len(archive.store.get(layout.commit(1))) < 2_000
    assert Ledger.open(archive.store).snapshot.files.keys() == {file.key for file in files}


def test_a_changed_file_list_is_found(archive: Archive) -> None:
    from archiver.ledger.entry import ListedObject  # noqa: PLC0415

    content = encode_list((_file(1), _file(2)))
    listed = ListedObject("l", digest_of(content), len(content), 2)
    assert len(decode_list(content, listed)) == 2
    with pytest.raises(IntegrityError):
        decode_list(content.replace(b"rows", b"r0ws"), listed)


def test_a_missing_file_list_is_damage_and_not_the_end_of_the_chain(archive_with_lists: Archive) -> None:
    store = archive_with_lists.store
    (listed,) = store.list(layout.LISTS)
    store.delete([listed.key])
    with pytest.raises(IntegrityError, match=listed.key):
        Ledger.open(store)


@pytest.fixture
def archive_with_lists(archive: Archive) -> Archive:
    from archiver.attempt import write_lists  # noqa: PLC0415

    files = (_file(1), _file(2))
    lists = write_lists(archive.store, files, "b" * 32, layout.new_attempt())
    _commit(archive.ledger, _content("b", added=files, lists=lists))
    return archive
