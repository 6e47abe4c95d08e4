"""Deliveries that must end in quarantine, one function a fault.

Each takes a valid event and spoils it; `FAULTS` says which of `archiver.block.REASONS` the
archive gives for it. No body holds a line break, so that all of them can stand in a file of
JSON lines, and each counts as one element whatever reads it.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from archiver.block import Reason

Event = dict[str, Any]


def _text(event: object) -> bytes:
    return json.dumps(event, ensure_ascii=False, separators=(",", ":")).encode()


def _without(*path: str) -> Callable[[Event], bytes]:
    def spoil(event: Event) -> bytes:
        inner = event
        for name in path[:-1]:
            inner = inner[name]
        del inner[path[-1]]
        return _text(event)

    return spoil


def _member(name: str, value: object) -> Callable[[Event], bytes]:
    return lambda event: _text(event | {"data": event["data"] | {name: value}})


def _envelope(name: str, value: object) -> Callable[[Event], bytes]:
    return lambda event: _text(event | {name: value})


def _raw(old: bytes, new: bytes) -> Callable[[Event], bytes]:
    """Replace bytes of the encoded event, for what json.dumps will not write."""
    return lambda event: _text(event).replace(old, new, 1)


def _too_deep(event: Event) -> bytes:
    return _raw(b'"metadata":{', b'"metadata":{"deep":' + b"[" * 200 + b"]" * 200 + b",")(event)


def _one_element(content: bytes) -> Callable[[Event], bytes]:
    return lambda _: content


_METADATA = b'"metadata":{'

FAULTS: dict[str, tuple[Reason, Callable[[Event], bytes]]] = {
    "missing_id": ("invalid", _without("data", "id")),
    "missing_actor_id": ("invalid", _without("data", "actor_id")),
    "missing_action": ("invalid", _without("data", "action")),
    "missing_data": ("invalid", _without("data")),
    "missing_workspace_id": ("invalid", _without("workspace_id")),
    "missing_timestamp": ("invalid", _without("timestamp")),
    "null_id": ("invalid", _member("id", None)),
    "number_as_id": ("invalid", _member("id", 4711)),
    "number_as_actor_name": ("invalid", _member("actor_name", 17)),
    "object_as_actor_id": ("invalid", _member("actor_id", {"a": 1})),
    "list_as_metadata": ("invalid", _member("metadata", [1, 2])),
    "text_as_version": ("invalid", _member("version", "3")),
    "fraction_as_version": ("invalid", _member("version", 1.5)),
    "boolean_as_version": ("invalid", _member("version", True)),
    "target_without_type": ("invalid", _member("targets", [{"id": "user_1"}])),
    "bad_occurred_at": ("invalid", _member("occurred_at", "2026-02-30T10:15:00Z")),
    "timestamp_without_zone": ("invalid", _envelope("timestamp", "2026-03-26T10:15:00")),
    "timestamp_in_words": ("invalid", _envelope("timestamp", "yesterday")),
    "timestamp_as_number": ("invalid", _envelope("timestamp", 1774519200)),
    "year_zero": ("time_out_of_range", _envelope("timestamp", "0000-01-01T00:00:00Z")),
    "number_as_workspace_id": ("invalid", _envelope("workspace_id", 12)),
    "long_workspace_id": ("workspace_not_storable", _envelope("workspace_id", "w" * 201)),
    "unknown_event_type": ("unknown_event_type", _envelope("event_type", "event.updated")),
    "half_an_emoji_as_id": ("identity_not_storable", _raw(b'"id":"', b'"id":"\\ud83c')),
    "duplicate_action": ("duplicate_member", _raw(b'"action":', b'"action":"auth.logout","action":')),
    "duplicate_in_metadata": ("duplicate_member", _raw(_METADATA, _METADATA + b'"a":1,"a":2,')),
    "nan": ("not_a_number", _raw(_METADATA, _METADATA + b'"score":NaN,')),
    "infinity": ("not_a_number", _raw(_METADATA, _METADATA + b'"score":-Infinity,')),
    "too_deep": ("too_deep", _too_deep),
    "bad_utf8": ("not_utf8", _raw(_METADATA, _METADATA + b'"city":"M\xfcnchen",')),
    "truncated": ("not_json", lambda event: _text(event)[:-40]),
    "trailing_comma": ("not_json", _raw(_METADATA, _METADATA + b",")),
    "plain_text": ("not_json", _one_element(b"level=info msg=ping")),
    "error_page": ("not_json", _one_element(b"<html><body>502 Bad Gateway</body></html>")),
    "null_body": ("invalid", _one_element(b"null")),
    "list_body": ("invalid", _one_element(b'["event.created"]')),
    "text_body": ("invalid", _one_element(b'"event.created"')),
}


def base_event(event_id: str, workspace: str, timestamp: str) -> Event:
    """A valid event with every member that the faults spoil."""
    data = {
        "id": event_id,
        "actor_id": "user_9sPt4Qw",
        "actor_name": "Importer 3",
        "action": "document.updated",
        "resource": "document",
        "resource_id": "doc_" + event_id[:8],
        "metadata": {"request_id": "req_" + event_id[-12:], "attempt": 1},
        "occurred_at": timestamp,
    }
    return {"event_type": "event.created", "data": data, "workspace_id": workspace, "timestamp": timestamp}
