"""The columns of the datasets: names, types, and where in an event each one comes from.

A column is a view of the body: the member's value exactly, or null. The body is the truth.

Source of the members: the vendor's public description of its log streams, see docs/format.md.
"""

from __future__ import annotations

from typing import Final

import pyarrow as pa

TIME: Final = pa.timestamp("us", tz="UTC")

# Member of `data` (flat name) -> kind. The nested name is in NESTED.
TEXT, INTEGER, INSTANT, JSON = "text", "integer", "instant", "json"

EVENT_MEMBERS: Final[dict[str, str]] = {
    "id": TEXT,
    "actor_id": TEXT,
    "actor_name": TEXT,
    "actor_type": TEXT,
    "action": TEXT,
    "action_category": TEXT,
    "resource": TEXT,
    "resource_id": TEXT,
    "resource_name": TEXT,
    "targets": JSON,
    "metadata": JSON,
    "tenant_id": TEXT,
    "session_id": TEXT,
    "idempotency_key": TEXT,
    "version": INTEGER,
    "ip_address": TEXT,
    "user_agent": TEXT,
    "ip_country": TEXT,
    "ip_city": TEXT,
    "occurred_at": INSTANT,
    "created_at": INSTANT,
    "event_hash": TEXT,
    "previous_event_hash": TEXT,
}
# The nested shape: an object in `data` -> its members -> the flat name of each.
NESTED: Final[dict[str, dict[str, str]]] = {
    "actor": {"id": "actor_id", "name": "actor_name", "type": "actor_type"},
    "resource": {"type": "resource", "id": "resource_id", "name": "resource_name"},
    "integrity": {"event_hash": "event_hash", "previous_event_hash": "previous_event_hash"},
}
EVENT_ENVELOPE: Final[dict[str, str]] = {"event_type": TEXT, "workspace_id": TEXT, "timestamp": INSTANT}
ALERT_MEMBERS: Final[dict[str, str]] = {
    "event_type": TEXT,
    "workspace_id": TEXT,
    "alert_id": TEXT,
    "rule_name": TEXT,
    "rule_type": TEXT,
    "reason": TEXT,
    "event": JSON,
    "triggered_at": INSTANT,
}

_ARROW: Final = {TEXT: pa.string(), INTEGER: pa.int64(), INSTANT: TIME, JSON: pa.string()}

# What every dataset has, behind the members' columns.
_COMMON: Final = [
    pa.field("extra", pa.string()),  # JSON text of the members that have no column, in their places
    pa.field("shape", pa.string(), nullable=False),  # webhook, nested or row
    pa.field("event_time", TIME, nullable=False),  # the instant that placed the row; never null
    pa.field("received_at", TIME, nullable=False),
    pa.field("source", pa.string(), nullable=False),  # configured name, `/stream` behind it if it has one
    pa.field("ordinal", pa.int64(), nullable=False),  # number in its batch
    pa.field("body", pa.string()),
]
# Name of the file in which a row was first archived, without its suffix; null where it is this one.
_ORIGIN: Final = pa.field("origin", pa.string())
_EVENT_FIELDS: Final = [pa.field(n, _ARROW[k]) for n, k in (EVENT_ENVELOPE | EVENT_MEMBERS).items()]

SCHEMAS: Final[dict[str, pa.Schema]] = {
    "events": pa.schema([*_EVENT_FIELDS, *_COMMON, _ORIGIN]),
    "alerts": pa.schema([*(pa.field(n, _ARROW[k]) for n, k in ALERT_MEMBERS.items()), *_COMMON, _ORIGIN]),
    "supplements": pa.schema(
        [
            pa.field("dataset", pa.string(), nullable=False),
            pa.field("base_event_time", TIME),  # of the row that it adds to; one id may have several
            *_EVENT_FIELDS,
            *_COMMON,
            _ORIGIN,
        ]
    ),
}
IDENTITY_COLUMN: Final[dict[str, str]] = {"events": "id", "alerts": "alert_id", "supplements": "id"}

# Columns of a validated batch that are not archived: which input a row came from, where in it,
# and its partition's two keys.
WORKING: Final = [
    pa.field("_input", pa.int64(), nullable=False),
    pa.field("_offset", pa.int64(), nullable=False),
]
VALIDATED_SCHEMAS: Final[dict[str, pa.Schema]] = {
    name: pa.schema([*(field for field in SCHEMAS[name] if field.name != _ORIGIN.name), *WORKING])
    for name in ("events", "alerts")
}


def with_origin(rows: pa.Table, dataset: str) -> pa.Table:
    """Return rows that were never archived before with the archived columns of `dataset`."""
    if _ORIGIN.name not in rows.schema.names:
        rows = rows.append_column(_ORIGIN, pa.nulls(rows.num_rows, _ORIGIN.type))
    return rows.select(SCHEMAS[dataset].names)
