"""An event in the Open Cybersecurity Schema Framework.

Source of classes, objects and their attributes: OCSF 1.8.0, https://github.com/ocsf/ocsf-schema.

| OCSF | from |
|---|---|
| `class_uid`, `activity_id`, `type_uid`, `status_id`, `severity_id` | the action, by `ocsf_actions.toml` |
| `time` | the event's time, milliseconds |
| `metadata.uid`, `.tenant_uid`, `.original_time`, `.logged_time` | id, `workspace_id`, its time, receipt |
| `actor.user`, `actor.session` | `actor_id`, `actor_name`, `actor_type`; `session_id` |
| `src_endpoint`, `http_request.user_agent` | `ip_address`, `ip_country`, `ip_city`; `user_agent` |
| `user` | of 3002 the actor; of 3001 the resource; of 3005 and 3006 the target that is a user |
| `entity`, `group`, `privileges` | the resource (3004, 3006, 3005) |
| `api.operation`, `resources` | `action`; the resource, and the targets (6003) |
| `finding_info`, `evidences` | an alert (2004), and the event that it repeats |
| `unmapped` | all else by its flat name; `unmapped.resource`; `unmapped.other` for unknown members |
| `raw_data` | the body, as text |

An event that lacks what its class requires (an entity without id and name) is API Activity, 6003.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, NamedTuple

from archiver.event import ALERT, Form
from archiver.forward.actions import ALERT_CHOICE, API_ACTIVITY, VERSION, Actions, Choice
from archiver.forward.base import Outgoing
from archiver.forward.exact import Tree
from archiver.forward.parts import Parts, is_country, is_ip, left_over, parts_of, take_text

_PRODUCT: Final = {"name": "Immutable", "vendor_name": "Immutable"}
_USER_TYPES: Final = {
    "user": (1, "User"),
    "admin": (2, "Admin"),
    "system": (3, "System"),
    "service": (4, "Service"),
    "api_client": (4, "Service"),
}
_ENTITY_TYPES: Final = {
    "device": (1, "Device"),
    "user": (2, "User"),
    "group": (3, "Group"),
    "organization": (4, "Organization"),
    "policy": (5, "Policy"),
    "email": (6, "Email"),
}
_OTHER_TYPE: Final = 99
_TARGET_MEMBERS: Final = frozenset({"type", "id", "name", "metadata"})
_SETTLED: Final = frozenset({"id", "action"})
_NOTHING: Final[frozenset[str]] = frozenset()
_UNKNOWN: Final = "unknown"


def ocsf_of(event: Outgoing, form: Form, tree: Tree, original: bytes, actions: Actions) -> Tree:
    """Return the event as an event of OCSF.

    Args:
        form: What its body was before anything was dropped.
        tree: Its body, parsed, less what must not leave.
        original: The same as JSON text.
    """
    parts = parts_of(form, tree)
    rest = parts.flat.copy()
    envelope = {name: one for name, one in parts.envelope.items() if one is not None}
    envelope.pop("workspace_id", None)
    metadata = _metadata(event, envelope)
    if form is ALERT:
        document = {**ALERT_CHOICE.head, "status_id": 1, "status": "New"}
        _finding(event, document, envelope, rest)
        settled = _NOTHING
    else:
        document = _activity(event, rest, actions.of(event.action))
        settled = _SETTLED
    document["time"] = event.at_us // 1000
    document["metadata"] = metadata
    unmapped = _unmapped(parts, rest, envelope, settled)
    if unmapped:
        document["unmapped"] = unmapped
    document["raw_data"] = original.decode()
    return document


def _metadata(event: Outgoing, envelope: Tree) -> Tree:
    metadata: Tree = {
        "version": VERSION,
        "product": _PRODUCT,
        "uid": event.id,
        "tenant_uid": event.workspace,
        "log_name": event.dataset,
    }
    told_at = take_text(envelope, "triggered_at" if event.dataset == "alerts" else "timestamp")
    if told_at is not None:
        metadata["original_time"] = told_at
    code = event.action or event.event_type
    if code:
        metadata["event_code"] = code
    if event.received_us > 0:
        metadata["logged_time"] = event.received_us // 1000
    return metadata


def _unmapped(parts: Parts, rest: Tree, envelope: Tree, settled: frozenset[str]) -> Tree:
    left = left_over(rest, settled)
    envelope.pop("alert_id", None)
    is_alert = not settled
    unmapped = {"event": left, **envelope} if is_alert and left else {**left, **envelope}
    if parts.other:
        unmapped["other"] = parts.other
    return unmapped


# --- activities -------------------------------------------------------------------------------


class _Told(NamedTuple):
    """An event, what of it has no place yet, and its actor."""

    event: Outgoing
    rest: Tree
    actor: Tree


def _activity(event: Outgoing, rest: Tree, choice: Choice) -> Tree:
    """Return the members of the event's class; take out of `rest` what they hold."""
    actor, session = _actor(rest)
    told = _Told(event, rest, actor)
    own = _OF_CLASS[choice.class_uid](told)
    if own is None and choice.otherwise is not None:
        choice = choice.otherwise
        own = _api(told)
    document = {**choice.head, "actor": actor, **(own or {})}
    if session is not None and choice.class_uid == 3002:
        document["session"] = session
    endpoint = _endpoint(rest)
    if endpoint or choice.class_uid == API_ACTIVITY:
        document["src_endpoint"] = endpoint if _is_identified(endpoint) else {"name": _UNKNOWN, **endpoint}
    agent = take_text(rest, "user_agent")
    if agent is not None:
        document["http_request"] = {"user_agent": agent}
    return document


