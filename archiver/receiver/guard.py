"""What a connection may cost: bounds on time, header bytes and number that the HTTP server does not set.

Whoever can reach the port can open connections and send slowly, endlessly or nothing at
all. Here a connection is closed, without an answer, when

    the head of a request is not there within ten seconds, longer than 64 KiB, or has over 128 headers;
    a body comes too slowly: 15 s and a second for each 16 KiB are what it may take;
    lines of chunks or trailers go on without bringing any body;
    a body goes on for ten seconds, or 64 MiB, after its request was refused;
    a second request is sent before the first is answered;
    nobody takes the answer for a minute, or nothing comes after one for 75 seconds;
    there are too many: the one that has waited longest goes, strangers first.

A *stranger* has not shown a good signature yet, and may go at any moment, whatever it asked
for; who has goes only while it is idle, and when no stranger is left.
"""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict
from dataclasses import dataclass
from enum import Enum
from functools import partial
from typing import Any, Final

import httptools
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

_LARGEST_READ_BYTES: Final = 256 << 10


@dataclass(frozen=True, slots=True)
class Limits:
    """See the module's docstring.

    Attributes:
        idle_seconds: After an answer; below that of a proxy in front, the proxy meets closed connections.
        large_bodies_bytes: Room for all bodies that are large (`receiver/room.py`).
        handshakes, handshake_seconds: Of TLS: under way at once, and time for each.
    """

    max_connections: int = 1024
    head_seconds: float = 10.0
    head_bytes: int = 64 << 10
    most_headers: int = 128
    idle_seconds: float = 75.0
    body_seconds: float = 15.0
    body_bytes_per_second: int = 16 << 10
    longest_seconds: float = 300.0
    answer_seconds: float = 60.0
    discarded_bytes: int = 64 << 20
    large_bodies_bytes: int = 128 << 20
    handshakes: int = 256
    handshake_seconds: float = 10.0


class Guard:
    """Watches over all connections of one server.

    Attributes:
        turned_away: How many connections it has closed so far.
    """

    def __init__(self, limits: Limits) -> None:
        self.limits = limits
        self.turned_away = 0
        self.is_ending = False
        self.connections: set[GuardedProtocol] = set()
        # Those that may be closed for a new one, in the order in which they began to wait for a request.
        self._strangers: OrderedDict[GuardedProtocol, None] = OrderedDict()
        self._known: OrderedDict[GuardedProtocol, None] = OrderedDict()

    def came(self, connection: GuardedProtocol) -> bool:
        """Take a new connection in; false if there is no room, and none that could be closed for it."""
        if len(self.connections) >= self.limits.max_connections and not self._make_room():
            self.turned_away += 1
            return False
        self.connections.add(connection)
        self.waits(connection)
        return True

    def went(self, connection: GuardedProtocol) -> None:
        """A connection is gone."""
        self.connections.discard(connection)
        self.works(connection)

    def waits(self, connection: GuardedProtocol) -> None:
        """A connection may be closed for a new one from now on."""
        if connection in self.connections:
            waiting = self._known if connection.is_known else self._strangers
            waiting[connection] = None

    def works(self, connection: GuardedProtocol) -> None:
        """A connection may not be closed for a new one, or is gone."""
        self._known.pop(connection, None)
        self._strangers.pop(connection, None)

    def _make_room(self) -> bool:
        for waiting in (self._strangers, self._known):
            if waiting:
                connection, _ = waiting.popitem(last=False)
                self.turned_away += 1
                connection.drop()
                self.connections.discard(connection)
                return True
        return False

    def end(self) -> None:
        """From now on each connection's next answer, or the one that is under way, is its last."""
        self.is_ending = True
        for connection in self.connections:
            connection.answers_its_last()

    def sweep(self) -> None:
        """Close what takes too long. To be called every second or so."""
        now = time.monotonic()
        for connection in [one for one in self.connections if one.is_overdue(now)]:
            self.turned_away += 1
            connection.drop()


class _Phase(Enum):
    HEAD = "a request's head is awaited, or has begun"
    BODY = "its body is awaited"
    ANSWER = "it is complete, its answer is not"
    REST = "it is answered, its body goes on"
    IDLE = "it is answered, and nothing has come since"
    CLOSING = "closed, once what was written is sent"


# As globals: looking a member up in its class takes ten times as long.
_HEAD, _BODY, _ANSWER, _REST, _IDLE, _CLOSING = _Phase


