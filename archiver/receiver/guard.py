"""What a connection may cost: bounds on time, header bytes and number that the HTTP server does not set.

Whoever can reach the port can open connections and send slowly, endlessly or nothing at
all. Here a connection is closed, without an answer, when

    the head of a request is not there within ten seconds, or longer than 64 KiB;
    a body comes too slowly: 15 s and a second for each 16 KiB are what it may take;
    lines of chunks or trailers go on without bringing any body;
    a body goes on for ten seconds, or 64 MiB, after its request was refused;
    a second request is sent before the first is answered;
    there are too many: the one that has been idle longest goes, strangers first.
"""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

_LARGEST_READ_BYTES: Final = 256 << 10


@dataclass(frozen=True, slots=True)
class Limits:
    """See the module's docstring; `idle_seconds` is for connections that have delivered before."""

    max_connections: int = 1024
    head_seconds: float = 10.0
    head_bytes: int = 64 << 10
    idle_seconds: float = 75.0
    body_seconds: float = 15.0
    body_bytes_per_second: int = 16 << 10
    longest_seconds: float = 300.0
    discarded_bytes: int = 64 << 20


class Guard:
    """Watches over all connections of one server."""

    def __init__(self, limits: Limits) -> None:
        self.limits = limits
        self.turned_away = 0
        self.is_ending = False
        self.connections: set[GuardedProtocol] = set()
        # In the order in which they began to wait for a request.
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
        self.connections.discard(connection)
        self.works(connection)

    def waits(self, connection: GuardedProtocol) -> None:
        """A connection has no complete head of a request."""
        waiting = self._known if connection.is_known else self._strangers
        waiting[connection] = None

    def works(self, connection: GuardedProtocol) -> None:
        """A connection has a request to be answered, or is gone."""
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


class GuardedProtocol(HttpToolsProtocol):
    """uvicorn's HTTP/1.1 protocol with the guard's bounds.

    Attributes:
        is_known: Whether a delivery with a good signature came this way.
    """

    def __init__(self, guard: Guard, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self._guard = guard
        self._limits = guard.limits
        self.is_known = False
        self._waits_since = time.monotonic()
        self._works_since: float | None = None
        self._body_bytes = 0
        self._body_is_complete = False
        self._without_body = 0

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        if not self._guard.came(self):
            self.drop()

    def connection_lost(self, exc: Exception | None) -> None:
        self._guard.went(self)
        super().connection_lost(exc)

    def drop(self) -> None:
        """Close at once, without an answer."""
        if self.transport is not None and not self.transport.is_closing():
            self.transport.abort()

    def answers_its_last(self) -> None:
        """Close after the answer that is under way, if one is."""
        if self.cycle is not None and not self.cycle.response_complete:
            self.cycle.keep_alive = False

    def is_overdue(self, now: float) -> bool:
        if self._works_since is None:
            # uvicorn itself closes a connection that is idle after an answer; this one never had a request.
            return self._has_begun_a_head() and now - self._waits_since > self._limits.head_seconds
        if self._body_is_complete:
            return False
        took = now - self._works_since
        allowed = self._limits.body_seconds + self._body_bytes / self._limits.body_bytes_per_second
        return took > min(allowed, self._limits.longest_seconds)

    def _has_begun_a_head(self) -> bool:
        return self.timeout_keep_alive_task is None

    def data_received(self, data: bytes) -> None:
        if self._works_since is None and self._without_body == 0 and self.timeout_keep_alive_task is not None:
            self._waits_since = time.monotonic()
        self._without_body += len(data)
        super().data_received(data)
        # While a body is awaited one read may bring much of it; while a head is, it may not be long.
        spare = 0 if self._works_since is None else _LARGEST_READ_BYTES
        if self._without_body > self._limits.head_bytes + spare:
            self.drop()

    def on_message_begin(self) -> None:
        if self.cycle is not None and not self.cycle.response_complete:
            self.drop()
            raise ValueError(
                "a second request before the first is answered"
            )  # ends the parsing of what was read
        super().on_message_begin()
        self.scope["archiver.connection"] = self  # type: ignore[typeddict-unknown-key]

    def on_headers_complete(self) -> None:
        self._guard.works(self)
        self._works_since = time.monotonic()
        self._body_bytes = 0
        self._body_is_complete = False
        super().on_headers_complete()
        if self._guard.is_ending:
            self.answers_its_last()

    def on_body(self, body: bytes) -> None:
        self._without_body = 0
        self._body_bytes += len(body)
        if self.cycle.response_complete and self._body_bytes > self._limits.discarded_bytes:
            self.drop()
        super().on_body(body)

    def on_message_complete(self) -> None:
        self._without_body = 0
        self._body_is_complete = True
        super().on_message_complete()

    def on_response_complete(self) -> None:
        self._works_since = None
        self._waits_since = time.monotonic()
        super().on_response_complete()
        if not self.transport.is_closing():
            self._guard.waits(self)


def protocol_of(guard: Guard) -> Any:
    """Return what uvicorn takes as its `http` protocol class."""
    return partial(GuardedProtocol, guard)
