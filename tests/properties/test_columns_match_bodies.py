"""Columns against bodies: whatever an event looks like, a column is its member exactly, or null.

The expectation is derived anew from each body, slowly, by a parser of its own.
"""

from __future__ import annotations

import datetime
import json
import os
import random
import re
import time
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

import archiver
from archiver import columns
from archiver.block import Shape
from archiver.validate import Rules, Validator
from tests.properties.event_bodies import STYLES, block_of, events, rows, write

VALIDATOR = Validator(Rules("front-door"))
EPOCH = datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC)
JUDGES = {
    path.stem: Draft202012Validator(
        json.loads(path.read_text()), format_checker=Draft202012Validator.FORMAT_CHECKER
    )
    for path in (Path(archiver.__file__).parent / "schemas").glob("*.json")
}


@dataclass
class Node:
    """A value, its text, and for an object its members as (name, text of the name, node)."""

    value: Any
    text: str
    members: list[tuple[str, str, Node]] | None = None

    def get(self, name: str) -> Node | None:
        return next((node for each, _, node in self.members or [] if each == name), None)


TOKEN = re.compile(r'[ \t\r\n]*("(?:[^"\\]|\\.)*"|[-+.\w]+|[{}\[\],:])', re.DOTALL)


def parse(text: str, at: int = 0) -> tuple[Node, int]:
    token = TOKEN.match(text, at)
    start, end = token.span(1)
    if token[1] == "{":
        members = []
        while True:
            token = TOKEN.match(text, end)
            if token[1] == "}":
                return Node(None, text[start : token.end()], members), token.end()
            if token[1] == ",":
                token = TOKEN.match(text, token.end())
            node, end = parse(text, TOKEN.match(text, token.end()).end())
            members.append((json.loads(token[1]), token[1], node))
    if token[1] == "[":
        while True:
            token = TOKEN.match(text, end)
            if token[1] == "]":
                return Node([], text[start : token.end()]), token.end()
            _, end = parse(text, token.end() if token[1] == "," else end)
    if token[1][0] == '"' or token[1] in ("true", "false", "null"):
        return Node(json.loads(token[1]), token[1]), end
    return Node(number(token[1]), token[1]), end


def number(text: str) -> Fraction | None:
    mantissa, _, exponent = text.lower().partition("e")
    if abs(int(exponent or "0")) > 5000:
        return Fraction(0) if not mantissa.strip("-0.") else None
    return Fraction(mantissa) * Fraction(10) ** int(exponent or "0")


