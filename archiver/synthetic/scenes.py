"""Scenes: one actor doing one thing, as a text with slots for what differs each time.

Encoding each delivery as JSON would cost more than archiving it. So a few thousand scenes
are encoded once, and a delivery is `scene.text % values`: one value for each of `SLOTS`,
in their order. A scene that has no use for a slot swallows its value with `%.0s`.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from random import Random
from typing import Any

from archiver.synthetic.cast import Actor, Workspace, token

SLOTS = ("id", "resource", "period", "request", "millis", "occurred", "created", "last")

_SLOT = re.compile(r'("?)@@([a-z]+)(\.[0-9]+)?@@("?)')

# action, category, type of resource, prefix of its ids, weight
_ACTIONS = (
    ("auth.login", "auth", "session", "ses", 12.0),
    ("auth.logout", "auth", "session", "ses", 5.0),
    ("auth.login_failed", "auth", "session", "ses", 1.5),
    ("auth.mfa_verified", "auth", "session", "ses", 3.0),
    ("document.viewed", "data", "document", "doc", 22.0),
    ("document.created", "data", "document", "doc", 9.0),
    ("document.updated", "data", "document", "doc", 15.0),
    ("document.deleted", "data", "document", "doc", 1.0),
    ("document.shared", "data", "document", "doc", 3.0),
    ("document.exported", "export", "document", "doc", 1.0),
    ("file.uploaded", "data", "file", "file", 4.0),
    ("file.downloaded", "data", "file", "file", 6.0),
    ("record.viewed", "data", "record", "rec", 8.0),
    ("report.exported", "export", "report", "rep", 0.5),
    ("invoice.paid", "billing", "invoice", "inv", 1.5),
    ("payment.refunded", "billing", "payment", "pay", 0.3),
    ("user.invited", "admin", "user", "user", 0.6),
    ("role.granted", "admin", "role", "role", 0.3),
    ("role.revoked", "admin", "role", "role", 0.15),
    ("api_key.created", "admin", "api_key", "key", 0.2),
    ("settings.updated", "admin", "settings", "set", 0.4),
    ("log_stream.updated", "admin", "log_stream", "stream", 0.05),
)
_ACTION_WEIGHTS = [action[4] for action in _ACTIONS]
_TITLES = (
    "Quarterly report", "Zürich offsite 🏔️", "تقرير الربع الأول", "売上 2026", "Łódź warehouse – stock",
    'Draft "final" v2', "C:\\exports\\q1.csv", "תקציב שנתי", "Roadmap <2027>", "Price list 100 % checked",
    "Onboarding\tchecklist", "Ärztliche Übersicht", "👩‍💻 Runbook", "Contract №42", "plain notes",
)  # fmt: skip
_PLANS = ("free", "starter", "pro", "enterprise")


@dataclass(frozen=True, slots=True)
class Scene:
    """See the module's docstring.

    Attributes:
        text: The delivery with its slots.
        workspace: The workspace's id.
        stream: The configured sender.
        is_plain: Compact, flat, the id first and the envelope's timestamp last, of 27 characters:
            a redelivery can be made of it by replacing bytes.
        actor_id, action, ip_country: For an alert about it.
    """

    text: bytes
    workspace: str
    stream: str
    is_plain: bool
    actor_id: str
    action: str
    ip_country: str


def compile_text(text: str) -> bytes:
    """Turn JSON text with marks such as `@@id@@` into a format string over `SLOTS`.

    A mark may cut its value, `@@last.19@@`. `"@@millis@@"` loses its quotes: it is a number.

    Raises:
        ValueError: The marks do not stand in the order of `SLOTS`.
    """
    pieces, position, following = [], 0, 0
    for found in _SLOT.finditer(text):
        slot = SLOTS.index(found[2])
        if slot < following:
            raise ValueError(f"slot {found[2]} stands before an earlier one")
        before, after = ("", "") if found[2] == "millis" else (found[1], found[4])
        pieces += [text[position : found.start()].replace("%", "%%"), before, "%.0s" * (slot - following)]
        pieces += [f"%{found[3] or ''}s", after]
        position, following = found.end(), slot + 1
    pieces += [text[position:].replace("%", "%%"), "%.0s" * (len(SLOTS) - following)]
    return "".join(pieces).encode()


def _metadata(random: Random, actor: Actor, action: str) -> dict[str, Any]:
    found: dict[str, Any] = {"request_id": "req_@@request@@", "duration_ms": "@@millis@@"}
    draw = random.random()
    if action.startswith("auth.log"):
        found["method"] = random.choice(("password", "sso", "passkey"))
        if action.endswith("failed"):
            found["failure"] = random.choice(("bad_password", "unknown_device", "expired"))
    elif draw < 0.15:
        found["changes"] = [{"field": "title", "from": random.choice(_TITLES), "to": random.choice(_TITLES)}]
    elif action.startswith(("invoice.", "payment.")):
        found |= {"amount": f"{random.randint(1, 900_000) / 100:.2f}", "currency": "EUR", "paid": True}
    elif draw < 0.4:
        found["client"] = {"app": "web", "version": f"4.{random.randint(0, 30)}.1", "beta": False}
    elif draw < 0.62:
        found |= {"labels": random.sample(("red", "north", "q1", "späti", "🧾"), 3), "score": random.random()}
    elif draw < 0.622:
        found |= {"big": 10**29 + random.getrandbits(64), "tiny": 1e-12, "nothing": None, "empty": {}}
    if random.random() < 0.15:
        found["contact"] = f"{actor.id.lower()}@example.com"
    return found


def _members(random: Random, actor: Actor, drawn: tuple[str, str, str, str, float]) -> dict[str, Any]:
    action, category, resource, prefix, _ = drawn
    hot = random.random() < 0.12  # some things are touched again and again
    data: dict[str, Any] = {"id": "@@id@@", "actor_id": actor.id, "actor_name": actor.name}
    if random.random() < 0.6:
        data["actor_type"] = actor.type
    data["action"] = action
    if random.random() < 0.3:
        data["action_category"] = category
    data |= {"resource": resource, "resource_id": f"{prefix}_{token(random, 8) if hot else '@@resource@@'}"}
    if category != "auth" and random.random() < 0.4:
        data["resource_name"] = random.choice((*_TITLES, None))
    if action in ("document.shared", "role.granted", "role.revoked", "user.invited"):
        target: dict[str, Any] = {
            "type": "user",
            "id": f"user_{token(random, 7)}",
            "name": f"Member {random.randint(1, 99)}",
        }
        data["targets"] = [target]
        if resource == "role":
            target["metadata"] = {"role": random.choice(("viewer", "editor", "admin", "owner"))}
        elif random.random() < 0.3:
            data["targets"].append({"type": "group"})
    if random.random() < 0.6:
        data["session_id"] = f"s_{actor.mark}@@period@@"
    if random.random() < 0.7:
        data["ip_address"] = actor.ip_address
    data |= {"ip_country": actor.ip_country, "ip_city": actor.ip_city}
    if random.random() < 0.25:
        data["user_agent"] = actor.user_agent
    if random.random() < 0.6:
        data["metadata"] = _metadata(random, actor, action)
    if random.random() < 0.3:
        data["version"] = random.choice((1, 2, 3))
    return data


def _add_rarities(random: Random, data: dict[str, Any]) -> None:
    """Members that few events have: unknown ones, nulls, odd numbers, half an emoji."""
    draw = random.random()
    if draw < 0.02:
        data |= {"plan": random.choice(_PLANS), "risk_score": round(random.random(), 3)}
    elif draw < 0.03:
        data["device"] = {"id": token(random, 12), "trusted": True, "labels": [None, 1, "ü"]}
    elif draw < 0.05:
        data |= {"tenant_id": None, "idempotency_key": None, "user_agent": None}
    elif draw < 0.07:
        data |= {"tenant_id": f"tenant_{token(random, 5)}", "idempotency_key": token(random, 22)}
    elif draw < 0.072:
        data["version"] = 2.0  # an integer, says JSON Schema
    elif draw < 0.074:
        data["note"] = "cut in the middle of an emoji \ud83c"  # valid JSON once it is escaped


def _nested(data: dict[str, Any]) -> dict[str, Any]:
    """The same event in the shape of the REST API."""
    nested: dict[str, Any] = {}
    groups = {"actor": "actor", "resource": "resource"}
    for name, value in data.items():
        group, _, member = name.partition("_")
        if name == "resource":
            nested.setdefault("resource", {})["type"] = value
        elif group in groups and member:
            nested.setdefault(group, {})[member] = value
        elif name not in ("ip_address", "user_agent"):
            nested[name] = value
    return nested


def draw_scene(random: Random, workspace: Workspace, *, newlines: bool) -> Scene:
    """Draw who does what in `workspace`, and how the sender writes it."""
    actor = random.choices(workspace.actors, cum_weights=workspace.actor_weights)[0]
    drawn = random.choices(_ACTIONS, _ACTION_WEIGHTS)[0]
    data = _members(random, actor, drawn)
    _add_rarities(random, data)
    writing = random.random()
    is_plain = writing < 0.9 and "note" not in data
    if random.random() < 0.5:
        data["occurred_at"] = "@@occurred@@"
    if random.random() < 0.2:
        data["created_at"] = "@@created@@"
    if is_plain:
        last = "@@last@@"
    else:
        last = random.choice(("@@last@@", "@@last.19@@Z", "@@last.23@@+00:00", "@@last.26@@-00:00"))
        if random.random() < 0.4:
            data = _nested(data)
    event: dict[str, Any] = {"event_type": "event.created", "data": data}
    event |= {"workspace_id": workspace.id, "timestamp": last}
    if is_plain:
        text = json.dumps(event, ensure_ascii=False, separators=(",", ":"))
    elif writing < 0.95:
        text = json.dumps(event, separators=(",", ":"))
    elif writing < 0.995 or not newlines:
        text = json.dumps(event)
    else:
        text = json.dumps(event, indent=2)
    return Scene(
        compile_text(text), workspace.id, workspace.stream, is_plain, actor.id, drawn[0], actor.ip_country
    )
