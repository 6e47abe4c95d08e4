"""Each trap that a bulk reader fell into has its test, numbered as in the list of how bulk readers lie."""

from __future__ import annotations

import json

import pytest

from archiver.validate import Rules
from tests.validating import GOOD, rejection, row, with_data


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