def instant(text: str) -> int | str | None:
    """Microseconds; `outside` for one that no column holds; None for none."""
    found = re.fullmatch(r"([0-9]{4}-[^.]*T[^.+-]*?)(\.[0-9]+)?(Z|[+-][0-9]{2}:[0-9]{2})\n?", text.upper())
    year_0 = text.startswith("0000")
    try:
        moment = datetime.datetime.fromisoformat(("2000" + found[1][4:]) if year_0 else found[1])
    except (TypeError, ValueError):
        return None
    seconds = Fraction((moment.replace(tzinfo=datetime.UTC) - EPOCH) // datetime.timedelta(seconds=1))
    seconds -= 2000 * 146097 * 86400 // 400 if year_0 else 0
    seconds += Fraction("0" + (found[2] or ""))
    if found[3] != "Z":
        minutes = int(found[3][1:3]) * 60 + int(found[3][4:])
        seconds -= 60 * minutes if found[3][0] == "+" else -60 * minutes
    microseconds = seconds * 1_000_000 // 1
    try:
        EPOCH + datetime.timedelta(microseconds=microseconds)
    except OverflowError:
        return "outside"
    return microseconds


def is_utf8(text: str) -> bool:
    return text.encode("utf-8", "replace").decode() == text


def column(kind: str, node: Node | None) -> Any:
    if node is None or node.text == "null":
        return None
    if kind == columns.JSON:
        return node.text
    if kind == columns.INTEGER:
        exact = node.value
        fits = exact is not None and exact.denominator == 1 and -(2**63) <= exact < 2**63
        return int(exact) if fits else None
    if kind == columns.INSTANT:
        return instant(node.value)
    return node.value if is_utf8(node.value) else None


def places(shape: str) -> dict[tuple[str, ...], str]:
    """Path of each member that has a column -> its column."""
    if shape == "alert":
        return {(name,): name for name in columns.ALERT_MEMBERS}
    if shape == "row":
        return {(name,): name for name in ("workspace_id", *columns.EVENT_MEMBERS)}
    found: dict[tuple[str, ...], str] = {(name,): name for name in columns.EVENT_ENVELOPE}
    inside = {
        flat: (outer, inner) for outer, names in columns.NESTED.items() for inner, flat in names.items()
    }
    for name in columns.EVENT_MEMBERS:
        found[("data", *(inside[name] if shape == "nested" and name in inside else (name,)))] = name
    return found


def leftovers(node: Node, known: set[tuple[str, ...]], path: tuple[str, ...] = ()) -> list[tuple[Any, str]]:
    """Each member without a column: the texts of the names that lead there, and its own."""
    found = []
    for name, key, inner in node.members or []:
        here = (*path, name)
        if here in known:
            continue
        if any(each[: len(here)] == here for each in known):
            found += [((key, *keys), text) for keys, text in leftovers(inner, known, here)]
        else:
            found.append(((key,), inner.text))
    return found


def shape_of(node: Node, tree: dict[str, Any], came_as: Shape) -> str:
    if came_as == "row":
        return "row"
    if tree.get("event_type") == "alert.triggered":
        return "alert"
    inner = node.get("data")
    actor = inner and inner.get("actor")
    nested = actor and actor.members is not None and inner and inner.get("actor_id") is None
    return "nested" if nested else "webhook"


def expected(body: bytes, came_as: Shape) -> dict[str, Any] | str:
    """The row of a body, or the reason why there is none."""
    node, _ = parse(body.decode())
    tree = json.loads(body)
    shape = shape_of(node, tree, came_as)
    alert = shape == "alert"
    judge = JUDGES["alert-webhook.1" if alert else f"event-{shape}.1"]
    try:
        errors = list(judge.iter_errors(tree))
    except (OverflowError, ValueError, RecursionError):
        return "unjudgeable"
    if errors:
        return "invalid"
    kinds = columns.ALERT_MEMBERS if alert else columns.EVENT_ENVELOPE | columns.EVENT_MEMBERS
    row: dict[str, Any] = dict.fromkeys(kinds)
    for path, name in places(shape).items():
        at: Node | None = node
        for step in path:
            at = at and at.get(step)
        row[name] = column(kinds[name], at)
    workspace = tree["workspace_id"]
    if not is_utf8(workspace):
        return "workspace_not_storable"
    if row["alert_id" if alert else "id"] is None:
        return "identity_not_storable"
    if "outside" in [row[name] for name, kind in kinds.items() if kind == columns.INSTANT]:
        return "time_out_of_range"
    row["event_time"] = row["triggered_at" if alert else "timestamp"]
    if shape == "row":
        row["event_time"] = row["occurred_at"] if row["created_at"] is None else row["created_at"]
    row["shape"] = "webhook" if alert else shape
    row["body"] = body.decode()
    row["left over"] = leftovers(node, set(places(shape)))
    return row


def rows_of(batch: Any) -> list[dict[str, Any]]:
    as_integers = {
        name: batch.column(name).cast("int64").to_pylist()
        if batch.schema.field(name).type == columns.TIME
        else batch.column(name).to_pylist()
        for name in batch.schema.names
    }
    return [dict(zip(as_integers, row, strict=True)) for row in zip(*as_integers.values(), strict=True)]


def check(bodies: list[bytes], came_as: Shape) -> None:
    validated = VALIDATOR.validate(block_of(bodies, shape=came_as))
    rows = {row["ordinal"]: row for batch in validated.tables.values() for row in rows_of(batch)}
    rejections = {rejection.ordinal: rejection for rejection in validated.rejections}
    assert len(rows) + len(rejections) == len(bodies)
    assert validated.proven + validated.judged == len(bodies)
    for name, batch in validated.tables.items():
        batch.validate(full=True)
        assert batch.schema == columns.VALIDATED_SCHEMAS[name]
    for number, body in enumerate(bodies):
        want, ordinal = expected(body, came_as), 100 + number
        if isinstance(want, str):
            found = rejections[ordinal]
            assert found.reason == want or (want == "invalid" and found.reason == "time_out_of_range")
            if want != found.reason:
                assert "0000-" in found.detail
            assert found.body == body
            assert found.shape == came_as
            assert len(found.detail) <= 500
            found.detail.encode()
            continue
        row = rows[ordinal]
        extra = row.pop("extra")
        left = want.pop("left over")
        found_left = [] if extra is None else flattened(parse(extra)[0], {keys for keys, _ in left})
        assert found_left == left
        assert (extra is None) == (not left)
        for name, value in want.items():
            assert row[name] == value, name
        assert row["_offset"] == 7 * number
        assert row["_input"] == 3
        assert row["source"] == "front-door"
        assert row["received_at"] == 1_774_520_100_000_000 + number


def flattened(node: Node, ends: set[Any], path: tuple[str, ...] = ()) -> list[tuple[Any, str]]:
    found = []
    for _, key, inner in node.members or []:
        here = (*path, key)
        found += [(here, inner.text)] if here in ends else flattened(inner, ends, here)
    return found


def _search(drawn: st.SearchStrategy[dict[str, Any]], came_as: Shape) -> Callable[[], None]:
    """Return a search that has not been run: Hypothesis gives a function its settings once."""

    @given(st.lists(st.tuples(drawn, st.sampled_from(STYLES)), min_size=1, max_size=6), st.integers(0, 2**32))
    def search(trees: list[tuple[dict[str, Any], str]], seed: int) -> None:
        chance = random.Random(seed)
        check([write(tree, style, chance).encode() for tree, style in trees], came_as)

    return search


_SETTINGS = settings(
    max_examples=200,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)


def test_every_column_is_its_member_exactly_or_null_and_nothing_is_lost() -> None:
    _SETTINGS(_search(events(), "delivery"))()


def test_every_column_of_a_row_is_its_member_exactly_or_null_and_nothing_is_lost() -> None:
    settings(_SETTINGS, max_examples=100)(_search(rows(), "row"))()


@pytest.mark.soak
@pytest.mark.timeout(0)
def test_every_column_is_its_member_exactly_or_null_in_a_long_search() -> None:
    deadline = time.monotonic() + float(os.environ.get("SOAK_SECONDS", "600"))
    long = settings(_SETTINGS, database=None, suppress_health_check=list(HealthCheck))
    searches = long(_search(events(), "delivery")), long(_search(rows(), "row"))
    rounds = 0
    while time.monotonic() < deadline:
        searches[rounds % 2]()
        rounds += 1
    print(f"soak: {rounds * 200:,} blocks of up to 6 bodies")
