"""What a run promises of a batch, with a source in memory (a stand-in); the spool has tests of its own."""

from __future__ import annotations

from pathlib import Path

import pyarrow.parquet as pq
import pytest

from archiver import layout
from archiver.archive import Archive, open_archive
from archiver.block import Block
from archiver.datafile import bodies_of
from archiver.errors import CommitConflictError, IntegrityError, SourceError, StoreError
from archiver.ledger import commit as protocol
from archiver.ledger.entry import LONGEST_INLINE_LIST
from archiver.pipeline import run
from archiver.requeue import entries
from archiver.sources.base import InputChangedError
from archiver.store.local import LocalStore
from archiver.validate import Rules
from tests.faults.faulty_store import FaultPlan, FaultyStore
from tests.support import MemoryBatch, MemorySource, archive_bodies, event, ids_of, new_archive, rows_of

RULES = Rules(source="spool")


@pytest.fixture
def archive(tmp_path: Path) -> Archive:
    return new_archive(tmp_path / "a")


def test_every_element_ends_in_exactly_one_place(archive: Archive) -> None:
    report = archive_bodies(archive, event("a"), event("a"), event("b"), b"rubbish", event("a", action="x"))
    assert report.counts.to_json() == {
        "read": 5,
        "archived": 2,
        "supplements": 0,
        "duplicates": 1,
        "quarantined": 2,
    }
    assert report.reasons == {"not_json": 1, "conflict": 1}
    assert [one.rejection.ordinal for one in entries(archive)] == [3, 4]


def test_the_batch_is_acknowledged_after_the_commit_and_only_then(archive: Archive) -> None:
    batch = MemoryBatch([event("a")])
    batch.acknowledge = lambda: batch.done.append(
        f"acknowledged at {open_archive(archive.store).ledger.snapshot.sequence}"
    )  # type: ignore[method-assign]
    run(archive, MemorySource([batch]), rules=RULES, workers=0)
    assert batch.done == ["acknowledged at 1"]


def test_a_committed_batch_is_only_acknowledged(archive: Archive) -> None:
    batch = MemoryBatch([event("a")])
    run(archive, MemorySource([batch]), rules=RULES, workers=0)
    report = run(archive, MemorySource([batch]), rules=RULES, workers=0)
    assert (report.acknowledged_only, report.commits) == (1, [])
    assert batch.done == ["acknowledged", "acknowledged"]


def test_a_batch_without_elements_is_committed_and_acknowledged(archive: Archive) -> None:
    batch = MemoryBatch([])
    report = run(archive, MemorySource([batch]), rules=RULES, workers=0)
    assert report.commits == [1]
    assert batch.done == ["acknowledged"]


def test_inputs_that_changed_are_put_back_and_nothing_is_committed(archive: Archive) -> None:
    class Changing(MemoryBatch):
        def read(self):  # type: ignore[no-untyped-def]
            yield from super().read()
            raise InputChangedError("memory: grew")

    batch = Changing([event("a")])
    report = run(archive, MemorySource([batch]), rules=RULES, workers=0)
    assert batch.done == ["put back"]
    assert (report.put_back, report.head) == (1, 0)


def test_a_batch_that_cannot_be_read_stops_no_other(archive: Archive) -> None:
    class Unreadable(MemoryBatch):
        def read(self):  # type: ignore[no-untyped-def]
            raise SourceError("memory: gone")
            yield Block(0)

    bad, good = Unreadable([event("a")]), MemoryBatch([event("b")])
    report = run(archive, MemorySource([bad, good]), rules=RULES, workers=0)
    assert bad.done == ["released"]
    assert ids_of(archive) == ["b"]
    assert report.problems == ["memory: gone"]


