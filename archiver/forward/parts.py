"""One event, whatever form its body has: the same members at the same place."""

from __future__ import annotations

from functools import lru_cache
from ipaddress import ip_address
from typing import Final, NamedTuple

from archiver import columns
from archiver.event import ALERT, EVENT, ROW_EVENT, Form
from archiver.forward.exact import Tree

_ENVELOPE: Final = frozenset(columns.EVENT_ENVELOPE)
_ALERT_ENVELOPE: Final = frozenset(columns.ALERT_MEMBERS) - {"event"}
_OF_RESOURCE: Final = {flat: name for name, flat in columns.NESTED["resource"].items()}
_MEMBERS: Final = frozenset(columns.EVENT_MEMBERS)


class Parts(NamedTuple):
    """What a body says, sorted.

    Attributes:
        envelope: `event_type`, `workspace_id`, `timestamp`; of an alert its own members.
        flat: The event's members by their flat names; of an alert those of the event that it repeats.
        other: All that is unknown, mirrored in its places.
    """

    envelope: Tree
    flat: Tree
    other: Tree


def form_of_tree(tree: Tree) -> Form:
    """Return the form of a valid body. Nested or flat is told of each object of an event by itself."""
    if "event_type" not in tree:
        return ROW_EVENT
    if tree["event_type"] == "alert.triggered":
        return ALERT
    return EVENT


def parts_of(form: Form, tree: Tree) -> Parts:
    """Sort the members of a body of this form; some of them may have been dropped or hashed."""
    if form is ROW_EVENT:
        flat, other = _event(tree)
        envelope = {name: other.pop(name) for name in ("workspace_id",) if name in other}
        return Parts(envelope, flat, other)
    known, inner = (_ALERT_ENVELOPE, "event") if form is ALERT else (_ENVELOPE, "data")
    envelope, flat, other = {}, {}, {}
    for name, value in tree.items():
        if name in known:
            envelope[name] = value
        elif name == inner and type(value) is dict:
            flat, left = _event(value)
            if left:
                other[name] = left
        elif value is not None or name != inner:
            other[name] = value
    return Parts(envelope, flat, other)


def _event(members: Tree) -> tuple[Tree, Tree]:
    if _MEMBERS.issuperset(members) and type(members.get("resource")) is not dict:
        return members.copy(), {}
    flat: Tree = {}
    other: Tree = {}
    for name, value in members.items():
        inner = columns.NESTED.get(name)
        if inner is not None and type(value) is dict:
            left = _nested(value, inner, members, flat)
            if left:
                other[name] = left
        elif name in _MEMBERS:
            flat[name] = value
        else:
            other[name] = value
    return flat, other


def _nested(value: Tree, inner: dict[str, str], members: Tree, flat: Tree) -> Tree:
    left: Tree = {}
    for name, one in value.items():
        column = inner.get(name)
        # If an event has both, the flat one counts, and neither is lost.
        if column is None or (column in members and members[column] is not value):
            left[name] = one
        else:
            flat[column] = one
    return left


def take_text(members: Tree, name: str) -> str | None:
    """Take a member out if it is a text, and return it. Null is taken out, too; all else stays."""
    value = members.pop(name, None)
    if value is None or isinstance(value, str):
        return value
    members[name] = value
    return None


def is_country(text: str) -> bool:
    """Whether it has the form of ISO 3166-1 alpha-2."""
    return len(text) == 2 and text.isascii() and text.isalpha() and text.isupper()


@lru_cache(maxsize=65_536)
def is_ip(text: str) -> bool:
    """Whether it is an address of IPv4 or IPv6, without a zone."""
    if len(text) > 45 or "%" in text:
        return False
    try:
        ip_address(text)
    except ValueError:
        return False
    return True


def left_over(flat: Tree, without: frozenset[str]) -> Tree:
    """Return what a form has no place for, without nulls; the members of `without` are known elsewhere."""
    left: Tree = {}
    resource: Tree = {}
    for name, value in flat.items():
        if value is None or name in without:
            continue
        short = _OF_RESOURCE.get(name)
        if short is None:
            left[name] = value
        else:
            resource[short] = value
    if resource:
        left["resource"] = resource
    return left
