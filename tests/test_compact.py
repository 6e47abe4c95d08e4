"""Compaction: the same rows in fewer files, whoever else is at work, and wherever it is interrupted."""

from __future__ import annotations

import io
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from archiver import clock, layout
from archiver.archive import Archive, AsOf, open_archive
from archiver.cli.compact import compact_command
from archiver.cli.run import run_command
from archiver.collect import collect
from archiver.columns import SCHEMAS
from archiver.compact import CompactReport, Policy, compact
from archiver.compact import merge as merging
from archiver.compact import plan as planning
from archiver.compact import run as running
from archiver.datafile import BodiesDigest, Encoding, decode
from archiver.errors import CommitConflictError, ConfigError, IntegrityError, StoreError
from archiver.ledger import commit as protocol
from archiver.ledger.entry import DataFile, digest_of
from archiver.ledger.files import Entry
from archiver.store.base import Store
from archiver.store.local import LocalStore
from archiver.verify import verify
from tests.faults.check import check_archive
from tests.support import alert, archive_bodies, event, ids_of, new_archive, rows_of

NOW = timedelta(0)
FORMATS = ["parquet", "jsonl.gz", "jsonl.zst"]


def at(minute: int, day: int = 26) -> str:
    return f"2026-03-{day}T{minute // 60:02d}:{minute % 60:02d}:00.000000Z"


def fill(archive: Archive, files: int = 6, rows: int = 10, *, first: int = 0, **members: Any) -> None:
    """Archive events of one partition in so many commits; their times overlap, and some are equal."""
    for number in range(first, first + files):
        minutes = [(number * 7 + row * 13) % 97 for row in range(rows)]
        archive_bodies(
            archive,
            *(
                event(f"{number}-{row}", timestamp=at(minute), **members)
                for row, minute in enumerate(minutes)
            ),
        )


def tables(archive: Archive, dataset: str = "events") -> list[list[dict[str, Any]]]:
    """Return the rows of each live file, in its order, less what JSON lines and compaction may change."""
    found = []
    for file in archive.ledger.refresh().files.select(dataset):
        rows = decode(archive.store.get(file.key), file.key, dataset, SCHEMAS[dataset].names)
        found.append([{k: v for k, v in row.items() if k != "origin"} for row in rows.to_pylist()])
    return found


def contents(archive: Archive, dataset: str = "events") -> list[dict[str, Any]]:
    kept = archive.encoding.format == "parquet"
    lost = () if kept else ("ordinal", "received_at", "source")
    rows = [
        {k: v for k, v in row.items() if k not in lost} for part in tables(archive, dataset) for row in part
    ]
    return sorted(rows, key=lambda row: str(row["body"]))


@pytest.fixture
def archive(tmp_path: Path) -> Archive:
    return new_archive(tmp_path / "a")


@contextmanager
def before_commit(deed: Callable[[], object], *, times: int = 1) -> Iterator[None]:
    """Do something, as another process would, after files were put and before they are committed."""
    original, left = protocol.commit, [times]

    def commit(ledger: Any, content: Any, **rest: Any) -> protocol.Outcome:
        if content.operation == "compact" and left[0]:
            left[0] -= 1
            with pytest.MonkeyPatch.context() as inner:
                inner.setattr(protocol, "commit", original)
                deed()
        return original(ledger, content, **rest)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(protocol, "commit", commit)
        yield
    assert not left[0]


# --- what comes out --------------------------------------------------------------------------------


@pytest.mark.parametrize("data_format", FORMATS)
def test_small_files_become_one_with_the_same_rows_by_time(tmp_path: Path, data_format: str) -> None:
    archive = new_archive(tmp_path / "a", format=data_format)
    fill(archive)
    archive_bodies(archive, *(alert(f"al-{n}") for n in range(3)))
    before = contents(archive)
    report = compact(archive)
    (rows,) = tables(archive)
    assert contents(archive) == before
    times = [row["event_time"] for row in rows]
    assert times == sorted(times)
    assert (report.files_before, report.files_after, report.rows, report.partitions) == (6, 1, 60, 1)
    assert report.bytes_after == archive.ledger.snapshot.files.select("events")[0].bytes
    assert ids_of(archive, "alerts") == ["al-0", "al-1", "al-2"]
    assert verify(archive.store).damages == []


