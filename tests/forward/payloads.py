"""Events in every form, for tests of what they look like at a destination."""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import cache
from typing import Any

from archiver.event import parse_instant
from archiver.forward.base import Outgoing
from archiver.forward.payload import Payloads
from archiver.forward.settings import Destination
from archiver.generate import generate_bodies
from archiver.secret import SecretPlace

KEY = "0123456789abcdef0123456789abcdef"
ENVIRONMENT = {"HASH_KEY": KEY}
RECEIVED_US = 1_774_520_105_000_000
FLAT: dict[str, Any] = {
    "id": "9b1deb4d-3b7d-4bad-9bdd-2b0d7b3dcb6d", "actor_id": "user_1", "actor_name": "Auditor One",
    "actor_type": "user", "action": "document.updated", "action_category": "data", "resource": "document",
    "resource_id": "doc_1", "resource_name": "Draft", "tenant_id": "t_1", "session_id": "ses_1",
    "targets": [{"type": "user", "id": "user_2", "name": "Second"}, {"type": "file", "metadata": {"a": 1}}],
    "metadata": {"card": "4111", "deep": {"card": 5, "list": [{"card": "x"}, {"card": None}]}},
    "idempotency_key": "k_1", "version": 2, "ip_address": "203.0.113.7", "user_agent": "curl/8",
    "ip_country": "NZ", "ip_city": "Auckland", "occurred_at": "2026-03-26T10:14:59Z",
    "created_at": "2026-03-26T10:15:00.000001Z", "event_hash": "a" * 64, "previous_event_hash": None,
    "unheard_of": {"x": [1.5]},
}  # fmt: skip
_NESTED = {
    "actor": {"actor_id": "id", "actor_name": "name", "actor_type": "type"},
    "resource": {"resource": "type", "resource_id": "id", "resource_name": "name"},
    "integrity": {"event_hash": "event_hash", "previous_event_hash": "previous_event_hash"},
}


def nested(flat: Mapping[str, Any]) -> dict[str, Any]:
    """Return the members of an event as the nested shape has them."""
    data = dict(flat)
    objects = {
        name: {m: data.pop(f) for f, m in inner.items() if f in data} for name, inner in _NESTED.items()
    }
    return data | {name: one for name, one in objects.items() if one}


def forms(flat: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Return an event as a flat and a nested delivery, as a row, and within alerts, flat and nested."""
    envelope = {"workspace_id": "ws_1", "timestamp": "2026-03-26T10:15:00.000001Z"}
    alert = {
        "event_type": "alert.triggered", "alert_id": "alt_1", "rule_name": "Night Shift",
        "rule_type": "off_hours", "reason": "between 22:00 and 06:00", "workspace_id": "ws_1",
        "triggered_at": "2026-03-26T10:15:02.000000Z", "severity": 3,
    }  # fmt: skip
    return {
        "flat": {"event_type": "event.created", "data": dict(flat), **envelope},
        "nested": {"event_type": "event.created", "data": nested(flat), **envelope},
        "row": {**flat, "workspace_id": "ws_1"},
        "alert": {**alert, "event": dict(flat)},
        "alert_nested": {**alert, "event": nested(flat)},
        "alert_wrapped": {**alert, "event": {"data": dict(flat)}},
    }


def outgoing(body: bytes | dict[str, Any]) -> Outgoing:
    """Return a valid body as an event on its way."""
    body = body if isinstance(body, bytes) else json.dumps(body).encode()
    tree = json.loads(body)
    is_alert = tree.get("event_type") == "alert.triggered"
    data = tree if "event_type" not in tree else tree.get("data", {})
    at = tree["triggered_at"] if is_alert else tree.get("timestamp") or data["created_at"]
    instant = parse_instant(at)
    assert instant is not None
    return Outgoing(
        body,
        "alerts" if is_alert else "events",
        tree["alert_id"] if is_alert else data["id"],
        tree["workspace_id"],
        tree.get("event_type", "event.created"),
        "" if is_alert else data["action"],
        instant.microseconds,
        RECEIVED_US,
    )


def payloads(form: str = "as_delivered", **settings: Any) -> Payloads:
    place = SecretPlace("destination siem: the hash key", env="HASH_KEY")
    destination = Destination("siem", "http", form=form, hash_key=place, **settings)  # type: ignore[arg-type]
    return Payloads(destination, ENVIRONMENT)


@cache
def _plain(form: str) -> Payloads:
    return payloads(form)


def made(form: str, body: bytes | dict[str, Any], **settings: Any) -> Any:
    """Return the payload of an event, parsed."""
    text = (payloads(form, **settings) if settings else _plain(form)).of(outgoing(body))
    assert b"\n" not in text
    assert b"\r" not in text
    return json.loads(text)


def drawn(count: int, seed: int = 7) -> list[bytes]:
    """Return valid bodies as different senders write them, some alerts among them."""
    return [body for body, _, _ in generate_bodies(events=count, seed=seed, invalid=0.0, alerts=0.1)]


def leaves(tree: Any) -> list[Any]:
    """Return all values that are neither object nor list, and no null."""
    if isinstance(tree, dict):
        return [leaf for one in tree.values() for leaf in leaves(one)]
    if isinstance(tree, list):
        return [leaf for one in tree for leaf in leaves(one)]
    return [] if tree is None else [tree]
