"""An event in the Elastic Common Schema.

Source of fields, types and allowed values: ECS 8.17.0, https://github.com/elastic/ecs.

| ECS | from |
|---|---|
| `@timestamp` | the event's time, in UTC |
| `event.created` | when it was received; `event.ingested` is the store's to set |
| `event.kind` | `event`, or `alert` |
| `event.category`, `event.type`, `event.outcome` | the action, by `ocsf_actions.toml` |
| `event.action`, `event.id`, `event.reason` | `action`; `id` or `alert_id`; an alert's `reason` |
| `event.original` | the body, as text |
| `organization.id` | `workspace_id` |
| `user.id`, `user.name` | `actor_id`, `actor_name` |
| `user.target`, `group` | the resource, of what is done to an account or a group |
| `source.ip`, `source.address` | `ip_address`; the first only if it is an IP address |
| `source.geo` | `ip_country` (`country_iso_code`, or `country_name` if it is no code), `ip_city` |
| `user_agent.original`, `related` | `user_agent`; all users and addresses named here |
| `rule`, `message` | of an alert: `rule_name`, `rule_type` as category, `reason` |
| `audit` | all else by its flat name; `audit.resource`; `audit.other` for unknown members |

`audit` is no part of ECS. Its `metadata` and `other` are objects of any members: map `audit` as
`flattened`, or two events with different types of one member contradict each other.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any, Final

from archiver import clock
from archiver.event import ALERT, Form
from archiver.forward.actions import API_ACTIVITY, Actions, Choice
from archiver.forward.base import Outgoing
from archiver.forward.exact import Tree
from archiver.forward.parts import Parts, is_country, is_ip, left_over, parts_of, take_text

VERSION: Final = "8.17.0"
PROVIDER: Final = "immutable"

_ECS: Final = {"version": VERSION}
_CREATION, _ACCESS, _CHANGE, _DELETION, _INFO = (["creation"], ["access"], ["change"], ["deletion"], ["info"])
_OF_API: Final = {1: _CREATION, 2: _ACCESS, 3: _CHANGE, 4: _DELETION}
_OF_ACCOUNT: Final = {
    1: ["user", "creation"],
    6: ["user", "deletion"],
    0: ["user", "info"],
    99: ["user", "info"],
}
_OF_GROUP: Final = {
    6: ["group", "creation"],
    5: ["group", "deletion"],
    0: ["group", "info"],
    99: ["group", "info"],
}
_CONFIGURATION: Final = frozenset({"settings", "setting", "configuration", "config", "policy", "log_stream"})
_SETTLED: Final = frozenset({"id", "action"})  # stand in `event`
_NOTHING: Final[frozenset[str]] = frozenset()


def ecs_of(event: Outgoing, form: Form, tree: Tree, original: bytes, actions: Actions) -> Tree:
    """Return the event as a document of ECS.

    Args:
        form: What its body was before anything was dropped.
        tree: Its body, parsed, less what must not leave.
        original: The same as JSON text.
    """
    parts = parts_of(form, tree)
    is_alert = form is ALERT
    rest = parts.flat.copy()
    told: Tree = {"kind": "alert" if is_alert else "event"}
    document: Tree = {"@timestamp": _time(event.at_us), "ecs": _ECS, "event": told}
    people: list[str] = []
    if is_alert:
        told["category"], told["type"] = ["intrusion_detection"], _INFO
        left = _alert(parts, document, rest)
    else:
        choice = actions.of(event.action)
        told["category"], told["type"] = categorized(choice, rest.get("resource"))
        told["outcome"] = choice.status.lower()
        told["action"] = event.action
        _targets(choice, rest, document, people)
        left = _envelope(parts)
    told["id"] = event.id
    if event.received_us > 0:
        told["created"] = _time(event.received_us)
    told["provider"] = told["module"] = PROVIDER
    told["dataset"] = "immutable.alerts" if is_alert else "immutable.audit"
    told["original"] = original.decode()
    document["organization"] = {"id": event.workspace}
    _who_and_where(rest, document, people)
    more = left_over(rest, _NOTHING if is_alert else _SETTLED)
    audit = {"event": more, **left} if is_alert and more else {**more, **left}
    if parts.other:
        audit["other"] = parts.other
    if audit:
        document["audit"] = audit
    return document


def _time(us: int) -> str:
    return f"{_second(us // 1_000_000)}.{us % 1_000_000:06d}Z"


@lru_cache(maxsize=65_536)
def _second(seconds: int) -> str:
    return clock.to_text(seconds * 1_000_000)[:19]


def categorized(choice: Choice, resource: Any = None) -> tuple[list[str], list[str]]:
    """Return `event.category` and `event.type` of an action; only pairs that ECS expects."""
    uid, activity = choice.class_uid, choice.activity_id
    if uid == 3002:
        return ["authentication"], ["start"] if activity == 1 else ["end"] if activity == 2 else _INFO
    if uid == 3001:
        return ["iam"], _OF_ACCOUNT.get(activity, ["user", "change"])
    if uid == 3005:
        return ["iam"], ["user", "change"] if activity in (1, 2) else ["user", "info"]
    if uid == 3006:
        return ["iam"], _OF_GROUP.get(activity, ["group", "change"])
    kinds = _OF_API.get(activity, _INFO if activity in (0, 99) or uid == API_ACTIVITY else _CHANGE)
    is_configuration = isinstance(resource, str) and resource in _CONFIGURATION
    return ["configuration"] if is_configuration else ["api"], kinds


def _envelope(parts: Parts) -> Tree:
    return {
        name: value
        for name, value in parts.envelope.items()
        if name not in ("workspace_id",) and value is not None
    }


def _alert(parts: Parts, document: Tree, rest: Tree) -> Tree:
    left = _envelope(parts)
    left.pop("alert_id", None)
    rule = {}
    name, category, reason = (take_text(left, name) for name in ("rule_name", "rule_type", "reason"))
    if name is not None:
        rule["name"] = name
    if category is not None:
        rule["category"] = category
    if rule:
        document["rule"] = rule
    if reason is not None:
        document["message"] = document["event"]["reason"] = reason
    if isinstance(rest.get("action"), str):
        document["event"]["action"] = rest.pop("action")
    return left


def _targets(choice: Choice, rest: Tree, document: Tree, people: list[str]) -> None:
    """What is done to an account or a group names it; of roles the resource is the role."""
    is_user = choice.class_uid == 3001 or (choice.class_uid == 3005 and rest.get("resource") == "user")
    if not is_user and choice.class_uid != 3006:
        return
    target = {}
    for name, short in (("resource_id", "id"), ("resource_name", "name")):
        value = rest.get(name)
        if isinstance(value, str):
            target[short] = value
    if target and is_user:
        document["user"] = {"target": target}
        people += target.values()
    elif target:
        document["group"] = target


def _who_and_where(rest: Tree, document: Tree, people: list[str]) -> None:
    user_id, user_name = take_text(rest, "actor_id"), take_text(rest, "actor_name")
    if user_id is not None or user_name is not None:
        user = document.setdefault("user", {})
        if user_id is not None:
            user["id"] = user_id
            people.append(user_id)
        if user_name is not None:
            user["name"] = user_name
            people.append(user_name)
    source: Tree = {}
    related: Tree = {}
    address = take_text(rest, "ip_address")
    if address is not None:
        source["address"] = address
        if is_ip(address):
            source["ip"] = address
            related["ip"] = [address]
    country, city = take_text(rest, "ip_country"), take_text(rest, "ip_city")
    if country is not None or city is not None:
        geo = source["geo"] = {}
        if country is not None:
            geo["country_iso_code" if is_country(country) else "country_name"] = country
        if city is not None:
            geo["city_name"] = city
    if source:
        document["source"] = source
    agent = take_text(rest, "user_agent")
    if agent is not None:
        document["user_agent"] = {"original": agent}
    if people:
        related["user"] = list(dict.fromkeys(people))
    if related:
        document["related"] = related
