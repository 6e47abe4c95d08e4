"""A stand-in for any URL that takes JSON: one event a request, an array of them, or one a line."""

from __future__ import annotations

import base64
import json
from dataclasses import dataclass, field

from archiver.signature import HEADER, Secrets
from tests.services.standin import Asked, Reply, StandIn


@dataclass
class HookStandIn(StandIn):
    """A URL.

    Attributes:
        token, user, password: What it wants, or nothing.
        secrets: Whose signature it wants, or none.
        most_bytes: Of a body; above it the answer is 413.
        refuses: A text in an event for whose sake the whole request is answered 422.
        bodies: What stood for each event, in order: whole bodies, elements, lines.
    """

    token: str = ""
    user: str = ""
    password: str = ""
    secrets: Secrets | None = None
    most_bytes: int = 1 << 30
    refuses: bytes | None = None
    bodies: list[bytes] = field(default_factory=list)

    def answer(self, asked: Asked) -> Reply:
        if asked.headers.get("authorization", "") != self._wanted():
            return Reply(401, b'{"error": "who is it?"}')
        if self.secrets is not None:
            given = asked.headers.get(HEADER.lower(), "").encode()
            if not self.secrets.signs(given, asked.body):
                return Reply(401, b'{"error": "signature"}')
        if len(asked.body) > self.most_bytes:
            return Reply(413, b"too large")
        if self.refuses is not None and self.refuses in asked.body:
            return Reply(422, b'{"error": "an event will not do"}')
        if asked.headers.get("content-type") == "application/x-ndjson":
            assert asked.body.endswith(b"\n")
            self.bodies += asked.body.removesuffix(b"\n").split(b"\n")
        elif asked.body.startswith(b"["):
            self.bodies += [json.dumps(one).encode() for one in json.loads(asked.body)]
        else:
            self.bodies.append(asked.body)
        return Reply(204, b"")

    def _wanted(self) -> str:
        if self.token:
            return f"Bearer {self.token}"
        if self.user:
            return "Basic " + base64.b64encode(f"{self.user}:{self.password}".encode()).decode()
        return ""
