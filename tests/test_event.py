"""The pieces of `event` and `jsontext`: instants, exact numbers, slices, forms."""

# ruff: noqa: E501  # tables of odd values, and bodies in one piece, read better wide

from __future__ import annotations

import sys

import orjson
import pyarrow as pa
import pytest
from jsonschema import Draft202012Validator

from archiver import columns
from archiver.event import (
    ALERT,
    EVENT,
    FORMS,
    LATEST_US,
    NESTED_EVENT,
    ROW_EVENT,
    form_of,
    parse_instant,
    read_instants,
    row_of,
    slices_of,
)
from archiver.jsontext import exact_int64, is_plain, is_too_deep, members, parse_strictly, writer_of
from tests.properties.event_bodies import INSTANTS


@pytest.mark.parametrize("text", INSTANTS)
def test_an_instant_is_what_the_judge_takes_for_one_and_year_0(text: str) -> None:
    judge = Draft202012Validator({"format": "date-time"}, format_checker=Draft202012Validator.FORMAT_CHECKER)
    assert (parse_instant(text) is not None) == (judge.is_valid(text) or text.startswith("0000-"))


def test_no_other_letter_becomes_t_or_z_in_upper_case() -> None:
    # The judge looks at text.upper(): a letter that turns into an ASCII one would pass there only.
    ascii_only = {chr(code) for code in range(sys.maxunicode + 1) if chr(code).upper() in "0123456789TZ+-:."}
    assert ascii_only == set("0123456789tTzZ+-:.")


@pytest.mark.parametrize(
    ("text", "microseconds", "finer"),
    [
        ("1970-01-01T00:00:00Z", 0, ""),
        ("1970-01-01T01:00:00.5+01:00", 500_000, ""),
        ("1969-12-31T23:59:59.9999999Z", -1, "9"),
        ("1969-12-31T00:00:00-23:59", -60_000_000, ""),
        ("0001-01-01T00:00:00Z", -62_135_596_800_000_000, ""),
        ("0000-12-31T23:59:59Z", -62_135_596_801_000_000, ""),
        ("0000-02-29T00:00:00Z", -62_135_596_800_000_000 - (366 - 59) * 86_400_000_000, ""),
        ("9999-12-31T23:59:59.999999999Z", LATEST_US, "999"),
        ("1970-01-01t00:00:00.1230004500z\n", 123_000, "45"),
    ],
)
def test_instants_are_floored_to_the_microsecond_in_utc(text: str, microseconds: int, finer: str) -> None:
    assert parse_instant(text) == (microseconds, finer)


def test_instants_that_bulk_does_not_read_for_certain_are_left_to_the_judge() -> None:
    read, doubtful = read_instants([None, *INSTANTS])
    for row, text in enumerate([None, *INSTANTS]):
        if text is None:
            assert not read[row].is_valid
            assert row not in doubtful
        elif row not in doubtful:
            assert read[row].value == parse_instant(text).microseconds
    assert len(doubtful) < len(INSTANTS)


@pytest.mark.parametrize("date", ["2026-06-31", "2023-02-29", "1900-02-29"])
def test_a_day_that_the_month_does_not_have_is_found_in_bulk(date: str) -> None:
    read, doubtful = read_instants(["2026-06-30T00:00:00Z", f"{date}T00:00:00Z", None])
    assert doubtful == [1]
    assert read.is_valid().to_pylist() == [True, False, False]
    assert read.type == columns.TIME


def test_a_column_without_instants_is_all_null() -> None:
    read, doubtful = read_instants([None, None])
    assert (read.null_count, doubtful, read.type) == (2, [], columns.TIME)


@pytest.mark.parametrize(
    ("number", "value"),
    [
        ("1.0", 1), ("1e2", 100), ("100e-2", 1), ("-0", 0), ("0e99999999999999999999", 0), ("1.5", None),
        ("9223372036854775807", 2**63 - 1), ("9223372036854775808", None), ("-9223372036854775808", -(2**63)),
        ("9007199254740993.0", 2**53 + 1), ("1e-400", None), ("1e999999999", None), ("1e18", 10**18),
        ("1e-99999999999999999999", None), ("1.00000000000000000000000000000000001", None), ("7" * 5000, None),
    ],
)  # fmt: skip
def test_an_integer_is_told_by_its_digits(number: str, value: int | None) -> None:
    assert exact_int64(number) == value


def test_members_are_slices_of_the_text() -> None:
    text = ' { "a\\u0062" :\t[1, {"x":2}] ,"":"}\\"",\n"n":1e400}'
    found = [(member.name, member.key, member.value) for member in members(text)]
    assert found == [
        ("ab", '"a\\u0062"', '[1, {"x":2}]'),
        ("", '""', '"}\\""'),
        ("n", '"n"', "1e400"),
    ]
    assert members("{ }") == []


