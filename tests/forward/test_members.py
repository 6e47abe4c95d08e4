"""What must not leave does not, wherever a body has it."""

from __future__ import annotations

import hashlib
import hmac
import json
import time
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from archiver.errors import ConfigError
from archiver.forward.exact import canonical, parse
from archiver.forward.members import PREFIX, Members, parse_path
from archiver.forward.settings import Destination
from archiver.secret import SecretPlace
from tests.forward.payloads import ENVIRONMENT, FLAT, KEY, forms, made

SECRET = "s3cr3t-value"
BODIES = ("flat", "nested", "row", "alert", "alert_nested", "alert_wrapped")
TEXTS = ("as_delivered", "ecs", "ocsf")


def members(**told: Any) -> Members:
    place = SecretPlace("the hash key", env="HASH_KEY")
    return Members(Destination("siem", "http", hash_key=place, **told), ENVIRONMENT)


def altered(tree: Any, **told: Any) -> Any:
    return members(**told).alter(json.loads(json.dumps(tree)))


def hashed(text: str) -> str:
    return PREFIX + hmac.new(KEY.encode(), text.encode(), hashlib.sha256).hexdigest()


# --- in every form ------------------------------------------------------------------------------


@pytest.mark.parametrize("body", BODIES)
@pytest.mark.parametrize("form", TEXTS)
@pytest.mark.parametrize("before", ["", "data.", "event.", "event.data."])
@pytest.mark.parametrize("way", ["drop", "hash"])
def test_a_flat_name_finds_its_member_in_every_form(body: str, form: str, before: str, way: str) -> None:
    texts = [name for name, one in FLAT.items() if isinstance(one, str) and name not in ("id", "action")]
    texts = [name for name in texts if not name.endswith(("_at", "_hash"))]
    flat = FLAT | {name: f"{SECRET} {name}" for name in texts}
    left = json.dumps(made(form, forms(flat)[body], **{way: [before + name for name in texts]}))
    assert SECRET not in left
    assert (PREFIX in left) == (way == "hash")


@pytest.mark.parametrize("body", BODIES)
@pytest.mark.parametrize(
    ("path", "flat"),
    [
        ("actor.name", "actor_name"),
        ("data.actor.id", "actor_id"),
        ("event.actor.type", "actor_type"),
        ("resource.name", "resource_name"),
        ("data.resource.type", "resource"),
        ("integrity.event_hash", "event_hash"),
        ("actor", "actor_name"),
        ("actor.*", "actor_id"),
        ("resource.*", "resource_name"),
        ("resource.*", "resource"),
        ("integrity", "event_hash"),
    ],
)
def test_a_nested_name_finds_its_member_in_every_form(body: str, path: str, flat: str) -> None:
    event = FLAT | {flat: SECRET}
    assert SECRET in json.dumps(made("as_delivered", forms(event)[body]))
    assert SECRET not in json.dumps(made("ocsf", forms(event)[body], drop=[path]))
    assert SECRET not in json.dumps(made("ecs", forms(event)[body], hash=[path]))


def test_resource_alone_is_the_type_and_leaves_the_other_members() -> None:
    for body in BODIES:
        left = json.dumps(made("as_delivered", forms(FLAT)[body], drop=["resource"]))
        assert '"document"' not in left
        assert "doc_1" in left
        assert "Draft" in left


@pytest.mark.parametrize("body", BODIES)
@pytest.mark.parametrize("form", TEXTS)
def test_members_within_metadata_and_targets_go_too(body: str, form: str) -> None:
    event = FLAT | {
        "targets": [{"type": "user", "id": "u", "name": SECRET}, {"type": "x", "metadata": {"k": SECRET}}],
        "metadata": {"card": SECRET, "list": [{"card": SECRET}, [{"card": SECRET}]], "a.b": SECRET},
    }
    drop = ["targets.*.name", "targets.metadata.k", "metadata.card", "metadata.list.card", "metadata.a.b"]
    assert SECRET not in json.dumps(made(form, forms(event)[body], drop=drop))


# --- where a member hides -------------------------------------------------------------------------


