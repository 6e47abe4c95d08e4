"""When two bodies of one identity are the same event, more of it, or another."""

# ruff: noqa: E501  # tables of odd values, and bodies in one piece, read better wide

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from archiver.compare import canonical_tree, compare, difference, merge
from archiver.errors import IntegrityError


def webhook(envelope: dict[str, Any] | None = None, **inner: Any) -> dict[str, Any]:
    event = {"id": "e", "actor_id": "a", "action": "b", **inner}
    whole = {
        "event_type": "event.created",
        "data": event,
        "workspace_id": "w",
        "timestamp": "2026-01-01T00:00:00Z",
    }
    return canonical_tree(json.dumps(whole | (envelope or {})), "webhook")


def test_the_time_of_delivery_makes_no_other_event() -> None:
    assert compare(webhook(), webhook({"timestamp": "2026-01-01T00:05:00Z"})) == "duplicate"


def test_null_and_missing_are_the_same() -> None:
    assert compare(webhook(), webhook(actor_name=None, metadata=None)) == "duplicate"
    assert compare(webhook(metadata={"a": {}}), webhook(metadata={"a": {"b": None}})) == "duplicate"
    assert compare(webhook(actor_name="A"), webhook(actor_name=None)) == "duplicate"


def test_less_is_a_duplicate_and_more_a_supplement() -> None:
    less, more = webhook(), webhook(version=1, metadata={"a": {"b": 1}})
    assert compare(more, less) == "duplicate"
    assert compare(less, more) == "supplement"
    assert compare(webhook(metadata={"a": {}}), more) == "supplement"


def test_a_contradiction_at_any_depth_is_a_conflict_even_beside_more() -> None:
    assert (
        compare(webhook(metadata={"a": {"b": 1}}), webhook(version=1, metadata={"a": {"b": 2}})) == "conflict"
    )
    assert compare(webhook(metadata={}), webhook(metadata={"x": 1}, action="c")) == "conflict"


@pytest.mark.parametrize(
    ("known", "new"),
    [
        ([], [1]),
        ([1, 2], [2, 1]),
        ([{"a": 1}], [{"a": 1, "b": 2}]),
        ([1], [True]),
        ([None], []),
        ({}, []),
        ("1", 1),
    ],
)
def test_arrays_and_kinds_are_equal_or_contradict(known: object, new: object) -> None:
    assert compare(webhook(x=known), webhook(x=new)) == "conflict"
    assert compare(webhook(x=new), webhook(x=new)) == "duplicate"


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("1", "1.0", True), ("100", "1e2", True), ("1", "true", False), ("0", "false", False), ("0", "-0", True),
        ("123456789012345678901234567890", "123456789012345678901234567891", False), ("1e400", "1e401", False),
        ("1e400", "10e399", True), ("0.1", "0.10000000000000000001", False), ("7" * 5000, "7" * 5000 + ".0", True),
        ("1e9999999999999999999", "1e9999999999999999999", True), ("1e9999999999999999999", "1", False),
    ],
)  # fmt: skip
def test_numbers_are_compared_by_their_exact_value(one: str, other: str, same: bool) -> None:
    trees = [canonical_tree('{"m":{"n":%s}}' % number, "row") for number in (one, other)]  # noqa: UP031
    assert compare(*trees) == ("duplicate" if same else "conflict")


def test_times_are_compared_as_instants_and_beyond_the_microsecond() -> None:
    one = webhook(occurred_at="2026-01-01T00:00:00.1Z")
    assert compare(one, webhook(occurred_at="2026-01-01T01:00:00.100000000+01:00")) == "duplicate"
    assert compare(one, webhook(occurred_at="2026-01-01T00:00:00.1000001Z")) == "conflict"
    assert compare(webhook(x="2026-01-01T00:00:00.1Z"), webhook(x="2026-01-01T00:00:00.10Z")) == "conflict"


