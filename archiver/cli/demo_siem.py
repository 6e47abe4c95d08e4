"""The demo's stand-in for a SIEM: as much of Elasticsearch's bulk API as a demo needs, on this machine."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@dataclass(slots=True)
class Siem:
    """What it received.

    Attributes:
        url: Where it listens.
        documents: By `_id`: each is taken once, a repeat is answered 409.
        repeats: Documents that it had already.
    """

    url: str = ""
    documents: dict[str, dict[str, Any]] = field(default_factory=dict)
    repeats: int = 0

    def take(self, body: bytes) -> bytes:
        """Take a bulk request, and return its answer."""
        lines = body.splitlines()
        items = []
        for action, document in zip(lines[::2], lines[1::2], strict=True):
            name = json.loads(action)["create"]["_id"]
            is_new = name not in self.documents
            if is_new:
                self.documents[name] = json.loads(document)
            self.repeats += not is_new
            answer: dict[str, Any] = {"_id": name, "status": 201 if is_new else 409}
            if not is_new:
                answer["error"] = {"type": "version_conflict_engine_exception", "reason": "is there"}
            items.append({"create": answer})
        return json.dumps({"errors": any("error" in one["create"] for one in items), "items": items}).encode()


@contextmanager
def siem() -> Iterator[Siem]:
    """Listen on a free port of this machine as long as the block lasts."""
    found = Siem()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            answer = found.take(self.rfile.read(int(self.headers["Content-Length"])))
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer)

        def log_message(self, *_: object) -> None:
            """A demo shows what archiver says."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    found.url = f"http://127.0.0.1:{server.server_address[1]}"
    try:
        yield found
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
