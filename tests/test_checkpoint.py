"""Checkpoints: the same state as the commits give, whatever was written, deleted or damaged between."""

from __future__ import annotations

import random
import secrets
from collections.abc import Callable
from dataclasses import replace
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import pytest

from archiver import layout
from archiver.errors import StoreError
from archiver.ledger import checkpoint
from archiver.ledger.entry import Commit, Content, Counts, DataFile, Hold, ListedObject, digest_of
from archiver.ledger.ledger import Ledger
from archiver.ledger.snapshot import Snapshot
from archiver.store.base import Store
from archiver.store.local import LocalStore
from tests.checkpoints import _parts, _small_row_groups

__all__ = ["_small_row_groups"]  # fixtures: pytest finds them here by name

DAY_US = 86_400_000_000


class Made:
    """A ledger of random commits, written straight into a store; no data file is there."""

    def __init__(self, store: Store, seed: int) -> None:
        self.store = store
        self.random = random.Random(seed)
        self.sequence, self.digest, self.oldest = -1, "", 0
        self.live: set[str] = set()

    def grow(self, count: int) -> None:
        for _ in range(count):
            self._commit()

    def _commit(self) -> None:
        pick, number = self.random, self.sequence + 1
        batch, attempt = secrets.token_hex(16), layout.new_attempt()
        usual = ["append"] * 5 + ["compact", "expire", "fence", "requeue", "hold"]
        operation: Any = pick.choice(usual) if number else "init"
        parts: dict[str, Any] = {}
        added, removed = [], []
        if operation in ("append", "requeue", "compact"):
            added = [self._file(batch, attempt, place) for place in range(pick.randrange(6))]
        if operation in ("compact", "expire"):
            removed = pick.sample(sorted(self.live), min(len(self.live), pick.randrange(1, 6)))
        if operation == "append":
            parts["counts"] = Counts(10, 4, 1, 2, 3)
            parts["source"] = {"name": pick.choice("st"), "before": None, "after": {"at": number}}
            key = layout.quarantine_file(batch, attempt, 0)
            parts["quarantined"] = (ListedObject(key, _digest(), 5, 3),) if pick.random() < 0.3 else ()
        elif operation == "requeue":
            parts["counts"] = Counts(2, 1, 0, 1, 0)
            parts["moved"] = tuple((number, ordinal) for ordinal in range(pick.randrange(3)))
        elif operation == "fence":
            parts["fenced"] = (layout.new_attempt(),)
            self.oldest = max(self.oldest, pick.randrange(number + 1)) if pick.random() < 0.5 else self.oldest
        elif operation == "hold":
            parts["hold"] = Hold(pick.choice("xyz"), released=pick.random() < 0.4)
        elif operation == "init":
            parts["archive"] = {
                "id": "6a0e8a0e-0000-4000-8000-000000000000",
                "data_format": "parquet",
                "compression_level": 1,
                "partitioning": ["workspace", "dt"],
                "datasets": {"events": 1, "alerts": 1, "supplements": 1},
                "identity_window_days": 31,
            }
        content = Content(operation, batch, attempt, added=tuple(added), removed=tuple(removed), **parts)
        made = Commit(number, self.digest, 1_000_000 * number, self.oldest, content)
        self.store.put(layout.commit(number), made.encode())
        self.sequence, self.digest = number, digest_of(made.encode())
        self.live = self.live.difference(removed) | {file.key for file in added}

    def _file(self, batch: str, attempt: str, place: int) -> DataFile:
        pick = self.random
        day = pick.randrange(19_000, 19_010)
        first = day * DAY_US + pick.randrange(DAY_US // 2)
        key = layout.data_file(
            pick.choice(["events", "events", "alerts", "supplements"]),
            pick.choice(["a", "b", "ü/x", "0012"]),
            date(1970, 1, 1) + timedelta(days=day),
            batch,
            attempt,
            place,
            "parquet",
        )
        last = first + pick.randrange(DAY_US // 2)
        return DataFile(key, _digest(), pick.randrange(1_000), pick.randrange(1, 50), first, last, _digest())


def _digest() -> str:
    return f"sha256:{secrets.token_hex(32)}"


def folded(store: Store, sequence: int) -> Snapshot:
    """Fold all commits up to `sequence`, and look at no checkpoint."""
    ledger, snapshot = Ledger(store), Snapshot()
    for number in range(sequence + 1):
        snapshot.apply(ledger.read(number))
    return snapshot


def assert_same(found: Snapshot, expected: Snapshot, oldest: int) -> None:
    """Ask both everything; of files removed at or before `oldest`, `found` may know less."""
    for name in ("sequence", "digest", "committed_us", "oldest_readable", "archive", "cursors"):
        assert getattr(found, name) == getattr(expected, name), name
    for name in ("holds", "totals", "fenced", "moved", "lists", "quarantine"):
        assert getattr(found, name) == getattr(expected, name), name
    assert dict(found.batches) == dict(expected.batches)
    assert dict(found.attempts) == dict(expected.attempts)
    assert "0" * 32 not in found.batches
    assert "no batch" not in found.batches
    ours, theirs = found.files, expected.files
    assert len(ours) == len(theirs)
    assert set(ours) == set(theirs)
    for choice in (
        {},
        {"workspaces": ["a"]},
        {"workspaces": ["b", "ü/x"], "since_us": 19_003 * DAY_US},
        {"since_us": 19_002 * DAY_US + 5, "until_us": 19_004 * DAY_US},
        {"workspaces": ["none"]},
        {"workspaces": []},
    ):
        for dataset in (None, "events", "alerts"):
            wanted = theirs.select(dataset, **choice)  # type: ignore[arg-type]
            assert ours.select(dataset, **choice) == wanted  # type: ignore[arg-type]
            bare = ours.select(dataset, digests=False, **choice)  # type: ignore[arg-type]
            assert [replace(one, digest="", bodies="") for one in wanted] == [
                replace(one, digest="", bodies="") for one in bare
            ]
    keys = [*theirs, *theirs.superseded(), "events/workspace=a/dt=2022-99-99/x", "nothing"]
    assert ours.find(keys) == theirs.find(keys)
    assert ours.volumes() == theirs.volumes()
    for least in (1, 2, 3):
        assert _sizes(ours, least) == _sizes(theirs, least)
    known = {entry.file.key: entry for entry in ours.entries()}
    for entry in theirs.entries():
        if entry.removed_by is None or entry.removed_by > oldest:
            assert known.pop(entry.file.key) == entry
        else:
            assert known.pop(entry.file.key, entry) == entry
    assert known == {}
    kept = {key: by for key, by in theirs.superseded().items() if by > oldest}
    assert kept.items() <= ours.superseded().items() <= theirs.superseded().items()
    one_day = {file.partition for file in theirs.values() if file.partition.workspace == "a"}
    told = {entry.file.key for entry in ours.entries(one_day) if entry.removed_by is None}
    assert told == {file.key for file in theirs.values() if file.partition in one_day}


def _sizes(files: Any, least: int) -> set[tuple[Any, ...]]:
    return {
        (one.partition, one.files, one.bytes, one.small_files, one.small_bytes)
        for one in files.partition_sizes(smaller_than=500, least=least)
    }


@pytest.mark.parametrize("seed", range(3))
def test_a_checkpoint_gives_the_state_that_the_commits_give(local_store: LocalStore, seed: int) -> None:
    made = Made(local_store, seed)
    made.grow(3)
    for _ in range(4):
        made.grow(made.random.randrange(1, 30))
        ledger = Ledger.open(local_store)
        truth = folded(local_store, made.sequence)
        assert_same(ledger.snapshot, truth, made.oldest)
        ledger.write_checkpoint(rebuild=made.random.random() < 0.2)
        reopened = Ledger.open(local_store)
        assert reopened.checkpoint == made.sequence
        assert_same(reopened.snapshot, truth, made.oldest)
        earlier = made.random.randrange(made.oldest, made.sequence + 1)
        pinned = Ledger.open(local_store).pinned(earlier)
        assert_same(pinned.snapshot, folded(local_store, earlier), made.oldest)
        assert Ledger.open(local_store).sequence_at(earlier * 1_000_000 + 5) == earlier


def test_a_snapshot_older_than_any_that_may_be_asked_for_is_told_by_the_commits(
    local_store: LocalStore,
) -> None:
    made = Made(local_store, 0)
    made.grow(30)
    made.oldest = 29
    for _ in range(6):
        made.grow(30)
        Ledger.open(local_store).write_checkpoint()
    for number in range(0, 29, 4):
        assert_same(Ledger.open(local_store).at(number), folded(local_store, number), 0)


def test_every_kind_of_store_gives_a_checkpoint_back(store: Store) -> None:
    made = Made(store, 6)
    made.grow(25)
    Ledger.open(store).write_checkpoint()
    made.grow(4)
    assert_same(Ledger.open(store).snapshot, folded(store, made.sequence), made.oldest)


def test_a_ledger_follows_commits_that_remove_what_the_checkpoint_holds(local_store: LocalStore) -> None:
    made = Made(local_store, 9)
    made.grow(40)
    Ledger.open(local_store).write_checkpoint()
    ledger = Ledger.open(local_store)
    made.grow(40)
    assert_same(ledger.refresh(), folded(local_store, made.sequence), made.oldest)


def test_parts_are_merged_so_that_there_are_few(local_store: LocalStore) -> None:
    made = Made(local_store, 1)
    written = []
    for _ in range(24):
        made.grow(5)
        written.append(Ledger.open(local_store).write_checkpoint())
    assert max(report.parts for report in written) <= 5
    assert written[-1].commits == 5


def test_a_second_checkpoint_of_one_commit_writes_nothing(local_store: LocalStore) -> None:
    Made(local_store, 1).grow(5)
    Ledger.open(local_store).write_checkpoint()
    before = [info.key for info in local_store.list()]
    assert Ledger.open(local_store).write_checkpoint().commits == 0
    assert [info.key for info in local_store.list()] == before


def test_a_checkpoint_of_another_chain_is_left_aside(
    local_store: LocalStore, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    other = Made(LocalStore(tmp_path / "other"), 2)
    other.grow(20)
    Ledger.open(other.store).write_checkpoint()
    made = Made(local_store, 3)
    made.grow(25)
    for info in other.store.list(layout.CHECKPOINTS):
        local_store.put(info.key, other.store.get(info.key))
    assert_same(Ledger.open(local_store).snapshot, folded(local_store, 24), made.oldest)
    assert "left aside" in caplog.text


def test_a_checkpoint_of_a_commit_that_is_not_there_is_left_aside(local_store: LocalStore) -> None:
    made = Made(local_store, 3)
    made.grow(25)
    Ledger.open(local_store).write_checkpoint()
    local_store.delete([layout.commit(24)])
    assert Ledger.open(local_store).snapshot.sequence == 23


def _bits(content: bytes, pick: random.Random) -> bytes:
    at = pick.randrange(len(content))
    return content[:at] + bytes([content[at] ^ (1 << pick.randrange(8))]) + content[at + 1 :]


def _delete(store: Store, key: str, pick: random.Random) -> None:
    store.delete([key])


def _flip(store: Store, key: str, pick: random.Random) -> None:
    store.put(key, _bits(store.get(key), pick), mode="overwrite")


def _cut(store: Store, key: str, pick: random.Random) -> None:
    content = store.get(key)
    store.put(key, content[: pick.randrange(len(content))], mode="overwrite")


@pytest.mark.parametrize("damage", [_delete, _flip, _cut])
def test_damage_to_any_object_of_a_checkpoint_is_noticed_and_harmless(
    local_store: LocalStore, damage: Callable[[Store, str, random.Random], None]
) -> None:
    made = Made(local_store, 4)
    for count in (60, 12):  # two sets of parts, the second with removals
        made.grow(count)
        Ledger.open(local_store).write_checkpoint()
    truth = folded(local_store, made.sequence)
    objects = {info.key: local_store.get(info.key) for info in local_store.list(layout.CHECKPOINTS)}
    pick = random.Random(5)
    for key in [*objects, *(pick.choice(list(objects)) for _ in range(6 if damage is _flip else 0))]:
        damage(local_store, key, pick)
        assert_same(Ledger.open(local_store).snapshot, truth, made.oldest)
        local_store.put(key, objects[key], mode="overwrite")


def test_a_manifest_that_was_changed_is_left_aside(local_store: LocalStore) -> None:
    made = Made(local_store, 4)
    made.grow(30)
    Ledger.open(local_store).write_checkpoint()
    (key,) = checkpoint.manifests(local_store)
    changed = local_store.get(key).replace(b'"live_files":', b'"live_files":1')
    local_store.put(key, changed, mode="overwrite")
    assert_same(Ledger.open(local_store).snapshot, folded(local_store, made.sequence), made.oldest)


def test_a_damaged_part_is_named_in_the_log_and_the_next_checkpoint_heals(
    local_store: LocalStore, caplog: pytest.LogCaptureFixture
) -> None:
    made = Made(local_store, 4)
    made.grow(60)
    Ledger.open(local_store).write_checkpoint()
    for key in _parts(local_store):
        _flip(local_store, key, random.Random(0))
        _cut(local_store, key, random.Random(1))
    made.grow(2)
    ledger = Ledger.open(local_store)
    assert set(ledger.snapshot.files) == made.live
    assert "left aside" in caplog.text
    ledger.write_checkpoint()
    caplog.clear()
    assert_same(Ledger.open(local_store).snapshot, folded(local_store, made.sequence), made.oldest)
    assert caplog.text == ""


def test_a_rebuilt_checkpoint_takes_the_place_of_a_damaged_one_of_the_same_commit(
    local_store: LocalStore, caplog: pytest.LogCaptureFixture
) -> None:
    made = Made(local_store, 4)
    made.grow(40)
    Ledger.open(local_store).write_checkpoint()
    for key in _parts(local_store):
        _cut(local_store, key, random.Random(1))
    assert Ledger.open(local_store).write_checkpoint(rebuild=True).commits == 40
    assert_same(Ledger.open(local_store).snapshot, folded(local_store, made.sequence), made.oldest)
    assert "left aside" not in caplog.text


def test_a_store_that_cannot_give_a_checkpoint_gives_the_archive_all_the_same(
    local_store: LocalStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = Made(local_store, 4)
    made.grow(30)
    Ledger.open(local_store).write_checkpoint()
    original = LocalStore.get

    def get(self: LocalStore, key: str, **rest: Any) -> bytes:
        if key.startswith(layout.CHECKPOINT_PARTS):
            raise StoreError(f"{key}: no answer")
        return original(self, key, **rest)

    monkeypatch.setattr(LocalStore, "get", get)
    assert_same(Ledger.open(local_store).snapshot, folded(local_store, made.sequence), made.oldest)


def test_a_checkpoint_that_was_written_in_part_is_none(
    local_store: LocalStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = Made(local_store, 4)
    made.grow(40)
    Ledger.open(local_store).write_checkpoint()
    made.grow(40)
    original = LocalStore.put
    for fails_at in range(3):  # files, commits, manifest
        left = [fails_at]

        def put(self: LocalStore, key: str, content: bytes, left: list[int] = left, **rest: Any) -> None:
            left[0] -= 1
            if left[0] < 0:
                raise StoreError("the disk is full")
            original(self, key, content, **rest)

        with monkeypatch.context() as patch:
            patch.setattr(LocalStore, "put", put)
            with pytest.raises(StoreError):
                Ledger.open(local_store).write_checkpoint()
        found = Ledger.open(local_store)
        assert found.checkpoint == 39
        assert_same(found.snapshot, folded(local_store, made.sequence), made.oldest)
