"""Disks that fail, fill and hang under a receiver, and clocks that jump: what it stored is archived once."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import pytest

from tests.faults.calls import FailingCalls, Kind
from tests.faults.disks import Disk, fill
from tests.faults.receiving import Senders, archive_all, check_received, deliver_once, ids_in, readiness
from tests.services.process import wait_until
from tests.services.receiving import ReceiverProcess

EAGER: Final = ("--seal-seconds", "0.2")
MOMENTS: Final = {
    "a day ago": time.time() - 86_400,
    "1970": 1.0,
    "before 1970": datetime(1960, 1, 1, tzinfo=UTC).timestamp(),
    "2100": datetime(2100, 1, 1, tzinfo=UTC).timestamp(),
    # Linux lets nobody set a clock any further: its nanoseconds end in 2262, and it keeps thirty years spare.
    "the last year": datetime(2232, 1, 1, tzinfo=UTC).timestamp(),
}


def _is_ready(receiver: ReceiverProcess) -> bool:
    return readiness(receiver.url)[0] == 200


def test_a_failed_fsync_refuses_its_deliveries_and_is_never_retried(
    calls: FailingCalls, tmp_path: Path
) -> None:
    spool = tmp_path / "spool"
    with ReceiverProcess(spool, environment=calls.environment) as receiver:
        with Senders(lambda: [receiver.url]) as senders:
            senders.wait_for(30)
            for _ in range(3):
                calls.fail("fsync", skip=3, count=1)
                senders.wait_for(1, status=503)
                senders.wait_for(30)
        assert senders.retry_after == {"5"}
        assert senders.statuses.keys() == {204, 503}
        assert receiver.terminate() == 0
    failed = {record.path.name for record in calls.failed()}
    assert len(failed) == 3
    for name in failed:
        kinds = [record.kind for record in calls.records() if record.path.name == name]
        assert "F" in kinds or len(kinds) == 1
        assert kinds.index("E") == len(kinds) - 1, "synced again after an fsync of it had failed"
    check_received(spool, tmp_path / "archive", acknowledged=senders.acknowledged, sent=senders.sent)


def test_a_receiver_is_not_ready_while_fsync_fails_and_ready_again_by_itself(
    calls: FailingCalls, tmp_path: Path
) -> None:
    spool = tmp_path / "spool"
    with ReceiverProcess(spool, environment=calls.environment) as receiver:
        assert deliver_once(receiver.url, "before")[0] == 204
        calls.fail("fsync")
        assert deliver_once(receiver.url, "refused") == (503, "5")
        status, text = readiness(receiver.url)
        assert status == 503
        assert "fsync" in text
        tried = len(calls.failed())
        wait_until("it tries by itself", lambda: len(calls.failed()) > tried)
        assert not _is_ready(receiver)
        calls.heal()
        wait_until("it is ready again", lambda: _is_ready(receiver))
        assert deliver_once(receiver.url, "after")[0] == 204
        assert receiver.terminate() == 0
    sent = {"before", "refused", "after"}
    check_received(spool, tmp_path / "archive", acknowledged={"before", "after"}, sent=sent)


def test_a_folder_that_cannot_be_synced_gets_no_new_segments(calls: FailingCalls, tmp_path: Path) -> None:
    """What is in a segment whose name was durable before is stored, and sealed when that works again."""
    spool = tmp_path / "spool"
    (spool / "consumers" / "other").mkdir(parents=True)
    words = ("--seal-seconds", "0.5")
    with ReceiverProcess(spool, words=words, environment=calls.environment) as receiver:
        with Senders(lambda: [receiver.url], threads=4, pause_seconds=0.005) as senders:
            senders.wait_for(10)
            calls.fail("folder")
            senders.wait_for(20, status=503)
            assert not _is_ready(receiver)
            calls.heal()
            senders.wait_for(20)
        assert receiver.terminate() == 0
    check_received(spool, tmp_path / "archive", acknowledged=senders.acknowledged, sent=senders.sent)
    assert not senders.acknowledged - ids_in(spool / "consumers" / "other")


def test_a_write_that_ends_half_way_refuses_its_deliveries_alone(calls: FailingCalls, tmp_path: Path) -> None:
    spool = tmp_path / "spool"
    with ReceiverProcess(spool, environment=calls.environment) as receiver:
        with Senders(lambda: [receiver.url], large=0.2) as senders:
            senders.wait_for(30)
            for most in (0, 1, 19, 150):
                calls.fail("write", skip=2, count=2, error=errno.ENOSPC, most=most)
                senders.wait_for(1, status=503)
                senders.wait_for(30)
        assert receiver.terminate() == 0
    # What was half written is taken back, so that nothing is torn.
    check_received(
        spool,
        tmp_path / "archive",
        acknowledged=senders.acknowledged,
        sent=senders.sent,
        reasons=frozenset(),
    )


def test_a_disk_that_hangs_is_answered_for_and_what_it_kept_is_a_duplicate(
    calls: FailingCalls, tmp_path: Path
) -> None:
    spool, environment = tmp_path / "spool", {**calls.environment, "PATIENCE": "0.5"}
    with ReceiverProcess(spool, environment=environment, module="tests.faults.impatient") as receiver:
        assert deliver_once(receiver.url, "before")[0] == 204
        calls.fail("hang")
        assert deliver_once(receiver.url, "slow") == (503, "5")
        status, text = readiness(receiver.url)
        assert status == 503
        assert "does not answer" in text
        calls.heal()
        wait_until("it is ready again", lambda: _is_ready(receiver))
        assert deliver_once(receiver.url, "slow")[0] == 204
        assert receiver.terminate() == 0
    report = archive_all(spool, tmp_path / "archive")
    assert (report.counts.archived, report.counts.duplicates) == (2, 1)
    both = {"before", "slow"}
    check_received(spool, tmp_path / "archive", acknowledged=both, sent=both)


def test_a_receiver_ends_although_its_disk_hangs(calls: FailingCalls, tmp_path: Path) -> None:
    spool, environment = tmp_path / "spool", {**calls.environment, "PATIENCE": "0.5"}
    with ReceiverProcess(spool, environment=environment, module="tests.faults.impatient") as receiver:
        assert deliver_once(receiver.url, "before")[0] == 204
        calls.fail("hang")
        assert deliver_once(receiver.url, "slow")[0] == 503
        receiver.process.send_signal(signal.SIGTERM)
        receiver.process.wait(30)
    check_received(spool, tmp_path / "archive", acknowledged={"before"}, sent={"before", "slow"})


@pytest.mark.parametrize("kind", ["fsync", "folder", "write"])
def test_a_receiver_told_to_end_while_its_disk_fails_loses_nothing(
    calls: FailingCalls, tmp_path: Path, kind: Kind
) -> None:
    spool = tmp_path / "spool"
    with ReceiverProcess(spool, words=("--seal-seconds", "1"), environment=calls.environment) as receiver:
        with Senders(lambda: [receiver.url], threads=4) as senders:
            senders.wait_for(20)
            calls.fail(kind, skip=2)
            senders.wait_for(10, status=503)
            receiver.process.send_signal(signal.SIGTERM)
            assert receiver.process.wait(60) == 0
        assert senders.unanswered == []
    calls.heal()
    check_received(spool, tmp_path / "archive", acknowledged=senders.acknowledged, sent=senders.sent)


def test_a_disk_that_is_nearly_full_refuses_until_there_is_room(disk: Disk, tmp_path: Path) -> None:
    spool = disk("spool", 8 << 10)
    words = ("--min-free-bytes", str(4 << 20), *EAGER)
    _fill_and_make_room(spool, tmp_path, words, filler_bytes=6 << 20, reason="nearly full")


def test_a_disk_that_is_full_refuses_until_there_is_room(disk: Disk, tmp_path: Path) -> None:
    spool = disk("spool", 4 << 10)
    words = ("--min-free-bytes", "0", *EAGER)
    _fill_and_make_room(spool, tmp_path, words, filler_bytes=None, reason="No space left")


def _fill_and_make_room(
    spool: Path, place: Path, words: tuple[str, ...], *, filler_bytes: int | None, reason: str
) -> None:
    """Deliver, fill the disk beside it until deliveries are refused, make room, and deliver again."""
    location = place / "archive"
    with ReceiverProcess(spool, words=words) as receiver:
        with Senders(lambda: [receiver.url], threads=4, pause_seconds=0.005, large=0.0) as senders:
            senders.wait_for(20)
            filler = fill(spool, filler_bytes)
            senders.wait_for(20, status=503)
            wait_until(f"it is not ready: {reason}", lambda: reason in readiness(receiver.url)[1])
            filler.unlink()
            senders.wait_for(50)
            wait_until("it is ready again", lambda: _is_ready(receiver))
        assert senders.retry_after == {"5"}
        assert senders.unanswered == []
        assert receiver.terminate() == 0
    check_received(spool, location, acknowledged=senders.acknowledged, sent=senders.sent)


def test_clock_jumps_refuse_and_lose_nothing(calls: FailingCalls, tmp_path: Path) -> None:
    spool, location = tmp_path / "spool", tmp_path / "archive"
    with ReceiverProcess(spool, words=EAGER, environment=calls.environment) as receiver:
        with Senders(lambda: [receiver.url], threads=4, pause_seconds=0.005) as senders:
            senders.wait_for(10)
            archive_all(spool, location)
            for moment, seconds in MOMENTS.items():
                calls.move_clock(seconds - time.time())
                sealed = len(list(spool.glob("*.seg")))
                senders.wait_for(20)
                wait_until(
                    f"segments are sealed in {moment}",
                    lambda sealed=sealed: len(list(spool.glob("*.seg"))) > sealed + 1,  # type: ignore[misc]
                )
                assert _is_ready(receiver), moment
                if moment in ("before 1970", "the last year"):
                    _ask_for_status(spool, location, calls)
        assert senders.statuses.keys() == {204}
        assert senders.unanswered == []
        assert receiver.terminate() == 0
    check_received(spool, location, acknowledged=senders.acknowledged, sent=senders.sent)


def _ask_for_status(spool: Path, location: Path, calls: FailingCalls) -> None:
    command = [sys.executable, "-m", "archiver", "status", "--spool", str(spool), "--archive", str(location)]
    done = subprocess.run(
        command, capture_output=True, text=True, check=False, env={**os.environ, **calls.environment}
    )
    assert done.returncode == 0, done.stderr
