"""A receiver is killed or told to end while senders deliver: what was acknowledged is archived once."""

from __future__ import annotations

import os
import random
import signal
import socket
import time
from contextlib import ExitStack, nullcontext
from pathlib import Path
from typing import Final

import pytest

from archiver.signature import HEADER
from tests.faults.receiving import Senders, archive_all, check_received, deliver_once, ids_in, runs_beside
from tests.services.process import free_ports, wait_until
from tests.services.receiving import SIGNER, ReceiverProcess
from tests.support import event

# So that sealing is under way at many of the moments at which a kill comes.
SEALS_OFTEN: Final = ("--seal-bytes", "30000", "--seal-seconds", "0.05")
SEALS_NEVER: Final = ("--seal-bytes", "1000000000", "--seal-seconds", "3600")


def _kill_under_load(
    place: Path,
    kills: int,
    *,
    seed: int,
    receivers: int,
    archives: bool,
    restarts_at_last: bool,
    kills_runs: bool = False,
) -> tuple[int, Senders]:
    """Kill one receiver after another while senders and, if so told, runs go on; return how often."""
    draw = random.Random(seed)
    spool, location = place / "spool", place / "archive"
    spool.mkdir(parents=True)
    (spool / "consumers" / "other").mkdir(parents=True)
    running = [
        ReceiverProcess(spool, listen=f"127.0.0.1:{port}", words=_sealing(draw))
        for port in free_ports(receivers)
    ]
    with ExitStack() as ending:
        for receiver in running:
            ending.callback(receiver.kill)
            receiver.start()
        senders = Senders(lambda: [one.url for one in running], seed=seed)
        ending.enter_context(senders)
        killing = draw if kills_runs else None
        ending.enter_context(runs_beside(spool, location, killing) if archives else nullcontext())
        for number in range(kills):
            senders.wait_for(1)
            time.sleep(draw.uniform(0, 0.25))
            victim = draw.choice(running)
            victim.kill()
            if number < kills - 1 or restarts_at_last:
                victim.words = _sealing(draw)
                if draw.random() < 0.2:  # while it starts, and seals what the one before it left
                    victim.start(wait=False)
                    time.sleep(draw.uniform(0.05, 0.4))
                    victim.kill()
                victim.start()
        if restarts_at_last:
            senders.wait_for(20)
        else:
            for receiver in running:
                receiver.kill()
        senders.stop()
    check_received(spool, location, acknowledged=senders.acknowledged, sent=senders.sent)
    lost = senders.acknowledged - ids_in(spool / "consumers" / "other")
    assert not lost, f"{len(lost)} are lost to the other consumer"
    return kills, senders


def _connected(receiver: ReceiverProcess) -> socket.socket:
    return socket.create_connection(("127.0.0.1", receiver.port), timeout=60)


def _head(body: bytes) -> bytes:
    lines = ("POST /webhook HTTP/1.1", "Host: receiver", f"Content-Length: {len(body)}")
    return "\r\n".join((*lines, f"{HEADER}: {SIGNER.sign(body)}", "", "")).encode()


def _wait_until_it_refuses(receiver: ReceiverProcess) -> None:
    """Wait until it has seen the signal: no new connection is taken."""

    def refuses() -> bool:
        try:
            _connected(receiver).close()
        except OSError:
            return True
        return False

    wait_until("new connections are refused", refuses)


def _sealing(draw: random.Random) -> tuple[str, ...]:
    return draw.choice((SEALS_OFTEN, SEALS_OFTEN, SEALS_NEVER))


@pytest.mark.parametrize(("receivers", "archives"), [(1, True), (2, False)])
def test_a_receiver_killed_at_any_moment_loses_nothing(
    tmp_path: Path, receivers: int, archives: bool
) -> None:
    """In one half `run` goes on beside, and at last finds by itself what was acknowledged."""
    seed = random.randrange(1 << 32)
    died, senders = _kill_under_load(
        tmp_path, 5, seed=seed, receivers=receivers, archives=archives, restarts_at_last=not archives
    )
    print(f"{died} kills, {len(senders.acknowledged)} of {len(senders.sent)} acknowledged, seed {seed}")
    assert len(senders.acknowledged) > 50


