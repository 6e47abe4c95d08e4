"""For each rule of the commit protocol a short story that ends well with it, and badly without.

Each takes an empty folder, plays on the real code with a folder for a store, and asserts.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from archiver import collect as collecting
from archiver import layout
from archiver.archive import AsOf, open_archive
from archiver.config import Retention
from archiver.errors import ArchiverError, CommitConflictError, ConfigError, PreconditionFailedError
from archiver.ledger import commit as protocol
from archiver.ledger.entry import Content, DataFile, Hold, digest_of
from archiver.pipeline import RunReport, run
from archiver.requeue import entries
from archiver.retain import retain
from archiver.sources.frozen import SpoolBatch
from archiver.sources.spool import SpoolSource
from archiver.spans import Span
from archiver.store.base import Store
from archiver.store.local import LocalStore
from archiver.validate import Rules
from archiver.verify import verify
from tests.faults.check import check_archive
from tests.faults.faulty_store import FaultPlan, FaultyStore
from tests.properties.commit_model.rules import Rule
from tests.support import archive_bodies, event, ids_of, new_archive

Guard = Callable[[Path], None]
GUARDS: dict[Rule, Guard] = {}
NOW = timedelta(0)


def guards(*rules: Rule) -> Callable[[Guard], Guard]:
    def register(guard: Guard) -> Guard:
        GUARDS.update(dict.fromkeys(rules, guard))
        return guard

    return register


class StoryError(Exception):
    """The story did not go as it was written: that says nothing about the rule."""


class DiedError(BaseException):
    """The process ends here, as far as the code can tell."""


class World:
    """An archive and a spool that feeds it."""

    def __init__(self, place: Path) -> None:
        self.spool = place / "spool"
        self.spool.mkdir(parents=True)
        self.store = LocalStore(place / "archive")
        new_archive(self.store)

    def deliver(self, name: str, *bodies: bytes) -> None:
        (self.spool / name).write_bytes(b"\n".join(bodies))

    def run(self, store: Store | None = None) -> RunReport:
        source = SpoolSource(self.spool, settle_seconds=0)
        return run(open_archive(store or self.store), source, rules=Rules(source="spool"), workers=0)

    def add(self, *bodies: bytes) -> None:
        """Archive events from elsewhere, as another process does."""
        archive_bodies(open_archive(self.store), *bodies)

    @property
    def read(self) -> int:
        """How many elements all commits together count."""
        return open_archive(self.store).ledger.snapshot.totals.read


@contextmanager
def impatient() -> Iterator[pytest.MonkeyPatch]:
    """Pauses between puts are left out."""
    with pytest.MonkeyPatch.context() as patch:
        for function in (protocol.commit, protocol.put_in_slot):
            quick = {**(function.__kwdefaults__ or {}), "pause": lambda _: None}
            patch.setattr(function, "__kwdefaults__", quick)
        yield patch


@contextmanager
def meanwhile(target: Any, name: str, *deeds: Callable[[], object]) -> Iterator[None]:
    """Do the first deed just before the first call of `target.name`, the second before the second."""
    original, left = getattr(target, name), list(deeds)

    def call(*args: Any, **rest: Any) -> Any:
        if left:
            left.pop(0)()
        return original(*args, **rest)

    with impatient() as patch:
        patch.setattr(target, name, call)
        yield
    if left:
        raise StoryError(f"{len(left)} deeds were never done")


def _content(batch: str, **parts: Any) -> Content:
    return Content(
        operation=parts.pop("operation", "append"),
        batch=digest_of(batch.encode())[7:39],
        attempt=layout.new_attempt(),
        **parts,
    )


def _commit(store: Store, content: Content, **rest: Any) -> protocol.Outcome:
    ledger = open_archive(store).ledger
    with impatient():
        return protocol.commit(ledger, content, seen=ledger.snapshot.sequence, **rest)


# 1 freeze, 1 attempt


@guards(Rule.FREEZE_ID)
def the_same_file_delivered_again_is_counted_again(place: Path) -> None:
    world = World(place)
    for _ in range(2):
        world.deliver("a.jsonl", event("a"))
        world.run()
    assert world.read == 2


@guards(Rule.FREEZE_ID_KEPT, Rule.ACKNOWLEDGE_ONLY)
def a_batch_that_was_committed_and_not_acknowledged_is_counted_once(place: Path) -> None:
    world = World(place)
    world.deliver("a.jsonl", event("a"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(SpoolBatch, "acknowledge", _die)
        with pytest.raises(DiedError):
            world.run()
    assert world.run().acknowledged_only == 1
    assert world.read == 1


@guards(Rule.INPUTS_KEPT)
def a_batch_that_was_acknowledged_half_is_counted_once(place: Path) -> None:
    world = World(place)
    world.deliver("a.jsonl", event("a"))
    world.deliver("b.jsonl", event("b"))

    def half(batch: SpoolBatch) -> None:
        next((world.spool / "claims").glob("*/*-a.jsonl")).unlink()
        raise DiedError

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(SpoolBatch, "acknowledge", half)
        with pytest.raises(DiedError):
            world.run()
    world.run()
    assert world.read == 2


def _die(*_: object) -> None:
    raise DiedError


@guards(Rule.SEEN_READ_AGAIN, Rule.NEW_ATTEMPT_ON_IDENTITY, Rule.NO_NAME_TWICE)
def an_event_that_another_commits_first_is_archived_once(place: Path) -> None:
    world = World(place)
    world.deliver("a.jsonl", event("a"), event("b"))
    with meanwhile(protocol, "commit", lambda: world.add(event("a"))):
        assert world.run().counts.duplicates == 1
    assert ids_of(open_archive(world.store)) == ["a", "b"]


@guards(Rule.IDENTIFY_AGAINST_SEEN)
def an_event_that_came_in_an_earlier_batch_is_a_duplicate(place: Path) -> None:
    world = World(place)
    for name in ("a.jsonl", "b.jsonl"):
        world.deliver(name, event("a"))
        world.run()
    assert ids_of(open_archive(world.store)) == ["a"]


# 2 write


def _slow_run(place: Path, *graces: timedelta) -> None:
    """Before a run's first commit, and its next, there is a collect."""
    world = World(place)
    world.deliver("a.jsonl", event("a", workspace="v"), event("b", workspace="w"))
    with meanwhile(protocol, "commit", *(partial(_collect, world, grace) for grace in graces)):
        world.run()
    check_archive(world.store, events={"a", "b"})


