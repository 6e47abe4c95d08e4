"""The ground of all stand-ins for other systems' HTTP APIs: a real server, with faults by script.

A stand-in is no product: it is written from an API's published format, and answers as that says.
"""

from __future__ import annotations

import gzip
import socket
import ssl
import struct
import threading
import time
from collections import deque
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Literal, NamedTuple

from tests.services.certificates import Certificate


class Asked(NamedTuple):
    """A request as it came; `body` after decompression, `wire_bytes` its length before."""

    path: str
    query: str
    headers: Mapping[str, str]
    body: bytes
    wire_bytes: int


class Reply(NamedTuple):
    status: int
    body: bytes = b"{}"
    headers: Mapping[str, str] = {}


@dataclass
class Fault:
    """What happens to one request instead of its answer.

    Attributes:
        kind: `reply`: answer this, and take nothing. `slow`: take it, answer after `seconds`.
            `reset_before`: cut the connection, and take nothing. `reset_after`: take it, and cut the
            connection without an answer. `taken_but`: take it, and answer `reply`. `cut`: likewise, but the
            connection ends in the middle of its body.
        times: For so many requests.
    """

    kind: Literal["reply", "slow", "reset_before", "reset_after", "taken_but", "cut"]
    reply: Reply = field(default_factory=lambda: Reply(503))
    seconds: float = 0.0
    times: int = 1


@dataclass
class StandIn:
    """Override `answer`. What it took is for the subclass to keep, under `lock`.

    Attributes:
        script: Faults for the next requests, in order.
        asked: Every request, if `keeps_requests`.
        url: Where it listens, while it is `serving`.
    """

    script: deque[Fault] = field(default_factory=deque)
    keeps_requests: bool = True
    asked: list[Asked] = field(default_factory=list)
    requests: int = 0
    url: str = ""
    lock: threading.Lock = field(default_factory=threading.Lock)
    is_over: threading.Event = field(default_factory=threading.Event)

    def answer(self, asked: Asked) -> Reply:
        """Take what was asked, and return the answer; called under `lock`."""
        raise AssertionError("a stand-in answers for itself")

    def fault(self, *faults: Fault) -> None:
        """Let these happen to the next requests."""
        with self.lock:
            self.script.extend(faults)

    def _next_fault(self) -> Fault | None:
        if not self.script:
            return None
        first = self.script[0]
        first.times -= 1
        if first.times <= 0:
            self.script.popleft()
        return first

    @contextmanager
    def serving(self, certificate: Certificate | None = None, port: int = 0) -> Iterator[None]:
        """Listen on a free port of 127.0.0.1 (or `port`) as long as the block lasts."""
        server = _Server(("127.0.0.1", port), _handler_of(self))
        scheme = "http"
        if certificate is not None:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(certificate.chain, certificate.key)
            server.socket = context.wrap_socket(server.socket, server_side=True)
            scheme = "https"
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        thread.start()
        self.is_over.clear()
        self.url = f"{scheme}://127.0.0.1:{server.server_address[1]}"
        try:
            yield
        finally:
            self.is_over.set()
            server.shutdown()
            server.server_close()
            thread.join(10)


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    allow_reuse_address = True

    def handle_error(self, *_: object) -> None:
        """A client that hangs up is no news; a failed answer shows in the test."""


def _handler_of(standin: StandIn) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            wire_bytes = len(body)
            if self.headers.get("Content-Encoding") == "gzip":
                body = gzip.decompress(body)
            path, _, query = self.path.partition("?")
            asked = Asked(
                path, query, {name.lower(): value for name, value in self.headers.items()}, body, wire_bytes
            )
            with standin.lock:
                standin.requests += 1
                if standin.keeps_requests:
                    standin.asked.append(asked)
                fault = standin._next_fault()
            if fault is None:
                self._send(self._taken(asked))
            elif fault.kind == "reply":
                self._send(fault.reply)
            elif fault.kind == "slow":
                reply = self._taken(asked)
                standin.is_over.wait(fault.seconds)
                self._send(reply)
            elif fault.kind == "taken_but":
                self._taken(asked)
                self._send(fault.reply)
            elif fault.kind == "cut":
                self._taken(asked)
                self._send(fault.reply, missing=(len(fault.reply.body) + 1) // 2)
                self.close_connection = True
            else:
                if fault.kind == "reset_after":
                    self._taken(asked)
                self._reset()

        def do_GET(self) -> None:
            self.do_POST()

        def _taken(self, asked: Asked) -> Reply:
            with standin.lock:
                return standin.answer(asked)

        def _send(self, reply: Reply, missing: int = 0) -> None:
            self.send_response(reply.status)
            for name, value in reply.headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(reply.body)))
            self.end_headers()
            self.wfile.write(reply.body[: len(reply.body) - missing])

        def _reset(self) -> None:
            self.close_connection = True
            # An RST, and no orderly end.
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.connection.close()

        def log_message(self, *_: object) -> None:
            """Tests want no log."""

    return Handler


def waited_for(condition: object, seconds: float = 10.0) -> bool:
    """Whether `condition()` became true within `seconds`."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if callable(condition) and condition():
            return True
        time.sleep(0.01)
    return False
