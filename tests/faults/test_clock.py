"""The wall clock jumps: nothing is lost or blocked for ever, and nothing that lives is deleted."""

from __future__ import annotations

import itertools
import os
import time
from collections.abc import Iterable, Iterator
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace

import pytest

from archiver import clock, layout
from archiver.archive import open_archive
from archiver.collect import collect
from archiver.pipeline import RunReport, run
from archiver.sources import spool as spool_module
from archiver.sources.spool import SpoolSource
from archiver.store.base import ObjectInfo
from archiver.store.local import LocalStore
from archiver.validate import Rules
from tests.faults.check import check_archive, spool_is_empty
from tests.faults.faulty_store import FaultPlan, FaultyStore
from tests.support import event, new_archive

DAY = 86_400.0


class JumpingClock:
    """The time as the code asks for it, moved by some seconds at each question."""

    def __init__(self, patch: pytest.MonkeyPatch, jumps: Iterable[float]) -> None:
        self._jumps = iter(jumps)
        self.offset = 0.0
        now_us = clock.now_us
        patch.setattr("archiver.clock.now_us", lambda: now_us() + int(self.next() * 1e6))
        patch.setattr(layout, "time", SimpleNamespace(time_ns=lambda: int(self.now() * 1e9)))
        patch.setattr(spool_module, "time", SimpleNamespace(time=self.now))

    def next(self) -> float:
        self.offset += next(self._jumps)
        return self.offset

    def now(self) -> float:
        return time.time() + self.next()


class StoreWithOtherClock(FaultyStore):
    """A folder whose objects are dated by a clock of its own."""

    def __init__(self, folder: Path, ahead: timedelta) -> None:
        super().__init__(LocalStore(folder), FaultPlan())
        self.ahead = ahead

    def info(self, key: str) -> ObjectInfo:
        return self._dated(super().info(key))

    def list(self, prefix: str = "", *, start_after: str = "") -> Iterator[ObjectInfo]:
        return map(self._dated, super().list(prefix, start_after=start_after))

    def _dated(self, info: ObjectInfo) -> ObjectInfo:
        return ObjectInfo(info.key, info.bytes, info.modified_at + self.ahead)


def _run(store: LocalStore, spool: Path, *, settle_seconds: float = 0) -> RunReport:
    source = SpoolSource(spool, settle_seconds=settle_seconds)
    return run(open_archive(store), source, rules=Rules(source="spool"), workers=0)


@pytest.fixture
def spool(tmp_path: Path) -> Path:
    (tmp_path / "spool").mkdir()
    return tmp_path / "spool"


@pytest.fixture
def store(tmp_path: Path) -> LocalStore:
    store = LocalStore(tmp_path / "archive")
    new_archive(store)
    return store


@pytest.mark.parametrize(
    "jumps",
    [
        pytest.param([-3600.0, *[0.0] * 10_000], id="an hour back, once"),
        pytest.param([-1.0], id="back at each look"),
        pytest.param([2 * DAY, -2 * DAY], id="forth and back"),
        pytest.param([-40 * 365 * DAY, 0, 0, 40 * 365 * DAY], id="to before most files and back"),
    ],
)
def test_a_clock_that_jumps_between_and_in_runs_loses_nothing(
    store: LocalStore, spool: Path, monkeypatch: pytest.MonkeyPatch, jumps: list[float]
) -> None:
    JumpingClock(monkeypatch, itertools.cycle(jumps))
    for number in range(5):
        (spool / f"{number}.jsonl").write_bytes(event(f"e{number}") + b"\n" + event("always"))
        _run(store, spool)
    archive = check_archive(store, events={*(f"e{number}" for number in range(5)), "always"})
    assert spool_is_empty(spool)
    times = [commit.committed_us for commit in archive.ledger.since(-1)]
    assert times == sorted(times)
    assert all(one > 0 for one in times)


def test_committed_at_stays_where_it_was_while_the_clock_is_behind(
    store: LocalStore, spool: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (spool / "a.jsonl").write_bytes(event("a"))
    _run(store, spool)
    before = open_archive(store).ledger.snapshot.committed_us
    monkeypatch.setattr("archiver.clock.now_us", lambda: before - 10_000_000)
    (spool / "b.jsonl").write_bytes(event("b"))
    _run(store, spool)
    assert open_archive(store).ledger.snapshot.committed_us == before


@pytest.mark.parametrize("ahead", [400.0, DAY, 400 * DAY])
def test_a_file_from_the_far_future_is_taken(store: LocalStore, spool: Path, ahead: float) -> None:
    path = spool / "a.jsonl"
    path.write_bytes(event("a"))
    os.utime(path, (time.time() + ahead,) * 2)
    assert _run(store, spool, settle_seconds=60).counts.archived == 1


def test_a_file_from_the_near_future_waits_and_not_for_ever(
    store: LocalStore, spool: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = spool / "a.jsonl"
    path.write_bytes(event("a"))
    os.utime(path, (time.time() + 200,) * 2)
    assert _run(store, spool, settle_seconds=60).counts.read == 0
    JumpingClock(monkeypatch, itertools.chain([261.0], itertools.repeat(0.0)))
    assert _run(store, spool, settle_seconds=60).counts.archived == 1


@pytest.mark.parametrize("ahead", [timedelta(days=-2), timedelta(0), timedelta(days=2)])
def test_grace_is_counted_by_the_clock_that_dated_the_objects(tmp_path: Path, ahead: timedelta) -> None:
    store = StoreWithOtherClock(tmp_path / "archive", ahead)
    archive = new_archive(store)
    keys = [f"events/workspace=w/dt=2026-03-26/{'0' * 32}-{layout.new_attempt()}-0.parquet" for _ in range(2)]
    for key in keys:
        store.put(key, b"x")
    long_ago = time.time() - 25 * 3600
    os.utime(tmp_path / "archive" / keys[0], (long_ago, long_ago))
    report = collect(archive)
    assert (report.deleted, report.young) == ([keys[0]], 1)
    assert [info.key for info in store.list(layout.PROBES)] == []


def test_the_start_in_an_attempts_name_has_no_say_in_what_is_deleted(
    store: LocalStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(layout, "time", SimpleNamespace(time_ns=lambda: 1))  # its writer's clock stood at 1970
        key = f"events/workspace=w/dt=2026-03-26/{'0' * 32}-{layout.new_attempt()}-0.parquet"
    store.put(key, b"x")
    assert collect(open_archive(store)).deleted == []
