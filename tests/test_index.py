"""The parts of the identity index: its objects, their merging, what is read to confirm a hit."""

from __future__ import annotations

import json
import random
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa
import pytest
from click.testing import CliRunner

from archiver import datafile, layout
from archiver.archive import Archive, open_archive
from archiver.cli.main import cli
from archiver.collect import collect
from archiver.errors import IntegrityError, PermissionDeniedError
from archiver.index import build, known, manifest, merge, part, reading
from archiver.index.hashing import group_rows, hash_ids, matches
from archiver.index.months import between, bounds, numbers_of
from archiver.index.part import IndexDamagedError, Part, PartEntry, as_table, keys_of
from archiver.index.recent import Run
from archiver.ledger.entry import DataFile, digest_of
from archiver.store.base import PutMode, Store
from archiver.store.local import LocalStore
from tests.bench.bench_index import CountingStore
from tests.support import archive_bodies, event, ids_of, new_archive
from tests.test_index_equivalence import compact_all

FOLDER = "events/workspace=w/dt=2026-03-01"


def key(number: int) -> str:
    return f"{FOLDER}/{'0' * 32}-{'1' * 28}-{number}.parquet"


def write(store: Store, hashes: list[int], files: list[int], *, names: int = 3) -> list[PartEntry]:
    entries = Run(np.array(hashes, dtype=np.uint64), np.array(files, dtype=np.uint32))
    return merge.write(store, "2026-03", entries, [key(number) for number in range(names)])


def find(store: Store, parts: list[PartEntry], hashes: list[int]) -> list[tuple[int, str]]:
    """Return the pairs of a hash and a file's key that the parts tell of."""
    wanted = np.array(sorted(hashes), dtype=np.uint64)
    found = []
    for entry in parts:
        opened = Part(store, entry)
        for extent in opened.extents(wanted):
            places, files = opened.look(extent, wanted)
            for place, name in zip(places.tolist(), opened.keys(files), strict=True):
                found.append((int(wanted[place]), name))
    return sorted(found)


@pytest.fixture
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(part, "BLOCK", 4)
    monkeypatch.setattr(part, "_SLICE_BLOCKS", 3)
    monkeypatch.setattr(part, "_BRIDGED_BLOCKS", 1)


@pytest.mark.parametrize("seed", range(20))
def test_an_object_gives_back_every_entry_and_nothing_else(
    local_store: LocalStore, small_blocks: None, monkeypatch: pytest.MonkeyPatch, seed: int
) -> None:
    """Equal hashes may fill whole blocks, and go on from one object into the next."""
    monkeypatch.setattr(merge, "LARGEST_PART", 50)
    rng = random.Random(seed)
    values = sorted(
        rng.choice([0, 1, 2**63, 2**64 - 1, rng.randrange(40), rng.getrandbits(64)]) for _ in range(120)
    )
    files = [rng.randrange(3) for _ in values]
    parts = write(local_store, values, files)
    assert [entry.entries for entry in parts] == [50, 50, 20]
    asked = sorted({*rng.sample(values, 30), *(rng.randrange(45) for _ in range(20)), 2**64 - 1})
    expected = sorted((value, key(file)) for value, file in zip(values, files, strict=True) if value in asked)
    assert find(local_store, parts, asked) == expected


def test_matches_are_all_pairs_of_equal_values() -> None:
    rng = np.random.default_rng(1)
    for _ in range(200):
        left, right = (np.sort(rng.integers(0, 12, rng.integers(0, 15))).astype(np.uint64) for _ in "ab")
        here, there = matches(left, right)
        pairs = {(a, b) for a in range(len(left)) for b in range(len(right)) if left[a] == right[b]}
        assert sorted(zip(here.tolist(), there.tolist(), strict=True)) == sorted(pairs)


def test_a_hash_that_collides_with_one_of_another_workspace_is_no_hit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    archive = new_archive(tmp_path / "a")
    monkeypatch.setattr("archiver.index.hashing.hash_ids", lambda ids, _: np.zeros(len(ids), dtype=np.uint64))
    archive_bodies(archive, event("a", workspace="w1"))
    store = CountingStore(tmp_path / "a")
    assert archive_bodies(open_archive(store), event("a", workspace="w2")).counts.archived == 1
    assert not [name for name, _ in store.reads if "workspace=w1" in name]


