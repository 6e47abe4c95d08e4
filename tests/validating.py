"""A good event and a good alert, and the row or the rejection that a body ends as."""

# ruff: noqa: E501  # a body in one piece reads better wide

from __future__ import annotations

from typing import Any

from archiver.block import Rejection
from archiver.validate import Rules, Validated, Validator
from tests.properties.event_bodies import block_of

GOOD = (
    '{"event_type":"event.created","data":{"id":"e1","actor_id":"u","action":"a.b"},'
    '"workspace_id":"ws_1","timestamp":"2026-03-26T10:15:00.000000Z"}'
)
ALERT = '{"event_type":"alert.triggered","alert_id":"al_1","workspace_id":"ws_1","triggered_at":"2026-03-26T08:45:12Z"}'


def validated(
    *bodies: bytes | str, rules: Rules | None = None, streams: list[str | None] | None = None
) -> Validated:
    encoded = [body.encode("utf-8") if isinstance(body, str) else body for body in bodies]
    return Validator(rules or Rules("door")).validate(block_of(encoded, streams))


def with_data(members: str) -> str:
    """The good event with further members of `data`, as they are written."""
    return GOOD.replace('"action":"a.b"', '"action":"a.b",' + members)


def row(body: bytes | str, dataset: str = "events", **options: Any) -> dict[str, Any]:
    result = validated(body, **options)
    assert result.rejections == []
    batch = result.tables[dataset]
    assert batch.num_rows == 1
    found = {}
    for name in batch.schema.names:
        value = batch.column(name)[0]
        found[name] = (
            value.value if str(value.type).startswith("timestamp") and value.is_valid else value.as_py()
        )
    return found


def rejection(body: bytes | str, **options: Any) -> Rejection:
    result = validated(body, **options)
    assert result.tables == {}
    assert len(result.rejections) == 1
    found = result.rejections[0]
    assert found.body == (body if isinstance(body, bytes) else body.encode())
    assert len(found.detail) <= 500
    return found