def _collect(world: World, grace: timedelta) -> None:
    # Its fence is a commit too, and must not set off what waits for the run's.
    current = protocol.commit
    with pytest.MonkeyPatch.context() as patch:
        inner = [cell.cell_contents for cell in current.__closure__ or () if callable(cell.cell_contents)]
        patch.setattr(protocol, "commit", inner[0] if inner else current)
        collecting.collect(open_archive(world.store), grace=grace, force=True)


@guards(Rule.ATTEMPT_IN_NAMES, Rule.STOP_WHEN_FENCED, Rule.FENCE_UNKNOWN)
def a_run_that_was_declared_dead_begins_anew(place: Path) -> None:
    _slow_run(place, NOW)


@guards(Rule.ATTEMPT_IN_LIST_NAMES)
def the_long_lists_of_a_run_at_work_are_spared(place: Path) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("archiver.attempt.LONGEST_INLINE_LIST", 1)
        _slow_run(place, NOW, timedelta(hours=24))


@guards(Rule.OUR_OBJECT_IS_SUCCESS)
def our_own_bytes_are_success(place: Path) -> None:
    for _ in range(2):
        LocalStore(place).put("events/x", b"ours")


@guards(Rule.READ_ON_412)
def the_bytes_of_others_are_none(place: Path) -> None:
    LocalStore(place).put("events/x", b"theirs")
    with pytest.raises(PreconditionFailedError):
        LocalStore(place).put("events/x", b"ours")


@guards(Rule.RUNS_DELETE_NOTHING)
def a_commit_that_lands_after_its_run_gave_up_finds_its_files(place: Path) -> None:
    world, plan = World(place), FaultPlan()
    world.deliver("a.jsonl", event("a"))
    plan.on("put_once", "lands_later", nth=0)
    with impatient(), suppress(ArchiverError):
        world.run(FaultyStore(world.store, plan))
    plan.release()
    world.run()
    assert verify(world.store).damages == []


