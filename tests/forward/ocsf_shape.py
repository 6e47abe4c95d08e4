"""What OCSF 1.8.0 says of the classes and objects that are made here: types, what is required, enums.

Written from https://github.com/ocsf/ocsf-schema, tag v1.8.0 (events/, objects/, dictionary.json,
categories.json). Of each class and object only the attributes that are made; any other is an error.
`!` marks a required attribute, `[]` an array.
"""

from __future__ import annotations

import ipaddress
from typing import Any

VERSION = "1.8.0"

_EVENT = {
    "activity_id!": "integer", "activity_name": "string", "category_uid!": "integer",
    "category_name": "string", "class_uid!": "integer", "class_name": "string", "type_uid!": "long",
    "type_name": "string", "severity_id!": "integer", "severity": "string", "status_id": "integer",
    "status": "string", "time!": "timestamp", "metadata!": "metadata", "message": "string",
    "raw_data": "string", "unmapped": "object",
}  # fmt: skip
_IAM = {
    **_EVENT,
    "actor": "actor",
    "src_endpoint": "network_endpoint",
    "http_request": "http_request",
}

CLASSES: dict[int, dict[str, str]] = {
    2004: {
        **_EVENT,
        "finding_info!": "finding_info",
        "is_alert": "boolean",
        "evidences": "evidences[]",
        "resources": "resource_details[]",
    },
    3001: {**_IAM, "user!": "user"},
    3002: {**_IAM, "user!": "user", "service": "service", "session": "session"},
    3004: {**_IAM, "entity!": "managed_entity"},
    3005: {**_IAM, "user!": "user", "privileges!": "string[]"},
    3006: {**_IAM, "group!": "group", "user": "user"},
    6003: {
        **_EVENT,
        "actor!": "actor",
        "api!": "api",
        "src_endpoint!": "network_endpoint",
        "http_request": "http_request",
        "resources": "resource_details[]",
    },
}
# Of an Authentication, one of these must be there.
AT_LEAST_ONE_OF_CLASS = {3002: ("service", "dst_endpoint")}

OBJECTS: dict[str, dict[str, str]] = {
    "metadata": {
        "version!": "string", "product!": "product", "uid": "string", "tenant_uid": "string",
        "log_name": "string", "original_time": "string", "event_code": "string", "logged_time": "timestamp",
    },
    "product": {"name": "string", "vendor_name": "string"},
    "actor": {"user": "user", "session": "session"},
    "user": {"uid": "string", "name": "string", "type": "string", "type_id": "integer"},
    "session": {"uid": "string"},
    "service": {"uid": "string"},
    "network_endpoint": {"ip": "ip", "name": "string", "location": "location"},
    "location": {"country": "string", "city": "string"},
    "http_request": {"user_agent": "string"},
    "managed_entity": {"uid": "string", "name": "string", "type": "string", "type_id": "integer"},
    "group": {"uid": "string", "name": "string"},
    "api": {"operation!": "string", "service": "service"},
    "resource_details": {"uid": "string", "name": "string", "type": "string", "data": "json"},
    "finding_info": {
        "uid!": "string", "title": "string", "desc": "string", "created_time": "timestamp",
        "types": "string[]", "analytic": "analytic", "related_events": "related_event[]",
    },
    "analytic": {"name": "string", "type_id!": "integer", "type": "string"},
    "related_event": {"uid!": "string"},
    "evidences": {
        "actor": "actor", "src_endpoint": "network_endpoint", "api": "api", "http_request": "http_request",
    },
}  # fmt: skip
# The schema lists more of each; of those that can be made, one must be there.
AT_LEAST_ONE = {
    "product": ("name", "uid"),
    "actor": ("user", "session"),
    "user": ("name", "uid"),
    "service": ("name", "uid"),
    "network_endpoint": ("ip", "uid", "name"),
    "location": ("city", "country"),
    "managed_entity": ("name", "uid"),
    "group": ("name", "uid"),
    "resource_details": ("name", "uid"),
    "analytic": ("name", "uid"),
    "evidences": ("actor", "api", "src_endpoint"),
}
CATEGORIES = {2: "Findings", 3: "Identity & Access Management", 6: "Application Activity"}
CLASS_NAMES = {
    2004: "Detection Finding", 3001: "Account Change", 3002: "Authentication", 3004: "Entity Management",
    3005: "User Access Management", 3006: "Group Management", 6003: "API Activity",
}  # fmt: skip
# Beside 0 (Unknown) and 99 (Other), in the order of their numbers, which begin with 1.
ACTIVITIES = {
    2004: ("Create", "Update", "Close"),
    3001: (
        "Create", "Enable", "Password Change", "Password Reset", "Disable", "Delete", "Attach Policy",
        "Detach Policy", "Lock", "MFA Factor Enable", "MFA Factor Disable", "Unlock",
    ),
    3002: (
        "Logon", "Logoff", "Authentication Ticket", "Service Ticket Request", "Service Ticket Renew",
        "Preauth", "Account Switch",
    ),
    3004: (
        "Create", "Read", "Update", "Delete", "Move", "Enroll", "Unenroll", "Enable", "Disable",
        "Activate", "Deactivate", "Suspend", "Resume",
    ),
    3005: ("Assign Privileges", "Revoke Privileges"),
    3006: (
        "Assign Privileges", "Revoke Privileges", "Add User", "Remove User", "Delete", "Create",
        "Add Subgroup", "Remove Subgroup",
    ),
    6003: ("Create", "Read", "Update", "Delete"),
}  # fmt: skip
SEVERITIES = {
    0: "Unknown", 1: "Informational", 2: "Low", 3: "Medium", 4: "High", 5: "Critical", 6: "Fatal",
    99: "Other",
}  # fmt: skip
STATUSES = {0: "Unknown", 1: "Success", 2: "Failure", 99: "Other"}
FINDING_STATUSES = {
    0: "Unknown", 1: "New", 2: "In Progress", 3: "Suppressed", 4: "Resolved", 5: "Archived", 6: "Deleted",
    99: "Other",
}  # fmt: skip
# An enum's number and the caption that stands beside it; with 99 the caption is the source's own.
TYPES = {
    "user": {0: "Unknown", 1: "User", 2: "Admin", 3: "System", 4: "Service"},
    "managed_entity": {
        0: "Unknown", 1: "Device", 2: "User", 3: "Group", 4: "Organization", 5: "Policy", 6: "Email",
        7: "Network Zone",
    },
    "analytic": {0: "Unknown", 1: "Rule", 2: "Behavioral", 3: "Statistical"},
}  # fmt: skip
_PYTHON = {"string": str, "integer": int, "long": int, "timestamp": int, "boolean": bool, "object": dict}


