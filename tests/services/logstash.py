"""A stand-in for Logstash's http input with its json codec, written from their documentation and source.

An array becomes one event for each element; what no event can be made of becomes one event with the
whole text in `message`, tagged `_jsonparsefailure`, and is answered 200 like everything else.
"""

from __future__ import annotations

import base64
import json
from dataclasses import dataclass, field
from typing import Any

from tests.services.standin import Asked, Reply, StandIn


@dataclass
class LogstashStandIn(StandIn):
    """An http input.

    Attributes:
        code: Of what was taken: 200, 201, 202 or 204.
        user, password: What it wants, or nothing.
        most_bytes: `max_content_length`.
        events: What is in its queue, in order.
    """

    code: int = 200
    user: str = ""
    password: str = ""
    most_bytes: int = 100 << 20
    events: list[dict[str, Any]] = field(default_factory=list)

    def answer(self, asked: Asked) -> Reply:
        if self.user:
            told = base64.b64encode(f"{self.user}:{self.password}".encode()).decode()
            if asked.headers.get("authorization") != f"Basic {told}":
                return Reply(401, b"", {"WWW-Authenticate": 'Basic realm="Logstash HTTP Input"'})
        if len(asked.body) > self.most_bytes:
            return Reply(413, b"")
        is_json = asked.headers.get("content-type", "").partition(";")[0] == "application/json"
        self.events += _decoded(asked.body.decode(errors="replace"), is_json=is_json)
        if self.code == 204:
            return Reply(204, b"")
        return Reply(self.code, b"ok", {"Content-Type": "text/plain"})


def _decoded(text: str, *, is_json: bool) -> list[dict[str, Any]]:
    if not is_json:
        return [{"message": text}]
    if not text.strip():
        return []
    try:
        tree = json.loads(text)
        found = tree if isinstance(tree, list) else [tree]
        for one in found:
            _fields(one)
            if not isinstance(one.get("@metadata", {}), dict):
                raise ValueError("no map")
    except (ValueError, AttributeError):
        return [{"message": text, "tags": ["_jsonparsefailure"]}]
    return found


def _fields(value: Any) -> None:
    """Refuse names that are no field reference."""
    if isinstance(value, dict):
        for name, member in value.items():
            if "[" in name or "]" in name:
                raise ValueError(f"Invalid FieldReference: `{name}`")
            _fields(member)
    elif isinstance(value, list):
        for member in value:
            _fields(member)