@pytest.mark.parametrize("data_format", FORMATS)
def test_rows_of_equal_time_stand_as_they_were_committed(tmp_path: Path, data_format: str) -> None:
    archive = new_archive(tmp_path / "a", format=data_format)
    for number in (3, 1, 4, 0, 2):
        archive_bodies(archive, *(event(f"{number}-{row}") for row in range(3)))
    wanted = [row["id"] for row in rows_of(archive)]
    order = [
        entry.file for entry in sorted(archive.ledger.snapshot.files.entries(), key=lambda e: e.added_by)
    ]
    by_file = {layout.stem_of(file.key): file for file in order}
    assert len(by_file) == 5
    expected = [row for file in order for row in _ids(archive, file)]
    compact(archive)
    assert [row["id"] for row in rows_of(archive)] == expected
    assert sorted(expected) == sorted(wanted)


def _ids(archive: Archive, file: DataFile) -> list[str]:
    ids: list[str] = decode(archive.store.get(file.key), file.key, "events", ["id"])["id"].to_pylist()
    return ids


def test_each_row_names_the_file_it_was_first_archived_in_however_often_it_moves(archive: Archive) -> None:
    fill(archive, 4)
    first = {
        row: layout.stem_of(f.key) for f in archive.ledger.snapshot.files.values() for row in _ids(archive, f)
    }
    compact(archive)
    fill(archive, 4, first=4)
    for file in archive.ledger.snapshot.files.values():
        if file.rows == 10:
            first |= dict.fromkeys(_ids(archive, file), layout.stem_of(file.key))
    compact(archive)
    (file,) = archive.ledger.snapshot.files.values()
    rows = rows_of(archive)
    assert {row["id"]: row["origin"] for row in rows} == first
    digest = BodiesDigest()
    digest.take(decode(archive.store.get(file.key), file.key, "events", ["body"])["body"])
    assert file.bodies == digest.digest()
    assert verify(archive.store).damages == []


def test_supplements_and_alerts_are_compacted_too(archive: Archive) -> None:
    for number in range(4):
        archive_bodies(archive, event(f"e{number}"), alert(f"a{number}"))
        archive_bodies(archive, event(f"e{number}", ip_city="Berlin"))
    before = {name: contents(archive, name) for name in layout.DATASETS}
    report = compact(archive)
    assert report.files_after == 3
    assert {name: contents(archive, name) for name in layout.DATASETS} == before
    assert verify(archive.store).damages == []


@pytest.fixture(scope="module")
def one_row(tmp_path_factory: pytest.TempPathFactory) -> pa.Table:
    archive = new_archive(tmp_path_factory.mktemp("row") / "a")
    archive_bodies(archive, event("a"))
    (file,) = archive.ledger.snapshot.files.values()
    return decode(archive.store.get(file.key), file.key, "events", SCHEMAS["events"].names)