def test_a_failing_store_acknowledges_nothing(tmp_path: Path) -> None:
    plan = FaultPlan()
    archive = new_archive(FaultyStore(LocalStore(tmp_path / "a"), plan))
    plan.on("put", "fails", nth=0)
    batch = MemoryBatch([event("a")])
    with pytest.raises(StoreError):
        run(archive, MemorySource([batch]), rules=RULES, workers=0)
    assert batch.done == ["released"]


def test_a_fenced_attempt_is_followed_by_a_new_one(archive: Archive, monkeypatch: pytest.MonkeyPatch) -> None:
    original, fenced = protocol.commit, []

    def commit(ledger, content, **rest):  # type: ignore[no-untyped-def]
        if not fenced:
            fenced.append(content.attempt)
            fence = protocol.Content("fence", "f" * 32, layout.new_attempt(), fenced=(content.attempt,))
            assert isinstance(original(ledger, fence, seen=ledger.snapshot.sequence), protocol.Committed)
        return original(ledger, content, **rest)

    monkeypatch.setattr(protocol, "commit", commit)
    archive_bodies(archive, event("a"))
    assert ids_of(archive) == ["a"]
    assert not any(fenced[0] in key for key in archive.ledger.snapshot.files)


def test_attempts_that_are_always_overtaken_end_with_exit_11(
    archive: Archive, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(protocol, "commit", lambda *_, **__: protocol.PlanAgain("test"))
    with pytest.raises(CommitConflictError):
        archive_bodies(archive, event("a"))


def test_data_files_are_sorted_partitioned_and_plain_parquet(tmp_path: Path) -> None:
    archive = new_archive(tmp_path / "a")
    times = ["2026-03-26T23:59:59.999999Z", "2026-03-27T00:00:00.000000Z", "2026-03-26T01:00:00+02:00"]
    archive_bodies(archive, *(event(f"e{n}", timestamp=when) for n, when in enumerate(times)))
    found = {}
    for key in archive.ledger.snapshot.files:
        file = pq.ParquetFile(tmp_path / "a" / key)
        found[layout.partition_of(key).dt] = file.read(columns=["id"])["id"].to_pylist()  # type: ignore[union-attr]
        assert file.metadata.row_group(0).column(0).compression == "ZSTD"
        assert file.schema_arrow.field("event_time").type.tz == "UTC"
    assert found == {"2026-03-25": ["e2"], "2026-03-26": ["e0"], "2026-03-27": ["e1"]}


def test_rows_of_a_file_are_in_order_of_time_then_of_reading(archive: Archive) -> None:
    minutes = [5, 1, 5, 3, 1]
    bodies = [event(f"e{n}", timestamp=f"2026-03-26T10:{minute:02}:00Z") for n, minute in enumerate(minutes)]
    archive_bodies(archive, *bodies)
    assert [row["id"] for row in rows_of(archive)] == ["e1", "e4", "e3", "e0", "e2"]


@pytest.mark.parametrize("workspace", ["../x", "a=b/c", "0012", "ü ☃", ".", "%2F", "a\\b", "CON", "x" * 200])
def test_an_odd_workspace_is_a_value_and_stays_in_its_place(tmp_path: Path, workspace: str) -> None:
    archive = new_archive(tmp_path / "a")
    archive_bodies(archive, event("a", workspace=workspace))
    (row,) = rows_of(archive)
    (key,) = archive.ledger.snapshot.files
    assert row["workspace_id"] == workspace == layout.partition_of(key).workspace  # type: ignore[union-attr]
    assert (tmp_path / "a" / key).resolve().is_relative_to((tmp_path / "a" / "events").resolve())


def test_a_workspace_too_long_for_a_path_is_quarantined(archive: Archive) -> None:
    assert archive_bodies(archive, event("a", workspace="ü" * 40)).reasons == {"workspace_not_storable": 1}


@pytest.mark.parametrize("data_format", ["jsonl.gz", "jsonl.zst"])
def test_json_lines_hold_the_bodies_and_nothing_else(tmp_path: Path, data_format: str) -> None:
    archive = new_archive(tmp_path / "a", format=data_format)
    pretty = event("a").replace(b",", b",\n ")
    archive_bodies(archive, pretty, event("b"))
    (key,) = archive.ledger.snapshot.files
    assert key.endswith(data_format)
    assert bodies_of(archive.store.get(key), key) == [pretty.replace(b"\n", b" "), event("b")]


def test_a_thousand_workspaces_go_into_one_commit_with_its_list_beside_it(archive: Archive) -> None:
    bodies = [event(f"e{n}", workspace=f"ws_{n}") for n in range(LONGEST_INLINE_LIST + 100)]
    report = archive_bodies(archive, *bodies)
    assert report.files == len(bodies)
    assert len(open_archive(archive.store).ledger.snapshot.files) == len(bodies)
    assert len(list(archive.store.list(layout.LISTS))) == 1


def test_workers_and_this_process_give_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("archiver.judging.SMALL_BATCH_BYTES", 0)
    bodies = [event(f"e{n}", metadata={"n": n}) for n in range(5_000)] + [b"rubbish"] * 3
    results = []
    for workers in (0, 2):
        archive = new_archive(tmp_path / str(workers))
        batch = MemoryBatch(bodies, block_size=500)
        report = run(archive, MemorySource([batch]), rules=RULES, workers=workers)
        results.append((report.counts, report.reasons, [row["body"] for row in rows_of(archive)]))
    assert results[0] == results[1]


def test_inputs_are_listed_with_their_elements(archive: Archive) -> None:
    batch = MemoryBatch([event("a"), b"x"])
    run(archive, MemorySource([batch]), rules=RULES, workers=0)
    (listed,) = archive.ledger.read(1).content.inputs
    assert listed == {
        "name": "memory",
        "digest": batch.inputs[0].digest,
        "bytes": batch.inputs[0].bytes,
        "elements": 2,
    }


@pytest.mark.parametrize("data_format", ["parquet", "jsonl.gz", "jsonl.zst"])
def test_rows_come_back_in_their_order_whatever_proved_them(tmp_path: Path, data_format: str) -> None:
    archive = new_archive(tmp_path / "a", format=data_format)
    bodies = [event(f"e{n}", **({"unknown": n} if n % 3 == 0 else {})) for n in range(30)]
    bodies[7] = bodies[7].replace(b'":', b'" : ')
    archive_bodies(archive, *bodies)
    assert [row["body"].encode() for row in rows_of(archive)] == bodies


def test_counts_that_do_not_add_up_are_never_committed(
    archive: Archive, monkeypatch: pytest.MonkeyPatch
) -> None:
    from archiver import attempt  # noqa: PLC0415
    from archiver.errors import ArchiverError  # noqa: PLC0415

    monkeypatch.setattr(attempt.Attempt, "_keep", lambda *_: None)  # loses the rejections
    batch = MemoryBatch([event("a"), b"rubbish"])
    with pytest.raises(ArchiverError, match="do not add up"):
        run(archive, MemorySource([batch]), rules=RULES, workers=0)
    assert batch.done == ["released"]
    assert archive.ledger.refresh().sequence == 0


def test_many_tiny_rejections_are_written_in_chunks(archive: Archive) -> None:
    report = archive_bodies(archive, *[b"1"] * 2_000, chunk_bytes=1_000_000)
    assert report.reasons == {"invalid": 2_000}
    assert len(archive.ledger.snapshot.quarantine) >= 2


def test_no_batch_is_acknowledged_on_the_word_of_a_checkpoint_alone(tmp_path: Path) -> None:
    archive = new_archive(tmp_path / "archive")
    batch = MemoryBatch([event("a")])
    archive.ledger.snapshot.batches.note(batch.batch, 0)  # as a forged checkpoint would
    with pytest.raises(IntegrityError, match="expected batch"):
        run(archive, MemorySource([batch]), rules=Rules(source="spool"), workers=0)
    assert "acknowledged" not in batch.done
