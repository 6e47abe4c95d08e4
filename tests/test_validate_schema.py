"""A user's own schema: what it adds to ours, and which ones are refused."""

# ruff: noqa: E501  # tables of odd values read better wide

from __future__ import annotations

import json
from typing import Any

import pytest

from archiver.errors import ConfigError
from archiver.validate import Rules, Validator, check_schema
from tests.properties.event_bodies import block_of
from tests.validating import ALERT, GOOD, rejection, row, validated, with_data


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
