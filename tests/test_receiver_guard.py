"""What `receiver/guard.py` takes for granted of uvicorn and httptools, and the bounds that need no network.

Red here after an upgrade of uvicorn: read its `httptools_impl.py` beside `guard.py` again.
The transport is a stand-in; protocol, parser and server state are the real ones.
"""

from __future__ import annotations

import asyncio
import gc
import inspect
import time
import weakref
from typing import Any

import httptools
import pytest
from uvicorn import Config
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle
from uvicorn.server import ServerState

from archiver.receiver.guard import Guard, GuardedProtocol, Limits, protocol_of
from archiver.receiver.room import LargeBodies, Share
from archiver.receiver.writer import RefusedError
from archiver.segment import LARGEST_BODY_BYTES

REQUEST = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\n{}"
UPGRADE = REQUEST.replace(b"Host: a", b"Connection: Upgrade\r\nUpgrade: h2c")


class Transport(asyncio.Transport):
    """A stand-in: notes what is done with it."""

    def __init__(self) -> None:
        super().__init__()
        self.written = b""
        self.done: list[str] = []
        self.protocol: Any = None

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return default

    def write(self, data: Any) -> None:
        self.written += bytes(data)

    def is_closing(self) -> bool:
        return bool({"close", "abort"} & set(self.done))

    def close(self) -> None:
        self.done.append("close")

    def abort(self) -> None:
        self.done.append("abort")

    def pause_reading(self) -> None:
        self.done.append("pause")

    def resume_reading(self) -> None:
        self.done.append("resume")


async def answering(scope: Any, receive: Any, send: Any) -> None:
    """Read the body whole and answer."""
    while (message := await receive()).get("more_body"):
        pass
    if message["type"] == "http.request":
        await send({"type": "http.response.start", "status": 204, "headers": []})
        await send({"type": "http.response.body", "body": b""})


async def hanging(scope: Any, receive: Any, send: Any) -> None:
    await asyncio.sleep(3600)


class Bench:
    """One server's worth of connections, in the running event loop."""

    def __init__(self, app: Any = answering, **limits: Any) -> None:
        self.guard = Guard(Limits(**limits))
        self.config = Config(app, http=protocol_of(self.guard), ws="none", log_config=None, lifespan="off")
        self.config.load()
        self.state = ServerState()

    def connect(self) -> tuple[GuardedProtocol, Transport]:
        made: Any = self.config.http_protocol_class
        protocol = made(config=self.config, server_state=self.state, app_state={})
        transport = Transport()
        protocol.connection_made(transport)
        return protocol, transport

    async def settle(self) -> None:
        for _ in range(10):
            await asyncio.sleep(0)

    def end(self) -> None:
        for task in list(self.state.tasks):
            task.cancel()


def test_uvicorn_still_has_every_part_that_the_guard_leans_on() -> None:
    overridden = [
        name for name in vars(GuardedProtocol) if hasattr(HttpToolsProtocol, name) and "__" not in name
    ]
    assert sorted(overridden) == [
        "connection_lost",
        "connection_made",
        "data_received",
        "on_body",
        "on_headers_complete",
        "on_message_begin",
        "on_message_complete",
        "on_response_complete",
    ], "a method that the guard overrides is gone from uvicorn, or a new one has a name of the guard's"
    assert callable(HttpToolsProtocol.send_400_response)
    parts = inspect.signature(RequestResponseCycle.__init__).parameters
    assert {"keep_alive", "on_response"} <= set(parts)


def test_a_connection_has_the_attributes_and_states_that_the_guard_reads() -> None:
    async def check() -> None:
        bench = Bench()
        protocol, transport = bench.connect()
        assert protocol.transport is transport
        assert protocol.cycle is None
        assert protocol.headers is None
        assert protocol.scope is None
        protocol.data_received(REQUEST[:-1])
        assert protocol.url == b"/"
        assert protocol.cycle.keep_alive is True
        assert protocol.cycle.response_started is False
        assert protocol.cycle.response_complete is False
        assert protocol.cycle.scope is protocol.scope
        assert protocol.cycle.scope["archiver.connection"] is protocol
        assert (b"content-length", b"2") in protocol.scope["headers"]
        protocol.data_received(REQUEST[-1:])
        await bench.settle()
        assert protocol.cycle.response_complete is True
        assert transport.written.startswith(b"HTTP/1.1 204 ")
        assert bench.state.total_requests == 1
        assert protocol.timeout_keep_alive_task is None, "uvicorn set a timer: the guard does that"
        protocol.connection_lost(None)
        assert protocol.parser is None
        assert bench.guard.connections == set()
        assert bench.state.connections == set()

    asyncio.run(check())


