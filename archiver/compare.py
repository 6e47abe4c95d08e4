"""Are two bodies of one identity the same event, one that knows more, or another one?

Bodies are compared as trees: numbers by their exact value, times as instants, null as
missing, whatever shape they came in. The envelope's `timestamp` is left out, since it
tells of the delivery. A database keeps microseconds, so what a delivery tells of finer
digits contradicts no row.
"""

from __future__ import annotations

import datetime
import json
from collections.abc import Iterator, Mapping
from decimal import Decimal, InvalidOperation
from itertools import islice
from typing import Any, Final, Literal

from archiver import columns
from archiver.errors import IntegrityError
from archiver.event import Instant, parse_instant

Comparison = Literal["duplicate", "supplement", "conflict"]
Tree = dict[str, Any]

_NOT_OF_A_ROW: Final = frozenset(columns.EVENT_ENVELOPE) - {"workspace_id"}
_TIMES: Final = ("occurred_at", "created_at", "triggered_at")
_EPOCH: Final = datetime.datetime(1970, 1, 1)  # noqa: DTZ001  # shown without an offset: all are UTC
_MOST_DIFFERENCES: Final = 10
_LONGEST_VALUE: Final = 60


class _Numeral(str):
    """A number whose exponent is beyond Decimal's: equal only to itself, digit for digit."""

    __slots__ = ()


def _number(text: str) -> Decimal | _Numeral:
    try:
        return Decimal(text)
    except InvalidOperation:
        return _Numeral(text)


def _without_nulls(pairs: list[tuple[str, Any]]) -> Tree:
    return {name: value for name, value in pairs if value is not None}


class _Microseconds(Instant):
    """An instant of a row without finer digits; a database may have cut or rounded them."""

    __slots__ = ()


_decoder: Final = json.JSONDecoder(
    object_pairs_hook=_without_nulls, parse_int=_number, parse_float=_number, parse_constant=_Numeral
)


def canonical_tree(body: str | bytes, shape: str) -> Tree:
    """Return what an archived body says, in one form for all shapes.

    The members of an event's `data` stand at the top by their flat names, beside
    `workspace_id` and `event_type`. What has no flat name stands under a name in
    parentheses: unknown members of the envelope under `(envelope)`, of a nested object
    under `(actor)` and so on, and members of `data` whose names would meet another's
    under `(data)`. A row tells what an `event.created` tells; its members stand as those
    of `data` do, and those named like the envelope's other members are under `(data)`.

    Args:
        body: Of a valid event, alert or row.
        shape: `webhook`, `nested` or `row`.

    Raises:
        IntegrityError: It is no JSON object, so it cannot be what was archived.
    """
    try:
        tree = _decoder.decode(body if isinstance(body, str) else body.decode())
    except (ValueError, RecursionError) as error:
        raise IntegrityError(f"body: expected an archived event, found no JSON: {error}") from error
    if not isinstance(tree, dict):
        raise IntegrityError(f"body: expected an archived event, found {type(tree).__name__}")
    inner = tree.get("data")
    flat: Tree
    if shape == "row":
        flat = {"event_type": "event.created"}
        _put(flat, tree, taken=_NOT_OF_A_ROW)
    elif tree.get("event_type") != "event.created" or not isinstance(inner, dict):
        flat = {}
        _put(flat, tree, taken=frozenset())
        flat.pop("timestamp", None)
    else:
        flat = _event(tree, inner, nested=shape == "nested")
    for name in _TIMES:
        if isinstance(flat.get(name), str):
            instant = parse_instant(flat[name])
            if instant is not None and shape == "row" and not instant.finer:
                instant = _Microseconds(*instant)
            flat[name] = instant or flat[name]
    return flat


def _event(tree: Tree, inner: Tree, *, nested: bool) -> Tree:
    flat: Tree = {name: tree[name] for name in ("workspace_id", "event_type") if name in tree}
    unknown = {
        name: value for name, value in tree.items() if name not in columns.EVENT_ENVELOPE and name != "data"
    }
    if unknown:
        flat["(envelope)"] = unknown
    if nested:
        inner = dict(inner)
        for name, names in columns.NESTED.items():
            if not isinstance(inner.get(name), dict):
                continue
            members = inner.pop(name)
            flat.update({column: members[member] for member, column in names.items() if member in members})
            rest = {member: value for member, value in members.items() if member not in names}
            if rest:
                flat[f"({name})"] = rest
    _put(flat, inner, taken=frozenset(columns.EVENT_ENVELOPE))
    return flat


