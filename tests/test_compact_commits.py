"""How a compaction commits, whoever else is at work, and wherever it is interrupted."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from archiver.archive import Archive, open_archive
from archiver.collect import collect
from archiver.compact import CompactReport, Policy, compact
from archiver.compact import plan as planning
from archiver.compact import run as running
from archiver.errors import CommitConflictError, StoreError
from archiver.ledger import commit as protocol
from archiver.store.local import LocalStore
from archiver.verify import verify
from tests.compacting import NOW, archive, fill
from tests.faults.check import check_archive
from tests.support import archive_bodies, event, new_archive

__all__ = ["archive"]  # fixtures: pytest finds them here by name


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