def test_the_parser_says_where_an_upgrade_begins_and_takes_the_body_for_it() -> None:
    """If this is red because the body is parsed now, `_go_on_without_upgrade` is not needed any more."""
    parser = httptools.HttpRequestParser(type("Nobody", (), {})())
    parser.feed_data(REQUEST)
    for name in ("on_message_begin", "on_headers_complete", "on_message_complete"):
        assert hasattr(HttpToolsProtocol, name)

    class Callbacks:
        def __getattr__(self, name: str) -> Any:
            if not name.startswith("on_"):
                raise AttributeError(name)
            return lambda *_: None

    parser = httptools.HttpRequestParser(Callbacks())
    with pytest.raises(httptools.HttpParserUpgrade) as found:
        parser.feed_data(UPGRADE)
    assert UPGRADE[found.value.args[0] :] == b"{}"


def test_a_request_that_asks_for_another_protocol_is_answered_in_this_one() -> None:
    async def check() -> None:
        for cut in range(1, len(UPGRADE)):
            bench = Bench()
            protocol, transport = bench.connect()
            protocol.data_received(UPGRADE[:cut])
            protocol.data_received(UPGRADE[cut:])
            await bench.settle()
            assert transport.written.startswith(b"HTTP/1.1 204 "), cut
            assert b"upgrade" not in dict(protocol.scope["headers"])

    asyncio.run(check())


@pytest.mark.parametrize("ending", [None, ConnectionResetError()])
def test_a_connection_that_is_gone_is_forgotten_without_the_garbage_collector(
    ending: Exception | None,
) -> None:
    async def check() -> None:
        bench = Bench()
        for beginning in (b"", REQUEST[:20], REQUEST[:-1], REQUEST, UPGRADE, b"nonsense\r\n\r\n"):
            protocol, transport = bench.connect()
            protocol.data_received(beginning)
            await bench.settle()
            protocol.connection_lost(ending)
            await bench.settle()
            gone = weakref.ref(protocol)
            del protocol, transport
            assert gone() is None, beginning

    gc.collect()
    gc.disable()
    try:
        asyncio.run(check())
    finally:
        gc.enable()


def in_phase(bench: Bench, content: bytes) -> tuple[GuardedProtocol, Transport]:
    protocol, transport = bench.connect()
    protocol.data_received(content)
    return protocol, transport


@pytest.mark.parametrize(
    ("content", "app", "allowed"),
    [
        (b"", answering, 10),
        (b"POST ", answering, 10),
        (REQUEST, answering, 75),
        (REQUEST, hanging, 60),
        (REQUEST[:-1], answering, 15),
        (REQUEST.replace(b"2\r", b"327680\r") + b"x" * (327_678 - 4), answering, 35),
        (REQUEST.replace(b"2\r", b"33554432\r") + b"x" * (16 << 20), answering, 300),
        (REQUEST.replace(b"HTTP/1.1", b"HTTP/1.0"), answering, 10),
    ],
    ids=["nothing", "head", "idle", "answer", "body", "320 KiB of it", "16 MiB of it", "closing"],
)
def test_each_phase_has_its_time(content: bytes, app: Any, allowed: int) -> None:
    async def check() -> None:
        bench = Bench(app)
        protocol, _ = in_phase(bench, b"")
        for start in range(0, len(content), 200_000):
            protocol.data_received(content[start : start + 200_000])
            await bench.settle()
        now = time.monotonic()
        assert not protocol.is_overdue(now + allowed - 3)
        assert protocol.is_overdue(now + allowed + 3)
        bench.end()

    asyncio.run(check())


def test_a_sweep_drops_what_is_overdue_even_if_it_is_closing_already() -> None:
    """A TLS connection, or one whose answer nobody reads, closes only when the other side agrees."""

    async def check() -> None:
        bench = Bench(head_seconds=0.0)
        _, transport = in_phase(bench, REQUEST.replace(b"HTTP/1.1", b"HTTP/1.0"))
        await bench.settle()
        assert transport.done[-1] == "close"
        bench.guard.sweep()
        assert transport.done[-1] == "abort"
        assert bench.guard.turned_away == 1

    asyncio.run(check())


async def storing(scope: Any, receive: Any, send: Any) -> None:
    """As a door whose disk takes for ever."""
    scope["archiver.connection"].delivers()
    await asyncio.sleep(3600)


