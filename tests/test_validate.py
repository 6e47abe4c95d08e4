"""The seam: blocks in, rows and rejections out."""

from __future__ import annotations

import gc
import json
import pickle

import orjson
import pytest

from archiver.block import Block, Rejection
from archiver.validate import Rules, Validated, Validator
from tests.properties.event_bodies import block_of
from tests.validating import ALERT, GOOD, rejection, row, validated, with_data


def test_a_good_event_is_proven_and_keeps_its_bytes() -> None:
    result = validated(GOOD, ALERT)
    assert (result.proven, result.judged, result.rejections) == (2, 0, [])
    found = row(GOOD)
    assert found["body"] == GOOD
    assert (found["id"], found["actor_id"], found["action"], found["workspace_id"]) == (
        "e1",
        "u",
        "a.b",
        "ws_1",
    )
    assert found["timestamp"] == found["event_time"] == 1_774_520_100_000_000
    assert (found["shape"], found["source"], found["ordinal"], found["extra"]) == (
        "webhook",
        "door",
        100,
        None,
    )
    assert row(ALERT, "alerts")["event_time"] == row(ALERT, "alerts")["triggered_at"] == 1_774_514_712_000_000


def test_every_body_ends_as_one_row_or_one_rejection_in_the_order_of_ordinals() -> None:
    bodies = [
        body.encode()
        for number in range(1500)
        for body in (
            GOOD.replace("e1", f"e{number}"),
            GOOD.replace(":", ": " if number % 3 else " :"),
            "nonsense",
            ALERT,
            GOOD.replace("000000Z", "000000+00:00"),
        )[: 1 + number % 5]
    ]
    block = block_of(bodies)
    block.rejections.append(Rejection(99, "torn_frame", "", b"", 3, 0, 0))
    result = Validator(Rules("door")).validate(block)
    rows = [ordinal for batch in result.tables.values() for ordinal in batch.column("ordinal").to_pylist()]
    rejected = [each.ordinal for each in result.rejections]
    assert sorted(rows + rejected) == [99, *block.ordinals]
    assert rejected == sorted(rejected)
    for batch in result.tables.values():
        ordinals = batch.column("ordinal").to_pylist()
        assert ordinals == sorted(ordinals)
        for ordinal, body in zip(ordinals, batch.column("body").to_pylist(), strict=True):
            assert bodies[ordinal - 100].decode() == body
    assert result.proven + result.judged == len(bodies)


def test_an_empty_block_is_nothing() -> None:
    assert Validator(Rules("door")).validate(Block(0)) == Validated({}, [], 0, 0)


def test_rules_blocks_and_results_travel_between_processes() -> None:
    rules = Rules("door", {"events": '{"maxProperties":9}'}, {"s": frozenset({"ws_1"})})
    validator = Validator(pickle.loads(pickle.dumps(rules)))
    block = pickle.loads(pickle.dumps(block_of([GOOD.encode(), b"?"])))
    result = pickle.loads(pickle.dumps(validator.validate(block)))
    assert result.tables["events"].num_rows == len(result.rejections) == 1


def test_the_collector_is_left_as_it_was() -> None:
    validated(GOOD)
    assert gc.isenabled()
    gc.disable()
    try:
        validated(GOOD)
        assert not gc.isenabled()
    finally:
        gc.enable()


# --- forms and reasons -----------------------------------------------------------------------------------


def test_unknown_event_types_have_their_reason() -> None:
    found = rejection(GOOD.replace("event.created", "event.deleted"))
    assert (found.reason, found.dataset, found.workspace_id) == ("unknown_event_type", None, "ws_1")
    assert "event.deleted" in found.detail
    assert rejection(GOOD.replace('"event.created"', "1")).reason == "invalid"
    assert rejection("{}").detail == "event_type: expected a string, found none"


@pytest.mark.parametrize("name", ["id", "actor_id", "action"])
def test_each_required_member_is_required(name: str) -> None:
    found = rejection(GOOD.replace(f'"{name}"', f'"not_{name}"'))
    assert (found.reason, found.detail) == ("invalid", f"data: required, but missing: {name}")


@pytest.mark.parametrize("name", ["workspace_id", "timestamp", "data"])
def test_each_required_member_of_the_envelope_is_required(name: str) -> None:
    assert (
        rejection(GOOD.replace(f'"{name}"', f'"not_{name}"')).detail
        == f"event: required, but missing: {name}"
    )


