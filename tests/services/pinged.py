"""A stand-in for a dead man's switch: a real HTTP server of the test, which notes who asks."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

DRIPS = -1


@dataclass
class Switch:
    """Attributes: `statuses` are answered in turn, the last one for ever; `asked` are the paths."""

    statuses: Sequence[int] = (200,)
    headers: tuple[tuple[str, str], ...] = ()
    base: str = ""
    asked: list[str] = field(default_factory=list)
    agents: list[str] = field(default_factory=list)


@contextmanager
def switch(*statuses: int, headers: tuple[tuple[str, str], ...] = ()) -> Iterator[Switch]:
    """Run one on a free port as long as the block lasts; the status DRIPS is an answer that never ends."""
    found = Switch(statuses or (200,), headers)
    is_over = threading.Event()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            status = found.statuses[min(len(found.asked), len(found.statuses) - 1)]
            found.asked.append(self.path)
            found.agents.append(self.headers["User-Agent"])
            if status == DRIPS:
                self.drip()
                return
            self.send_response(status)
            for name, value in found.headers:
                self.send_header(name, value)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def drip(self) -> None:
            deadline = time.monotonic() + 60
            try:
                self.wfile.write(b"HTTP/1.1 200 OK\r\nX-Slow: ")
                while time.monotonic() < deadline and not is_over.wait(0.02):
                    self.wfile.write(b"x")
            except OSError:  # whoever asked has given up
                pass
            self.close_connection = True

        def log_message(self, *_: object) -> None:
            """Tests want no log."""

    class Server(ThreadingHTTPServer):
        daemon_threads = True

    server = Server(("127.0.0.1", 0), Handler)
    found.base = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield found
    finally:
        is_over.set()
        server.shutdown()
        server.server_close()
        thread.join()
