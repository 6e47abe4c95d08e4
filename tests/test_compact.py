"""What comes out of a compaction: the same rows in fewer files, and nothing of a damaged one."""

from __future__ import annotations

import io
import random
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from archiver import layout
from archiver.archive import Archive, AsOf, open_archive
from archiver.collect import collect
from archiver.columns import SCHEMAS
from archiver.compact import Policy, compact
from archiver.compact import merge as merging
from archiver.datafile import BodiesDigest, Encoding, decode
from archiver.errors import ConfigError, IntegrityError
from archiver.ledger.entry import DataFile, digest_of
from archiver.store.base import Store
from archiver.verify import verify
from tests.compacting import NOW, archive, at, contents, fill, tables
from tests.faults.check import check_archive
from tests.support import alert, archive_bodies, event, ids_of, new_archive, rows_of

__all__ = ["archive"]  # fixtures: pytest finds them here by name

FORMATS = ["parquet", "jsonl.gz", "jsonl.zst"]


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