# 3 validate


@guards(Rule.CURSOR_CHECK)
def a_cursor_moves_on_from_where_it_is(place: Path) -> None:
    store = World(place).store
    for number in range(2):
        _commit(store, _content(f"b{number}", source={"name": "db", "before": None, "after": str(number)}))
    assert open_archive(store).ledger.snapshot.cursors == {"db": "0"}


@guards(Rule.REMOVED_IS_LIVE)
def a_file_is_removed_once(place: Path) -> None:
    world = World(place)
    world.add(event("a"))
    (key,) = open_archive(world.store).ledger.snapshot.files
    for number in range(2):
        with suppress(ArchiverError):
            _commit(world.store, _content(f"b{number}", removed=(key,), operation="compact"))
    assert open_archive(world.store).ledger.snapshot.sequence == 2


@guards(Rule.HOLD_CHECK)
def a_hold_that_comes_before_the_commit_of_an_expiry_keeps_its_rows(place: Path) -> None:
    world = World(place)
    world.add(event("a", timestamp="2020-02-29T10:15:00Z"))
    archive = open_archive(world.store)
    original = protocol.commit

    def hold() -> None:
        content = _content("a" * 32, operation="hold", hold=Hold("case", reason="asked for"))
        ledger = open_archive(world.store).ledger
        original(ledger, content, seen=ledger.snapshot.sequence)

    with meanwhile(protocol, "commit", hold):
        report = retain(archive, Retention(Span(400, "d")))
    assert ids_of(open_archive(world.store)) == ["a"]
    assert set(report.held) == {"case"}


@guards(Rule.REQUEUE_CHECK)
def an_entry_is_moved_once(place: Path) -> None:
    store = World(place).store
    for number in range(2):
        _commit(store, _content(f"b{number}", moved=((0, 7),)))
    moved = [one for entry in open_archive(store).ledger.since(-1) for one in entry.content.moved]
    assert moved == [(0, 7)]


@guards(Rule.SUPPLEMENT_IS_IDENTITY)
def supplements_that_contradict_each_other_are_not_merged(place: Path) -> None:
    world = World(place)
    world.add(event("a"))
    world.deliver("a.jsonl", event("a", ip_city="Berlin"))
    with meanwhile(protocol, "commit", lambda: world.add(event("a", ip_city="Paris"))):
        world.run()
    archive = open_archive(world.store)
    assert ids_of(archive, "supplements") == ["a"]
    assert [entry.rejection.reason for entry in entries(archive)] == ["conflict"]


# 4 commit


@guards(Rule.AIM_BEHIND_VALIDATED, Rule.VALIDATE_AFTER_OTHERS)
def an_event_that_another_commits_at_the_last_moment_is_archived_once(place: Path) -> None:
    world = World(place)
    world.deliver("a.jsonl", event("a"))
    with meanwhile(protocol, "_misfit", lambda: world.add(event("a"))):
        world.run()
    assert ids_of(open_archive(world.store)) == ["a"]


@guards(Rule.CONDITIONAL_CREATE)
def the_commit_of_another_is_not_overwritten(place: Path) -> None:
    world = World(place)
    world.deliver("a.jsonl", event("a"))
    with meanwhile(protocol, "_misfit", lambda: world.add(event("b"))):
        world.run()
    assert ids_of(open_archive(world.store)) == ["a", "b"]


@guards(Rule.OUR_COMMIT_IS_SUCCESS)
def a_fence_whose_reply_is_lost_is_a_fence(place: Path) -> None:
    world, plan = World(place), FaultPlan()
    key = _leave_behind(world.store)
    plan.on("put_once", "lands_without_reply")
    with impatient():
        report = collecting.collect(open_archive(FaultyStore(world.store, plan)), grace=NOW, force=True)
    assert report.deleted == [key]


@guards(Rule.ABSENT_IS_UNKNOWN)
def who_says_that_nothing_was_written_is_right_for_ever(place: Path) -> None:
    store, plan = World(place).store, FaultPlan()
    plan.on("put_once", "lands_later")
    content = _content("b")
    try:
        outcome = _commit(FaultyStore(store, plan), content)
        told = isinstance(outcome, protocol.Committed)
    except CommitConflictError:  # "nothing of ours is in the ledger"
        told = False
    plan.release()
    assert (content.batch in open_archive(store).ledger.snapshot.batches) is told