def test_the_nested_shape_the_flat_one_and_a_row_tell_the_same() -> None:
    nested = {
        "id": "e",
        "actor": {"id": "a", "name": "A"},
        "action": "b",
        "resource": {"type": "t", "id": "r"},
    }
    nested |= {"integrity": {"event_hash": "0" * 64, "previous_event_hash": None}}
    flat = {"actor_name": "A", "resource": "t", "resource_id": "r", "event_hash": "0" * 64}
    envelope = {"event_type": "event.created", "workspace_id": "w", "timestamp": "2026-01-01T00:00:00Z"}
    one = canonical_tree(json.dumps(envelope | {"data": nested}).encode(), "nested")
    assert one == webhook(**flat)
    row = canonical_tree(
        json.dumps({"id": "e", "actor_id": "a", "action": "b", "workspace_id": "w"} | flat), "row"
    )
    assert row == one


def test_unknown_members_keep_their_place_and_never_hide_another() -> None:
    tree = webhook({"note": 1}, workspace_id="other", timestamp="x", note=2)
    assert tree["workspace_id"] == "w"
    assert tree["(data)"] == {"workspace_id": "other", "timestamp": "x"}
    assert tree["(envelope)"] == {"note": 1}
    assert tree["note"] == 2
    nested = {"id": "e", "actor": {"id": "a", "email": "x"}, "action": "b", "actor_id2": "y"}
    whole = {"event_type": "event.created", "workspace_id": "w", "timestamp": "t", "data": nested}
    assert canonical_tree(json.dumps(whole), "nested")["(actor)"] == {"email": "x"}
    assert compare(webhook({"note": 1}), webhook({"note": 2})) == "conflict"
    assert compare(webhook(workspace_id="v"), webhook(workspace_id="u")) == "conflict"


def test_alerts_are_compared_by_all_they_say() -> None:
    alert = {"event_type": "alert.triggered", "alert_id": "x", "workspace_id": "w", "event": {"id": "e"}}
    one = canonical_tree(json.dumps(alert | {"triggered_at": "2026-01-01T00:00:00Z"}), "webhook")
    other = canonical_tree(json.dumps(alert | {"triggered_at": "2026-01-01T00:00:00.000z"}), "webhook")
    assert compare(one, other) == "duplicate"
    more = canonical_tree(json.dumps(alert | {"event": {"id": "e", "action": "a"}}), "webhook")
    assert compare(one, more) == "supplement"


def test_differences_are_named_shortly_and_are_few() -> None:
    known = webhook(
        actor_name="Sarah\x1b[31m", metadata={"a": {"b": 1}, "t": True}, occurred_at="2026-01-01T00:00:00Z"
    )
    new = webhook(
        actor_name="x" * 10_000,
        metadata={"a": {"b": 2}, "t": [1]},
        occurred_at="2026-01-02T00:00:00Z",
        more=1,
    )
    lines = difference(known, new)
    assert 'actor_name: archived "Sarah\\u001b[31m", delivered "' in lines[0]
    assert "metadata.a.b: archived 1, delivered 2" in lines
    assert "metadata.t: archived true, delivered an array of 1 elements" in lines
    assert "occurred_at: archived 2026-01-01T00:00:00, delivered 2026-01-02T00:00:00" in lines
    assert max(map(len, lines)) < 500
    many = {f"m{number}": number for number in range(50)}
    assert len(difference(webhook(**many), webhook(**dict.fromkeys(many, "x")))) == 10
    assert difference(known, known) == []


@pytest.mark.parametrize("body", [b"\xff", b"[]", b"{", b"null"])
def test_a_body_that_is_no_event_is_damage(body: bytes) -> None:
    with pytest.raises(IntegrityError, match="expected an archived event"):
        canonical_tree(body, "webhook")


trees = st.dictionaries(
    st.sampled_from("abc"),
    st.recursive(
        st.integers(0, 1) | st.booleans() | st.none(),
        lambda inner: (
            st.dictionaries(st.sampled_from("abc"), inner, max_size=3) | st.lists(inner, max_size=2)
        ),
        max_leaves=5,
    ),
)


@given(trees, trees)
def test_after_a_merge_both_are_told_already(one: dict[str, Any], other: dict[str, Any]) -> None:
    known, new = (canonical_tree(json.dumps(tree), "row") for tree in (one, other))
    verdict = compare(known, new)
    whole = merge(known, new)
    assert compare(whole, known) == "duplicate"
    assert (verdict == "conflict") == bool(difference(known, new))
    assert (verdict == "conflict") == (compare(new, known) == "conflict")
    if verdict != "conflict":
        assert compare(whole, new) == "duplicate"
        assert (verdict == "duplicate") == (compare(known, whole) == "duplicate")