@pytest.mark.parametrize(
    "metadata",
    [
        {"card": SECRET},
        json.dumps({"card": SECRET}),
        " \n" + json.dumps({"card": SECRET, "n": 10**40}),
        json.dumps(json.dumps({"card": SECRET})),
        [{"card": SECRET}],
        json.dumps([{"card": SECRET}]),
        json.dumps({"card": SECRET}) + ",",
        '{"card": 1, "card": "SECRET"}'.replace("SECRET", SECRET),
        "\ufeff" + json.dumps({"card": SECRET}),
        '{"\\u0063ard": "SECRET"}'.replace("SECRET", SECRET),
        '{"card": "SECRET", "x": NaN}'.replace("SECRET", SECRET),
        "[" * 200 + SECRET + "]" * 200,
    ],
)
def test_text_that_holds_json_is_looked_into(metadata: Any) -> None:
    for way in ("drop", "hash"):
        left = altered(
            {"details": metadata, "metadata": metadata}, **{way: ("metadata.card", "details.card")}
        )
        assert SECRET not in json.dumps(left)


def test_text_that_holds_json_keeps_its_other_members_and_numbers() -> None:
    text = '{ "card":"x", "n":1234567890123456789012.50, "t":"\\ud800" }'
    left = altered({"metadata": text}, drop=("metadata.card",))
    assert left == {"metadata": '{"n":1234567890123456789012.50,"t":"\\ud800"}'}
    assert altered({"metadata": text}, drop=("metadata.other",)) == {"metadata": text}


@pytest.mark.parametrize("text", ["plain", '"quoted" words', "", "card"])
def test_text_that_is_no_json_stays(text: str) -> None:
    assert altered({"metadata": text}, drop=("metadata.card",)) == {"metadata": text}


def test_a_dot_may_be_part_of_a_name_unless_it_is_quoted() -> None:
    tree = {"metadata": {"a.b": 1, "a": {"b": 2, "c": 3}}, "metadata.a.b": 4}
    assert altered(tree, drop=("metadata.a.b",)) == {"metadata": {"a": {"c": 3}}}
    one = altered(tree, drop=('metadata."a.b"',))
    assert one == {"metadata": {"a": {"b": 2, "c": 3}}, "metadata.a.b": 4}
    assert altered({"metadata": {"*": 1, "x": 2}}, drop=('metadata."*"',)) == {"metadata": {"x": 2}}


def test_a_member_of_an_event_may_be_called_event_or_data() -> None:
    for path in ("event.x", "data.event.x", "data.data.x", "data.x", "x"):
        outer = path.split(".")[-2:-1]
        inner = {outer[0]: {"x": SECRET}} if outer else {"x": SECRET}
        for tree in ({"data": inner}, inner, {"event": inner}):
            assert SECRET not in json.dumps(altered(tree, drop=(path,)))


def test_a_star_is_each_element_and_each_member() -> None:
    tree = {"metadata": {"a": [1, None, "x"], "b": {"c": 1, "d": {"c": 2}}}}
    assert altered(tree, drop=("metadata.a.*", "metadata.b.*.c")) == {
        "metadata": {"a": [], "b": {"c": 1, "d": {}}}
    }
    assert altered(tree, hash=("metadata.a.*",))["metadata"]["a"] == [hashed("1"), None, hashed("x")]


def test_lists_within_lists_are_gone_into_in_no_time() -> None:
    tree: Any = {"card": SECRET}
    for _ in range(100):
        tree = [tree]
    told = members(drop=("metadata.*.*.*.*.card", "metadata.*.*.other"))
    began = time.process_time()
    assert SECRET not in json.dumps(told.alter({"metadata": tree}))
    assert time.process_time() - began < 0.5


def test_a_missing_member_is_no_error_and_null_stays() -> None:
    tree = {"data": {"actor_name": None, "metadata": None, "targets": 5}}
    paths = ("actor_name", "metadata.a.b", "targets.*.name", "nothing.at.all")
    assert altered(tree, hash=paths) == tree


# --- hashes --------------------------------------------------------------------------------------


