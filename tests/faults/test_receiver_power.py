"""Power is lost while deliveries come in: what was acknowledged is archived, whatever else the disk kept.

The receiver is real and really killed; what a disk may then hold is worked out from the fsyncs it made.
"""

from __future__ import annotations

import os
import random
import time
from pathlib import Path

import pytest

from tests.faults.calls import FailingCalls
from tests.faults.power import LOSSES, Loss, lose_power
from tests.faults.receiving import SPOILED, TORN, Senders, check_received, deliver_once, ids_in
from tests.services.receiving import ReceiverProcess


def _lose_power_under_load(
    place: Path, calls: FailingCalls, *, losses: tuple[Loss, ...], seed: int, whole: bool
) -> tuple[int, int]:
    """Kill a receiver and archive what each loss leaves; return how many were acknowledged, how much lost."""
    draw = random.Random(seed)
    spool = place / "spool"
    for consumer in ("one", "two"):
        (spool / "consumers" / consumer).mkdir(parents=True)
    sealing = draw.choice((("--seal-bytes", "30000"), ("--seal-seconds", "0.05"), ("--seal-seconds", "3600")))
    with ReceiverProcess(spool, words=sealing, environment=calls.environment) as receiver:
        with Senders(lambda: [receiver.url], seed=seed) as senders:
            senders.wait_for(40)
            # So that much of what the kill meets is not durable.
            calls.fail("slow", most=draw.choice((3_000, 20_000)))
            time.sleep(draw.uniform(0.05, 0.3))
            receiver.kill()
            if draw.random() < 0.5:  # another one has begun to put in order what the first one left
                receiver.start()
                time.sleep(draw.uniform(0, 0.1))
                receiver.kill()
        lost = 0
        records = calls.records()
        for number, loss in enumerate(losses):
            left = place / f"left-{number}"
            lost += lose_power(spool, records, left, loss, draw)
            reasons = TORN if loss in ("all", "cut") else SPOILED
            _check_what_is_left(left, senders, reasons=reasons, whole=whole)
    return len(senders.acknowledged), lost


def _check_what_is_left(spool: Path, senders: Senders, *, reasons: frozenset[str], whole: bool) -> None:
    # Nobody seals for the other consumers before `run` does, which then finds nothing more to do.
    location = spool.with_name(f"{spool.name}.archive")
    check_received(
        spool, location, acknowledged=senders.acknowledged, sent=senders.sent, reasons=reasons, whole=whole
    )
    for consumer in ("one", "two"):
        lost = senders.acknowledged - ids_in(spool / "consumers" / consumer)
        assert not lost, f"{len(lost)} acknowledged are lost to consumer {consumer}"


@pytest.mark.parametrize("turn", range(2))
def test_a_loss_of_power_takes_nothing_that_was_acknowledged(
    calls: FailingCalls, tmp_path: Path, turn: int
) -> None:
    seed = random.randrange(1 << 32)
    acknowledged, lost = _lose_power_under_load(tmp_path, calls, losses=LOSSES, seed=seed, whole=turn == 0)
    print(f"{acknowledged} acknowledged, {lost} names and ends lost, seed {seed}")


def test_a_receiver_goes_on_with_what_a_loss_of_power_left(calls: FailingCalls, tmp_path: Path) -> None:
    before, after = tmp_path / "before", tmp_path / "after"
    with (
        ReceiverProcess(before, environment=calls.environment) as receiver,
        Senders(lambda: [receiver.url]) as senders,
    ):
        senders.wait_for(40)
        receiver.kill()
    lose_power(before, calls.records(), after, "rubbish", random.Random(1))
    with ReceiverProcess(after) as receiver:
        assert deliver_once(receiver.url, "later")[0] == 204
        assert receiver.terminate() == 0
    check_received(
        after,
        tmp_path / "archive",
        acknowledged=senders.acknowledged | {"later"},
        sent=senders.sent | {"later"},
        reasons=SPOILED,
    )


@pytest.mark.soak
@pytest.mark.timeout(0)
def test_many_losses_of_power(failing_calls_library: Path, tmp_path: Path) -> None:
    seconds, most = float(os.environ.get("SOAK_SECONDS", "600")), int(os.environ.get("SOAK_KILLS", "50"))
    deadline, rounds, acknowledged, lost = time.monotonic() + seconds, 0, 0, 0
    seed = random.randrange(1 << 32)
    while rounds < most and time.monotonic() < deadline:
        place = tmp_path / str(rounds)
        (place / "calls").mkdir(parents=True)
        calls = FailingCalls(failing_calls_library, place / "calls")
        found = _lose_power_under_load(place, calls, losses=LOSSES * 3, seed=seed + rounds, whole=False)
        acknowledged += found[0]
        lost += found[1]
        rounds += 1
    print(
        f"soak: {rounds * len(LOSSES) * 3} losses of power, {acknowledged} acknowledged, "
        f"{lost} names and ends lost, seed {seed}"
    )
