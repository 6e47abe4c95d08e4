"""The spool: which files are taken, and that each of them reaches exactly one batch."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from archiver.errors import SourceError
from archiver.segment import SegmentWriter
from archiver.sources.base import batch_name
from archiver.sources.documents import MOST_ELEMENTS, split_array
from archiver.sources.names import original, printable
from archiver.sources.spool import SpoolSource
from tests.spooling import archive, elements, files_in, put, spool, take

__all__ = ["spool"]  # fixtures: pytest finds them here by name

LONG_AGO = time.time() - 86_400


# Freezing


def test_a_batch_lists_its_inputs_and_reads_the_same_twice(spool):
    with SegmentWriter(spool) as writer:
        writer.append(b'[{"a":1},{"b":2}]', 7, "acme")
    os.utime(writer.seal(), (1, 1))
    put(spool, "x.jsonl", b'{"c":3}\n')
    [batch] = take(SpoolSource(spool), base=41)
    assert batch.base == 41
    assert [each.name for each in batch.inputs][1] == "x.jsonl"
    assert [each.bytes for each in batch.inputs] == [writer.bytes, 8]
    assert batch.inputs[1].digest.startswith("sha256:")
    first, second = [list(batch.read()) for _ in range(2)]
    assert first == second
    assert [n for block in first for n in block.ordinals] == [0, 1, 2]
    assert [block.input for block in first] == [0, 1]
    assert [s for block in first for s in block.streams] == ["acme", "acme", None]
    assert sum(block.input_bytes for block in first) == sum(each.bytes for each in batch.inputs)
    record = json.loads(next(spool.glob("claims/*/batch.json")).read_text())
    assert batch.batch == batch_name(record["freeze_id"], batch.inputs)
    batch.acknowledge()
    assert files_in(spool) == []


def test_an_adopted_batch_keeps_its_name_its_base_and_its_ordinals(spool):
    for n in range(5):
        put(spool, f"{n}.jsonl", b'{"n":%d}\n' % n)
    [batch] = take(SpoolSource(spool), base=7)
    before = list(batch.read())
    batch.release()
    [again] = take(SpoolSource(spool), base=99)
    assert (again.batch, again.base, again.inputs) == (batch.batch, 7, batch.inputs)
    assert list(again.read()) == before
    again.acknowledge()


def test_two_freezes_of_the_same_files_are_two_batches(spool):
    put(spool, "x.jsonl", b"{}\n")
    [batch] = take(SpoolSource(spool))
    batch.put_back()
    [again] = take(SpoolSource(spool))
    assert (again.inputs, again.batch != batch.batch) == (batch.inputs, True)


def test_a_live_owners_claim_is_left_alone(spool):
    put(spool, "x.jsonl", b"{}\n")
    [batch] = take(SpoolSource(spool))
    assert take(SpoolSource(spool)) == []
    batch.acknowledge()


def test_the_oldest_files_come_first_and_batches_are_cut_by_size(spool):
    for n, age in enumerate([300, 500, 400]):
        put(spool, f"{n}.jsonl", b'{"n":%d}' % n + b" " * 92, age=age)
    put(spool, "big.jsonl", b'{"n":9}' + b" " * 993, age=450)
    source = SpoolSource(spool, max_batch_bytes=200)
    found = []
    for batch in source.batches(lambda: 0):
        found.append([json.loads(body)["n"] for body in elements(batch)])
        batch.acknowledge()
    assert found == [[1], [9], [2, 0]]


def test_what_arrives_during_a_run_is_left_to_the_next(spool):
    put(spool, "x.jsonl", b"1\n")
    source = SpoolSource(spool)
    run = source.batches(lambda: 0)
    next(run).acknowledge()
    put(spool, "y.jsonl", b"2\n")
    assert list(run) == []
    assert archive(source) == [b"2"]


def test_several_spools_do_not_mix(tmp_path):
    sources = [SpoolSource(tmp_path / name, name=name) for name in ("one", "two")]
    for source in sources:
        put(source.folder, "same.jsonl", source.name.encode())
    assert [archive(source) for source in sources] == [[b"one"], [b"two"]]


# What is a candidate


def test_only_files_that_were_left_alone_are_taken(spool):
    put(spool, "old.jsonl", b"1\n", age=61)
    put(spool, "new.jsonl", b"2\n", age=30)
    assert archive(SpoolSource(spool)) == [b"1"]
    assert archive(SpoolSource(spool, settle_seconds=0)) == [b"2"]


def test_our_own_segments_need_no_settling(spool):
    with SegmentWriter(spool) as writer:
        writer.append(b"{}", 1)
    assert archive(SpoolSource(spool)) == [b"{}"]


def test_a_file_with_a_time_in_the_far_future_is_not_kept_waiting_for_it(spool):
    put(spool, "x.jsonl", b"1\n", age=-7200)
    put(spool, "y.jsonl", b"2\n", age=-100)
    assert archive(SpoolSource(spool)) == [b"1"]


def test_a_file_that_is_open_for_writing_is_left(spool):
    path = put(spool, "x.jsonl", b'{"a":1}\n')
    with path.open("ab") as writer:
        for settle in (60, 0):
            assert take(SpoolSource(spool, settle_seconds=settle)) == []
        writer.write(b'{"b":2}\n')
    assert files_in(spool) == ["x.jsonl"]
    assert archive(SpoolSource(spool, settle_seconds=0)) == [b'{"a":1}', b'{"b":2}']


def test_names_that_are_not_ours_are_left_and_counted(spool):
    for name in (".hidden.jsonl", "x.csv", "y.jsonl.tmp"):
        put(spool, name, b"{}\n")
    (spool / "link.jsonl").symlink_to(spool / "x.csv")
    (spool / "folder.jsonl").mkdir()
    os.mkfifo(spool / "pipe.jsonl")
    assert take(SpoolSource(spool)) == []
    assert SpoolSource(spool).backlog().unknown_names == 5


@pytest.mark.parametrize(
    "name",
    [
        b"\xff\xfe.jsonl",
        b"a\nb\x1b[31m.jsonl",
        b"50%.jsonl",
        "naïve\u202e.jsonl".encode(),
        b"x" * 249 + b".jsonl",
    ],
)
def test_odd_names_are_printable_reversible_and_no_obstacle(spool, name):
    path = os.fsencode(spool) + b"/" + name
    Path(os.fsdecode(path)).write_bytes(b'{"a":1}\n')
    [batch] = take(SpoolSource(spool, settle_seconds=0))
    assert os.fsencode(original(batch.inputs[0].name)) == name
    assert batch.inputs[0].name.isprintable()
    batch.release()
    [batch] = take(SpoolSource(spool))
    assert elements(batch) == [b'{"a":1}']
    batch.put_back()
    assert [os.fsencode(p.name) for p in spool.glob("*.jsonl")] == [name]
    assert archive(SpoolSource(spool, settle_seconds=0, done="keep")) == [b'{"a":1}']


@given(name=st.binary(min_size=1, max_size=20))
def test_a_printable_name_gives_the_name_back(name):
    text = printable(os.fsdecode(name))
    assert text.isprintable()
    assert os.fsencode(original(text)) == name


# The spool's own affairs


def test_the_backlog_counts_claimed_files_too(spool):
    put(spool, "x.jsonl", b"12345\n", age=500)
    [batch] = take(SpoolSource(spool))
    put(spool, "y.jsonl", b"1\n", age=1)
    backlog = SpoolSource(spool).backlog()
    assert (backlog.files, backlog.bytes, backlog.claims) == (2, 8, 1)
    assert abs(backlog.oldest_at / 1e6 - (time.time() - 500)) < 10
    batch.acknowledge()
    assert SpoolSource(spool).backlog().files == 1


def test_a_spool_remembers_its_archive(spool):
    source = SpoolSource(spool)
    assert source.remembered_archive() is None
    source.remember_archive("abc", "/srv/archive", head=1, head_digest="sha256:1")
    source.remember_archive("abc", "s3://bucket/prefix", head=1, head_digest="sha256:1")
    assert source.remembered_archive() == {
        "archive_id": "abc",
        "location": "s3://bucket/prefix",
        "head": 1,
        "head_digest": "sha256:1",
    }
    (spool / ".archive.json").write_bytes(b"\xff")
    with pytest.raises(SourceError):
        source.remembered_archive()


def test_a_segment_that_is_being_copied_in_is_left_until_it_is_whole(spool, tmp_path):
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    with SegmentWriter(elsewhere) as writer:
        for number in range(10):
            writer.append(b'{"n":%d}' % number, 1, "s")
        sealed = writer.seal()
    content = sealed.read_bytes()
    with (spool / sealed.name).open("wb") as copy:
        copy.write(content[: len(content) // 2])
        copy.flush()
        assert list(SpoolSource(spool, settle_seconds=0).batches(lambda: 0)) == []
        copy.write(content[len(content) // 2 :])
    (batch,) = SpoolSource(spool, settle_seconds=0).batches(lambda: 0)
    assert sum(len(block.bodies) for block in batch.read()) == 10
    batch.release()


def test_an_array_of_more_elements_than_events_can_be_stays_one_body():
    assert len(split_array(b"[" + b",".join([b"1"] * MOST_ELEMENTS) + b"]").bodies) == MOST_ELEMENTS
    assert split_array(b"[" + b",".join([b"1"] * (MOST_ELEMENTS + 1)) + b"]") is None