def test_a_hash_is_hmac_sha256_of_a_texts_utf_8() -> None:
    left = altered({"data": {"actor_name": "Ärztin 🏔"}}, hash=("actor_name",))
    assert left == {"data": {"actor_name": hashed("Ärztin 🏔")}}


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("1", "1.0"),
        ("100", "1e2"),
        ("-0", "0"),
        ("1e29", "100000000000000000000000000000"),
        ("12345678901234567890123", "1.2345678901234567890123E22"),
        ("9007199254740993", "9007199254740993.00"),
        ('{"a":1,"b":[2.50]}', '{ "b": [2.5], "a": 1.0 }'),
        ('"\\u0041"', '"A"'),
    ],
)
def test_equal_values_have_equal_hashes(one: str, other: str) -> None:
    assert canonical(parse(b"[%b]" % one.encode())[0]) == canonical(parse(b"[%b]" % other.encode())[0])


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("9007199254740993", "9007199254740992"),
        ("0.1000000000000000055511151231257827", "0.1"),
        ("1e999999999999999999999", "1e999999999999999999998"),
        ("true", "1"),
        ("[1,2]", "[2,1]"),
        ("1e400", "1e401"),
    ],
)
def test_different_values_have_different_hashes(one: str, other: str) -> None:
    assert canonical(parse(b"[%b]" % one.encode())[0]) != canonical(parse(b"[%b]" % other.encode())[0])


def test_what_two_paths_name_is_hashed_once() -> None:
    left = altered({"metadata": {"card": "x"}}, hash=("metadata.*", "metadata.card", "data.metadata.card"))
    assert left == {"metadata": {"card": hashed("x")}}
    left = altered({"metadata": {"a": {"card": "x"}}}, hash=("metadata.*.card", "metadata.a.card"))
    assert left == {"metadata": {"a": {"card": hashed("x")}}}


@given(value=st.recursive(st.none() | st.booleans() | st.integers() | st.text(), st.lists, max_leaves=5))
@settings(max_examples=60, deadline=None)
def test_a_hash_depends_on_the_value_alone(value: Any) -> None:
    one = altered({"metadata": {"card": value}}, hash=("metadata.card",))
    other = altered({"data": {"metadata": {"x": 1, "card": value}}}, hash=("metadata.card",))
    assert one["metadata"]["card"] == other["data"]["metadata"]["card"]
    assert (value is None) == (one["metadata"]["card"] is None)


# --- paths ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "path",
    [
        "",
        ".",
        "a.",
        ".a",
        "a..b",
        "a[0]",
        'a"b"',
        '"a',
        '""',
        'a."b"c',
        " a",
        "a ",
        "a\n",
        "a.b." * 4,
        "a\\.b",
    ],
)
def test_what_is_no_path_is_refused(path: str) -> None:
    with pytest.raises(ConfigError):
        parse_path(path)
    with pytest.raises(ConfigError, match="destination siem: drop"):
        members(drop=(path,))


@pytest.mark.parametrize(
    "path", ["data", "*", "data.*", "event.data", "event.data.*", "id", "data.id", "action", "workspace_id"]
)
def test_what_says_which_event_it_is_cannot_be_taken_away(path: str) -> None:
    with pytest.raises(ConfigError):
        members(drop=(path,))


def test_a_member_is_dropped_or_hashed_and_not_both() -> None:
    with pytest.raises(ConfigError, match="in drop and in hash"):
        members(drop=("data.actor.name",), hash=("actor_name",))
    assert altered({"metadata": {"a": 1, "b": "x"}}, drop=("metadata.a",), hash=("metadata",)) == {
        "metadata": hashed('{"b":"x"}')
    }


def test_a_short_or_missing_key_is_refused_and_not_shown() -> None:
    destination = Destination("siem", "http", hash=("actor_name",), hash_key=SecretPlace("the key", env="K"))
    for environment in ({}, {"K": "hunter2"}):
        with pytest.raises(ConfigError) as caught:
            Members(destination, environment)
        assert "hunter2" not in f"{caught.value} {caught.value.hint}"
    assert KEY not in repr(members(hash=("actor_name",)))