def _actor(rest: Tree) -> tuple[Tree, Tree | None]:
    user = _identified(take_text(rest, "actor_id"), take_text(rest, "actor_name")) or {"name": _UNKNOWN}
    kind = take_text(rest, "actor_type")
    if kind is not None:
        user["type_id"], user["type"] = _USER_TYPES.get(kind, (_OTHER_TYPE, kind))
        if kind != user["type"].lower():
            rest["actor_type"] = kind
    actor: Tree = {"user": user}
    session_id = take_text(rest, "session_id")
    if session_id is None:
        return actor, None
    session = actor["session"] = {"uid": session_id}
    return actor, session


def _identified(uid: Any, name: Any) -> Tree:
    found = {}
    if isinstance(uid, str):
        found["uid"] = uid
    if isinstance(name, str):
        found["name"] = name
    return found


def _is_identified(endpoint: Tree) -> bool:
    return "ip" in endpoint or "name" in endpoint


def _endpoint(rest: Tree) -> Tree:
    endpoint: Tree = {}
    address = take_text(rest, "ip_address")
    if address is not None:
        endpoint["ip" if is_ip(address) else "name"] = address
    location = {}
    country = rest.get("ip_country")
    if isinstance(country, str) and is_country(country):
        location["country"] = take_text(rest, "ip_country")
    city = take_text(rest, "ip_city")
    if city is not None:
        location["city"] = city
    if location:
        endpoint["location"] = location
        if not _is_identified(endpoint):
            endpoint["name"] = _UNKNOWN
    return endpoint


def _resource(rest: Tree) -> Tree | None:
    """Take the resource out; None if it has neither id nor name, and it stays."""
    found = _identified(rest.get("resource_id"), rest.get("resource_name"))
    if not found:
        return None
    for name in ("resource_id", "resource_name"):
        take_text(rest, name)
    return found


def _authentication(told: _Told) -> Tree:
    return {"user": told.actor["user"], "service": {"uid": told.event.workspace}}


def _account(told: _Told) -> Tree | None:
    user = _resource(told.rest) or _user_target(told.rest)
    return None if user is None else {"user": user}


def _entity(told: _Told) -> Tree | None:
    entity = _resource(told.rest)
    if entity is None:
        return None
    kind = take_text(told.rest, "resource")
    if kind is not None:
        entity["type_id"], entity["type"] = _ENTITY_TYPES.get(kind, (_OTHER_TYPE, kind))
    return {"entity": entity}


