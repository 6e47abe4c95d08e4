"""A stand-in for Datadog's log intake, written from its published API.

    POST /api/v2/logs   [{"message": ..., "ddsource": ..., "ddtags": ..., ...}, ...]

Source: "Send logs" of Datadog's API reference (v2): its limits, its status codes, and that a log
above 1 MB is taken and cut.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any

from tests.services.standin import Asked, Reply, StandIn

MOST_EVENTS = 1000
MOST_BYTES = 5_000_000
MOST_EVENT_BYTES = 1_000_000


@dataclass
class DatadogStandIn(StandIn):
    """Keeps the logs as they came.

    Attributes:
        key: Of the API.
        logs: What was taken, in order.
        cut: How many of them were too long, and were cut, which no client is told.
    """

    key: str = "0123456789abcdef0123456789abcdef"
    logs: list[dict[str, Any]] = field(default_factory=list)
    cut: int = 0

    def answer(self, asked: Asked) -> Reply:
        refusal = self._refusal(asked)
        if refusal is not None:
            return refusal
        try:
            logs = json.loads(asked.body)
        except ValueError:
            return _failed(400, "Bad Request", "Invalid JSON")
        logs = logs if isinstance(logs, list) else [logs]
        if len(logs) > MOST_EVENTS or not all(isinstance(log, dict) for log in logs):
            return _failed(400, "Bad Request", "Invalid payload")
        for log in logs:
            text = json.dumps(log, ensure_ascii=False, separators=(",", ":"))
            if len(text.encode(errors="replace")) > MOST_EVENT_BYTES:
                log["message"] = log["message"][: MOST_EVENT_BYTES // 2]
                self.cut += 1
        self.logs += logs
        return Reply(202, b"{}")

    def _refusal(self, asked: Asked) -> Reply | None:
        """What is answered before anybody looks into the body."""
        told = asked.headers.get("dd-api-key")
        if asked.path != "/api/v2/logs":
            return _failed(404, "Not Found", "Not found")
        if told is None:
            return _failed(401, "Unauthorized", "Missing API key")
        if told != self.key:
            return _failed(403, "Forbidden", "API key is invalid")
        if asked.headers.get("content-type") != "application/json":
            return _failed(415, "Unsupported Media Type", "Content-Type is not supported")
        if len(asked.body) > MOST_BYTES:
            return _failed(413, "Request Entity Too Large", "Payload too large")
        return None


def _failed(status: int, title: str, detail: str) -> Reply:
    errors = [{"status": str(status), "title": title, "detail": detail}]
    return Reply(status, json.dumps({"errors": errors}).encode())
