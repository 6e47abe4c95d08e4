"""Documents of ECS, held against its published fields and values."""

from __future__ import annotations

import json
from typing import Any

import pytest

from archiver.forward.actions import CLASSES, Actions, Choice
from archiver.forward.ecs import categorized
from tests.forward import ecs_shape
from tests.forward.payloads import FLAT, drawn, forms, made

HOSTILE = ("", " ", "\x00", "a\nb", "'; --", "{}", "[1]", "\u202e", "x" * 3000, "fe80::1%eth0", "1.2.3.4:80")


def test_every_document_has_the_published_shape() -> None:
    for body in drawn(400):
        ecs_shape.check(made("ecs", body))


@pytest.mark.parametrize("name", forms(FLAT))
def test_hostile_texts_have_the_published_shape(name: str) -> None:
    for text in HOSTILE:
        texts = {key: text for key, one in FLAT.items() if isinstance(one, str) and not key.endswith("_at")}
        ecs_shape.check(made("ecs", forms(texts | {"created_at": FLAT["created_at"]})[name]))


@pytest.mark.parametrize("value", [None, 5, 1.5, True, [], {}, ["x"], {"id": 7}])
def test_what_an_alert_repeats_may_be_of_any_type(value: Any) -> None:
    ecs_shape.check(made("ecs", forms(dict.fromkeys(FLAT, value))["alert"]))


@pytest.mark.parametrize("form", ["ecs", "ocsf"])
@pytest.mark.parametrize("value", [None, 5, True, [], {}, ["x"], {"id": 7}])
@pytest.mark.parametrize("member", ["resource", "targets", "actor_type", "ip_address", "ip_country"])
def test_a_member_of_an_event_may_be_of_any_type(form: str, member: str, value: Any) -> None:
    for name in ("flat", "nested", "row"):
        for action in ("document.created", "user.created", "role.granted", "group.created", "settings.read"):
            assert made(form, forms(FLAT | {"action": action, member: value})[name])


def test_categories_and_types_of_every_activity_are_expected_pairs() -> None:
    for uid, one in CLASSES.items():
        for activity in one.activities:
            for resource in (None, "settings", "document", 5):
                categories, types = categorized(Choice(uid, activity, {}, "Success"), resource)
                assert categories
                assert types
                for category in categories:
                    assert set(types) <= ecs_shape.PAIRS[category]


@pytest.mark.parametrize(
    ("action", "category", "types", "outcome"),
    [
        ("auth.login", "authentication", ["start"], "success"),
        ("auth.login_failed", "authentication", ["start"], "failure"),
        ("auth.logout", "authentication", ["end"], "success"),
        ("user.created", "iam", ["user", "creation"], "success"),
        ("role.granted", "iam", ["user", "change"], "success"),
        ("group.deleted", "iam", ["group", "deletion"], "success"),
        ("document.viewed", "api", ["access"], "success"),
        ("s3.DeleteBucket", "api", ["deletion"], "success"),
        ("some.thing", "api", ["info"], "unknown"),
        ("", "api", ["info"], "unknown"),
    ],
)
def test_an_action_tells_category_type_and_outcome(
    action: str, category: str, types: list[str], outcome: str
) -> None:
    event = made("ecs", forms(FLAT | {"action": action})["flat"])["event"]
    assert (event["category"], event["type"], event["outcome"]) == ([category], types, outcome)
    assert event["action"] == action


def test_an_event_stands_where_ecs_has_its_members() -> None:
    document = made("ecs", forms(FLAT)["flat"])
    assert document["@timestamp"] == "2026-03-26T10:15:00.000001Z"
    assert document["event"]["created"] == "2026-03-26T10:15:05.000000Z"
    assert document["event"]["id"] == FLAT["id"]
    assert document["organization"] == {"id": "ws_1"}
    assert document["user"] == {"id": "user_1", "name": "Auditor One"}
    assert document["source"] == {
        "address": "203.0.113.7",
        "ip": "203.0.113.7",
        "geo": {"country_iso_code": "NZ", "city_name": "Auckland"},
    }
    assert document["related"] == {"ip": ["203.0.113.7"], "user": ["user_1", "Auditor One"]}
    assert document["user_agent"] == {"original": "curl/8"}
    assert document["audit"]["resource"] == {"type": "document", "id": "doc_1", "name": "Draft"}
    assert document["audit"]["metadata"] == FLAT["metadata"]
    assert document["audit"]["other"] == {"data": {"unheard_of": {"x": [1.5]}}}


def test_an_alert_is_one() -> None:
    document = made("ecs", forms(FLAT)["alert"])
    assert document["event"]["kind"] == "alert"
    assert document["event"]["id"] == "alt_1"
    assert document["event"]["action"] == "document.updated"
    assert document["rule"] == {"name": "Night Shift", "category": "off_hours"}
    assert document["message"] == "between 22:00 and 06:00"
    assert document["user"]["id"] == "user_1"
    assert document["audit"]["event"]["id"] == FLAT["id"]


@pytest.mark.parametrize(
    "address", ["unknown", "203.0.113.7, 10.0.0.1", "fe80::1%eth0", "1.2.3.4:80", "01.2.3.4"]
)
def test_an_address_that_is_no_ip_address_is_an_address_alone(address: str) -> None:
    document = made("ecs", forms(FLAT | {"ip_address": address})["flat"])
    assert document["source"]["address"] == address
    assert "ip" not in document["source"]
    assert "ip" not in document["related"]


def test_a_hashed_member_stands_nowhere_in_clear() -> None:
    left = made("ecs", forms(FLAT)["flat"], hash=("actor_name", "ip_address"), drop=("metadata",))
    text = json.dumps(left)
    assert "Auditor One" not in text
    assert "203.0.113.7" not in text
    assert "4111" not in text
    assert left["related"]["user"][1].startswith("hmac-sha256:")
    assert left["source"]["address"] in left["event"]["original"]
    ecs_shape.check(left)


def test_what_is_done_to_an_account_names_it() -> None:
    flat = FLAT | {"action": "user.deleted", "resource": "user", "resource_id": "user_9"}
    document = made("ecs", forms(flat)["flat"])
    assert document["user"]["target"] == {"id": "user_9", "name": "Draft"}
    assert "user_9" in document["related"]["user"]
    assert Actions.load().of("user.deleted").class_uid == 3001