def _access(told: _Told) -> Tree | None:
    """The resource is the role that somebody gets, who is a target."""
    role = told.rest.get("resource_name")
    role = told.rest.get("resource_id") if not isinstance(role, str) else role
    if told.rest.get("resource") == "user" or not isinstance(role, str):
        return None
    user = _user_target(told.rest)
    return None if user is None else {"user": user, "privileges": [role]}


def _group(told: _Told) -> Tree | None:
    group = _resource(told.rest)
    if group is None:
        return None
    user = _user_target(told.rest)
    return {"group": group} if user is None else {"group": group, "user": user}


def _user_target(rest: Tree) -> Tree | None:
    """Return the first target that is a user; targets stay where they are, there may be more to them."""
    targets = rest.get("targets")
    for target in targets if isinstance(targets, list) else ():
        if isinstance(target, dict) and target.get("type") == "user":
            found = _identified(target.get("id"), target.get("name"))
            if found:
                return found
    return None


def _api(told: _Told) -> Tree:
    found: Tree = {"api": {"operation": told.event.action, "service": {"uid": told.event.workspace}}}
    resources = []
    own = _resource(told.rest)
    if own is not None:
        kind = take_text(told.rest, "resource")
        if kind is not None:
            own["type"] = kind
        resources.append(own)
    targets = told.rest.get("targets")
    if isinstance(targets, list) and targets:
        described = [_described(target) for target in targets]
        if None not in described:
            resources += described  # type: ignore[arg-type]
            del told.rest["targets"]
    if resources:
        found["resources"] = resources
    return found


def _described(target: Any) -> Tree | None:
    """Return a target as a resource; None if something of it would be lost, or it has neither id nor name."""
    if not isinstance(target, dict) or not _TARGET_MEMBERS.issuperset(target):
        return None
    found = _identified(target.get("id"), target.get("name"))
    kind, more = target.get("type"), target.get("metadata")
    if not found or not all(isinstance(target.get(one), str | None) for one in ("id", "name", "type")):
        return None
    if kind is not None:
        found["type"] = kind
    if more is not None:
        found["data"] = more
    return found


_OF_CLASS: Final[dict[int, Callable[[_Told], Tree | None]]] = {
    3001: _account,
    3002: _authentication,
    3004: _entity,
    3005: _access,
    3006: _group,
    API_ACTIVITY: _api,
}


# --- alerts -----------------------------------------------------------------------------------


def _finding(event: Outgoing, document: Tree, envelope: Tree, rest: Tree) -> None:
    """Fill in what an alert says; take out of `rest` what is said of the event that it is about."""
    finding: Tree = {"uid": event.id, "created_time": event.at_us // 1000}
    name, kind, reason = (take_text(envelope, name) for name in ("rule_name", "rule_type", "reason"))
    if name is not None:
        finding["title"] = name
        finding["analytic"] = {"name": name, "type_id": 1, "type": "Rule"}
    if kind is not None:
        finding["types"] = [kind]
    if reason is not None:
        finding["desc"] = document["message"] = reason
    about = take_text(rest, "id")
    if about is not None:
        finding["related_events"] = [{"uid": about}]
    document["finding_info"] = finding
    document["is_alert"] = True
    evidence: Tree = {}
    if isinstance(rest.get("actor_id"), str) or isinstance(rest.get("actor_name"), str):
        evidence["actor"] = _actor(rest)[0]
    endpoint = _endpoint(rest)
    if endpoint:
        evidence["src_endpoint"] = endpoint
    action = take_text(rest, "action")
    if action is not None:
        evidence["api"] = {"operation": action}
    agent = take_text(rest, "user_agent") if evidence else None
    if agent is not None:
        evidence["http_request"] = {"user_agent": agent}
    if evidence:
        document["evidences"] = [evidence]
    resource = _resource(rest)
    if resource is not None:
        type_of = take_text(rest, "resource")
        document["resources"] = [resource if type_of is None else {**resource, "type": type_of}]