@pytest.mark.soak
@pytest.mark.timeout(0)
def test_many_kills_of_receivers(tmp_path: Path) -> None:
    kills, seconds = int(os.environ.get("SOAK_KILLS", "50")), float(os.environ.get("SOAK_SECONDS", "600"))
    deadline, died, acknowledged, rounds = time.monotonic() + seconds, 0, 0, 0
    seed = random.randrange(1 << 32)
    while died < kills and time.monotonic() < deadline:
        killed, senders = _kill_under_load(
            tmp_path / str(rounds),
            10,
            seed=seed + rounds,
            receivers=1 + rounds // 2 % 3,
            archives=rounds % 2 == 0,
            restarts_at_last=rounds % 3 == 0,
            kills_runs=rounds % 4 == 2,
        )
        died += killed
        acknowledged += len(senders.acknowledged)
        rounds += 1
    print(f"soak: {died} of {kills} kills of receivers, {acknowledged} acknowledged, seed {seed}")
    assert died >= min(kills, 10)


def test_another_receiver_seals_what_a_killed_one_left(tmp_path: Path) -> None:
    spool = tmp_path / "spool"
    with (
        ReceiverProcess(spool, words=SEALS_NEVER) as killed,
        ReceiverProcess(spool, words=SEALS_NEVER, module="tests.faults.impatient") as lives,
    ):
        assert deliver_once(lives.url, "lives")[0] == 204
        assert deliver_once(killed.url, "killed")[0] == 204
        assert not ids_in(spool)
        killed.kill()
        wait_until("the other one seals", lambda: list(spool.glob("*.seg")))
        assert ids_in(spool) == {"killed"}
        assert len(list(spool.glob(".*.live"))) == 1
        # A run takes what is sealed, and leaves alone what is written.
        assert archive_all(spool, tmp_path / "archive").counts.archived == 1
        assert lives.terminate() == 0
    both = {"lives", "killed"}
    check_received(spool, tmp_path / "archive", acknowledged=both, sent=both)


def test_a_run_finds_what_a_killed_receiver_had_acknowledged(tmp_path: Path) -> None:
    spool = tmp_path / "spool"
    with ReceiverProcess(spool, words=SEALS_NEVER) as receiver:
        assert deliver_once(receiver.url, "only")[0] == 204
        receiver.kill()
    assert not list(spool.glob("*.seg"))
    check_received(spool, tmp_path / "archive", acknowledged={"only"}, sent={"only"})