def test_who_waits_longest_goes_first_strangers_before_senders_and_nobody_whose_delivery_is_stored() -> None:
    async def check() -> None:
        bench = Bench(storing, max_connections=4)
        known, _ = in_phase(bench, b"")
        known.app = answering
        known.data_received(REQUEST)
        await bench.settle()
        known.delivers()
        bench.guard.waits(known)
        body, _ = in_phase(bench, b"")
        body.app = answering
        body.data_received(REQUEST[:-1])
        asking, _ = in_phase(bench, b"")
        asking.app = hanging
        asking.data_received(REQUEST)
        stored, _ = in_phase(bench, REQUEST)
        await bench.settle()
        order = {"known": known, "body": body, "asking": asking, "stored": stored}

        def dropped() -> list[str]:
            return [name for name, one in order.items() if one.transport.is_closing()]

        newcomers = [bench.connect() for _ in range(2)]
        assert dropped() == ["body", "asking"]
        for protocol, _ in newcomers:
            protocol.data_received(REQUEST)
        await bench.settle()
        last, _ = bench.connect()
        assert dropped() == ["known", "body", "asking"]
        last.data_received(REQUEST)
        await bench.settle()
        _, transport = bench.connect()
        assert transport.done == ["abort"], "all the others are being stored"
        assert dropped() == ["known", "body", "asking"]
        bench.end()

    asyncio.run(check())


def test_a_sender_between_two_deliveries_is_not_closed_for_a_stranger_while_it_sends() -> None:
    async def check() -> None:
        bench = Bench(max_connections=1)
        known, _ = in_phase(bench, REQUEST)
        await bench.settle()
        known.is_known = True
        known.data_received(REQUEST[:-1])
        _, transport = bench.connect()
        assert transport.done == ["abort"]
        known.data_received(REQUEST[-1:])
        await bench.settle()
        assert not known.transport.is_closing()

    asyncio.run(check())


class Sender:
    is_known = False

    def __init__(self, room: LargeBodies) -> None:
        self.share = Share(self)
        self.room = room

    def drop(self) -> None:
        self.room.give_back(self.share)


def test_the_first_reader_always_gets_its_room_so_that_one_comes_to_its_end() -> None:
    async def check() -> None:
        room = LargeBodies(LARGEST_BODY_BYTES * 3 // 2)
        first, second, third = (Sender(room) for _ in range(3))
        await room.take(first.share, 1)
        await room.take(second.share, LARGEST_BODY_BYTES // 2)
        waiting = asyncio.create_task(room.take(third.share, 1))
        more = asyncio.create_task(room.take(second.share, 1))
        await asyncio.sleep(0.01)
        assert not waiting.done()
        assert not more.done()
        await asyncio.wait_for(room.take(first.share, LARGEST_BODY_BYTES - 1), 0.1)
        room.give_back(first.share)
        await asyncio.wait_for(asyncio.gather(waiting, more), 1)

    asyncio.run(check())


def test_whoever_finds_no_room_for_long_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    async def check() -> None:
        room = LargeBodies(0)
        first, second = Sender(room), Sender(room)
        first.is_known = True
        await room.take(first.share, LARGEST_BODY_BYTES)
        with pytest.raises(RefusedError, match="too many large bodies"):
            await room.take(second.share, 1)
        room.give_back(second.share)
        room.give_back(second.share)
        room.give_back(first.share)
        await room.take(second.share, LARGEST_BODY_BYTES)

    monkeypatch.setattr("archiver.receiver.room.PATIENCE_SECONDS", 0.1)
    monkeypatch.setattr("archiver.receiver.room._LOOK_AGAIN_SECONDS", 0.01)
    asyncio.run(check())


def test_when_there_is_no_room_the_slowest_stranger_is_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    async def check() -> None:
        room = LargeBodies(LARGEST_BODY_BYTES * 2)
        quick, slow, known, new = (Sender(room) for _ in range(4))
        known.is_known = True
        for sender, count in ((known, 1), (quick, 5000), (slow, 4000)):
            await room.take(sender.share, count)
        await room.take(new.share, LARGEST_BODY_BYTES - 5000)
        assert slow.share.taken == 0
        assert (known.share.taken, quick.share.taken) == (1, 5000)

    monkeypatch.setattr("archiver.receiver.room._LOOK_AGAIN_SECONDS", 0.01)
    monkeypatch.setattr("archiver.receiver.room._TIME_TO_SHOW_SECONDS", 0.0)
    asyncio.run(check())
