"""Files of the spool that grow, change or vanish, and what becomes of them when a batch is acknowledged."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from datetime import UTC, datetime, timedelta

import pytest

from archiver.errors import SourceError
from archiver.sources import filing, frozen
from archiver.sources.base import InputChangedError
from archiver.sources.spool import SpoolSource
from tests.spooling import archive, elements, files_in, put, spool, take

__all__ = ["spool"]  # fixtures: pytest finds them here by name

# Acknowledging


def test_kept_files_of_one_name_lie_side_by_side(spool):
    for n in range(3):
        put(spool, "x.jsonl", b"%d\n" % n)
        assert archive(SpoolSource(spool, done="keep")) == [b"%d" % n]
    day = datetime.now(UTC).date().isoformat()
    kept = sorted((spool / "done" / day).iterdir())
    assert sorted(p.read_bytes() for p in kept) == [b"0\n", b"1\n", b"2\n"]
    assert all(p.name.endswith("x.jsonl") for p in kept)


def test_a_file_that_grew_after_it_was_read_goes_back(spool):
    put(spool, "x.jsonl", b"1\n")
    [batch] = take(SpoolSource(spool))
    assert elements(batch) == [b"1"]
    with next(spool.glob("claims/*/*x.jsonl")).open("ab") as late:
        late.write(b"2\n")
    put(spool, "x.jsonl", b"other\n")
    batch.acknowledge()
    assert sorted(p.read_bytes() for p in spool.glob("*x.jsonl")) == [b"1\n2\n", b"other\n"]
    assert not list((spool / "claims").iterdir())


def test_a_file_that_is_opened_for_writing_after_it_was_read_goes_back(spool):
    put(spool, "x.jsonl", b"1\n")
    [batch] = take(SpoolSource(spool))
    with next(spool.glob("claims/*/*x.jsonl")).open("ab"):
        batch.acknowledge()
    assert files_in(spool) == ["x.jsonl"]


def test_a_file_that_changed_before_it_was_read_is_not_read(spool):
    put(spool, "x.jsonl", b"1\n")
    put(spool, "y.jsonl", b"2\n")
    [batch] = take(SpoolSource(spool))
    with next(spool.glob("claims/*/*y.jsonl")).open("ab") as late:
        late.write(b"3\n")
    blocks = batch.read()
    assert next(blocks).bodies == [b"1"]
    with pytest.raises(InputChangedError, match=r"y\.jsonl"):
        next(blocks)
    batch.put_back()
    assert files_in(spool) == ["x.jsonl", "y.jsonl"]
    assert archive(SpoolSource(spool, settle_seconds=0)) == [b"1", b"2", b"3"]


def test_a_file_that_changes_while_it_is_read_is_noticed(spool):
    put(spool, "x.jsonl", b'{"n":1}\n' * 10_000)
    [batch] = take(SpoolSource(spool, block_bytes=1000))
    blocks = batch.read()
    next(blocks)
    os.utime(next(spool.glob("claims/*/*x.jsonl")), (5, 5))
    with pytest.raises(InputChangedError):
        list(blocks)


def test_acknowledging_again_is_no_error_but_after_a_release_it_is(spool):
    put(spool, "x.jsonl", b"1\n")
    [batch] = take(SpoolSource(spool))
    batch.acknowledge()
    batch.acknowledge()
    put(spool, "x.jsonl", b"1\n")
    [batch] = take(SpoolSource(spool))
    batch.release()
    with pytest.raises(SourceError):
        batch.acknowledge()
    assert archive(SpoolSource(spool)) == [b"1"]


def test_files_nobody_can_vouch_for_are_kept_a_day_and_go_back_if_they_grew(spool, monkeypatch):
    monkeypatch.setattr(filing, "writers_of", lambda handle: "unknown")
    monkeypatch.setattr(frozen, "writers_of", lambda handle: "unknown")
    monkeypatch.setattr("archiver.sources.spool.writers_of", lambda handle: "unknown")
    put(spool, "x.jsonl", b"1\n", age=400)
    put(spool, "y.jsonl", b"2\n", age=400)
    put(spool, "z.jsonl", b"3\n", age=200)  # a minute is not enough here
    assert archive(SpoolSource(spool)) == [b"1", b"2"]
    kept = spool / "done" / "for-a-day" / datetime.now(UTC).date().isoformat()
    assert len(list(kept.iterdir())) == 2
    with next(kept.glob("*x.jsonl")).open("ab") as late:
        late.write(b"4\n")
    assert archive(SpoolSource(spool)) == []
    assert len(list(kept.iterdir())) == 2, "the day is not over"
    kept.rename(kept.with_name((datetime.now(UTC).date() - timedelta(days=2)).isoformat()))
    archive(SpoolSource(spool))
    assert (spool / "x.jsonl").read_bytes() == b"1\n4\n"
    assert not list((spool / "done" / "for-a-day").iterdir())


# Trouble


def test_a_missing_file_is_named_and_other_claims_go_on(spool):
    put(spool, "x.jsonl", b"1\n")
    [batch] = take(SpoolSource(spool))
    batch.release()
    next(spool.glob("claims/*/*x.jsonl")).unlink()
    put(spool, "y.jsonl", b"2\n")
    first, second = take(SpoolSource(spool))
    with pytest.raises(SourceError, match=r"x\.jsonl: is gone"):
        elements(first)
    assert elements(second) == [b"2"]
    first.acknowledge()  # had it been committed, this is all there were left to do
    second.acknowledge()
    assert files_in(spool) == []


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"{}", b'{"format":1,"inputs":[{}]}', b"\xff"])
def test_a_damaged_record_is_named_and_other_claims_go_on(spool, content):
    put(spool, "x.jsonl", b"1\n")
    [batch] = take(SpoolSource(spool))
    batch.release()
    record = next(spool.glob("claims/*/batch.json"))
    record.write_bytes(content)
    put(spool, "y.jsonl", b"2\n")
    run = SpoolSource(spool).batches(lambda: 0)
    other = next(run)
    assert elements(other) == [b"2"]
    other.acknowledge()
    with pytest.raises(SourceError, match=r"batch\.json") as raised:
        next(run)
    assert "remove batch.json" in raised.value.hint
    record.unlink()
    assert archive(SpoolSource(spool)) == [b"1"]


def test_a_head_that_cannot_be_read_leaves_the_files_for_the_next_run(spool):
    put(spool, "x.jsonl", b"1\n")

    def base() -> int:
        raise SourceError("no head") from None

    with pytest.raises(SourceError, match="no head"):
        list(SpoolSource(spool).batches(base))
    assert archive(SpoolSource(spool)) == [b"1"]


def test_a_spool_that_is_not_there_is_an_error(tmp_path):
    with pytest.raises(SourceError, match="cannot read the spool"):
        take(SpoolSource(tmp_path / "nowhere"))
    with pytest.raises(SourceError):
        SpoolSource(tmp_path / "nowhere").backlog()


def test_a_file_that_vanishes_or_changes_before_it_is_claimed_is_skipped(spool, monkeypatch):
    put(spool, "x.jsonl", b"1\n", age=500)
    put(spool, "y.jsonl", b"2\n", age=400)
    put(spool, "z.jsonl", b"3\n", age=300)
    source = SpoolSource(spool)
    ready = source._ready()
    (spool / "x.jsonl").unlink()
    put(spool, "y.jsonl", b"changed\n", age=None)
    monkeypatch.setattr(source, "_ready", lambda: ready)
    assert archive(source) == [b"3"]
    assert (spool / "y.jsonl").read_bytes() == b"changed\n"


def test_a_writer_who_comes_while_we_look_does_not_end_us(spool):
    path = put(spool, "x.jsonl", b"1\n")
    opener = subprocess.Popen(
        [sys.executable, "-c", f"while True: open({str(path)!r}, 'ab').close()"], stderr=subprocess.DEVNULL
    )
    try:
        time.sleep(0.2)
        handle = filing.open_regular(path)
        end = time.monotonic() + 0.5
        answers = set()
        while time.monotonic() < end:
            answers.add(filing.writers_of(handle))
        os.close(handle)
        assert answers <= {"some", "none"}
    finally:
        opener.kill()
        opener.wait()
