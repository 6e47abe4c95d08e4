"""The spool: every file reaches exactly one batch, whatever happens to it and to the run."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import textwrap
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from archiver.errors import SourceError
from archiver.segment import SegmentWriter
from archiver.sources import filing, frozen
from archiver.sources.base import InputChangedError, batch_name
from archiver.sources.documents import MOST_ELEMENTS, split_array
from archiver.sources.names import original, printable
from archiver.sources.spool import SpoolSource

LONG_AGO = time.time() - 86_400


def put(folder: Path, name: str, content: bytes, *, age: float | None = 86_400) -> Path:
    folder.mkdir(exist_ok=True)
    path = folder / name
    path.write_bytes(content)
    if age is not None:
        os.utime(path, (time.time() - age,) * 2)
    return path


def take(source: SpoolSource, base: int = 0) -> list:
    return list(source.batches(lambda: base))


def elements(batch) -> list[bytes]:
    return [body for block in batch.read() for body in block.bodies]


def archive(source: SpoolSource) -> list[bytes]:
    """Read and acknowledge all there is."""
    found = []
    for batch in source.batches(lambda: 0):
        found += elements(batch)
        batch.acknowledge()
    return found


def files_in(folder: Path) -> list[str]:
    return sorted(str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file())


@pytest.fixture
def spool(tmp_path: Path) -> Path:
    folder = tmp_path / "spool"
    folder.mkdir()
    return folder


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


# Several runs, and dead ones. Real processes.

RUN = """
import json, os, sys, time
from pathlib import Path
from archiver import durable
from archiver.sources.base import InputChangedError
from archiver.sources.spool import SpoolSource

def run(spool, ledger, **options):
    '''A pipeline in small: one durable file a committed batch.'''
    for batch in SpoolSource(spool, settle_seconds=0, **options).batches(lambda: 0):
        commit = Path(ledger) / batch.batch
        if not commit.exists():
            bodies = [body.decode() for block in batch.read() for body in block.bodies]
            durable.create(commit, json.dumps(bodies).encode())
        batch.acknowledge()
"""

COMPETE = (
    RUN
    + """
while time.time() < float(sys.argv[3]):
    pass
run(sys.argv[1], sys.argv[2], max_batch_bytes=100)
"""
)

KILL = (
    RUN
    + """
import shutil
import signal

def counted(place, name):
    real = getattr(place, name)
    def call(*arguments, **keywords):
        step()
        return real(*arguments, **keywords)
    setattr(place, name, call)

def step():
    global left
    left -= 1
    if left == 0:
        os.kill(os.getpid(), signal.SIGKILL)

def child(kill_at, done):
    global left
    left = kill_at
    for name in ("rename", "link", "unlink", "mkdir", "rmdir", "fsync", "lstat", "open"):
        counted(os, name)
    run(spool, ledger, max_batch_bytes=20, done=done)
    os._exit(0)

top = Path(sys.argv[1])
done = sys.argv[2]
wanted = sorted(json.dumps({"n": n}) for n in range(3))
kill_at, killed = 0 if done == "keep" else -1, 0
while True:
    kill_at += 2
    spool, ledger = top / f"spool{kill_at}", top / f"ledger{kill_at}"
    spool.mkdir()
    ledger.mkdir()
    for n in range(3):
        (spool / f"{n}.jsonl").write_text(json.dumps({"n": n}) + "\\n")
    pid = os.fork()
    if not pid:
        try:
            child(kill_at, done)
        finally:
            os._exit(1)
    status = os.waitpid(pid, 0)[1]
    # A second death while the first is being mended.
    pid2 = os.fork()
    if not pid2:
        try:
            child(1 + kill_at * 7 % 60, done)
        finally:
            os._exit(1)
    os.waitpid(pid2, 0)
    run(spool, ledger, done=done)
    commits = [json.loads(commit.read_bytes()) for commit in ledger.iterdir() if len(commit.name) == 32]
    found = sorted(sum(commits, []))
    assert found == wanted, (kill_at, found)
    left_over = [p for p in spool.rglob("*") if p.is_file() and "done" not in p.parts]
    assert not left_over, (kill_at, left_over)
    assert not list((spool / "claims").iterdir()), kill_at
    if done == "keep":
        kept = sorted(p.read_text() for p in (spool / "done").rglob("*.jsonl"))
        assert kept == [text + "\\n" for text in wanted], (kill_at, kept)
    shutil.rmtree(spool)
    shutil.rmtree(ledger)
    if os.WIFEXITED(status):
        assert os.WEXITSTATUS(status) == 0
        break
    killed += 1
print(killed)
"""
)


def test_of_runs_that_claim_at_once_every_file_goes_to_exactly_one(spool, tmp_path):
    ledger = tmp_path / "ledger"
    ledger.mkdir()
    for n in range(300):
        put(spool, f"{n:03d}.jsonl", b'{"n":%d}\n' % n)
    start = str(time.time() + 1)
    runs = [subprocess.Popen([sys.executable, "-c", COMPETE, spool, ledger, start]) for _ in range(3)]
    assert [each.wait(60) for each in runs] == [0, 0, 0]
    found = [body for commit in ledger.iterdir() for body in json.loads(commit.read_bytes())]
    assert sorted(found) == sorted(json.dumps({"n": n}, separators=(",", ":")) for n in range(300))
    assert files_in(spool) == []


@pytest.mark.parametrize("done", ["delete", "keep"])
def test_an_owner_killed_at_any_step_loses_nothing_and_archives_nothing_twice(tmp_path, done):
    finished = subprocess.run(
        [sys.executable, "-c", KILL, tmp_path, done], capture_output=True, text=True, check=False
    )
    assert finished.returncode == 0, finished.stderr
    assert int(finished.stdout) > 30


def test_a_claim_of_a_killed_owner_is_adopted(spool, tmp_path):
    put(spool, "x.jsonl", b"1\n")
    code = textwrap.dedent(
        """
        import sys, time
        from archiver.sources.spool import SpoolSource
        [batch] = SpoolSource(sys.argv[1]).batches(lambda: 5)
        print(batch.batch, flush=True)
        time.sleep(60)
        """
    )
    with subprocess.Popen([sys.executable, "-c", code, spool], stdout=subprocess.PIPE, text=True) as owner:
        assert owner.stdout is not None
        name = owner.stdout.readline().strip()
        assert take(SpoolSource(spool)) == []
        owner.send_signal(signal.SIGKILL)
        owner.wait()
    [batch] = take(SpoolSource(spool), base=9)
    assert (batch.batch, batch.base) == (name, 5)
    batch.acknowledge()
    shutil.rmtree(spool)


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
