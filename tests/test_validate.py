"""The seam: blocks in, rows and rejections out. Each trap that a bulk reader fell into has its test."""

# ruff: noqa: E501  # tables of odd values, and bodies in one piece, read better wide

from __future__ import annotations

import gc
import json
import pickle
from typing import Any

import orjson
import pytest

from archiver.block import Block, Rejection
from archiver.errors import ConfigError
from archiver.validate import Rules, Validated, Validator, check_schema
from tests.properties.event_bodies import block_of

GOOD = (
    '{"event_type":"event.created","data":{"id":"e1","actor_id":"u","action":"a.b"},'
    '"workspace_id":"ws_1","timestamp":"2026-03-26T10:15:00.000000Z"}'
)
ALERT = '{"event_type":"alert.triggered","alert_id":"al_1","workspace_id":"ws_1","triggered_at":"2026-03-26T08:45:12Z"}'


def validated(
    *bodies: bytes | str, rules: Rules | None = None, streams: list[str | None] | None = None
) -> Validated:
    encoded = [body.encode("utf-8") if isinstance(body, str) else body for body in bodies]
    return Validator(rules or Rules("door")).validate(block_of(encoded, streams))


def with_data(members: str) -> str:
    """The good event with further members of `data`, as they are written."""
    return GOOD.replace('"action":"a.b"', '"action":"a.b",' + members)


def row(body: bytes | str, dataset: str = "events", **options: Any) -> dict[str, Any]:
    result = validated(body, **options)
    assert result.rejections == []
    batch = result.tables[dataset]
    assert batch.num_rows == 1
    found = {}
    for name in batch.schema.names:
        value = batch.column(name)[0]
        found[name] = (
            value.value if str(value.type).startswith("timestamp") and value.is_valid else value.as_py()
        )
    return found


def rejection(body: bytes | str, **options: Any) -> Rejection:
    result = validated(body, **options)
    assert result.tables == {}
    assert len(result.rejections) == 1
    found = result.rejections[0]
    assert found.body == (body if isinstance(body, bytes) else body.encode())
    assert len(found.detail) <= 500
    return found


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


# --- the traps, numbered as in the list of how bulk readers lie ------------------------------------


@pytest.mark.parametrize("value", ["17", '{"a":1}', "true", "[]"])
def test_trap_1_a_number_or_object_is_never_turned_into_text(value: str) -> None:
    found = rejection(with_data(f'"actor_name":{value}'))
    assert found.reason == "invalid"
    assert found.detail.startswith("data.actor_name: expected string or null, found ")


def test_trap_2_null_and_missing_give_null_and_the_body_tells_them_apart() -> None:
    body = with_data('"actor_name":null,"metadata":null,"targets":null,"version":null,"occurred_at":null')
    found = row(body)
    assert found["body"] == body
    assert [found[name] for name in ("actor_name", "metadata", "targets", "version", "occurred_at")] == [
        None
    ] * 5
    assert found["extra"] is None


@pytest.mark.parametrize("value", ["1.5", '"3"', "true", "1e400", "[1]"])
def test_trap_3_what_is_no_integer_is_no_version(value: str) -> None:
    assert rejection(with_data(f'"version":{value}')).reason == "invalid"


@pytest.mark.parametrize(
    ("value", "version"),
    [("1.0", 1), ("1e2", 100), ("-0", 0), ("9223372036854775807", 2**63 - 1), ("9223372036854775808", None),
     ("9007199254740993.0", 2**53 + 1), ("1e-400", None), ("1e300", None), ("7" * 30, None)],
)  # fmt: skip
def test_trap_3_integers_in_any_spelling_are_versions_if_they_fit(value: str, version: int | None) -> None:
    assert row(with_data(f'"version":{value}'))["version"] == version


@pytest.mark.parametrize("value", ["NaN", "Infinity", "-Infinity"])
def test_trap_4_words_for_numbers_are_refused(value: str) -> None:
    found = rejection(with_data(f'"metadata":{{"a":{value}}}'))
    assert (found.reason, found.event_id, found.workspace_id) == ("not_a_number", "e1", "ws_1")
    assert value in found.detail


