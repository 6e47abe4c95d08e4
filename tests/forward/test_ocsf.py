"""Events of OCSF, held against its published classes; and the table of actions."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from archiver.errors import ConfigError
from archiver.forward.actions import CLASSES, Actions
from tests.forward import ocsf_shape
from tests.forward.payloads import FLAT, drawn, forms, made

HOSTILE = ("", " ", "\x00", "a\nb", "*", "{}", "[1]", "\u202e", "x" * 3000, "fe80::1%eth0", "1.2.3.4:80")
USER = [{"type": "file", "id": "f"}, {"type": "user", "id": "user_2", "name": "Second"}]


def table(folder: Path, text: str) -> Actions:
    path = folder / "actions.toml"
    path.write_text(text, encoding="utf-8")
    return Actions.load(str(path))


# --- shape ----------------------------------------------------------------------------------------


def test_every_event_has_the_published_shape() -> None:
    seen = set()
    for body in drawn(500):
        event = made("ocsf", body)
        ocsf_shape.check(event)
        seen.add(event["class_uid"])
    assert {2004, 3001, 3002, 3004, 6003} <= seen


@pytest.mark.parametrize("uid", CLASSES)
@pytest.mark.parametrize("name", forms(FLAT))
def test_every_class_and_activity_has_the_published_shape(uid: int, name: str, tmp_path: Path) -> None:
    lines = [f'"act.{one}" = {{class = {uid}, activity = {one}}}\n' for one in CLASSES[uid].activities]
    path = tmp_path / "actions.toml"
    path.write_text("".join(lines))
    least = {"id": "1", "actor_id": "", "created_at": FLAT["created_at"]}
    for activity in CLASSES[uid].activities:
        for flat in (FLAT, FLAT | {"targets": USER}, least, FLAT | {"ip_address": "?", "resource": "user"}):
            event = made("ocsf", forms(flat | {"action": f"act.{activity}"})[name], ocsf_actions=str(path))
            ocsf_shape.check(event)
            if name == "flat":
                assert event["class_uid"] in (uid, 6003)


@pytest.mark.parametrize("name", forms(FLAT))
def test_hostile_texts_have_the_published_shape(name: str) -> None:
    for text in HOSTILE:
        texts = {key: text for key, one in FLAT.items() if isinstance(one, str) and not key.endswith("_at")}
        ocsf_shape.check(made("ocsf", forms(texts | {"created_at": FLAT["created_at"]})[name]))


@pytest.mark.parametrize("value", [None, 5, 1.5, True, [], {}, ["x"], {"id": 7}])
def test_what_an_alert_repeats_may_be_of_any_type(value: Any) -> None:
    ocsf_shape.check(made("ocsf", forms(dict.fromkeys(FLAT, value))["alert"]))


@pytest.mark.parametrize("drop", [("actor",), ("actor", "resource.*", "targets", "ip_address", "session_id")])
def test_what_is_dropped_leaves_the_published_shape(drop: tuple[str, ...]) -> None:
    for action in ("auth.login", "user.created", "role.granted", "team.created", "a.created", "x.y"):
        for body in forms(FLAT | {"action": action}).values():
            ocsf_shape.check(made("ocsf", body, drop=drop))


# --- what stands where ------------------------------------------------------------------------------


def test_an_authentication_has_its_user_session_and_outcome() -> None:
    event = made("ocsf", forms(FLAT | {"action": "auth.login_failed"})["nested"])
    assert (event["class_uid"], event["type_uid"], event["activity_name"]) == (3002, 300201, "Logon")
    assert (event["status_id"], event["status"]) == (2, "Failure")
    assert event["user"] == event["actor"]["user"]
    assert event["user"] == {"uid": "user_1", "name": "Auditor One", "type_id": 1, "type": "User"}
    assert event["session"] == {"uid": "ses_1"}
    assert event["time"] == 1_774_520_100_000
    assert event["src_endpoint"] == {"ip": "203.0.113.7", "location": {"country": "NZ", "city": "Auckland"}}
    assert event["metadata"]["uid"] == FLAT["id"]
    assert event["metadata"]["tenant_uid"] == "ws_1"
    assert event["unmapped"]["resource"] == {"type": "document", "id": "doc_1", "name": "Draft"}


def test_a_type_of_actor_is_one_that_is_known_and_what_it_was_is_kept() -> None:
    kinds = {"api_client": (4, "Service"), "system": (3, "System"), "robot": (99, "robot"), "": (99, "")}
    for kind, (number, caption) in kinds.items():
        event = made("ocsf", forms(FLAT | {"actor_type": kind})["flat"])
        user = event["actor"]["user"]
        assert (user["type_id"], user["type"]) == (number, caption)
        assert event["unmapped"].get("actor_type", caption.lower()) == kind


def test_an_entity_is_the_resource() -> None:
    event = made("ocsf", forms(FLAT)["row"])
    assert (event["class_uid"], event["activity_id"]) == (3004, 3)
    assert event["entity"] == {"uid": "doc_1", "name": "Draft", "type_id": 99, "type": "document"}
    assert event["unmapped"]["targets"] == FLAT["targets"]


def test_privileges_are_assigned_to_the_target() -> None:
    flat = FLAT | {"action": "role.granted", "resource": "role", "resource_name": "owner", "targets": USER}
    event = made("ocsf", forms(flat)["flat"])
    assert (event["class_uid"], event["privileges"]) == (3005, ["owner"])
    assert event["user"] == {"uid": "user_2", "name": "Second"}


def test_what_lacks_the_members_of_its_class_is_api_activity() -> None:
    event = made("ocsf", forms({"id": "1", "actor_id": "u", "action": "document.created"})["flat"])
    assert (event["class_uid"], event["activity_name"]) == (6003, "Create")
    assert event["api"]["operation"] == "document.created"


def test_an_action_that_nothing_knows_is_other_under_its_own_name() -> None:
    event = made("ocsf", forms(FLAT | {"action": "quux.frobnicated", "targets": USER})["flat"])
    assert (event["class_uid"], event["activity_id"]) == (6003, 99)
    assert event["activity_name"] == "frobnicated"
    assert event["status_id"] == 0
    assert [one["uid"] for one in event["resources"]] == ["doc_1", "f", "user_2"]


@pytest.mark.parametrize(
    ("action", "activity"),
    [
        ("iam.CreateUser", 1), ("s3.ListBuckets", 2), ("ec2.DescribeInstances", 2), ("kms.PutKeyPolicy", 1),
        ("report.exported", 2), ("ec2.TerminateInstances", 4), ("document.shared", 3), ("x", 99), ("", 99),
        ("file.upload-started", 1),
    ],
)  # fmt: skip
def test_the_verb_of_an_action_tells_its_activity(action: str, activity: int) -> None:
    choice = Actions.load().of(action)
    assert (choice.class_uid, choice.activity_id) == (6003, activity)


def test_an_alert_is_a_detection_finding() -> None:
    event = made("ocsf", forms(FLAT)["alert"])
    assert (event["class_uid"], event["type_uid"], event["is_alert"]) == (2004, 200401, True)
    assert event["finding_info"]["uid"] == "alt_1"
    assert event["finding_info"]["title"] == "Night Shift"
    assert event["finding_info"]["types"] == ["off_hours"]
    assert event["finding_info"]["related_events"] == [{"uid": FLAT["id"]}]
    assert event["evidences"][0]["actor"]["user"]["uid"] == "user_1"
    assert event["evidences"][0]["api"] == {"operation": "document.updated"}
    assert event["unmapped"]["other"] == {"severity": 3, "event": {"unheard_of": {"x": [1.5]}}}


# --- the table --------------------------------------------------------------------------------------


def test_a_users_table_counts_before_the_built_in_one_and_its_first_match_counts(tmp_path: Path) -> None:
    actions = table(
        tmp_path,
        '"billing.paid" = {class = 3004, activity = "Update", severity = "Low"}\n'
        '"billing.*" = {class = 6003, activity = 99, status = "Failure"}\n'
        '"auth.login" = {class = 6003, activity = "read"}\n',
    )
    paid, other = actions.of("billing.paid"), actions.of("billing.refunded")
    assert (paid.class_uid, paid.activity_id, paid.head["severity_id"]) == (3004, 3, 2)
    assert (other.class_uid, other.activity_id, other.status) == (6003, 99, "Failure")
    assert other.head["activity_name"] == "refunded"
    assert (actions.of("auth.login").class_uid, actions.of("auth.login").activity_id) == (6003, 2)
    assert actions.of("auth.logout").class_uid == 3002


def test_a_pattern_stands_for_whole_actions_and_a_dot_for_itself(tmp_path: Path) -> None:
    actions = table(tmp_path, '"a.b" = {class = 3002, activity = "Logon"}')
    assert actions.of("a.b").class_uid == 3002
    assert {actions.of(one).class_uid for one in ("a.bc", "xa.b", "aXb", "A.B")} == {6003}


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("x", "is no TOML"),
        ('"a" = 5', "must say a class"),
        ('a = {class = 3002}', "must say a class"),
        ('"" = {class = 3002, activity = 1}', "must say a class"),
        ('a = {class = 9, activity = 1}', "expected one of 3001"),
        ('a = {class = 2004, activity = 1}', "expected one of 3001"),
        ('a = {class = "3002", activity = 1}', "expected one of 3001"),
        ('a = {class = true, activity = 1}', "expected one of 3001"),
        ('a = {class = 3002, activity = "Logn"}', r"did you mean Logon\?"),
        ('a = {class = 3002, activity = 55}', "has no activity 55"),
        ('a = {class = 3002, activity = true}', "has no activity True"),
        ('a = {class = 3002, activity = 1, status = "ok"}', "status = 'ok'"),
        ('a = {class = 3002, activity = 1, severity = 3}', "severity = 3"),
        ('a = {class = 3002, activity = 1, color = 3}', "'color' means nothing"),
        ("[a.b]\nclass = 3002\nactivity = 1", "must say a class"),
    ],
)  # fmt: skip
def test_a_table_that_means_nothing_is_refused_by_its_line(line: str, told: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=told) as caught:
        table(tmp_path, line)
    assert "actions.toml" in str(caught.value)


def test_a_file_that_is_no_text_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "actions.toml"
    path.write_bytes(b"\xff\xfe")
    with pytest.raises(ConfigError, match="is not UTF-8"):
        Actions.load(str(path))
    with pytest.raises(ConfigError, match="cannot be read"):
        Actions.load(str(tmp_path))


def test_no_pattern_of_the_built_in_table_is_hidden_by_an_earlier_one() -> None:
    actions = Actions.load()
    rules = [rule for _, rule in actions._rules]
    for rule in rules:
        sample = rule.pattern.replace("*", "zz")
        first = next(one for pattern, one in actions._rules if pattern.fullmatch(sample))
        assert first == rule