class GuardedProtocol(HttpToolsProtocol):
    """uvicorn's HTTP/1.1 protocol with the guard's bounds, without pipelining, upgrades and timers.

    Attributes:
        is_known: Whether a delivery with a good signature came this way.
    """

    def __init__(self, guard: Guard, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self._guard = guard
        self._limits = guard.limits
        self.is_known = False
        self._phase = _HEAD
        self._since = time.monotonic()
        self._body_bytes = 0
        self._without_body = 0
        self._closes_after_body = False

    # Of asyncio

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._since = time.monotonic()
        if not self._guard.came(self):
            self.drop()

    def connection_lost(self, exc: Exception | None) -> None:
        self._guard.went(self)
        super().connection_lost(exc)
        # Else the two would keep each other alive until the garbage collector comes by.
        if self.scope is not None:
            self.scope.pop("archiver.connection", None)  # type: ignore[typeddict-item]

    def data_received(self, data: bytes) -> None:
        if self._phase is _IDLE:
            self._begins(_HEAD)
        self._without_body += len(data)
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserUpgrade as upgrade:
            self._go_on_without_upgrade(data[upgrade.args[0] :])
        except httptools.HttpParserError:
            self._refuse()
        # While a body is awaited one read may bring much of it; while a head is, it may not be long.
        spare = 0 if self._phase is _HEAD else _LARGEST_READ_BYTES
        if self._without_body > self._limits.head_bytes + spare or (
            self.headers is not None and len(self.headers) > self._limits.most_headers
        ):
            self.drop()

    # Of the guard and the doors

    def delivers(self) -> None:
        """The signature of what is being answered is good: this is no stranger any more."""
        self.is_known = True
        self._guard.works(self)

    def drop(self) -> None:
        """Close at once, without an answer."""
        if self.transport is not None:
            self.transport.abort()

    def answers_its_last(self) -> None:
        """Close after the answer that is under way, if one is."""
        if self.cycle is not None and not self.cycle.response_complete:
            self.cycle.keep_alive = False

    def answers_early(self) -> None:
        """The answer that is sent next does not wait for the rest of the body.

        A sender that does not read before it has sent all would never see the answer if the
        connection was closed with it: what is left is read, within bounds, and thrown away.
        """
        if self._phase is _BODY and not self.cycle.keep_alive:
            self.cycle.keep_alive = self._closes_after_body = True

    def is_overdue(self, now: float) -> bool:
        """Whether it takes longer than the limits allow."""
        limits = self._limits
        took = now - self._since
        if self._phase is _BODY:
            allowed = limits.body_seconds + self._body_bytes / limits.body_bytes_per_second
            return took > min(allowed, limits.longest_seconds)
        if self._phase is _ANSWER:
            return took > limits.answer_seconds
        if self._phase is _IDLE:
            return took > limits.idle_seconds
        return took > limits.head_seconds

    # Of the parser, and of uvicorn's cycle of request and answer

    def on_message_begin(self) -> None:
        if self._phase is _ANSWER:
            # The error ends the parsing of what was read.
            self.drop()
            raise ValueError("a second request before the first is answered")
        if self._phase is _IDLE:
            self._begins(_HEAD)
        super().on_message_begin()
        self.scope["archiver.connection"] = self  # type: ignore[typeddict-unknown-key]

    def on_headers_complete(self) -> None:
        if self.parser.should_upgrade():
            return
        if len(self.headers) > self._limits.most_headers:
            self.drop()
            raise ValueError("too many headers")
        super().on_headers_complete()  # fails, with no cycle to answer in, if the target is no URL
        self._begins(_BODY)
        self._body_bytes = 0
        # What follows are trailers: they are no headers of this request, and nobody asks for them.
        self.headers = []
        if self.is_known:
            self._guard.works(self)
        if self._guard.is_ending:
            self.answers_its_last()

    def on_body(self, body: bytes) -> None:
        self._without_body = 0
        self._body_bytes += len(body)
        if self._phase is _REST and self._body_bytes > self._limits.discarded_bytes:
            self.drop()
        super().on_body(body)

    def on_message_complete(self) -> None:
        if self._phase is _HEAD:  # of an upgrade
            return
        self._without_body = 0
        super().on_message_complete()
        if self._phase is _BODY:
            self._begins(_ANSWER)
        elif self._closes_after_body:
            self._close()
        else:
            self._begins(_IDLE)

    def on_response_complete(self) -> None:
        # In place of uvicorn's: no pipeline to go on with, and no timer, because the guard sweeps.
        self.server_state.total_requests += 1
        if self.transport.is_closing():
            self._begins(_CLOSING)
        else:
            self._begins(_REST if self._phase is _BODY else _IDLE)
            self.flow.resume_reading()
        self._guard.waits(self)

    def _begins(self, phase: _Phase) -> None:
        self._phase = phase
        self._since = time.monotonic()

    def _close(self) -> None:
        self.transport.close()
        self._begins(_CLOSING)
        self._guard.waits(self)

    def _refuse(self) -> None:
        """Answer what is no HTTP, unless an answer is under way: this one would get into it."""
        if not self.transport.is_closing():
            if self._phase is _HEAD or (self._phase is _BODY and not self.cycle.response_started):
                self.send_400_response("this is no HTTP/1.1\n")
            self._close()

    def _go_on_without_upgrade(self, rest: bytes) -> None:
        """Parse a request again as if it had not asked for another protocol, as HTTP allows.

        Some clients ask for HTTP/2 in this way with all that they send, and the parser takes
        what follows the head for the other protocol, and not for a body.
        """
        method: bytes = self.parser.get_method()
        if method == b"CONNECT":
            self._refuse()
            return
        lines = [b"%s %s HTTP/%s" % (method, self.url, self.parser.get_http_version().encode())]
        lines += [b"%s: %s" % header for header in self.headers if header[0] != b"upgrade"]
        self.parser = httptools.HttpRequestParser(self)
        try:
            self.parser.feed_data(b"\r\n".join(lines) + b"\r\n\r\n" + rest)
        except httptools.HttpParserError:
            self._refuse()


def protocol_of(guard: Guard) -> Any:
    """Return what uvicorn takes as its `http` protocol class."""
    return partial(GuardedProtocol, guard)