@pytest.mark.parametrize(
    "value", ['{"a":1,}', '{"a":01}', '{"a":.5}', '{"a":1.}', '{"a":-nan}', '{"a":inf}', "{'a':1}"]
)
def test_trap_4_almost_json_is_not_json(value: str) -> None:
    assert rejection(with_data(f'"metadata":{value}')).reason == "not_json"


def test_trap_4_a_number_beyond_floats_is_kept_as_it_was_written() -> None:
    assert row(with_data('"metadata":{"a":1e400}'))["metadata"] == '{"a":1e400}'


@pytest.mark.parametrize("rubbish", [b"\xff", b"\xc3", b"\xed\xa0\x80", b"\xc0\xaf", b"\xf4\x90\x80\x80"])
def test_trap_5_what_is_not_utf8_is_refused(rubbish: bytes) -> None:
    found = rejection(with_data('"metadata":{"a":"?"}').encode().replace(b"?", rubbish))
    assert found.reason == "not_utf8"
    assert rejection(GOOD.encode("utf-16")).reason == "not_utf8"


def test_trap_6_a_lone_surrogate_gives_null_and_stays_in_the_body() -> None:
    body = with_data('"actor_name":"\\ud800","metadata":{"a":"\\ud800"},"x":"\\udfff"')
    found = row(body)
    assert (found["actor_name"], found["metadata"]) == (None, '{"a":"\\ud800"}')
    assert found["extra"] == '{"data":{"x":"\\udfff"}}'
    assert found["body"] == body
    assert row(with_data('"actor_name":"\\ud83d\\ude00"'))["actor_name"] == "\U0001f600"


@pytest.mark.parametrize(
    ("body", "name"),
    [
        (GOOD.replace('"id":"e1"', '"id":"e1","id":"e1"'), "id"),
        (GOOD.replace('"id":"e1"', '"id":"e1","\\u0069d":"e2"'), "id"),
        (with_data('"metadata":{"a":[{"deep":1,"deep":1}]}'), "deep"),
        ("{" + GOOD[1:-1] + "," + GOOD[1:-1] + "}", "event_type"),
    ],
)
def test_trap_7_a_member_that_stands_twice_is_refused_by_name(body: str, name: str) -> None:
    found = rejection(body)
    assert (found.reason, found.detail) == ("duplicate_member", f'body: two members "{name}"')
    assert found.event_id == ("e1" if name == "deep" else None)


@pytest.mark.parametrize("body", ["null", "17", '"text"', "[]", "[" + GOOD + "]", "true"])
def test_trap_8_json_that_is_no_object_is_invalid(body: str) -> None:
    assert rejection(body).reason == "invalid"


@pytest.mark.parametrize("body", [GOOD + GOOD, "\ufeff" + GOOD, GOOD + ",", GOOD + "\x00", GOOD[:-1]])
def test_trap_8_two_objects_a_byte_order_mark_or_a_tail_are_not_json(body: str) -> None:
    assert rejection(body).reason == "not_json"


@pytest.mark.parametrize("body", ["\n" + GOOD, GOOD + "\n", GOOD.replace(",", ",\n")])
def test_trap_9_line_breaks_between_members_are_kept(body: str) -> None:
    assert row(body)["body"] == body


def test_trap_10_the_end_of_a_pattern_is_the_end_of_the_text() -> None:
    country = json.dumps({"properties": {"data": {"properties": {"ip_country": {"pattern": "^[A-Z]{2}$"}}}}})
    rules = Rules("door", {"events": country})
    # Python's `$` lets a line break pass, and the judge is Python's.
    assert row(with_data('"ip_country":"GB\\n"'), rules=rules)["ip_country"] == "GB\n"
    assert rejection(with_data('"ip_country":"gb"'), rules=rules).reason == "invalid"
    hashed = with_data('"event_hash":"%s"')
    assert rejection(hashed % ("a" * 64 + "\\n")).reason == "invalid"
    assert rejection(hashed % ("a" * 63 + "\\u0661")).reason == "invalid"
    assert row(hashed % ("aB" * 32))["event_hash"] == "aB" * 32


def test_trap_10_dates_are_checked() -> None:
    found = rejection(GOOD.replace("2026-03-26T10", "2026-03-26 10"))
    assert (found.reason, found.detail) == (
        "invalid",
        'timestamp: expected a date-time, found "2026-03-26 10:15:00.000000Z"',
    )


