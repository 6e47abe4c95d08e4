"""What ECS 8.17.0 says of the fields that are made here: types, allowed values, and expected pairs.

Written from https://github.com/elastic/ecs, tag v8.17.0 (generated/ecs/ecs_flat.yml). Any field
that is not listed is an error, but for those under `audit`, which is not of ECS. `[]` is an array.
"""

from __future__ import annotations

import ipaddress
import re
from typing import Any

VERSION = "8.17.0"

FIELDS = {
    "@timestamp": "date", "ecs.version": "keyword", "message": "match_only_text",
    "event.kind": "keyword", "event.category": "keyword[]", "event.type": "keyword[]",
    "event.outcome": "keyword", "event.action": "keyword", "event.id": "keyword", "event.reason": "keyword",
    "event.created": "date", "event.provider": "keyword", "event.module": "keyword",
    "event.dataset": "keyword", "event.original": "keyword", "organization.id": "keyword",
    "user.id": "keyword", "user.name": "keyword", "user.target.id": "keyword", "user.target.name": "keyword",
    "group.id": "keyword", "group.name": "keyword", "source.address": "keyword", "source.ip": "ip",
    "source.geo.country_iso_code": "keyword", "source.geo.country_name": "keyword",
    "source.geo.city_name": "keyword", "user_agent.original": "keyword", "related.ip": "ip[]",
    "related.user": "keyword[]", "rule.name": "keyword", "rule.category": "keyword",
}  # fmt: skip
KINDS = {"alert", "asset", "enrichment", "event", "metric", "state", "pipeline_error", "signal"}
OUTCOMES = {"failure", "success", "unknown"}
# event.category -> the values of event.type that are expected beside it; of those made here.
PAIRS = {
    "api": {
        "access", "admin", "allowed", "change", "creation", "deletion", "denied", "end", "info", "start",
        "user",
    },
    "authentication": {"start", "end", "info"},
    "configuration": {"access", "change", "creation", "deletion", "info"},
    "iam": {"admin", "change", "creation", "deletion", "group", "info", "user"},
    "intrusion_detection": {"allowed", "denied", "info"},
}  # fmt: skip
_DATE = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z")


def check(document: dict[str, Any]) -> None:
    """Assert that `document`, parsed, is one of ECS."""
    fields = dict(_fields("", {name: one for name, one in document.items() if name != "audit"}))
    assert fields.keys() <= FIELDS.keys(), fields.keys() - FIELDS.keys()
    for name, value in fields.items():
        kind = FIELDS[name]
        if kind.endswith("[]"):
            assert type(value) is list, name
            assert value, name
        for one in value if kind.endswith("[]") else [value]:
            assert type(one) is str, name
            if kind.startswith("ip"):
                ipaddress.ip_address(one)
            if kind == "date":
                assert _DATE.fullmatch(one), name
    assert {"@timestamp", "ecs.version", "event.kind", "event.category", "event.type"} <= fields.keys()
    assert fields["ecs.version"] == VERSION
    assert fields["event.kind"] in KINDS
    assert fields.get("event.outcome", "unknown") in OUTCOMES
    for category in fields["event.category"]:
        assert set(fields["event.type"]) <= PAIRS[category]


def _fields(before: str, value: dict[str, Any]) -> Any:
    for name, one in value.items():
        if type(one) is dict:
            assert one, f"{before}{name}"
            yield from _fields(f"{before}{name}.", one)
        else:
            yield f"{before}{name}", one