def _put(flat: Tree, members: Mapping[str, Any], *, taken: frozenset[str]) -> None:
    for name, value in members.items():
        if name in flat or name in taken or name.startswith("("):
            flat.setdefault("(data)", {})[name] = value
        else:
            flat[name] = value


def compare(known: Tree, new: Tree) -> Comparison:
    """Compare two canonical trees of one identity.

    Returns:
        `duplicate` if `new` says nothing that `known` does not say; `supplement` if it has
        further members and contradicts nothing; `conflict` if anything differs. Arrays are
        equal or differ.
    """
    verdict: Comparison = "duplicate"
    for name, value in new.items():
        if name not in known:
            verdict = "supplement"
        elif isinstance(value, dict) and isinstance(known[name], dict):
            inner = compare(known[name], value)
            if inner == "conflict":
                return inner
            if inner == "supplement":
                verdict = inner
        elif not _is_same(known[name], value):
            return "conflict"
        elif _is_finer(value, known[name]):
            verdict = "supplement"
    return verdict


def _is_same(one: Any, other: Any) -> bool:
    if isinstance(one, Instant) and isinstance(other, Instant):
        return one == other or _rounds_to(one, other) or _rounds_to(other, one)
    # The type first: Python holds True for equal to 1, and an instant for a tuple.
    if type(one) is not type(other):
        return False
    if isinstance(one, list):
        return len(one) == len(other) and all(map(_is_same, one, other))
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(_is_same(value, other[name]) for name, value in one.items())
    return bool(one == other)


def _is_finer(one: Any, other: Any) -> bool:
    """Whether `one` is an instant with finer digits than a row's, `other`, can have."""
    return isinstance(one, Instant) and bool(one.finer) and isinstance(other, _Microseconds)


def _rounds_to(one: Instant, other: Instant) -> bool:
    """Whether a database may have made `other` out of `one`."""
    less = other.microseconds - one.microseconds
    return _is_finer(one, other) and (less == 0 or (less == 1 and one.finer >= "5"))


def merge(known: Tree, new: Tree) -> Tree:
    """Return all that two trees say which do not contradict each other.

    For chains of supplements: what comes next is compared with the whole. Where they
    contradict each other all the same, `known` stands.
    """
    merged = dict(known)
    for name, value in new.items():
        if name not in merged:
            merged[name] = value
        elif isinstance(value, dict) and isinstance(merged[name], dict):
            merged[name] = merge(merged[name], value)
        elif _is_finer(value, merged[name]) and _is_same(value, merged[name]):
            merged[name] = value
    return merged


def difference(known: Tree, new: Tree) -> list[str]:
    """Name the members that contradict each other, in at most ten short lines for people."""
    lines = list(islice(_differences(known, new, ""), _MOST_DIFFERENCES + 1))
    if len(lines) > _MOST_DIFFERENCES:
        lines[_MOST_DIFFERENCES - 1 :] = ["and more"]
    return lines


def _differences(known: Tree, new: Tree, path: str) -> Iterator[str]:
    for name, value in new.items():
        if name not in known:
            continue
        here = path + _shown(name)
        if isinstance(value, dict) and isinstance(known[name], dict):
            yield from _differences(known[name], value, here[-3 * _LONGEST_VALUE :] + ".")
        elif not _is_same(known[name], value):
            yield f"{here}: archived {_excerpt(known[name])}, delivered {_excerpt(value)}"


def _excerpt(value: Any) -> str:
    if isinstance(value, Instant):
        if not value.is_storable:
            return "an instant outside the years 1 to 9999"
        return (_EPOCH + datetime.timedelta(microseconds=value.microseconds)).isoformat() + value.finer
    if isinstance(value, dict):
        return f"an object of {len(value)} members"
    if isinstance(value, list):
        return f"an array of {len(value)} elements"
    if isinstance(value, bool):
        return str(value).lower()
    shown = _shown(str(value))
    return shown if isinstance(value, Decimal | _Numeral) else f'"{shown}"'


def _shown(text: str) -> str:
    """Cut `text`, and escape all but ASCII: it is somebody else's."""
    cut = text if len(text) <= _LONGEST_VALUE else text[: _LONGEST_VALUE - 1] + "…"
    return json.dumps(cut)[1:-1]
