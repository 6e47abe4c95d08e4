"""Every operation of an operator in any order, on two hosts, disturbed and not, against a dictionary."""

from __future__ import annotations

import os
import shutil
import tempfile
import time
from collections import Counter
from pathlib import Path

import pytest
from deltalake import DeltaTable
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test

from archiver import layout
from archiver.archive import open_archive
from archiver.delta.publish import check, publish
from archiver.requeue import entries
from archiver.verify import verify
from tests.faults.faulty_store import FaultPlan
from tests.faults.machine import CACHES, DAY_US, IDS, KINDS, OPERATIONS, World, body

HOSTS = st.sampled_from([0, 1])
BATCHES = st.lists(st.tuples(st.integers(0, IDS - 1), st.sampled_from(KINDS)), min_size=1, max_size=6)
# What takes files away is worth more tries.
NAMES = st.sampled_from(["compact", "retain", "collect", "compact", "retain", "run", *OPERATIONS])
FAULTS = st.sampled_from(["fails", "lands_without_reply", "lands_later"])


class ArchiveMachine(RuleBasedStateMachine):
    """The rules; what they do and what must hold afterwards is the `World`'s."""

    @initialize(batch=BATCHES)
    def create(self, batch: list[tuple[int, str]]) -> None:
        self.world = World(Path(tempfile.mkdtemp(prefix="machine-")))
        self.deliver_and_run(0, batch)

    @rule(host=HOSTS, batch=BATCHES)
    def deliver(self, host: int, batch: list[tuple[int, str]]) -> None:
        self.world.deliver(self.world.hosts[host], [body(number, kind) for number, kind in batch])

    @rule(host=HOSTS, batch=BATCHES)
    def deliver_and_run(self, host: int, batch: list[tuple[int, str]]) -> None:
        self.deliver(host, batch)
        self.world.act(self.world.hosts[host], "run")

    @rule(host=HOSTS, day=st.integers(0, 2), workspace=st.integers(0, 1), kind=st.sampled_from(KINDS))
    def deliver_bit_by_bit(self, host: int, day: int, workspace: int, kind: str) -> None:
        """Several small files for one partition: what compaction is for."""
        for number in range(8 * day + workspace, 8 * day + 8, 2):
            self.deliver_and_run(host, [(number, kind)])

    @rule(host=HOSTS, name=NAMES)
    def do(self, host: int, name: str) -> None:
        self.world.act(self.world.hosts[host], name)

    @rule(host=HOSTS, name=NAMES, call=st.integers(1, 40), fault=FAULTS)
    def do_with_a_fault(self, host: int, name: str, call: int, fault: str) -> None:
        plan = FaultPlan()
        plan.at(call, fault)  # type: ignore[arg-type]
        self.world.plans.append(plan)
        self.world.act(self.world.hosts[host], name, plan=plan)

    @rule(host=HOSTS, name=NAMES, call=st.integers(1, 40), besides=NAMES)
    def do_while_the_other_host_does(self, host: int, name: str, call: int, besides: str) -> None:
        hosts = self.world.hosts
        self.world.interrupted(hosts[host], name, call, hosts[1 - host], besides)

    @rule(
        host=HOSTS,
        day=st.integers(0, 2),
        first=st.sampled_from(["compact", "retain"]),
        call=st.integers(2, 25),
        second=st.sampled_from(["compact", "retain", "collect", "hold"]),
    )
    def two_at_once_take_files_away(self, host: int, day: int, first: str, call: int, second: str) -> None:
        self.deliver_bit_by_bit(host, day, 0, "plain")
        self.do_while_the_other_host_does(host, first, call, second)

    @rule(host=HOSTS)
    def expire_under_a_hold(self, host: int) -> None:
        self.do(host, "hold")
        self.do(1 - host, "retain")

    @rule()
    def late_writes_arrive(self) -> None:
        self.world.late_writes_arrive()

    @rule(days=st.sampled_from([1, 20, 45]))
    def time_passes(self, days: int) -> None:
        self.world.now_us += days * DAY_US

    @rule(back=st.integers(0, 20))
    def look_back(self, back: int) -> None:
        seen = sorted(self.world.remembered, reverse=True)
        self.world.look_back(seen[back % len(seen)])

    @rule(
        prefix=st.sampled_from(CACHES),
        number=st.integers(0, 1000),
        how=st.sampled_from(["one", "all", "flipped"]),
    )
    def a_cache_is_lost_or_rots(self, prefix: str, number: int, how: str) -> None:
        self.world.lose_cache(prefix, number, how)

    @invariant()
    def what_must_hold_holds(self) -> None:
        if hasattr(self, "world"):
            self.world.look()

    def teardown(self) -> None:
        if not hasattr(self, "world"):
            return
        try:
            self._settle()
        finally:
            self.world.close()
            shutil.rmtree(self.world.place, ignore_errors=True)

    def _settle(self) -> None:
        """Run once more without faults; then everything delivered is accounted for."""
        world = self.world
        world.late_writes_arrive()
        for host in world.hosts:
            world.act(host, "run")
        world.act(world.hosts[0], "requeue")
        world.look()
        for sequence in world.remembered:
            world.look_back(sequence)
        archive = open_archive(world.store)
        assert archive.ledger.snapshot.totals.read == world.delivered.total()
        rows = world.live()
        ids = {row[2] for row in rows if row[0] == "events"}
        assert world.events_that_must_be_there() <= ids
        kept = Counter(entry.rejection.body for entry in entries(archive))
        for sent, count in world.delivered.items():
            if sent.startswith(b'{"rubbish"'):
                assert kept[sent] == count
        publish(archive)
        check(archive).refuse()
        seen = DeltaTable(str(world.place / "archive" / "events")).to_pyarrow_table(columns=["id", "body"])
        pairs = zip(seen["id"].to_pylist(), seen["body"].to_pylist(), strict=True)
        assert Counter(pairs) == Counter((row[2], row[4]) for row in rows.elements() if row[0] == "events")
        world.act(world.hosts[0], "collect")
        assert not verify(world.store).damages
        reachable = open_archive(world.store).ledger.snapshot.reachable()
        strange = [
            info.key
            for info in world.store.list()
            if info.key not in reachable
            and layout.sequence_of(info.key) is None
            and not info.key.startswith((*CACHES, layout.DELTA_LOG))
        ]
        held = set(world.held_objects())
        assert set(strange) <= held, strange


def test_any_order_of_operations_on_two_hosts_disturbed_or_not() -> None:
    run_state_machine_as_test(
        ArchiveMachine,
        settings=settings(max_examples=12, stateful_step_count=14, deadline=None),
    )


@pytest.mark.soak
@pytest.mark.timeout(0)
def test_many_orders_of_operations_on_two_hosts() -> None:
    deadline = time.monotonic() + float(os.environ.get("SOAK_SECONDS", "600"))
    examples = 0
    while time.monotonic() < deadline:
        run_state_machine_as_test(
            ArchiveMachine,
            settings=settings(
                max_examples=25,
                stateful_step_count=30,
                deadline=None,
                database=None,
                suppress_health_check=list(HealthCheck),
            ),
        )
        examples += 25
    told = ", ".join(f"{name} {count:,}" for name, count in sorted(World.met.items()))
    print(f"soak: {examples} sequences of 30 steps; met: {told}")