def test_members_named_like_columns_never_get_into_a_column() -> None:
    found = row(
        with_data('"body":"x","source":"y","event_time":1,"workspace_id":"z","ordinal":5,"shape":"s"')
    )
    assert (found["source"], found["workspace_id"], found["ordinal"], found["shape"]) == (
        "door",
        "ws_1",
        100,
        "webhook",
    )
    assert json.loads(found["extra"])["data"] == {
        "body": "x", "source": "y", "event_time": 1, "workspace_id": "z", "ordinal": 5, "shape": "s"
    }  # fmt: skip


def test_an_unknown_member_of_the_envelope_goes_to_extra() -> None:
    found = row(GOOD[:-1] + ',"delivery":[1]}')
    assert found["extra"] == '{"delivery":[1]}'
    assert validated(GOOD[:-1] + ',"delivery":[1]}').proven == 1


def test_an_alert_may_have_members_named_like_those_of_events() -> None:
    body = ALERT[:-1] + ',"event_hash":[],"version":"x","timestamp":1,"data":{}}'
    for text in (body, body.replace(":", ": ").replace(": 45: ", ":45:"), " " + body):
        assert json.loads(row(text, "alerts")["extra"]).keys() == {
            "event_hash",
            "version",
            "timestamp",
            "data",
        }


def test_an_actor_beside_an_actor_id_is_an_unknown_member() -> None:
    found = row(with_data('"actor":{"id":"other"}'))
    assert (found["shape"], found["actor_id"], found["extra"]) == (
        "webhook",
        "u",
        '{"data":{"actor":{"id":"other"}}}',
    )


def test_the_nested_shape_is_read_into_the_flat_columns() -> None:
    body = GOOD.replace(
        '"actor_id":"u"', '"actor":{"id":"u","name":"N"},"resource":{"type":"t","id":"r","x":1}'
    )
    found = row(body)
    assert (found["shape"], found["actor_id"], found["actor_name"]) == ("nested", "u", "N")
    assert (found["resource"], found["resource_id"], found["resource_name"]) == ("t", "r", None)
    assert found["extra"] == '{"data":{"resource":{"x":1}}}'
    assert (
        rejection(GOOD.replace('"actor_id":"u"', '"actor":{}')).detail
        == "data.actor: required, but missing: id"
    )


def test_a_resource_object_in_the_flat_shape_is_invalid() -> None:
    assert rejection(with_data('"resource":{"type":"t"}')).reason == "invalid"


def test_identities_and_workspaces_that_cannot_be_stored_have_their_reasons() -> None:
    assert rejection(GOOD.replace("e1", "e\\ud800")).reason == "identity_not_storable"
    assert rejection(ALERT.replace("al_1", "\\udc00")).reason == "identity_not_storable"
    for workspace in ("\\ud800", "w" * 201, "/" * 67):
        assert rejection(GOOD.replace("ws_1", workspace)).reason == "workspace_not_storable"
    assert rejection(GOOD.replace("ws_1", "")).reason == "invalid"
    for workspace in ("../x", "a=b/c", "0012", "Łódź", "\\u0000"):
        assert row(GOOD.replace("ws_1", workspace))["workspace_id"] == json.loads(f'"{workspace}"')


def test_a_pinned_stream_writes_only_into_its_workspaces() -> None:
    rules = Rules("door", workspaces_of_stream={"tenant": frozenset({"ws_2"})})
    found = rejection(GOOD, rules=rules, streams=["tenant"])
    assert (found.reason, found.stream, found.workspace_id) == ("foreign_workspace", "tenant", "ws_1")
    assert row(GOOD.replace("ws_1", "ws_2"), rules=rules, streams=["tenant"])["source"] == "door/tenant"
    assert row(GOOD, rules=rules, streams=["unpinned"])["source"] == "door/unpinned"
    assert row(GOOD, rules=rules, streams=[None])["source"] == "door"
    assert rejection(" " + GOOD, rules=rules, streams=["tenant"]).reason == "foreign_workspace"


def test_details_are_bounded_and_can_always_be_written() -> None:
    for body in (
        with_data('"actor_name":["' + "x" * 100_000 + '"]'),
        with_data('"version":"' + "\\ud800" * 1000 + '"'),
        with_data('"targets":[' + ",".join(["1"] * 50_000) + "]"),
        GOOD.replace("event.created", "\\udfff" * 500),
        '{"' + "k" * 5000 + '":1,"' + "k" * 5000 + '":1}',
        with_data('"targets":[{"type":"t","metadata":' + "9" * 4000 + "}]"),
    ):
        found = rejection(body)
        assert len(found.detail.encode()) <= 1000
        orjson.dumps([found.detail, found.dataset, found.workspace_id, found.event_id])
