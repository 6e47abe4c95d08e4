"""Whoever can reach the port tries to keep everybody else out, or to fill the memory. Nobody is kept out.

The limits on time are shorter than the real ones, so that tests need not wait for those.
"""

from __future__ import annotations

import json
import resource
import secrets
import socket
import ssl
import struct
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from archiver.receiver.guard import Limits
from tests.services import limited_receiver
from tests.services.certificates import self_signed
from tests.services.raw_http import Wire, chunked, deliver, head
from tests.services.receiving import ReceiverProcess

MIB = 1 << 20
WAIT_SECONDS = 20
QUICK = {
    "head_seconds": 1.0,
    "body_seconds": 1.0,
    "longest_seconds": 3.0,
    "answer_seconds": 2.0,
    "idle_seconds": 30.0,
}
WRONG = "sha256=" + "0" * 64


@contextmanager
def receiving(
    folder: Path, *words: str, start_with: tuple[str, ...] = (), **limits: float
) -> Iterator[ReceiverProcess]:
    """Run a receiver with other limits; in the end it must still be there, and have said little."""
    with ReceiverProcess(
        folder / "spool",
        words=("--verbose", *words),
        environment={"LIMITS": json.dumps({**QUICK, **limits})},
        start_with=start_with,
        module=limited_receiver.MODULE,
    ) as found:
        yield found
        assert found.process.poll() is None
        said = found.said.read_text()
        assert "Traceback" not in said
        assert said.count("\n") < 20, said[:2000]


@pytest.fixture(scope="module")
def receiver(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ReceiverProcess]:
    with receiving(tmp_path_factory.mktemp("hostile")) as found:
        yield found


@pytest.fixture(scope="module", autouse=True)
def many_handles() -> Iterator[None]:
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(8192, before[1]), before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, before)


def delivers(receiver: ReceiverProcess, tls: ssl.SSLContext | None = None) -> bool:
    """Whether a sender that comes now gets its 204."""
    return deliver(receiver.port, secrets.token_bytes(20), tls=tls, seconds=WAIT_SECONDS) == 204


def until(condition: Callable[[], bool], seconds: float = WAIT_SECONDS) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def open_files(receiver: ReceiverProcess) -> int:
    return len(list(Path(f"/proc/{receiver.process.pid}/fd").iterdir()))


def drip(wire: Wire, piece: bytes, stop: threading.Event, seconds: float) -> None:
    """Send a piece again and again until the other side closes."""
    while not stop.wait(seconds):
        try:
            wire.socket.sendall(piece)
        except OSError:
            return


SLOW: dict[str, tuple[bytes, bytes, float]] = {
    "nothing at all": (b"", b"", 0.2),
    "a request line": (b"POST", b" ", 0.2),
    "a header": (head()[:-2], b"X-A: b\r\n", 0.2),
    "one header without end": (head()[:-2] + b"X-A: ", b"a" * 4096, 0.02),
    "headers without end": (head()[:-2], b"X-A: b\r\n" * 64, 0.02),
    "empty lines before a request": (b"", b"\r\n", 0.1),
    "a path without end": (b"POST /", b"a" * 4096, 0.02),
    "a body byte by byte": (head(None, "Content-Length: 9999"), b"x", 0.05),
    "a large body byte by byte": (head(None, "Content-Length: 33554432"), b"x", 0.05),
    "chunks of one byte": (head(None, "Transfer-Encoding: chunked"), b"1\r\nx\r\n", 0.01),
    "an endless chunk extension": (head(None, "Transfer-Encoding: chunked") + b"1;", b"a" * 4096, 0.02),
    "extensions": (head(None, "Transfer-Encoding: chunked"), b"1;" + b"a" * 4096 + b"\r\nx\r\n", 0.02),
    "trailers": (head(None, "Transfer-Encoding: chunked") + b"0\r\n", b"X-A: b\r\n" * 64, 0.02),
    "one trailer": (head(None, "Transfer-Encoding: chunked") + b"0\r\nX-A: ", b"a" * 4096, 0.02),
    "leading zeros of a chunk's size": (head(None, "Transfer-Encoding: chunked"), b"0" * 4096, 0.02),
    "a body after its 401": (head(None, "Content-Length: 33554432", signature=None), b"x" * 4096, 0.05),
    "a body after its 413": (head(None, "Content-Length: 99999999"), b"x" * 4096, 0.05),
    "a body to no stream": (head(None, "Content-Length: 99999999", path="/x"), b"x" * 4096, 0.05),
}