def check(event: dict[str, Any]) -> None:
    """Assert that `event`, parsed, has the shape of its class."""
    uid, activity = event["class_uid"], event["activity_id"]
    _check_members("event", event, CLASSES[uid])
    assert event["class_name"] == CLASS_NAMES[uid]
    assert event["category_uid"] == uid // 1000
    assert event["category_name"] == CATEGORIES[uid // 1000]
    assert event["type_uid"] == uid * 100 + activity
    names = {0: "Unknown", 99: "Other", **dict(enumerate(ACTIVITIES[uid], 1))}
    assert event["type_name"] == f"{CLASS_NAMES[uid]}: {names[activity]}"
    assert activity == 99 or event["activity_name"] == names[activity]
    assert SEVERITIES[event["severity_id"]] == event["severity"]
    assert (FINDING_STATUSES if uid == 2004 else STATUSES)[event["status_id"]] == event["status"]
    assert event["metadata"]["version"] == VERSION
    needed = AT_LEAST_ONE_OF_CLASS.get(uid)
    assert needed is None or any(name in event for name in needed)


def _check_members(where: str, value: Any, attributes: dict[str, str]) -> None:
    assert type(value) is dict, where
    known = {name.rstrip("!"): kind for name, kind in attributes.items()}
    assert value.keys() <= known.keys(), (where, value.keys() - known.keys())
    required = {name[:-1] for name in attributes if name.endswith("!")}
    assert required <= value.keys(), (where, required - value.keys())
    for name, one in value.items():
        _check_value(f"{where}.{name}", one, known[name])


def _check_value(where: str, value: Any, kind: str) -> None:
    if kind.endswith("[]"):
        assert type(value) is list, where
        assert value, where
        for one in value:
            _check_value(where, one, kind[:-2])
    elif kind in OBJECTS:
        _check_members(where, value, OBJECTS[kind])
        assert kind not in AT_LEAST_ONE or any(name in value for name in AT_LEAST_ONE[kind]), where
        if "type_id" in value and value["type_id"] != 99:
            assert TYPES[kind][value["type_id"]] == value["type"], where
    elif kind == "ip":
        ipaddress.ip_address(value)
    elif kind != "json":
        assert type(value) is _PYTHON[kind], (where, kind, value)
