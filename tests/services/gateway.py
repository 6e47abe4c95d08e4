"""A stub that stands between a client and a real S3 server, counts requests and spoils some.

    with Gateway.before(endpoint) as gateway:
        gateway.plan = ["503", "503"]      # the next two requests; those behind them pass
        ...
        gateway.requests                    # ["PUT", "PUT", "PUT"]

What a request can meet:

- a status such as `503`, or one and a code as in `400 ExpiredToken`: it is answered so
  and not passed on;
- `reset`: the connection is closed without an answer, nothing passed on;
- `lost reply`: it is passed on, and the connection is closed without an answer;
- `cut`: it is passed on, and half of the answer's body comes back;
- `slow`: it is passed on, and nothing is answered for as long as the stub lives, at most 5 s;
- `pass`: nothing of the sort.
"""

from __future__ import annotations

import http.client
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import urlsplit

_CODES = {
    "503": "SlowDown",
    "409": "ConditionalRequestConflict",
    "500": "InternalError",
    "403": "AccessDenied",
}
_HOP_BY_HOP = {"connection", "keep-alive", "transfer-encoding", "content-length", "expect"}


class Gateway(ThreadingHTTPServer):
    daemon_threads = True
    # Connections that tests break on purpose are no news.
    handle_error = staticmethod(lambda request, client_address: None)  # type: ignore[assignment]

    def __init__(self, upstream: str) -> None:
        super().__init__(("127.0.0.1", 0), _Passing)
        self.upstream = urlsplit(upstream).netloc
        self.endpoint = f"http://127.0.0.1:{self.server_address[1]}"
        self.plan: list[str] = []
        self.requests: list[str] = []
        self.headers: list[dict[str, str]] = []
        self.closing = threading.Event()
        self._lock = threading.Lock()

    def take(self, method: str, headers: dict[str, str]) -> str:
        """Note a request and return what it shall meet."""
        with self._lock:
            self.requests.append(method)
            self.headers.append(headers)
            return self.plan.pop(0) if self.plan else "pass"

    @classmethod
    @contextmanager
    def before(cls, upstream: str) -> Iterator[Gateway]:
        with cls(upstream) as gateway:
            thread = threading.Thread(target=gateway.serve_forever, kwargs={"poll_interval": 0.05})
            thread.start()
            try:
                yield gateway
            finally:
                gateway.closing.set()
                gateway.shutdown()
                thread.join()


class _Passing(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: Gateway

    def log_message(self, *_: Any) -> None:
        """Say nothing."""

    def _handle(self) -> None:
        content = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        fate = self.server.take(self.command, {k.lower(): v for k, v in self.headers.items()})
        status, _, code = fate.partition(" ")
        if status.isdigit():
            self._refuse(int(status), code or _CODES.get(status, "Refused"))
            return
        if fate != "reset":
            answer, body = self._pass_on(content)
        if fate == "slow":
            self.server.closing.wait(5)
        if fate in ("reset", "lost reply", "slow"):
            self.close_connection = True
            return
        self.send_response(answer.status)
        for name, value in answer.getheaders():
            if name.lower() not in _HOP_BY_HOP:
                self.send_header(name, value)
        # The answer to a HEAD tells a length and has no body.
        self.send_header("Content-Length", answer.getheader("Content-Length") or str(len(body)))
        self.end_headers()
        self.wfile.write(body[: len(body) // 2] if fate == "cut" else body)
        self.close_connection = fate == "cut"

    def _pass_on(self, content: bytes) -> tuple[http.client.HTTPResponse, bytes]:
        # The Host header stays as it came: it is part of what the client signed.
        headers = {k: v for k, v in self.headers.items() if k.lower() not in _HOP_BY_HOP}
        connection = http.client.HTTPConnection(self.server.upstream, timeout=30)
        try:
            connection.request(self.command, self.path, body=content or None, headers=headers)
            answer = connection.getresponse()
            return answer, answer.read()
        finally:
            connection.close()

    def _refuse(self, status: int, code: str) -> None:
        body = f"<Error><Code>{code}</Code><Message>from the stub</Message></Error>".encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/xml")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    do_GET = do_PUT = do_POST = do_DELETE = do_HEAD = _handle  # noqa: N815  (names of http.server)