def test_what_comes_slowly_or_without_end_is_closed_and_nobody_else_waits(receiver: ReceiverProcess) -> None:
    """All at once: each is closed after the limits on time, or bytes, of these tests."""
    stop = threading.Event()
    before = receiver.peak_bytes
    with ExitStack() as stack:
        wires = {kind: stack.enter_context(Wire(receiver.port)) for kind in SLOW}
        dripping = []
        for kind, (beginning, piece, seconds) in SLOW.items():
            wires[kind].send(beginning)
            dripping.append(threading.Thread(target=drip, args=(wires[kind], piece, stop, seconds)))
            dripping[-1].start()
        try:
            assert delivers(receiver)
            still_open = [kind for kind, wire in wires.items() if not wire.is_closed(WAIT_SECONDS)]
        finally:
            stop.set()
            for thread in dripping:
                thread.join()
    assert still_open == []
    assert delivers(receiver)
    # A head may have 64 KiB, and one read more than that; a small body 64 KiB. Of each of these few.
    assert receiver.peak_bytes - before < 32 * MIB


WITHOUT_END = {kind: told for kind, told in SLOW.items() if len(told[1]) >= 64 and "after" not in kind}


def test_what_has_no_end_and_brings_no_body_is_closed_by_its_size_however_quick_it_is(tmp_path: Path) -> None:
    with receiving(tmp_path, **dict.fromkeys(QUICK, 60.0)) as receiver, ExitStack() as stack:
        wires = {kind: stack.enter_context(Wire(receiver.port)) for kind in WITHOUT_END}
        for kind, (beginning, piece, _) in WITHOUT_END.items():
            wires[kind].send(beginning)
            for _ in range(64):
                wires[kind].send(piece * (16_384 // len(piece)))
        # One brings a byte of body each time, of the other 64 MiB are borne: there only time can tell.
        bounded_by_time = [wires.pop(kind) for kind in ("extensions", "a body to no stream")]
        assert [kind for kind, wire in wires.items() if not wire.is_closed(WAIT_SECONDS)] == []
        assert not any(wire.is_closed(0.1) for wire in bounded_by_time)
        assert delivers(receiver)


def test_ten_thousand_headers_are_refused_and_not_kept(receiver: ReceiverProcess) -> None:
    before = receiver.peak_bytes
    lines = [f"X{number}: a" for number in range(10_000)]
    for _ in range(20):
        with Wire(receiver.port) as wire:
            wire.send(head(b"", *lines))
            assert wire.reply() is None
    assert delivers(receiver)
    # A header is two objects and a pair, 200 bytes: 2 MB for one such head, while it is looked at.
    assert receiver.peak_bytes - before < 20 * MIB


def test_three_thousand_idle_connections_cost_little_and_keep_nobody_out(tmp_path: Path) -> None:
    with receiving(tmp_path, "--max-connections", "4000", head_seconds=60.0) as receiver:
        assert delivers(receiver)
        before = receiver.peak_bytes
        with ExitStack() as stack:
            wires = [stack.enter_context(Wire(receiver.port)) for _ in range(3000)]
            for wire in wires[::3]:
                wire.send(head()[:200])
            until(lambda: receiver.metrics()["archiver_connections"] > 3000)
            assert delivers(receiver)
            # A transport, a parser, a protocol: about 8 KiB a connection, and up to 24 are borne.
            assert receiver.peak_bytes - before < 3000 * 24 * 1024
        until(lambda: receiver.metrics()["archiver_connections"] <= 1)


CROWD: dict[str, bytes] = {
    "nothing": b"",
    "half a head": head()[:-2],
    "half a body": head(None, "Content-Length: 60000") + b"x" * 30_000,
    "half a chunk": head(None, "Transfer-Encoding: chunked") + b"ffff\r\nx",
    "an answer that nobody reads": head(path="/metrics", method="GET"),
    "a wrong signature": head(b"x", signature=WRONG) + b"x",
}


@pytest.mark.parametrize("kind", CROWD)
def test_with_too_many_connections_strangers_go_and_senders_who_delivered_stay(
    tmp_path: Path, kind: str
) -> None:
    """No limit on time helps here: the crowd is as quick as it may be."""
    with (
        receiving(tmp_path, "--max-connections", "40", **dict.fromkeys(QUICK, 60.0)) as receiver,
        ExitStack() as stack,
    ):
        known = [stack.enter_context(Wire(receiver.port)) for _ in range(10)]
        for round_ in range(4):
            for number, wire in enumerate(known):
                body = b"%d of %d" % (round_, number)
                reply = wire.send(head(body) + body).reply()
                assert reply is not None, (round_, number)
                assert reply.status == 204
            assert delivers(receiver)  # and whoever is new, too
            for _ in range(60):
                stack.enter_context(Wire(receiver.port)).send(CROWD[kind])
        assert receiver.metrics()["archiver_connections"] <= 40


def test_connections_that_are_torn_down_anywhere_leave_nothing_behind(receiver: ReceiverProcess) -> None:
    whole = head(None, "Transfer-Encoding: chunked", signature=WRONG) + chunked(b"x" * 3000)
    for number in range(600):
        with Wire(receiver.port) as wire:
            wire.send(whole[: number * 7 % len(whole)] if number % 2 else whole)
            # No lingering: the other side gets a reset, and not an orderly end.
            wire.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    until(lambda: receiver.metrics()["archiver_connections"] <= 1)
    assert delivers(receiver)
    handles = open_files(receiver)
    assert handles < 60


def test_a_million_refusals_would_not_need_more_memory_than_a_few(receiver: ReceiverProcess) -> None:
    """A stand-in for the million: a few thousand, after which nothing may have grown."""

    def refuse(count: int) -> None:
        request = head(b"x", signature=WRONG) + b"x"
        for _ in range(count // 20):
            with Wire(receiver.port) as wire:
                for _ in range(20):
                    reply = wire.send(request).reply()
                    assert reply is not None
                    assert reply.status == 401

    refuse(500)
    before = receiver.peak_bytes
    refuse(3000)
    assert receiver.peak_bytes - before < 3 * MIB


@pytest.mark.parametrize("kind", ["with a length", "in chunks"])
def test_many_large_bodies_with_wrong_signatures_fit_the_room_for_large_bodies(
    tmp_path: Path, kind: str
) -> None:
    content = bytes(32 * MIB)
    with receiving(
        tmp_path, large_bodies_bytes=64 * MIB, body_seconds=30.0, longest_seconds=60.0
    ) as receiver:
        assert delivers(receiver)
        before = receiver.peak_bytes
        start = head(None, f"Content-Length: {len(content)}", signature=WRONG)
        if kind == "in chunks":
            start = head(None, "Transfer-Encoding: chunked", signature=WRONG) + b"2000000\r\n"

        def attack(_: int) -> None:
            with Wire(receiver.port) as wire:
                wire.send(start)
                wire.send(content)
                wire.reply() if kind == "with a length" else None

        with ThreadPoolExecutor(16) as pool:
            attacks = pool.map(attack, range(16))
            for _ in range(20):
                assert delivers(receiver)
            list(attacks)
        assert delivers(receiver)
        # The room, a body that grows (1/8 more), and what is small or was just read: 64 + 384 KiB each.
        assert receiver.peak_bytes - before < (64 + 4 + 16) * MIB


def test_large_signed_deliveries_at_once_wait_for_each_other_and_all_get_204(tmp_path: Path) -> None:
    contents = [secrets.token_bytes(1024) * (31 * 1024) for _ in range(6)]
    with receiving(
        tmp_path, large_bodies_bytes=64 * MIB, body_seconds=60.0, longest_seconds=60.0
    ) as receiver:
        assert delivers(receiver)
        before = receiver.peak_bytes
        with ThreadPoolExecutor(6) as pool:
            answers = list(pool.map(lambda content: deliver(receiver.port, content, seconds=60), contents))
        assert answers == [204] * 6
        assert receiver.peak_bytes - before < (64 + 4 + 16) * MIB


def test_who_takes_the_room_for_large_bodies_and_then_goes_slowly_makes_way(tmp_path: Path) -> None:
    limits = {"body_seconds": 60.0, "longest_seconds": 60.0, "body_bytes_per_second": 1.0}
    with receiving(tmp_path, large_bodies_bytes=40 * MIB, **limits) as receiver, ExitStack() as stack:
        for _ in range(3):
            wire = stack.enter_context(Wire(receiver.port))
            wire.send(head(None, "Content-Length: 33554432", signature=WRONG) + b"x" * (13 * MIB))
        assert deliver(receiver.port, b"y" * (20 * MIB), seconds=60) == 204


def test_few_open_files_mean_fewer_connections_and_not_a_receiver_that_accepts_none(tmp_path: Path) -> None:
    with (
        receiving(tmp_path, start_with=("prlimit", "--nofile=160:160"), head_seconds=60.0) as receiver,
        ExitStack() as stack,
    ):
        receiver.wait_for_log("40 connections, not 1024")
        for _ in range(10):
            for _ in range(60):
                stack.enter_context(Wire(receiver.port))
            assert delivers(receiver)


def over_tls(tmp_path: Path) -> tuple[tuple[str, ...], ssl.SSLContext]:
    """Return the options of a receiver over TLS with room for 40 connections, and a client's trust in it."""
    certificate = self_signed(tmp_path)
    words = ("--tls-cert", str(certificate.chain), "--tls-key", str(certificate.key))
    trusting = ssl.create_default_context(cafile=str(certificate.chain))
    return (*words, "--max-connections", "40"), trusting


def test_tls_handshakes_that_never_end_keep_nobody_out(tmp_path: Path) -> None:
    words, trusting = over_tls(tmp_path)
    with receiving(tmp_path, *words, handshakes=50, handshake_seconds=60.0) as receiver, ExitStack() as stack:
        assert delivers(receiver, trusting)
        before = receiver.peak_bytes
        for number in range(600):
            wire = stack.enter_context(Wire(receiver.port))
            # Nothing, the beginning of a hello, and what is no TLS.
            wire.send((b"", b"\x16\x03\x01\x02\x00\x01\x00", b"GET / HTTP/1.1\r\n\r\n")[number % 3])
            if number % 100 == 0:
                assert delivers(receiver, trusting)
        assert delivers(receiver, trusting)
        assert open_files(receiver) < 50 + 40 + 60
        # OpenSSL's state and buffers of a handshake: about 100 KiB each.
        assert receiver.peak_bytes - before < 32 * MIB
    with receiving(tmp_path, *words, handshake_seconds=0.3) as receiver, Wire(receiver.port) as wire:
        assert wire.is_closed()


def test_idle_and_slow_connections_are_bounded_over_tls_too(tmp_path: Path) -> None:
    words, trusting = over_tls(tmp_path)
    with receiving(tmp_path, *words, **dict.fromkeys(QUICK, 60.0)) as receiver, ExitStack() as stack:
        known = stack.enter_context(Wire(receiver.port, tls=trusting))
        for number in range(100):
            stack.enter_context(Wire(receiver.port, tls=trusting)).send(head()[: number % 3 * 30])
            if number % 10 == 0:
                assert known.send(head(b"x") + b"x").reply().status == 204  # type: ignore[union-attr]
        assert delivers(receiver, trusting)


def test_the_real_limits_are_as_the_documentation_says() -> None:
    limits = Limits()
    assert (limits.head_seconds, limits.head_bytes, limits.most_headers) == (10.0, 65_536, 128)
    assert (limits.body_seconds, limits.body_bytes_per_second, limits.discarded_bytes) == (
        15.0,
        16_384,
        64 * MIB,
    )
    assert (limits.idle_seconds, limits.answer_seconds, limits.large_bodies_bytes) == (75.0, 60.0, 128 * MIB)