def test_depth_is_counted_outside_strings_and_without_recursion() -> None:
    assert not is_too_deep("[" * 128 + "]" * 128)
    assert is_too_deep("[" * 129 + "]" * 129)
    assert is_too_deep('{"a":' * 1_000_000)
    assert not is_too_deep('"' + "[" * 1000 + '\\"[[' + '"')
    assert not is_too_deep("[[]," * 127 + "[]" * 300)
    assert not is_too_deep('"' + "\\[" * 1_000_000)


@pytest.mark.parametrize(
    "text", ['{"a":1,"a":1}', '[{"b":{"\\u0061":1,"a":2}}]', "NaN", "[-Infinity]", "\ufeff{}"]
)
def test_what_two_parsers_would_read_differently_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"a|NaN|Infinity|byte order"):
        parse_strictly(text)


@pytest.mark.parametrize(
    "odd", [10**30, 2**64, float("inf"), "\ud800", {"\ud800": None}, [{"a": float("-inf")}]]
)
def test_what_json_libraries_read_differently_is_not_plain(odd: object) -> None:
    assert not is_plain({"a": [None, odd]})
    assert is_plain({"a": [None, "null", 1, 1.5, 2**63, True, {}]})


@pytest.mark.parametrize(
    "body", [b'{"a":1,"a":1}', b'{"a":1e2}', b'{"a": 1,"b":2}', b'{"a":1}\n', b'{"a":"\\/"}', b"-0"]
)
def test_no_writer_vouches_for_a_body_that_it_would_not_write(body: bytes) -> None:
    assert writer_of(body, orjson.loads(body)) is None


@pytest.mark.parametrize(
    "text", ['{"a":"ł","b":[1.5]}', '{"a": "ł", "b": [1.5]}', '{"a": "\\u0142"}', '{"a":"\\u0142"}']
)
def test_the_common_styles_have_their_writer(text: str) -> None:
    tree = orjson.loads(text)
    writer = writer_of(text.encode(), tree)
    assert writer is not None
    assert writer(tree["a"]).decode() in text


@pytest.mark.parametrize(
    ("inner", "form"),
    [
        ({"actor": {"id": "a"}}, NESTED_EVENT),
        ({"actor": {"id": "a"}, "actor_id": None}, EVENT),
        ({"actor": "a"}, EVENT),
        ({"actor": None}, EVENT),
        ([], EVENT),
    ],
)
def test_the_nested_shape_has_an_actor_and_no_actor_id(inner: object, form: object) -> None:
    assert form_of({"event_type": "event.created", "data": inner}) is form


def test_event_types_are_told_exactly() -> None:
    assert form_of({"event_type": "alert.triggered"}) is ALERT
    for other in ("event.deleted", "EVENT.CREATED", "event.created\n", 1, None, ["event.created"], {}):
        assert form_of({"event_type": other}) is None


def test_every_column_of_a_form_has_exactly_one_place() -> None:
    def leaves(places: object) -> list[str]:
        return (
            [places]
            if isinstance(places, str)
            else [leaf for each in places.values() for leaf in leaves(each)]
        )

    for form in FORMS:
        # A row must not have an `event_type`: it is looked at, and no column is made of it.
        looked_at = ["event_type"] if form is ROW_EVENT else []
        assert sorted(leaves(form.places)) == sorted([*form.kinds, *looked_at])


NESTED_TEXT = (
    '{"event_type":"event.created","body":"mine","data":{"id":"e","actor":{"id":"a","email":"x", "name":null},'
    '"action":"b","resource":{"type":"document","owner":{"a" : 1}},"actor_name":"beside","workspace_id":17,'
    '"metadata": {"n":123456789012345678901234567890, "m":1e400}},"workspace_id":"w","timestamp":"2026-01-01T00:00:00Z"}'
)


def test_extra_mirrors_the_body_less_what_has_a_column() -> None:
    assert slices_of(NESTED_EVENT, NESTED_TEXT)["extra"] == (
        '{"body":"mine","data":{"actor":{"email":"x"},"resource":{"owner":{"a" : 1}},'
        '"actor_name":"beside","workspace_id":17}}'
    )


def test_json_columns_are_slices_of_the_body() -> None:
    row = row_of(NESTED_EVENT, NESTED_TEXT)
    assert row["metadata"] == '{"n":123456789012345678901234567890, "m":1e400}'
    assert (row["actor_id"], row["actor_name"], row["resource"], row["workspace_id"]) == (
        "a",
        None,
        "document",
        "w",
    )
    assert pa.array([row["metadata"]], pa.string())[0].as_py() in NESTED_TEXT
