"""Several runs on one spool, and dead ones. Real processes."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
import textwrap
import time

import pytest

from archiver.sources.spool import SpoolSource
from tests.spooling import files_in, put, spool, take

__all__ = ["spool"]  # fixtures: pytest finds them here by name

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
