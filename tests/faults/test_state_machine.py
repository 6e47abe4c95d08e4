"""deliver, run, crash, rerun, requeue, collect in any order, against a dictionary."""

from __future__ import annotations

import os
import shutil
import tempfile
import time
from collections import Counter
from datetime import timedelta
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from archiver.archive import open_archive
from archiver.collect import collect
from archiver.errors import ArchiverError
from archiver.ledger import commit as protocol
from archiver.pipeline import run
from archiver.requeue import entries, requeue
from archiver.sources.spool import SpoolSource
from archiver.store.local import LocalStore
from archiver.validate import Rules
from archiver.verify import verify
from tests.faults.faulty_store import FaultPlan, FaultyStore
from tests.support import event, ids_of, new_archive

IDS = st.integers(0, 11)
# What may be delivered under an id. `late` is refused by today's rules and passes after a repair.
KINDS = st.sampled_from(["plain", "plain", "again", "more", "contradicting", "late", "rubbish"])
STRICT = Rules(source="spool", schemas={"events": '{"properties":{"data":{"not":{"required":["late"]}}}}'})
RELAXED = Rules(source="spool")


def _body(number: int, kind: str) -> bytes:
    """Every body of an id holds what `plain` holds; `more` adds, `contradicting` contradicts."""
    parts: dict[str, dict[str, object]] = {
        "plain": {},
        "again": {},
        "more": {"ip_city": "Berlin"},
        "contradicting": {"action": "document.deleted"},
        "late": {"late": True},
    }
    if kind == "rubbish":
        return b'{"rubbish":%d' % number
    when = "2026-03-27T00:00:00Z" if kind == "again" else "2026-03-26T10:15:00Z"
    return event(f"e{number}", workspace=f"w{number % 2}", timestamp=when, **parts[kind])


class ArchiveMachine(RuleBasedStateMachine):
    """The archive and its spool on one side; on the other what was delivered."""

    def __init__(self) -> None:
        super().__init__()
        self.place = Path(tempfile.mkdtemp(prefix="machine-"))
        self.spool = self.place / "spool"
        self.spool.mkdir()
        self.store = LocalStore(self.place / "archive")
        self.delivered: Counter[bytes] = Counter()
        self.files = 0
        self.plans: list[FaultPlan] = []
        self.patch = pytest.MonkeyPatch()
        quick = {**protocol.commit.__kwdefaults__, "pause": lambda _: None}  # type: ignore[dict-item]
        self.patch.setattr(protocol.commit, "__kwdefaults__", quick)

    @initialize()
    def create(self) -> None:
        new_archive(self.store)

    @rule(batch=st.lists(st.tuples(IDS, KINDS), min_size=1, max_size=6))
    def deliver(self, batch: list[tuple[int, str]]) -> None:
        bodies = [_body(number, kind) for number, kind in batch]
        self.delivered.update(bodies)
        self.files += 1
        (self.spool / f"{self.files:04}.jsonl").write_bytes(b"\n".join(bodies))

    @rule()
    def run(self) -> None:
        self._run(self.store)

    @rule(call=st.integers(1, 30), fault=st.sampled_from(["fails", "lands_without_reply", "lands_later"]))
    def run_with_a_fault(self, call: int, fault: str) -> None:
        plan = FaultPlan()
        plan.at(call, fault)  # type: ignore[arg-type]
        self.plans.append(plan)
        try:
            self._run(FaultyStore(self.store, plan))
        except ArchiverError:
            pass

    @rule()
    def late_writes_arrive(self) -> None:
        for plan in self.plans:
            plan.release()
        self.plans.clear()

    @rule()
    def requeue_after_a_repair(self) -> None:
        requeue(open_archive(self.store), lambda _: RELAXED, lambda _: True)

    @rule()
    def collect(self) -> None:
        collect(open_archive(self.store), grace=timedelta(0), force=True)

    @precondition(lambda self: self.files)
    @invariant()
    def no_event_is_there_twice_and_the_counts_add_up(self) -> None:
        archive = open_archive(self.store)
        assert archive.ledger.snapshot.totals.adds_up()
        found = ids_of(archive)
        assert len(found) == len(set(found)), found

    def _run(self, store: object) -> None:
        source = SpoolSource(self.spool, settle_seconds=0)
        run(open_archive(store), source, rules=STRICT, workers=0)  # type: ignore[arg-type]

    def teardown(self) -> None:
        try:
            self._settle()
        finally:
            self.patch.undo()
            shutil.rmtree(self.place, ignore_errors=True)

    def _settle(self) -> None:
        """Run once more without faults; then everything delivered is accounted for."""
        self._run(self.store)
        self.late_writes_arrive()
        self.requeue_after_a_repair()
        self.collect()
        archive = open_archive(self.store)
        assert archive.ledger.snapshot.totals.read == self.delivered.total()
        assert set(ids_of(archive)) == self._events_that_were_delivered()
        kept = Counter(entry.rejection.body for entry in entries(archive))
        for body, count in self.delivered.items():
            if body.startswith(b'{"rubbish"'):
                assert kept[body] == count
        assert not verify(self.store).damages

    def _events_that_were_delivered(self) -> set[str]:
        return {
            f"e{number}"
            for number in range(12)
            for kind in ("plain", "again", "more", "contradicting", "late")
            if self.delivered[_body(number, kind)]
        }


def test_any_order_of_deliver_run_crash_requeue_and_collect() -> None:
    run_state_machine_as_test(
        ArchiveMachine,
        settings=settings(max_examples=15, stateful_step_count=12, deadline=None),
    )


@pytest.mark.soak
@pytest.mark.timeout(0)
def test_many_orders_of_deliver_run_crash_requeue_and_collect() -> None:
    deadline = time.monotonic() + float(os.environ.get("SOAK_SECONDS", "600"))
    examples = 0
    while time.monotonic() < deadline:
        run_state_machine_as_test(
            ArchiveMachine,
            settings=settings(
                max_examples=25,
                stateful_step_count=25,
                deadline=None,
                database=None,
                suppress_health_check=list(HealthCheck),
            ),
        )
        examples += 25
    print(f"soak: {examples} sequences of 25 steps")