# 5 acknowledge


@guards(Rule.ACKNOWLEDGE_AFTER_COMMIT)
def what_was_not_committed_is_still_in_the_spool(place: Path) -> None:
    world, plan = World(place), FaultPlan()
    world.deliver("a.jsonl", event("a"))
    plan.on("put_once", "fails", nth=0)
    with impatient(), suppress(ArchiverError):
        world.run(FaultyStore(world.store, plan))
    world.run()
    assert ids_of(open_archive(world.store)) == ["a"]


@guards(Rule.SYNC_WHAT_WAS_FOUND)
def a_commit_that_was_found_is_made_durable_before_it_is_acted_upon(place: Path) -> None:
    world, plan = World(place), FaultPlan()
    archive = open_archive(FaultyStore(world.store, plan))
    world.add(event("a"))
    before = len(plan.calls)
    archive.ledger.refresh()
    assert "settle" in [call.method for call in plan.calls[before:]]
    plan.on("put_once", "lands_without_reply")
    before = len(plan.calls)
    with impatient():
        protocol.commit(archive.ledger, _content("b"), seen=archive.ledger.snapshot.sequence)
    assert "settle" in [call.method for call in plan.calls[before:]]


# collect


def _leave_behind(store: Store) -> str:
    """Write what an attempt leaves that died."""
    key = f"events/workspace=w/dt=2026-03-26/{'0' * 32}-{layout.new_attempt()}-0.parquet"
    store.put(key, b"x")
    return key


@guards(Rule.FENCE_DROPS_COMMITTED, Rule.DELETE_READS_HEAD_AGAIN)
def an_attempt_that_commits_before_the_fence_lives(place: Path) -> None:
    store = World(place).store
    key, dead = _leave_behind(store), _leave_behind(store)
    origin = layout.origin_of(key)
    assert origin is not None
    original = protocol.commit

    def wake_up() -> None:
        file = DataFile(key, digest_of(b"x"), 1, 1, 0, 0)
        content = Content("append", origin.batch, origin.attempt, added=(file,))
        ledger = open_archive(store).ledger
        original(ledger, content, seen=ledger.snapshot.sequence)

    with meanwhile(protocol, "commit", wake_up):
        report = collecting.collect(open_archive(store), grace=NOW, force=True)
    assert origin.attempt not in report.fenced
    assert store.get(key) == b"x"
    assert dead in report.deleted


@guards(Rule.DELETE_SPARES_KEPT)
def files_that_a_kept_snapshot_names_are_kept(place: Path) -> None:
    world = World(place)
    world.add(event("a"))
    (key,) = open_archive(world.store).ledger.snapshot.files
    _commit(world.store, _content("c", removed=(key,), operation="compact"))
    collecting.collect(open_archive(world.store), grace=NOW, force=True)
    archive = open_archive(world.store)
    assert [archive.store.info(one).key for one in archive.ledger.at(1).files] == [key]


@guards(Rule.OLDEST_READABLE_FIRST)
def who_asks_for_a_snapshot_whose_files_are_gone_is_told(place: Path) -> None:
    world = World(place)
    world.add(event("a"))
    (key,) = open_archive(world.store).ledger.snapshot.files
    _commit(world.store, _content("c", removed=(key,), operation="expire"))
    report = collecting.collect(open_archive(world.store), grace=NOW, keep_snapshots=NOW, force=True)
    assert report.deleted == [key]
    with pytest.raises(ConfigError, match="no longer readable"):
        open_archive(world.store, as_of=AsOf(1))
    assert [one for one in verify(world.store).damages if one.object == key] == []


@guards(Rule.OLDEST_READABLE_RISES)
def the_oldest_readable_snapshot_never_becomes_older(place: Path) -> None:
    store = World(place).store
    _commit(store, _content("b"), oldest_readable=1)
    _commit(store, _content("c"))
    assert open_archive(store).ledger.snapshot.oldest_readable == 1