def _file_of(one_row: pa.Table, times: list[int], number: int) -> tuple[DataFile, bytes]:
    """Make a data file whose rows tell in `ordinal` and `body` which they are."""
    rows = pa.concat_tables([one_row] * len(times)).combine_chunks()
    values = {
        "event_time": pa.array(times, pa.int64()).cast(SCHEMAS["events"].field("event_time").type),
        "ordinal": pa.array(range(len(times)), pa.int64()),
        "body": pa.array([f"{number}-{row}" for row in range(len(times))]),
    }
    for name, column in values.items():
        place = rows.schema.get_field_index(name)
        rows = rows.set_column(place, rows.schema.field(place), column)
    content = Encoding().encode(rows, "events")
    key = f"events/workspace=ws_1/dt=2026-03-26/{number:032x}-{number:028x}-0.parquet"
    return DataFile(key, digest_of(content), len(content), len(times), times[0], times[-1]), content


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    files=st.lists(st.lists(st.integers(0, 6), min_size=1, max_size=12).map(sorted), min_size=2, max_size=6),
    group_rows=st.integers(1, 9),
    batch_rows=st.integers(1, 5),
    waiting=st.integers(0, 9_000),
    group_bytes=st.sampled_from([1, 500, 2_000, 32 << 20]),
    most_shards=st.sampled_from([2, 256]),
)
def test_wherever_the_cuts_fall_all_rows_are_there_by_time_then_by_file(
    one_row: pa.Table,
    files: list[list[int]],
    group_rows: int,
    batch_rows: int,
    waiting: int,
    group_bytes: int,
    most_shards: int,
) -> None:
    made = [_file_of(one_row, times, number) for number, times in enumerate(files)]
    by_key = {file.key: content for file, content in made}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(merging, "ROW_GROUP_ROWS", group_rows)
        patch.setattr(merging, "_BATCH_ROWS", batch_rows)
        patch.setattr(merging, "_WAITING_BYTES", waiting)
        patch.setattr(merging, "ROW_GROUP_BYTES", group_bytes)
        patch.setattr(merging, "_MOST_SHARDS", most_shards)
        merged = merging.merge(
            [file for file, _ in made], lambda wanted: [by_key[one.key] for one in wanted], Encoding()
        )
    assert merged is not None
    found = decode(merged.content, "x.parquet", "events", SCHEMAS["events"].names).to_pylist()
    rows = sorted((time, number, row) for number, times in enumerate(files) for row, time in enumerate(times))
    assert [row["body"] for row in found] == [f"{number}-{row}" for _, number, row in rows]
    assert [row["origin"] for row in found] == [layout.stem_of(made[number][0].key) for _, number, _ in rows]
    assert (merged.rows, merged.min_us, merged.max_us) == (len(rows), rows[0][0], rows[-1][0])