def test_a_manifest_with_a_flipped_bit_is_left_aside(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    archive = _archived(tmp_path)
    (head,) = archive.store.list(layout.INDEX_HEADS)
    content = archive.store.get(head.key)
    archive.store.put(head.key, content.replace(b'"entries":40', b'"entries":41'), mode="overwrite")
    assert manifest.newest(archive.ledger, up_to=1) is None
    assert "left aside" in caplog.text
    assert archive_bodies(open_archive(archive.store), event("e1")).counts.duplicates == 1


def test_rows_are_grouped_by_file_each_once() -> None:
    grouped = group_rows(np.array([2, 1, 2, 2]), np.array([5, 6, 4, 5]))
    assert {file: rows.tolist() for file, rows in grouped.items()} == {1: [6], 2: [4, 5]}


def test_months_meet_without_a_gap() -> None:
    assert list(between(bounds("2025-12")[0], bounds("2026-02")[1] - 1)) == ["2025-12", "2026-01", "2026-02"]
    assert bounds("2025-12")[1] == bounds("2026-01")[0]
    assert numbers_of(np.array([bounds("1970-02")[0], -1])).tolist() == [1, -1]
    assert list(between(-(10**30), bounds("0001-01")[0])) == ["0001-01"]
    assert len(list(between(bounds("9999-12")[0], 10**30))) == 1


def test_a_table_of_files_gives_back_the_keys() -> None:
    keys = [key(0), key(10), f"alerts/workspace=%2E/dt=2026-01-31/{'a' * 32}-{'b' * 28}-7.jsonl.gz"]
    assert keys_of(as_table(keys)) == keys
    assert keys_of(as_table([])) == []


def test_every_flipped_bit_of_an_object_is_noticed_when_it_matters(
    local_store: LocalStore, small_blocks: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    values = [number * 2**58 for number in range(40)]
    monkeypatch.setattr("os.fsync", lambda _: None)
    (entry,) = write(local_store, values, [number % 3 for number in range(40)])
    intact, expected = local_store.get(entry.key), find(local_store, [entry], values)
    for place in range(len(intact)):
        damaged = bytearray(intact)
        damaged[place] ^= 1 << (place % 8)
        local_store.put(entry.key, bytes(damaged), mode="overwrite")
        with pytest.raises(IndexDamagedError) as caught:
            find(local_store, [entry], values) if place < 12 * 40 else Part(local_store, entry).table()
        assert caught.value.month == "2026-03"
    local_store.put(entry.key, intact, mode="overwrite")
    assert find(local_store, [entry], values) == expected
    local_store.put(entry.key, intact[:100], mode="overwrite")
    with pytest.raises(IndexDamagedError, match="too short"):
        find(local_store, [entry], values)


def test_merging_keeps_every_live_entry_and_drops_the_others(
    local_store: LocalStore, small_blocks: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(merge, "SLICE", 16)
    monkeypatch.setattr(merge, "LARGEST_PART", 60)
    rng = random.Random(3)
    values = sorted(
        [rng.getrandbits(64) for _ in range(80)] + [2**64 * n // 8 for n in range(8)] * 2 + [2**64 - 1] * 4
    )
    one = write(local_store, values[:70], [n % 3 for n in range(70)])
    two = write(local_store, values[30:], [n % 2 for n in range(70)], names=2)
    for low, high in ((0, 2**64 - 1), (values[3], values[9]), (values[9] + 1, values[10] - 1)):
        held = Part(local_store, one[0]).between(low, high)[0].tolist()
        assert held == [value for value in values[: one[0].entries] if low <= value <= high]
    made = merge.merge(local_store, "2026-03", one + two, lambda keys: set(keys) - {key(1)})
    assert len({entry.run for entry in made}) == 1
    assert all(entry.entries <= 60 for entry in made)
    expected = sorted(pair for pair in find(local_store, one + two, values) if pair[1] != key(1))
    assert find(local_store, made, values) == expected
    assert merge.merge(local_store, "2026-03", one, lambda _: set()) == []


def test_runs_of_which_most_is_dead_are_found(local_store: LocalStore) -> None:
    parts = write(local_store, list(range(30)), [0] * 10 + [1] * 20)
    assert merge.stale(local_store, parts, lambda _: {key(1)}) == []
    assert merge.stale(local_store, parts, lambda _: {key(0)}) == parts


def test_a_month_has_few_runs_and_an_entry_is_written_few_times() -> None:
    parts: list[PartEntry] = []
    written = 0
    for number in range(2_000):
        parts.append(PartEntry(f"{number}", "2026-03", f"r{number}", 0, 1_000, 1, 0, 1, ""))
        while chosen := merge.due(parts):
            total = sum(one.entries for one in chosen)
            written += total
            parts = [one for one in parts if one not in chosen]
            parts.append(PartEntry(f"m{written}", "2026-03", f"m{written}", 0, total, 1, 0, 1, ""))
        assert len(parts) <= 9
    assert written < 10 * 2_000 * 1_000


def _archived(tmp_path: Path, count: int = 40, store: Store | None = None) -> Archive:
    archive = new_archive(store or tmp_path / "a")
    archive_bodies(archive, *(event(f"e{number}") for number in range(count)))
    archive.identities.update()
    return archive


def test_new_ids_are_decided_without_reading_a_data_file(tmp_path: Path) -> None:
    _archived(tmp_path)
    store = CountingStore(tmp_path / "a")
    archive = open_archive(store)
    store.reads.clear()
    assert archive_bodies(archive, *(event(f"n{number}") for number in range(40))).counts.archived == 40
    assert not [name for name, _ in store.reads if name.startswith("events/")]
    store.reads.clear()
    again = archive_bodies(archive, event("e1"), event("n2"))
    assert again.counts.duplicates == 2
    assert len({name for name, _ in store.reads if name.startswith("events/")}) == 2


def test_a_batch_reads_the_months_near_it_and_no_others(tmp_path: Path) -> None:
    archive = new_archive(tmp_path / "a")
    days = [f"2026-{month:02d}-15T00:00:00.000000Z" for month in range(1, 13)]
    archive_bodies(archive, *(event(f"{day[:7]} {n}", timestamp=day) for day in days for n in range(20)))
    archive.identities.update()
    store = CountingStore(tmp_path / "a")
    archive_bodies(open_archive(store), *(event(f"x{n}", timestamp=days[5]) for n in range(20)))
    read = {name.split("/")[2] for name, _ in store.reads if name.startswith(layout.INDEX_RUNS)}
    assert read == {f"2026-{month:02d}" for month in range(4, 9)}


@pytest.mark.s3
def test_the_index_lies_in_a_bucket_as_well(s3_store: Any, tmp_path: Path) -> None:
    archive = _archived(tmp_path, 60, s3_store)
    archive = open_archive(s3_store)
    counts = archive_bodies(archive, *(event(f"e{number}") for number in range(30, 90))).counts
    assert (counts.duplicates, counts.archived) == (30, 30)
    archive.identities.update()
    archive.identities.update(anew=True)
    s3_store.delete([next(iter(s3_store.list(layout.INDEX_RUNS))).key])
    counts = archive_bodies(open_archive(s3_store), *(event(f"e{number}") for number in range(90))).counts
    assert counts.duplicates == 90


def test_ids_of_commits_that_are_not_indexed_are_looked_for(tmp_path: Path) -> None:
    archive = _archived(tmp_path)
    archive_bodies(archive, event("late"))
    assert archive_bodies(open_archive(archive.store), event("late")).counts.duplicates == 1


def test_an_attempt_indexes_first_what_it_would_have_to_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    archive = new_archive(tmp_path / "a")
    for number in range(4):
        archive_bodies(archive, event(f"e{number}", workspace=f"w{number}"))
    monkeypatch.setattr(known, "_UNREAD_FILES", 3)
    archive = open_archive(archive.store)
    assert archive_bodies(archive, event("e2", workspace="w2")).counts.duplicates == 1
    assert manifest.newest(archive.ledger, up_to=100) is not None


def test_an_archive_whose_index_cannot_be_written_is_archived_into_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    class Refusing(LocalStore):
        def put(self, key: str, content: bytes, *, mode: PutMode = "create") -> None:
            if key.startswith(layout.INDEX):
                raise PermissionDeniedError(f"{key}: refused")
            super().put(key, content, mode=mode)

    monkeypatch.setattr(known, "_UNREAD_FILES", 0)
    archive = new_archive(Refusing(tmp_path / "a"))
    archive_bodies(archive, event("a"), event("b"))
    archive = open_archive(archive.store)
    assert archive_bodies(archive, event("a"), event("c")).counts.duplicates == 1
    assert archive_bodies(archive, event("c")).counts.duplicates == 1
    assert caplog.text.count("cannot be brought up to date") == 1


def test_a_few_new_files_are_left_to_a_later_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    archive = new_archive(tmp_path / "a")
    archive_bodies(archive, event("a"))
    archive.identities.update(lazily=True)
    assert list(archive.store.list(layout.INDEX)) == []
    monkeypatch.setattr(build, "_WORTH_FILES", 0)
    archive_bodies(archive, event("b"))
    archive.identities.update(lazily=True)
    assert list(archive.store.list(layout.INDEX)) != []


def test_a_file_that_vanishes_while_a_hit_is_confirmed_leads_to_a_new_attempt(tmp_path: Path) -> None:
    """It was compacted and collected by somebody else, after the snapshot was taken."""
    archive = _archived(tmp_path)
    other = open_archive(archive.store)
    attempts = []
    original = reading.rows_of

    def overtaken(*arguments: Any) -> pa.Table:
        attempts.append(1)
        if len(attempts) == 1:
            compact_all(other)
        return original(*arguments)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("archiver.identity.rows_of", overtaken)
        counts = archive_bodies(archive, event("e1"), event("new")).counts
    assert (counts.duplicates, counts.archived) == (1, 1)
    assert len(attempts) == 2
    assert ids_of(archive) == sorted({f"e{number}" for number in range(40)} | {"new"})


def test_a_live_file_that_is_missing_is_damage_and_no_reason_to_try_anew(tmp_path: Path) -> None:
    archive = _archived(tmp_path)
    archive.store.delete(list(archive.ledger.snapshot.files))
    with pytest.raises(IntegrityError, match="missing, though the ledger names it"):
        archive_bodies(archive, event("e1"))


def _large_file(store: LocalStore, monkeypatch: pytest.MonkeyPatch) -> tuple[DataFile, list[str]]:
    """Write a file of many row groups, read as the large ones are."""
    monkeypatch.setattr(datafile, "ROW_GROUP_ROWS", 500)
    monkeypatch.setattr(reading, "WHOLE_FILE_BYTES", 0)
    archive = new_archive(store)
    ids = [f"id-{number}" for number in range(3_000)]
    archive_bodies(archive, *(event(one) for one in ids))
    (file,) = archive.ledger.snapshot.files.values()
    return file, ids


def test_of_a_large_file_only_the_row_groups_with_the_ids_are_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = LocalStore(tmp_path / "a")
    file, ids = _large_file(store, monkeypatch)
    original, groups = reading._read_groups, []

    def read(source: Any, some: list[int], *rest: Any) -> pa.Table:
        groups.append(some)
        return original(source, some, *rest)

    monkeypatch.setattr(reading, "_read_groups", read)
    for asked in ([ids[7]], [ids[0], ids[2_999]], ids[:100], ["none"]):
        groups.clear()
        rows = reading.rows_of(store, file, asked, "events")
        assert sorted(rows["id"].to_pylist()) == sorted(set(asked) & set(ids))
        assert rows.column_names == ["id", "event_time", "shape", "body", "base"]
        if len(asked) < 3 and asked != ["none"]:
            assert len(groups) == 1
            assert len(groups[0]) <= 3, "a filter says yes wrongly to one id of a hundred"
    hashes = reading.hashes_of(store, file)
    assert np.array_equal(hashes, np.sort(hash_ids(pl.Series(ids), "ws_1")))


def test_a_damaged_filter_hides_no_row(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = LocalStore(tmp_path / "a")
    file, ids = _large_file(store, monkeypatch)
    monkeypatch.setattr(reading, "_may_hold", lambda *_: False)
    assert reading.rows_of(store, file, [ids[7]], "events")["id"].to_pylist() == [ids[7]]


def test_a_file_that_cannot_be_read_is_damage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = LocalStore(tmp_path / "a")
    file, ids = _large_file(store, monkeypatch)
    store.put(file.key, b"no parquet", mode="overwrite")
    with pytest.raises(IntegrityError, match="cannot be read"):
        reading.rows_of(store, file, ids[:1], "events")
    store.delete([file.key])
    with pytest.raises(reading.FileVanishedError):
        reading.rows_of(store, file, ids[:1], "events")
    with pytest.raises(reading.FileVanishedError):
        reading.hashes_of(store, file)


def test_collect_deletes_what_no_manifest_of_the_newest_two_names(tmp_path: Path) -> None:
    archive = new_archive(tmp_path / "a")
    for number in range(6):
        archive_bodies(archive, event(f"e{number}"))
        archive.identities.update()
    store = archive.store
    heads = [info.key for info in store.list(layout.INDEX_HEADS)]
    assert len(heads) == 6
    young = collect(archive, grace=timedelta(hours=1))
    assert young.caches == 0
    collect(archive, grace=timedelta(0), force=True)
    assert [info.key for info in store.list(layout.INDEX_HEADS)] == heads[:2]
    named = set()
    for head in heads[:2]:
        named |= {one["key"] for one in json.loads(store.get(head))["parts"]}
    assert {info.key for info in store.list(layout.INDEX_RUNS)} == named
    assert archive_bodies(open_archive(store), *(event(f"e{n}") for n in range(6))).counts.duplicates == 6


def test_a_manifest_is_named_by_its_digest(tmp_path: Path) -> None:
    archive = _archived(tmp_path)
    (head,) = archive.store.list(layout.INDEX_HEADS)
    named = layout.index_head_of(head.key)
    assert named == (archive.ledger.snapshot.sequence, digest_of(archive.store.get(head.key))[7:23])


def _cli(archive: Archive, *arguments: str) -> dict[str, Any]:
    result = CliRunner().invoke(
        cli, ["index", *arguments, "--archive", archive.store.location, "--json"], catch_exceptions=False
    )
    assert result.exit_code == 0, result.output
    told: dict[str, Any] = json.loads(result.stdout)
    return told


def test_the_commands_tell_and_rebuild(tmp_path: Path) -> None:
    archive = _archived(tmp_path)
    status = _cli(archive, "status")
    assert status["sequence"] == status["head"] == 1
    assert [(month["month"], month["ids"]) for month in status["months"]] == [("2026-03", 40)]
    before = {info.key for info in archive.store.list(layout.INDEX)}
    assert _cli(archive, "rebuild", "--dry-run")["ids"] == 40
    assert {info.key for info in archive.store.list(layout.INDEX)} == before
    assert _cli(archive, "rebuild")["ids"] == 40
    archive.store.delete(before)
    assert _cli(archive, "status")["sequence"] == 1
    assert archive_bodies(open_archive(archive.store), event("e3")).counts.duplicates == 1
    archive.store.delete([info.key for info in archive.store.list(layout.INDEX)])
    assert _cli(archive, "status")["sequence"] is None
    plain = CliRunner().invoke(cli, ["index", "status", "--archive", archive.store.location])
    assert "no index" in plain.stdout
    assert ids_of(archive) == sorted(f"e{number}" for number in range(40))


def test_a_clock_that_is_wrong_by_centuries_makes_an_index_of_few_months(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An archive of many files is looked through month by month; 120,000 of them would take hours."""
    monkeypatch.setattr(build, "_FEW_FILES", 0)
    archive = new_archive(tmp_path / "a")
    times = ["0001-01-01T00:00:00.000000Z", "2026-03-26T10:15:00.000000Z", "9999-12-31T23:59:59.999999Z"]
    bodies = [event(f"e{number}", timestamp=at) for number, at in enumerate(times)]
    archive_bodies(archive, *bodies, event("f", workspace="ws_2"))
    asked: list[None] = []
    select = type(archive.ledger.snapshot.files).select

    def counting(*arguments: Any, **options: Any) -> Any:
        asked.append(None)
        return select(*arguments, **options)

    monkeypatch.setattr(type(archive.ledger.snapshot.files), "select", counting)
    assert archive.identities.update(anew=True).ids == 4
    assert len(asked) < 10
    again = archive_bodies(open_archive(archive.store), *bodies, event("f", workspace="ws_2"))
    assert again.counts.duplicates == 4