def _end_under_load(place: Path, rounds: int, *, seed: int, deadline: float) -> tuple[int, int]:
    """Tell receivers to end, by either signal, under two kinds of senders; return how often, of how many."""
    spool = place / "spool"
    sent: set[str] = set()
    acknowledged: set[str] = set()
    ends = 0
    while ends < rounds and time.monotonic() < deadline:
        with ReceiverProcess(spool, words=(SEALS_OFTEN, SEALS_NEVER)[ends % 2]) as receiver:
            url = receiver.url
            busy = Senders(lambda url=url: [url], seed=seed + ends, prefix=f"b{ends}-")  # type: ignore[misc]
            lazy = Senders(lambda url=url: [url], prefix=f"l{ends}-", pause_seconds=0.03)  # type: ignore[misc]
            with busy, lazy:
                busy.wait_for(30)
                lazy.wait_for(1)
                receiver.process.send_signal((signal.SIGTERM, signal.SIGINT)[ends // 2 % 2])
                assert receiver.process.wait(60) == 0
            for senders in (busy, lazy):
                assert senders.unanswered == []
                assert senders.statuses.keys() <= {204, 503}
                sent |= senders.sent
                acknowledged |= senders.acknowledged
        assert not list(spool.glob(".*.live")), "not sealed"
        # Nothing is torn, and nothing was kept that nobody was told of.
        assert ids_in(spool) == acknowledged
        ends += 1
    assert check_received(spool, place / "archive", acknowledged=acknowledged, sent=sent) == {}
    return ends, len(acknowledged)


def test_a_receiver_that_is_told_to_end_answers_whoever_has_asked(tmp_path: Path) -> None:
    assert _end_under_load(tmp_path, 4, seed=1, deadline=time.monotonic() + 120)[0] == 4


@pytest.mark.soak
@pytest.mark.timeout(0)
def test_many_ends_of_receivers(tmp_path: Path) -> None:
    seconds, most = float(os.environ.get("SOAK_SECONDS", "600")), int(os.environ.get("SOAK_KILLS", "50"))
    seed = random.randrange(1 << 32)
    ends, acknowledged = _end_under_load(tmp_path, most, seed=seed, deadline=time.monotonic() + seconds)
    print(f"soak: {ends} receivers told to end, {acknowledged} acknowledged, seed {seed}")


def test_whoever_is_connected_may_deliver_once_more_after_sigterm(tmp_path: Path) -> None:
    """Kept connections send while the receiver ends: closing them as they do so would look like a refusal."""
    spool, ids = tmp_path / "spool", [f"e{number}" for number in range(40)]
    with ReceiverProcess(spool) as receiver, ExitStack() as open_ones:
        kept = [open_ones.enter_context(_connected(receiver)) for _ in ids]
        for number, one in enumerate(kept):
            body = event(f"first{number}")
            one.sendall(_head(body) + body)
            assert one.recv(4096).startswith(b"HTTP/1.1 204 ")
        receiver.process.send_signal(signal.SIGTERM)
        signalled_at, asked = time.monotonic(), []
        for event_id, one in zip(ids, kept, strict=True):
            if time.monotonic() > signalled_at + 0.8:  # a slow machine; it waits for no longer than a second
                break
            body = event(event_id)
            one.sendall(_head(body) + body)
            asked.append(one)
            time.sleep(0.01)
        assert len(asked) > 5
        for one in asked:
            assert one.recv(4096).startswith(b"HTTP/1.1 204 ")
            assert one.recv(1) == b"", "told that it was the last"
        assert receiver.process.wait(60) == 0
    acknowledged = {f"first{number}" for number in range(len(ids))} | set(ids[: len(asked)])
    check_received(spool, tmp_path / "archive", acknowledged=acknowledged, sent=acknowledged)


def test_an_upload_under_way_is_still_taken_after_sigterm(tmp_path: Path) -> None:
    spool = tmp_path / "spool"
    body = event("slow", note="x" * 100_000)
    with ReceiverProcess(spool) as receiver, _connected(receiver) as upload:
        upload.sendall(_head(body) + body[:50_000])
        assert deliver_once(receiver.url, "quick")[0] == 204
        receiver.process.send_signal(signal.SIGTERM)
        _wait_until_it_refuses(receiver)
        for start in range(50_000, len(body), 10_000):
            upload.sendall(body[start : start + 10_000])
            time.sleep(0.02)
        assert upload.recv(4096).startswith(b"HTTP/1.1 204 ")
        assert receiver.process.wait(60) == 0
    both = {"slow", "quick"}
    check_received(spool, tmp_path / "archive", acknowledged=both, sent=both)


def test_a_second_signal_ends_at_once_and_loses_nothing(tmp_path: Path) -> None:
    """An upload that will never end keeps the receiver after the first one."""
    spool = tmp_path / "spool"
    body = event("never", note="x" * 100_000)
    with ReceiverProcess(spool) as receiver, _connected(receiver) as upload:
        upload.sendall(_head(body) + body[:50_000])
        assert deliver_once(receiver.url, "taken")[0] == 204
        receiver.process.send_signal(signal.SIGINT)
        _wait_until_it_refuses(receiver)
        assert receiver.process.poll() is None
        receiver.process.send_signal(signal.SIGINT)
        assert receiver.process.wait(15) == 0
    assert not list(spool.glob(".*.live"))
    check_received(spool, tmp_path / "archive", acknowledged={"taken"}, sent={"taken"})