def test_trap_11_big_integers_keep_all_their_digits() -> None:
    digits = "123456789012345678901234567890"
    assert row(with_data(f'"metadata":{{"n":{digits}}},"n":{digits}'))["metadata"] == f'{{"n":{digits}}}'
    assert row(with_data(f'"n":{digits}'))["extra"] == f'{{"data":{{"n":{digits}}}}}'


def test_trap_12_an_upper_case_uuid_and_a_short_fraction_stay_as_written() -> None:
    body = GOOD.replace("e1", "9B1DEB4D-3B7D-4BAD-9BDD-2B0D7B3DCB6D").replace("00.000000Z", "09.1Z")
    found = row(body)
    assert found["id"] == "9B1DEB4D-3B7D-4BAD-9BDD-2B0D7B3DCB6D"
    assert found["timestamp"] == 1_774_520_109_100_000
    assert found["body"] == body


@pytest.mark.parametrize("value", ["inf", "-nan", "+1", "0x10"])
def test_trap_14_what_another_parser_forgives_is_not_json(value: str) -> None:
    assert rejection(with_data(f'"metadata":{{"a":{value}}}')).reason == "not_json"


def test_trap_14_an_object_inside_text_stays_text() -> None:
    assert row(with_data('"actor_name":"{\\"a\\":1}"'))["actor_name"] == '{"a":1}'


@pytest.mark.parametrize("levels", [129, 300, 100_000])
def test_trap_16_deep_nesting_is_refused_before_anything_recurses(levels: int) -> None:
    body = with_data('"metadata":{"a":' + "[" * levels + "]" * levels + "}")
    assert rejection(body).reason == "too_deep"


def test_trap_16_128_levels_are_archived() -> None:
    deep = '{"a":' + "[" * 125 + "]" * 125 + "}"
    assert row(with_data(f'"metadata":{deep}'))["metadata"] == deep
    assert rejection(with_data(f'"metadata":[{deep}]')).reason == "too_deep"
    wide = '{"a":[' + ",".join(["[]"] * 500) + "]}"
    assert row(with_data(f'"metadata":{wide}'))["metadata"] == wide


@pytest.mark.parametrize(
    "instant",
    [
        "0000-01-01T00:00:00Z",
        "9999-12-31T23:59:59-01:00",
        "0001-01-01T00:00:00+00:01",
        "9999-12-31T23:59:60Z",
    ],
)
@pytest.mark.parametrize("member", ["timestamp", "occurred_at"])
def test_trap_16_and_18_instants_outside_the_calendar_have_their_reason(instant: str, member: str) -> None:
    good = "2026-03-26T10:15:00.000000Z"
    body = GOOD.replace(good, instant) if member == "timestamp" else with_data(f'"occurred_at":"{instant}"')
    found = rejection(body)
    assert found.reason == ("invalid" if ":60Z" in instant else "time_out_of_range")
    assert member in found.detail


def test_trap_18_a_judge_that_raises_is_a_rejection() -> None:
    cents = json.dumps(
        {"properties": {"data": {"properties": {"metadata": {"properties": {"n": {"multipleOf": 0.01}}}}}}}
    )
    rules = Rules("door", {"events": cents})
    found = rejection(with_data('"metadata":{"n":1e400}'), rules=rules)
    assert (found.reason, found.event_id) == ("unjudgeable", "e1")
    assert "OverflowError" in found.detail
    assert rejection(with_data('"metadata":{"n":' + "7" * 5000 + "}")).reason == "unjudgeable"


def test_trap_18_a_schema_without_end_makes_a_rejection() -> None:
    rules = Rules("door", {"events": '{"allOf":[{"$ref":"#"}]}'})
    found = rejection(GOOD, rules=rules)
    assert (found.reason, found.dataset) == ("unjudgeable", "events")
    assert "RecursionError" in found.detail


@pytest.mark.parametrize(
    "instant", ["2026-03-26T10:15:00.000000Z\\n", "2026-03-26t10:15:00z", "2026-03-26T11:15:00+01:00"]
)
def test_trap_18_what_the_judge_forgives_gives_an_exact_instant(instant: str) -> None:
    found = row(GOOD.replace("2026-03-26T10:15:00.000000Z", instant))
    assert found["timestamp"] == found["event_time"] == 1_774_520_100_000_000


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


# --- a user's own schema ---------------------------------------------------------------------------------------


