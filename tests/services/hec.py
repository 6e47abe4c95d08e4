"""A stand-in for Splunk's HTTP Event Collector, written from its published formats. It is no Splunk."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qs

from tests.services.standin import Asked, Reply, StandIn

EVENT_PATHS = ("/services/collector", "/services/collector/event", "/services/collector/event/1.0")
ACK_PATH = "/services/collector/ack"

_GUID = re.compile(r"[0-9A-Fa-f]{8}(-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12}")
_SPACE = re.compile(r"\s*")
_MEMBERS = frozenset({"time", "host", "source", "sourcetype", "index", "event", "fields"})
_TEXTS = {
    0: (200, "Success"),
    1: (403, "Token disabled"),
    2: (401, "Token is required"),
    3: (401, "Invalid authorization"),
    4: (403, "Invalid token"),
    5: (400, "No data"),
    6: (400, "Invalid data format"),
    7: (400, "Incorrect index"),
    8: (500, "Internal server error"),
    9: (503, "Server is busy"),
    10: (400, "Data channel is missing"),
    11: (400, "Invalid data channel"),
    12: (400, "Event field is required"),
    13: (400, "Event field cannot be blank"),
    14: (400, "ACK is disabled"),
    15: (400, "Error in handling indexed fields"),
}


def told(code: int, members: Mapping[str, Any] | None = None) -> Reply:
    """What the collector answers with that code."""
    status, text = _TEXTS[code]
    return Reply(status, json.dumps({"text": text, "code": code, **(members or {})}).encode())


@dataclass
class HecStandIn(StandIn):
    """Takes events as the collector does: one after the other, up to the first that will not do.

    Attributes:
        token: The only one it knows; `is_enabled`: whether that is.
        indexes: That the token may write to; None: any.
        index_number_from: What it counts from when it names an event with an incorrect index.
        most_bytes: Of a body.
        acknowledges: Whether the token has indexer acknowledgement.
        asked_until_indexed: A confirmation is given when it was asked for so often.
        refuses: Texts; an event with one of them in it is of an invalid format.
        events: What was taken, each as it was understood.
        objects: The same, each as it was written.
    """

    token: str = "11111111-2222-3333-4444-555555555555"
    is_enabled: bool = True
    indexes: frozenset[str] | None = None
    index_number_from: int = 1
    most_bytes: int = 1_000_000
    acknowledges: bool = False
    asked_until_indexed: int = 1
    refuses: tuple[str, ...] = ()
    events: list[dict[str, Any]] = field(default_factory=list)
    objects: list[str] = field(default_factory=list)
    channels: dict[str, list[int]] = field(default_factory=dict)

    def ids(self) -> list[str]:
        """The ids of what was taken, in order, repeats too."""
        with self.lock:
            return [event["fields"]["event_id"] for event in self.events]

    def answer(self, asked: Asked) -> Reply:
        channel = asked.headers.get("x-splunk-request-channel") or ""
        channel = channel or parse_qs(asked.query).get("channel", [""])[0]
        code = self._refusal(asked, channel)
        if code:
            return told(code)
        if asked.path == ACK_PATH:
            return self._confirm(asked, channel)
        if asked.path not in EVENT_PATHS:
            return Reply(404, b'{"text":"The requested URL was not found on this server.","code":404}')
        if len(asked.body) > self.most_bytes:
            return Reply(413, b"<html><body>Content-Length is too large</body></html>")
        return self._take(asked.body.decode(), channel)

    def _refusal(self, asked: Asked, channel: str) -> int:
        """The code that a request earns before its body is read; 0: none."""
        who = asked.headers.get("authorization")
        reasons = {
            2: who is None,
            3: not (who or "").startswith("Splunk "),
            4: who != f"Splunk {self.token}",
            1: not self.is_enabled,
            14: asked.path == ACK_PATH and not self.acknowledges,
            10: self.acknowledges and not channel,
            11: bool(channel) and _GUID.fullmatch(channel) is None,
        }
        return next((code for code, holds in reasons.items() if holds), 0)

    def _confirm(self, asked: Asked, channel: str) -> Reply:
        left = self.channels.setdefault(channel, [])
        acks = {}
        for number in json.loads(asked.body)["acks"]:
            is_known = 0 <= number < len(left) and left[number] >= 0
            if is_known:
                left[number] -= 1
            # Told once, and then forgotten.
            acks[str(number)] = is_known and left[number] == 0
            if acks[str(number)]:
                left[number] = -1
        return Reply(200, json.dumps({"acks": acks}).encode())

    def _take(self, body: str, channel: str) -> Reply:
        taken: list[tuple[dict[str, Any], str]] = []
        code, at = 0, _end_of_space(body, 0)
        if at == len(body):
            return told(5)
        while at < len(body) and not code:
            try:
                event, end = json.JSONDecoder().raw_decode(body, at)
            except ValueError:
                code = 6
                break
            written = body[at:end]
            code = self._judge(event, written)
            if not code:
                taken.append((event, written))
            at = _end_of_space(body, end)
        self.events += [event for event, _ in taken]
        self.objects += [written for _, written in taken]
        members: dict[str, Any] = {}
        if code:
            members["invalid-event-number"] = len(taken) + (self.index_number_from if code == 7 else 0)
        if self.acknowledges and taken:
            left = self.channels.setdefault(channel, [])
            left.append(self.asked_until_indexed)
            members["ackId"] = len(left) - 1
        return told(code, members)

    def _judge(self, event: Any, written: str) -> int:
        """The code that one object earns; 0: it is taken."""
        if not isinstance(event, dict):
            return 6
        time, fields = event.get("time", 0), event.get("fields", {})
        reasons = {
            6: any(text in written for text in self.refuses) or type(time) not in (int, float),
            5: not event.keys() <= _MEMBERS,
            12: "event" not in event,
            13: event.get("event") in ("", None),
            15: not isinstance(fields, dict) or any(isinstance(value, dict) for value in fields.values()),
            7: self.indexes is not None and event.get("index", "main") not in self.indexes,
        }
        return next((code for code, holds in reasons.items() if holds), 0)


def _end_of_space(text: str, start: int) -> int:
    found = _SPACE.match(text, start)
    return found.end() if found else start
