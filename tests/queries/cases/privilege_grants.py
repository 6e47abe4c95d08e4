"""Cases of `privilege_grants`."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from tests.queries.case import Case, Delivery, at, delivery


def _user(identity: str | None, role: str | None = None) -> dict[str, Any]:
    target: dict[str, Any] = {"type": "user"}
    if identity is not None:
        target["id"] = identity
    if role is not None:
        target["metadata"] = {"role": role}
    return target


def _request(**parameters: Any) -> dict[str, Any]:
    return {"requestParameters": parameters}


def _with_half_an_emoji(whole: Delivery) -> Delivery:
    """The escape is valid JSON, and no text can hold what it means."""
    return replace(whole, body=whole.body.replace(b"HALF", rb"\ud83d"))


GRANTS = (
    "badge.granted", "Role.Assigned", "permission.added", "api_key.created", "user.invited", "member.added",
    "iam.AttachGroupPolicy", "iam.PutUserPolicy", "iam.CreateUser", "iam.CreateAccessKey",
    "iam.CreateLoginProfile", "iam.UpdateLoginProfile", "iam.CreatePolicyVersion", "iam.AddUserToGroup",
    "iam.SetDefaultPolicyVersion", "iam.UpdateAssumeRolePolicy", "s3.PutBucketPolicy", "s3.PutObjectAcl",
    "lambda.AddPermission20150331v2", "ec2.ModifyImageAttribute", "ec2.ModifySnapshotAttribute",
    "rds.ModifyDBSnapshotAttribute", "rds.ModifyDBClusterSnapshotAttribute",
    "rolesanywhere.CreateTrustAnchor",
)  # fmt: skip
NO_GRANTS = (
    "role.revoked", "member.removed", "api_key.deleted", "permission.expired", "user.created",
    "iam.GetUserPolicy", "iam.DeleteAccessKey", "s3.GetBucketAcl", "lambda.RemovePermission20150331v2",
)  # fmt: skip
GIVEN = ("actor_id", "action", "given_to", "given", "is_to_self", "has_more_targets")

CASES = [
    Case(
        "grants_to_oneself_come_first",
        "privilege_grants",
        (
            delivery("a", "29 10:00:00", "admin", "role.granted", targets=[_user("bob", "editor")]),
            delivery(
                "b",
                "29 11:00:00",
                "mallory",
                "role.granted",
                resource_id="role_owner",
                targets=[_user("mallory", "owner")],
                ip_country=None,
            ),
        ),
        (
            (
                at("29 11:00:00"),
                "ws_1",
                "mallory",
                "Mallory",
                "role.granted",
                "mallory",
                "owner",
                True,
                False,
                None,
                "b",
            ),
            (
                at("29 10:00:00"),
                "ws_1",
                "admin",
                "Admin",
                "role.granted",
                "bob",
                "editor",
                False,
                False,
                "DE",
                "a",
            ),
        ),
    ),
    Case(
        "five_targets_are_shown_and_whether_there_are_more",
        "privilege_grants",
        (
            delivery("a", "29 10:00:00", "admin", "role.granted", targets=[_user(f"u{n}") for n in range(5)]),
            delivery("b", "29 10:01:00", "admin", "role.granted", targets=[_user(f"u{n}") for n in range(6)]),
            delivery(
                "c",
                "29 10:02:00",
                "u4",
                "permission.granted",
                resource_id="p1",
                targets=[_user(None), _user("u2", "viewer"), _user(None, "editor"), _user("u3"), _user("u4")],
            ),
            delivery("d", "29 10:03:00", "u5", "role.granted", targets=[_user(f"u{n}") for n in range(6)]),
        ),
        (
            ("u4", "permission.granted", "u2, u3, u4", "viewer, editor", True, False),
            ("admin", "role.granted", "u0, u1, u2, u3, u4", None, False, False),
            ("admin", "role.granted", "u0, u1, u2, u3, u4", None, False, True),
            ("u5", "role.granted", "u0, u1, u2, u3, u4", None, False, True),
        ),
        GIVEN,
    ),
    Case(
        "without_targets_it_is_the_resource_that_was_given_and_what_is_taken_away_is_left_out",
        "privilege_grants",
        (
            delivery("a", "29 10:00:00", "admin", "api_key.created", resource_id="key_1"),
            delivery("b", "29 10:01:00", "admin", "member.added", resource_id="team_1", targets=[]),
            delivery("c", "29 10:02:00", "admin", "user.invited"),
            delivery("d", "29 10:03:00", "admin", "role.revoked", resource_id="role_1"),
            delivery("e", "29 10:04:00", "admin", "api_key.deleted", resource_id="key_1"),
            delivery("f", "29 10:05:00", "admin", "member.removed", resource_id="team_1"),
            delivery("g", "29 10:06:00", "admin", "roles.viewed", resource_id="role_1"),
            delivery("h", "29 10:07:00", "admin", "user.login"),
        ),
        (
            ("admin", "api_key.created", None, "key_1", False, False),
            ("admin", "member.added", None, "team_1", False, False),
            ("admin", "user.invited", None, None, False, False),
        ),
        GIVEN,
    ),
    Case(
        "what_an_aws_request_names_is_read_from_its_metadata",
        "privilege_grants",
        (
            delivery(
                "a",
                "29 10:00:00",
                "arn:aws:iam::1:user/eve",
                "iam.AttachUserPolicy",
                actor_name="eve",
                metadata=_request(userName="helper", policyArn="arn:aws:iam::aws:policy/AdministratorAccess"),
            ),
            delivery(
                "b",
                "29 10:01:00",
                "arn:aws:iam::1:user/eve",
                "iam.CreateAccessKey",
                actor_name="eve",
                metadata=_request(userName="eve"),
            ),
            delivery(
                "c",
                "29 10:02:00",
                "arn:aws:iam::1:user/eve",
                "iam.PutRolePolicy",
                actor_name="eve",
                metadata=_request(roleName="deploy", policyName="inline"),
            ),
            delivery(
                "d",
                "29 10:03:00",
                "arn:aws:iam::1:user/eve",
                "lambda.AddPermission20150331v2",
                metadata=_request(principal="*", action="lambda:InvokeFunction"),
            ),
            delivery("e", "29 10:04:00", "arn:aws:iam::1:user/eve", "iam.ListAttachedRolePolicies"),
            delivery("f", "29 10:05:00", "arn:aws:iam::1:user/eve", "iam.DetachUserPolicy"),
        ),
        (
            ("b", "iam.CreateAccessKey", "eve", None, True),
            ("a", "iam.AttachUserPolicy", "helper", "arn:aws:iam::aws:policy/AdministratorAccess", False),
            ("c", "iam.PutRolePolicy", "deploy", "inline", False),
            ("d", "lambda.AddPermission20150331v2", "*", "lambda:InvokeFunction", False),
        ),
        ("id", "action", "given_to", "given", "is_to_self"),
    ),
    Case(
        "half_an_emoji_in_the_targets_hides_them_and_nothing_else",
        "privilege_grants",
        (
            delivery("a", "29 10:00:00", "admin", "role.granted", targets=[_user("\U0001f511", "a, b")]),
            _with_half_an_emoji(
                delivery(
                    "b",
                    "29 10:01:00",
                    "admin",
                    "role.granted",
                    resource_id="role_1",
                    metadata=_request(userName="HALF"),
                    targets=[_user("HALF", "owner")],
                )
            ),
        ),
        (("a", "\U0001f511", "a, b"), ("b", None, "role_1")),
        ("id", "given_to", "given"),
    ),
    Case(
        "other_actions_can_be_asked_for_and_grants_to_oneself_alone",
        "privilege_grants",
        (
            delivery("a", "29 12:00:00", "eve", "Badge.Issued", targets=[_user("eve")]),
            delivery("b", "29 12:00:00", "eve", "badge.issued", targets=[_user("bob")]),
            delivery("c", "29 12:00:00", "eve", "role.granted", targets=[_user("eve")]),
            delivery("d", "30 12:00:00", "eve", "badge.issued", targets=[_user("eve")]),
            delivery("e", "29 11:59:59.999999", "eve", "badge.issued", targets=[_user("eve")]),
            delivery("f", "29 12:00:00", "eve", "badge.issued", targets=[_user("eve")], workspace="ws_2"),
        ),
        (("a",),),
        ("id",),
        {
            "action": "BADGE.%",
            "only_to_self": True,
            "since": "2026-03-29T12:00:00Z",
            "until": "2026-03-30T12:00:00Z",
            "workspace": "ws_1",
        },
    ),
    Case(
        "what_is_a_grant_is_listed_and_its_opposite_left_out",
        "privilege_grants",
        tuple(
            delivery(f"{n:02d}", f"29 10:{n:02d}:00", "admin", action)
            for n, action in enumerate((*GRANTS, *NO_GRANTS))
        ),
        tuple((action,) for action in GRANTS),
        ("action",),
    ),
    Case("no_events_no_rows", "privilege_grants", (), ()),
]