def test_large_rows_behind_many_small_ones_make_no_large_row_group(
    archive: Archive, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is in memory at once follows from the bytes, and not from the number of rows."""
    for number in range(4):
        small = [event(f"s{number}-{row}", timestamp=at(row % 60)) for row in range(400)]
        large = [
            event(f"l{number}-{row}", timestamp=at(600 + row), metadata={"x": f"{row} " * 20_000})
            for row in range(8)
        ]
        archive_bodies(archive, *small, *large)
    before = contents(archive)
    monkeypatch.setattr(merging, "ROW_GROUP_BYTES", 100_000)
    compact(archive)
    (file,) = archive.ledger.snapshot.files.select()
    with pq.ParquetFile(io.BytesIO(archive.store.get(file.key))) as opened:
        sizes = [opened.metadata.row_group(n).total_byte_size for n in range(opened.num_row_groups)]
    assert max(sizes) < 400_000
    assert contents(archive) == before
    assert verify(archive.store).damages == []


def test_each_partition_has_one_file_afterwards(archive: Archive) -> None:
    draw = random.Random(3)
    for number in range(5):
        bodies = [
            event(
                f"{number}-{row}",
                workspace=draw.choice(["a", "b=c/d"]),
                timestamp=at(row, draw.choice([25, 26])),
            )
            for row in range(8)
        ]
        archive_bodies(archive, *bodies)
    before = contents(archive)
    compact(archive, Policy(min_files=2))
    assert contents(archive) == before
    counts = [one.files for one in archive.ledger.snapshot.files.partition_sizes(smaller_than=1 << 40)]
    assert counts == [1] * 4
    assert verify(archive.store).damages == []


# --- what is chosen --------------------------------------------------------------------------------


def _entries(*sizes: int) -> list[Entry]:
    return [
        Entry(DataFile(f"events/workspace=w/dt=2026-03-26/{n:032x}-{n:028x}-0.parquet", "", size, 1, n, n), n)
        for n, size in enumerate(sizes)
    ]


def _sizes(entries: list[Entry]) -> list[int]:
    return [entry.file.bytes for entry in entries]


@pytest.mark.parametrize(
    ("sizes", "chosen"),
    [
        ((5, 5, 5), []),
        ((5, 5, 5, 5), [5, 5, 5, 5]),
        ((1, 1, 1, 100), []),
        ((1, 1, 1, 1, 100), [1, 1, 1, 1]),
        ((50, 50, 60, 100), [50, 50, 60, 100]),
        ((1, 3, 9, 27, 81), []),
        ((1, 3, 9, 26, 81), [1, 3, 9, 26]),
    ],
)
def test_a_file_is_rewritten_only_along_with_half_as_much_of_others(
    sizes: tuple[int, ...], chosen: list[int]
) -> None:
    assert _sizes(planning._worth_it(_entries(*sizes), 4)) == chosen


def test_files_stay_few_and_a_row_is_rewritten_seldom() -> None:
    """A year of small files, compacted after each: what is left, and what it cost, is bounded."""
    draw, sizes, written, arrived, most = random.Random(7), [], 0, 0, 0
    for _ in range(5_000):
        sizes.append(size := draw.randint(20_000, 200_000))
        arrived += size
        small = [one for one in sizes if one < 64 << 20]
        if chosen := _sizes(planning._worth_it(_entries(*small), 4)):
            written += sum(chosen)
            for one in chosen:
                sizes.remove(one)
            sizes.append(sum(chosen))
        most = max(most, len([one for one in sizes if one < 64 << 20]))
    assert most <= 16
    assert written <= 10 * arrived


def test_large_files_are_left_alone_and_groups_stay_below_the_target() -> None:
    mib = 1 << 20
    policy = Policy()
    entries = _entries(*(40 * mib for _ in range(10)))
    partition = layout.Partition("events", "w", "2026-03-26")
    groups = list(planning._groups(partition, entries, policy, 128 * mib))
    assert [len(group.files) for group in groups] == [3, 3, 3]
    assert all(group.bytes <= 128 * mib for group in groups)
    assert planning._small_bytes(policy, "parquet") == 64 * mib


def test_a_target_makes_a_file_large_enough(archive: Archive) -> None:
    fill(archive, 4, 2_000, note="x" * 40)
    sizes = [file.bytes for file in archive.ledger.snapshot.files.values()]
    policy = Policy(target_bytes=1 << 20)
    assert max(sizes) < 1 << 19
    assert compact(archive, policy).files_after == 1
    assert compact(archive, policy).files_before == 0


def test_fewer_than_min_files_are_left(archive: Archive) -> None:
    fill(archive, 3)
    assert compact(archive).commits == []
    assert compact(archive, Policy(min_files=2)).files_before == 3


def test_a_partition_that_was_just_added_to_may_wait(
    archive: Archive, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(archive, 4)
    policy = Policy(min_age=timedelta(hours=1))
    assert compact(archive, policy).commits == []
    later = clock.now_us() + 3_700_000_000
    monkeypatch.setattr(clock, "now_us", lambda: later)
    archive_bodies(archive, event("elsewhere", workspace="ws_2"))
    assert compact(archive, policy).files_before == 4


def test_only_what_is_asked_for_is_compacted(archive: Archive) -> None:
    for number in range(4):
        for workspace in ("ws_1", "ws_2"):
            for day in (25, 26):
                body = event(f"{number}-{workspace}-{day}", workspace=workspace, timestamp=at(5, day))
                archive_bodies(archive, body, alert(f"{number}-{workspace}-{day}", workspace=workspace))
    midnight = clock.from_text("2026-03-26T00:00:00.000000Z")

    def chosen(**parts: Any) -> set[tuple[str, str, str]]:
        report = compact(archive, Policy(**parts), dry_run=True)
        return {(one["dataset"], one["workspace"], one["dt"]) for one in report.planned}

    assert len(chosen()) == 6
    assert {one[0] for one in chosen(datasets=("alerts",))} == {"alerts"}
    assert {one[1] for one in chosen(workspaces=("ws_2",))} == {"ws_2"}
    assert {one[2] for one in chosen(until_us=midnight, datasets=("events",))} == {"2026-03-25"}
    assert {one[2] for one in chosen(since_us=midnight, datasets=("events",))} == {"2026-03-26"}


@pytest.mark.parametrize(
    "policy",
    [
        Policy(min_files=1),
        Policy(target_bytes=5),
        Policy(target_bytes=(4 << 30) + 1),
        Policy(datasets=("nothing",)),
    ],
)
def test_a_policy_that_makes_no_sense_is_refused(archive: Archive, policy: Policy) -> None:
    with pytest.raises(ConfigError):
        compact(archive, policy)


def test_lines_that_are_too_large_in_memory_are_taken_in_parts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    archive = new_archive(tmp_path / "a", format="jsonl.gz")
    fill(archive, 5)
    before = contents(archive)
    lines = len("\n".join(row["body"] for row in before))
    monkeypatch.setattr(merging, "MOST_LINES_BYTES", lines // 2)
    report = compact(archive)
    assert report.files_before >= 3
    assert len(archive.ledger.snapshot.files) > 1
    assert contents(archive) == before
    monkeypatch.setattr(merging, "MOST_LINES_BYTES", 10)
    fill(archive, 5, first=5)
    assert compact(archive).commits == []


# --- commits ---------------------------------------------------------------------------------------


def test_a_commit_takes_one_group_of_each_partition_and_so_many_files(
    archive: Archive, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(planning, "MOST_FILES", 4)
    monkeypatch.setattr(running, "MOST_FILES", 8)
    for number in range(8):
        archive_bodies(archive, *(event(f"{number}-{ws}", workspace=f"ws_{ws}") for ws in range(3)))
    report = compact(archive)
    for sequence in report.commits:
        said = archive.ledger.read(sequence).content
        places = [file.partition for file in said.added]
        assert len(set(places)) == len(places) > 0
        assert len(said.removed) <= 8
        assert said.counts.read == 0
    assert len(report.commits) >= 3
    assert {one.files for one in archive.ledger.snapshot.files.partition_sizes(smaller_than=1 << 40)} == {2}
    assert verify(archive.store).damages == []


def test_a_commit_replaces_about_so_many_bytes(archive: Archive, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(4):
        archive_bodies(archive, *(event(f"{number}-{ws}", workspace=f"ws_{ws}") for ws in range(3)))
    monkeypatch.setattr(running, "COMMIT_BYTES", 1)
    assert len(compact(archive).commits) == 3


def test_what_was_committed_before_an_error_stands(archive: Archive, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(4):
        archive_bodies(archive, *(event(f"{number}-{ws}", workspace=f"ws_{ws}") for ws in range(3)))
    monkeypatch.setattr(running, "COMMIT_BYTES", 1)
    put, puts = archive.store.put, []

    def fail_at_the_third(key: str, content: bytes, **rest: Any) -> None:
        puts.extend([key] if key.startswith("events/workspace") else [])
        if len(puts) == 3:
            raise StoreError("the disk is full")
        put(key, content, **rest)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(archive.store, "put", fail_at_the_third)
        with pytest.raises(StoreError):
            compact(archive)
    assert len(archive.ledger.refresh().files) == 1 + 1 + 4
    assert compact(archive).files_before == 4
    check_archive(archive.store, events={f"{n}-{ws}" for n in range(4) for ws in range(3)})


def test_a_dry_run_says_what_it_would_do_and_writes_nothing(archive: Archive) -> None:
    fill(archive)
    before = sorted(info.key for info in archive.store.list())
    report = compact(archive, dry_run=True)
    (told,) = report.planned
    assert (told["workspace"], told["dt"], told["files"], told["new_files"]) == ("ws_1", "2026-03-26", 6, 1)
    assert (report.files_before, report.files_after) == (6, 1)
    assert sorted(info.key for info in archive.store.list()) == before


# --- beside others ---------------------------------------------------------------------------------


def _other(archive: Archive) -> Archive:
    return open_archive(archive.store)


def test_a_run_at_the_same_moment_loses_nothing(archive: Archive) -> None:
    fill(archive)
    with before_commit(lambda: archive_bodies(_other(archive), event("late"), event("0-0"))):
        report = compact(archive)
    assert len(report.commits) == 1
    assert len(archive.ledger.snapshot.files) == 2
    check_archive(archive.store, events={"late", *(f"{n}-{row}" for n in range(6) for row in range(10))})


def test_a_run_that_identified_before_a_compaction_commits_after_it(
    archive: Archive, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(archive)
    original = protocol.commit
    done: list[CompactReport] = []

    def commit(ledger: Any, content: Any, **rest: Any) -> protocol.Outcome:
        if content.operation == "append" and not done:
            done.append(compact(_other(archive)))
        return original(ledger, content, **rest)

    monkeypatch.setattr(protocol, "commit", commit)
    report = archive_bodies(archive, event("0-0"), event("new"))
    assert done[0].files_before == 6
    assert (report.counts.archived + report.counts.duplicates, len(report.commits)) == (2, 1)
    check_archive(archive.store, events={"new", *(f"{n}-{row}" for n in range(6) for row in range(10))})


def test_of_two_compactions_one_is_overtaken_and_no_row_is_lost(archive: Archive) -> None:
    fill(archive)
    with before_commit(lambda: compact(_other(archive))):
        report = compact(archive)
    assert (report.commits, report.overtaken) == ([], 1)
    assert len(archive.ledger.snapshot.files) == 1
    check_archive(archive.store, events={f"{n}-{row}" for n in range(6) for row in range(10)})


def test_who_is_overtaken_plans_again_what_is_left(archive: Archive) -> None:
    fill(archive)
    for number in range(4):
        archive_bodies(archive, event(f"z{number}", workspace="ws_2"))
    with before_commit(lambda: compact(_other(archive), Policy(workspaces=("ws_2",)))):
        report = compact(archive)
    assert (report.overtaken, report.files_before) == (2, 6)
    ids = {f"{n}-{row}" for n in range(6) for row in range(10)} | {f"z{n}" for n in range(4)}
    check_archive(archive.store, events=ids)


def test_who_is_always_overtaken_says_so(archive: Archive) -> None:
    fill(archive, 4)
    numbers = iter(range(100, 1_000))

    def overtake() -> None:
        other = _other(archive)
        compact(other)
        fill(other, 4, first=next(numbers) * 4)

    with (
        before_commit(overtake, times=running._LOSSES),
        pytest.raises(CommitConflictError, match="overtaken"),
    ):
        compact(archive, Policy(min_files=2))


def test_a_compaction_that_was_declared_dead_begins_anew(archive: Archive) -> None:
    fill(archive)
    with before_commit(lambda: collect(_other(archive), grace=NOW, force=True)):
        report = compact(archive)
    assert (len(report.commits), report.overtaken) == (1, 1)
    check_archive(archive.store, events={f"{n}-{row}" for n in range(6) for row in range(10)})


def test_files_that_vanish_while_they_are_read_were_compacted_by_another(
    archive: Archive, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(archive)
    original = archive.store.get
    done: list[bool] = []

    def get(key: str, **rest: Any) -> bytes:
        if key.startswith("events/") and not done:
            done.append(True)
            other = open_archive(LocalStore(Path(archive.store.location)))
            compact(other)
            collect(other, keep_snapshots=NOW, grace=NOW, force=True)
        return original(key, **rest)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(archive.store, "get", get)
        report = compact(archive)
    assert (report.commits, report.overtaken) == ([], 1)
    check_archive(archive.store, events={f"{n}-{row}" for n in range(6) for row in range(10)})


# --- damage ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("data_format", FORMATS)
def test_nothing_is_taken_over_from_a_damaged_file(tmp_path: Path, data_format: str) -> None:
    archive = new_archive(tmp_path / "a", format=data_format)
    fill(archive, 4)
    key = next(iter(archive.ledger.snapshot.files))
    path = tmp_path / "a" / key
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    with pytest.raises(IntegrityError, match=key.rpartition("/")[2]):
        compact(archive)
    assert len(archive.ledger.refresh().files) == 4


def test_rows_that_the_ledger_does_not_know_are_not_taken_over(archive: Archive, tmp_path: Path) -> None:
    """A whole Parquet file in the place of another: only its digest tells."""
    fill(archive, 4)
    one, other = list(archive.ledger.snapshot.files)[:2]
    (tmp_path / "a" / one).write_bytes((tmp_path / "a" / other).read_bytes())
    with pytest.raises(IntegrityError, match="expected sha256:"):
        compact(archive)
    assert len(archive.ledger.refresh().files) == 4


def test_a_file_that_is_missing_is_damage(archive: Archive, tmp_path: Path) -> None:
    fill(archive, 4)
    (tmp_path / "a" / next(iter(archive.ledger.snapshot.files))).unlink()
    with pytest.raises(IntegrityError, match="though the ledger names it"):
        compact(archive)


# --- older snapshots -------------------------------------------------------------------------------


@pytest.mark.parametrize("data_format", ["parquet", "jsonl.gz"])
def test_an_older_snapshot_reads_the_same_until_collect_lets_it_go(tmp_path: Path, data_format: str) -> None:
    archive = new_archive(tmp_path / "a", format=data_format)
    fill(archive)
    before = contents(archive)
    head = archive.ledger.snapshot.sequence
    compact(archive)
    then = open_archive(archive.store, as_of=AsOf(head))
    assert len(then.ledger.snapshot.files) == 6
    assert contents(then) == before == contents(archive)
    assert collect(archive, grace=NOW, force=True).deleted == []
    report = collect(archive, grace=NOW, keep_snapshots=NOW, force=True)
    assert (len(report.deleted), report.superseded, report.oldest_readable) == (6, 6, head + 1)
    with pytest.raises(ConfigError, match=f"commit {head} is no longer readable: {head + 1} is the oldest"):
        open_archive(archive.store, as_of=AsOf(head))
    assert contents(open_archive(archive.store, as_of=AsOf(head + 1))) == before
    assert verify(archive.store).damages == []


# --- killed ----------------------------------------------------------------------------------------

_SCRIPT = """
import sys
from archiver.archive import open_archive
from archiver.compact import Policy, compact, run
from archiver.store.local import LocalStore
run.COMMIT_BYTES = 1
archive = open_archive(LocalStore(sys.argv[1]))
print("ready", flush=True)
compact(archive, Policy(min_files=2))
"""


def test_a_compaction_killed_at_any_moment_goes_on_with_the_next(tmp_path: Path) -> None:
    archive = new_archive(tmp_path / "a")
    workspaces = [f"ws_{number}" for number in range(12)]
    ids = set()
    for number in range(5):
        bodies = [event(f"{number}-{ws}-{row}", workspace=ws) for ws in workspaces for row in range(5)]
        archive_bodies(archive, *bodies)
        ids |= {f"{number}-{ws}-{row}" for ws in workspaces for row in range(5)}
    draw, killed = random.Random(5), 0
    for _ in range(3):
        command = [sys.executable, "-c", _SCRIPT, str(tmp_path / "a")]
        with subprocess.Popen(
            command, stdout=subprocess.PIPE, env={**os.environ, "PYTHONWARNINGS": "ignore"}
        ) as one:
            assert one.stdout is not None
            assert one.stdout.readline() == b"ready\n"
            time.sleep(draw.uniform(0, 0.12))
            one.send_signal(signal.SIGKILL)
        killed += one.returncode == -signal.SIGKILL
    assert killed
    compact(archive, Policy(min_files=2))
    assert len(archive.ledger.refresh().files) == len(workspaces)
    check_archive(archive.store, events=ids)


# --- elsewhere -------------------------------------------------------------------------------------


@pytest.mark.s3
def test_a_bucket_is_compacted_and_collected(s3_store: Store) -> None:
    archive = new_archive(s3_store)
    fill(archive)
    before = contents(archive)
    assert compact(archive).files_after == 1
    assert contents(archive) == before
    assert collect(archive, grace=NOW, keep_snapshots=NOW, force=True).superseded == 6
    check_archive(s3_store, events={f"{n}-{row}" for n in range(6) for row in range(10)})


# --- the command line ------------------------------------------------------------------------------


def test_the_command_tells_what_it_did(archive: Archive, tmp_path: Path) -> None:
    fill(archive)
    location = ["--archive", str(tmp_path / "a")]
    dry = CliRunner().invoke(compact_command, [*location, "--dry-run"])
    assert "events  ws_1  2026-03-26  6 files" in dry.output
    assert "would become 1 file" in dry.output
    done = CliRunner().invoke(compact_command, [*location, "--json"])
    assert '"files_after": 1' in done.output
    again = CliRunner().invoke(compact_command, location)
    assert "nothing to compact" in again.output


def test_the_commands_filters_reach_the_policy(archive: Archive, tmp_path: Path) -> None:
    fill(archive)
    options = ["--archive", str(tmp_path / "a"), "--workspace", "ws_1", "--dataset", "events"]
    options += ["--since", "2026-03-26", "--until", "2026-03-27", "--min-age", "0s", "--target", "2MiB"]
    done = CliRunner().invoke(compact_command, options, env={"ARCHIVER_MIN_FILES": "6"})
    assert "6 files" in done.output, done.output
    strange = CliRunner().invoke(compact_command, ["--target", "much"])
    assert strange.exit_code == 2


def test_a_run_may_compact_behind_itself(tmp_path: Path) -> None:
    spool = tmp_path / "spool"
    spool.mkdir()
    options = ["--archive", str(tmp_path / "a"), "--spool", str(spool), "--settle", "0", "--workers", "0"]
    for number in range(4):
        (spool / "a.jsonl").write_bytes(event(str(number)))
        done = CliRunner().invoke(run_command, [*options, "--compact"])
        assert done.exit_code == 0, done.output
    assert "compacted 4 files into 1" in done.output
    archive = open_archive(LocalStore(tmp_path / "a"))
    assert len(archive.ledger.snapshot.files) == 1
    assert f"head {archive.ledger.snapshot.sequence}  {archive.ledger.snapshot.digest}" in done.output


def test_a_compaction_that_fails_behind_a_run_is_reported_and_the_run_stands(tmp_path: Path) -> None:
    spool = tmp_path / "spool"
    spool.mkdir()
    options = ["--archive", str(tmp_path / "a"), "--spool", str(spool), "--settle", "0", "--workers", "0"]
    for number in range(4):
        (spool / "a.jsonl").write_bytes(event(str(number), workspace="ws_2"))
        assert CliRunner().invoke(run_command, options).exit_code == 0
    archive = open_archive(LocalStore(tmp_path / "a"))
    (tmp_path / "a" / next(iter(archive.ledger.snapshot.files))).unlink()
    (spool / "a.jsonl").write_bytes(event("last"))
    done = CliRunner().invoke(run_command, [*options, "--compact"])
    assert done.exit_code == 1
    assert "problem: compaction:" in done.output
    assert archive.ledger.refresh().totals.archived == 5
    assert not list(spool.glob("*.jsonl"))
