"""A stand-in for a receiver: a real HTTP server of the test, which answers as it is told."""

from __future__ import annotations

import socket
import ssl
import struct
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from archiver.signature import HEADER
from tests.services.certificates import Certificate

RESET = "reset"
CUT = "cut"


@dataclass(frozen=True)
class Answer:
    """What one request gets, once its body is read.

    `status` may be RESET, the connection is torn down, or CUT, it ends inside an answer.
    """

    status: int | str = 204
    headers: tuple[tuple[str, str], ...] = ()
    content: bytes = b""
    after_seconds: float = 0.0


@dataclass(frozen=True)
class Request:
    path: str
    body: bytes
    signature: str
    headers: dict[str, str]
    at: float
    connection: int


@dataclass
class StandIn:
    """Notes what comes, in order.

    Attributes:
        answer: Asked for each request's answer, with its number from 0; one at a time.
    """

    answer: Callable[[int, Request], Answer]
    url: str = ""
    requests: list[Request] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)

    @property
    def bodies(self) -> list[bytes]:
        return [request.body for request in self.requests]


def scripted(*answers: Answer) -> Callable[[int, Request], Answer]:
    """Give the answers one after another, the last one for ever."""
    return lambda number, _: answers[min(number, len(answers) - 1)]


def statuses(*numbers: int) -> Callable[[int, Request], Answer]:
    return scripted(*(Answer(number) for number in numbers))


@contextmanager
def stand_in(
    answer: Callable[[int, Request], Answer] | None = None, *, certificate: Certificate | None = None
) -> Iterator[StandIn]:
    """Run a stand-in on a free port as long as the block lasts."""
    found = StandIn(answer or statuses(204))

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            request = Request(
                self.path,
                body,
                self.headers.get(HEADER, ""),
                dict(self.headers),
                time.monotonic(),
                self.client_address[1],
            )
            with found.lock:
                given = found.answer(len(found.requests), request)
                found.requests.append(request)
            time.sleep(given.after_seconds)
            if given.status == RESET:
                # No lingering: the other side gets a reset, and not an orderly end.
                self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                self.connection.close()
                self.close_connection = True
                return
            if given.status == CUT:
                self.wfile.write(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\nhalf an answer")
                self.close_connection = True
                return
            self.send_response(int(given.status))
            for name, value in given.headers:
                self.send_header(name, value)
            if given.status != 204:
                self.send_header("Content-Length", str(len(given.content)))
            self.end_headers()
            self.wfile.write(given.content)

        def log_message(self, *_: object) -> None:
            """Tests want no log."""

    class Server(ThreadingHTTPServer):
        daemon_threads = True

        def handle_error(self, *_: object) -> None:
            """A sender that went away is what some tests are about."""

    server = Server(("127.0.0.1", 0), Handler)
    scheme = "http"
    if certificate is not None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate.chain, certificate.key)
        server.socket = context.wrap_socket(server.socket, server_side=True)
        scheme = "https"
    found.url = f"{scheme}://127.0.0.1:{server.server_port}/webhook"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield found
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
