"""Every call that a run makes of its store, spoiled in every way, on a folder and on a real S3 server.

A run without faults is counted first; then it is run once for each of its calls and each
fault, run again without faults, and the archive is held against what was delivered. Late
writes arrive after the second run, when they can do the most harm.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from archiver.archive import open_archive
from archiver.errors import ArchiverError
from archiver.ledger import commit as protocol
from archiver.pipeline import run
from archiver.sources.spool import SpoolSource
from archiver.store.base import Store
from archiver.store.local import LocalStore
from archiver.validate import Rules
from tests.faults.check import check_archive, spool_is_empty
from tests.faults.faulty_store import FaultPlan, FaultyStore
from tests.support import event, new_archive

FAULTS = ("fails", "lands_without_reply", "lands_later")
EVENTS = {f"e{number}" for number in range(6)}
RUBBISH = b'{"rubbish":'


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        protocol.commit, "__kwdefaults__", {**protocol.commit.__kwdefaults__, "pause": _no_pause}
    )


def _no_pause(_: float) -> None:
    """Waiting between puts is left out: these stores answer at once or never."""


def _fill(spool: Path) -> None:
    spool.mkdir()
    lines = [event(f"e{number}", workspace=f"w{number % 2}") for number in range(6)]
    (spool / "a.jsonl").write_bytes(b"\n".join([*lines[:4], RUBBISH, lines[0]]))
    (spool / "b.jsonl").write_bytes(b"\n".join(lines[2:]))


def _run(store: Store, spool: Path) -> None:
    source = SpoolSource(spool, settle_seconds=0)
    run(open_archive(store), source, rules=Rules(source="spool"), workers=0)


def _stores(kind: str, request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Any]:
    """Yield as many empty stores as are asked for."""
    number = 0
    while True:
        number += 1
        if kind == "local":
            yield LocalStore(tmp_path / f"archive-{number}")
        else:
            place = request.getfixturevalue("s3_bucket")
            yield type(place)(place.server, place.bucket, f"{place.prefix}/{number}").store()


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("kind", ["local", pytest.param("s3", marks=pytest.mark.s3)])
def test_after_any_fault_a_rerun_leaves_every_event_archived_once(
    kind: str, fault: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    stores = _stores(kind, request, tmp_path)
    calls = _count_calls(next(stores), tmp_path / "counted")
    assert calls > 10
    outcomes: Counter[str] = Counter()
    for number in range(1, calls + 1):
        inner, spool, plan = next(stores), tmp_path / f"spool-{number}", FaultPlan()
        new_archive(inner)
        _fill(spool)
        plan.at(number, fault)  # type: ignore[arg-type]
        try:
            _run(FaultyStore(inner, plan), spool)
            outcomes["finished all the same"] += 1
        except ArchiverError as error:
            outcomes[error.kind] += 1
        _run(inner, spool)
        plan.release()
        check_archive(inner, events=EVENTS, rejected=Counter([RUBBISH]))
        assert spool_is_empty(spool), number
    assert sum(outcomes.values()) == calls
    assert len(outcomes) > 1, outcomes  # some faults must have been felt


def _count_calls(store: Store, spool: Path) -> int:
    new_archive(store)
    _fill(spool)
    plan = FaultPlan()
    _run(FaultyStore(store, plan), spool)
    check_archive(store, events=EVENTS, rejected=Counter([RUBBISH]))
    return len(plan.calls)


@pytest.mark.parametrize("fault", FAULTS)
def test_a_late_write_between_the_runs_does_no_harm(fault: str, tmp_path: Path) -> None:
    stores = _stores("local", None, tmp_path)  # type: ignore[arg-type]
    calls = _count_calls(next(stores), tmp_path / "counted")
    for number in range(1, calls + 1):
        inner, spool, plan = next(stores), tmp_path / f"spool-{number}", FaultPlan()
        new_archive(inner)
        _fill(spool)
        plan.at(number, fault)  # type: ignore[arg-type]
        try:
            _run(FaultyStore(inner, plan), spool)
        except ArchiverError:
            plan.release()  # before the second run finds out
        _run(inner, spool)
        check_archive(inner, events=EVENTS, rejected=Counter([RUBBISH]))
        assert spool_is_empty(spool), number