def test_a_users_schema_adds_to_ours() -> None:
    strict = json.dumps(
        {"properties": {"data": {"required": ["resource"], "properties": {"resource": {"enum": ["doc"]}}}}}
    )
    rules = Rules("door", {"events": strict})
    assert rejection(GOOD, rules=rules).detail == "data: required, but missing: resource"
    assert (
        rejection(with_data('"resource":"user"'), rules=rules).detail
        == 'data.resource: expected ["doc"], found "user"'
    )
    assert row(with_data('"resource":"doc"'), rules=rules)["resource"] == "doc"
    assert rejection(GOOD.replace('"id":"e1"', '"id":1,"resource":"doc"'), rules=rules).reason == "invalid"
    assert row(ALERT, "alerts", rules=rules)["alert_id"] == "al_1"
    assert validated(with_data('"resource":"doc"'), rules=rules).proven == 1


@pytest.mark.parametrize(
    "schema",
    [
        {"not": {"required": ["nothing"]}},
        {"$defs": {"a": {"type": "object"}}, "$ref": "#/$defs/a"},
        {"unevaluatedProperties": True, "if": {"required": ["x"]}, "then": False},
        {"properties": {"timestamp": {"format": "date-time"}}},
        {"properties": {"data": {"properties": {"version": {"enum": [1]}}}}},
    ],
)
def test_any_other_keyword_goes_to_the_judge(schema: dict[str, Any]) -> None:
    result = validated(GOOD, rules=Rules("door", {"events": json.dumps(schema)}))
    assert (result.proven, result.judged, result.rejections) == (0, 1, [])


@pytest.mark.parametrize(
    "schema", [False, {"properties": {"event_type": False}}, {"additionalProperties": False}]
)
def test_a_schema_that_allows_nothing_rejects_all(schema: Any) -> None:
    found = rejection(GOOD, rules=Rules("door", {"events": json.dumps(schema)}))
    assert found.reason == "invalid"


@pytest.mark.parametrize(
    "text",
    [
        "", "[]", "{", '{"type":"text"}', '{"minLength":-1}', '{"pattern":"("}', '{"$ref":"https://example.com/s.json"}',
        '{"properties":{"a":{"items":{"$ref":"other.json"}}}}', '{"$ref":"#/$defs/missing"}', '{"a":1,"a":2}',
        '{"$schema":"http://json-schema.org/draft-07/schema#"}', '{"$dynamicRef":"#nowhere"}', '{"$ref":"file:///etc/hosts"}',
        '{"$id":"https://example.com/a.json","$ref":"b.json"}', '{"not":' * 200 + "true" + "}" * 200,
        '{"$ref":"#/x-parts/a","x-parts":{"a":{"$ref":"https://example.com/far"}}}', '{"$ref":5}', '{"type":NaN}',
    ],
)  # fmt: skip
def test_a_schema_that_cannot_judge_is_a_config_error(text: str) -> None:
    with pytest.raises(ConfigError):
        check_schema(text)
    with pytest.raises(ConfigError):
        Validator(Rules("door", {"events": text}))


@pytest.mark.parametrize(
    "text",
    [
        "true", "{}", '{"$ref":"https://json-schema.org/draft/2020-12/schema"}',
        '{"$id":"https://example.com/a.json","$defs":{"b":{"$id":"b.json"}},"$ref":"b.json"}',
        '{"$defs":{"n":{"$dynamicAnchor":"node"}},"$dynamicRef":"#node"}', '{"$anchor":"top","items":{"$ref":"#top"}}',
    ],
)  # fmt: skip
def test_a_schema_that_refers_to_itself_is_welcome(text: str) -> None:
    check_schema(text)
    Validator(Rules("door", {"alerts": text})).validate(block_of([ALERT.encode()]))


def test_a_schema_for_no_dataset_is_a_config_error() -> None:
    with pytest.raises(ConfigError, match="expected events or alerts"):
        Validator(Rules("door", {"event": "{}"}))


@pytest.mark.parametrize("name", ["iri", "no-such-format"])
def test_a_schema_with_a_format_that_nobody_checks_is_refused(name: str) -> None:
    with pytest.raises(ConfigError) as raised:
        check_schema(json.dumps({"properties": {"data": {"properties": {"x": {"format": name}}}}}))
    assert name in raised.value.message
