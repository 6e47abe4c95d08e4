"""Cases of `mass_deletion`."""

from __future__ import annotations

from typing import Any

from tests.queries.case import Case, Delivery, at, delivery

SHORT = ("first_at", "last_at", "workspace_id", "actor_id", "deletions")


def _deleted(event_id: str, when: str, actor: str = "mallory", **more: Any) -> Delivery:
    return delivery(event_id, when, actor, "document.deleted", **more)


CASES = [
    Case(
        "a_window_that_is_just_full_counts_and_one_microsecond_more_does_not",
        "mass_deletion",
        (
            _deleted("a", "29 10:00:00", resource="document", resource_id="d1"),
            _deleted("b", "29 10:07:00", resource="document", resource_id="d1", ip_country="NZ"),
            _deleted("c", "29 10:15:00", resource_id="d1", ip_country=None),
            _deleted("d", "29 10:00:00", "slow"),
            _deleted("e", "29 10:07:00", "slow"),
            _deleted("f", "29 10:15:00.000001", "slow"),
            _deleted("g", "29 10:00:00", "few"),
            _deleted("h", "29 10:00:01", "few"),
        ),
        (
            (
                at("29 10:00:00"),
                at("29 10:15:00"),
                "ws_1",
                "mallory",
                "Mallory",
                3,
                2,
                1,
                "document.deleted",
                2,
                "DE",
                "a",
            ),
        ),
        parameters={"at_least": 3},
    ),
    Case(
        "windows_that_overlap_are_one_burst",
        "mass_deletion",
        (
            _deleted("a", "29 23:51:00"),
            _deleted("b", "30 00:00:00"),
            _deleted("c", "30 00:10:00"),
            _deleted("d", "30 00:21:00"),  # eleven minutes later: another
            _deleted("e", "30 00:22:00"),
            _deleted("f", "30 00:40:00"),  # alone
        ),
        (
            (at("29 23:51:00"), at("30 00:10:00"), "ws_1", "mallory", 3),
            (at("30 00:21:00"), at("30 00:22:00"), "ws_1", "mallory", 2),
        ),
        SHORT,
        {"at_least": 2, "within_minutes": 10},
    ),
    Case(
        "what_is_called_otherwise_is_deletion_too_and_look_alikes_are_not",
        "mass_deletion",
        (
            delivery("a", "29 10:00:00", "mallory", "s3.DeleteObject"),
            delivery("b", "29 10:00:00", "mallory", "ec2.TerminateInstances"),
            delivery("c", "29 10:00:00", "mallory", "document.deleted"),
            delivery("d", "29 10:00:00", "mallory", "document.exported"),
            delivery("e", "29 10:00:00", "mallory", "document.depleted"),
            *(delivery(f"x{n}", "29 10:00:00", "writer", "document.updated") for n in range(4)),
        ),
        (("mallory", 3, 0, 3, "document.deleted", "a"),),
        ("actor_id", "deletions", "resources", "actions", "an_action", "first_id"),
        {"at_least": 3},
    ),
    Case(
        "actors_and_workspaces_are_kept_apart_and_only_the_time_asked_for_counts",
        "mass_deletion",
        (
            _deleted("a", "29 11:59:59.999999"),
            _deleted("b", "29 12:00:00"),
            _deleted("c", "29 12:00:00"),
            _deleted("d", "29 12:00:00", workspace="ws_2"),
            _deleted("e", "29 12:00:00", "other"),
            _deleted("f", "30 11:59:00", "last"),
            _deleted("g", "30 11:59:59.999999", "last"),
            _deleted("h", "30 12:00:00", "last"),
        ),
        (
            (at("29 12:00:00"), at("29 12:00:00"), "ws_1", "mallory", 2),
            (at("30 11:59:00"), at("30 11:59:59.999999"), "ws_1", "last", 2),
        ),
        SHORT,
        {"since": "2026-03-29T12:00:00Z", "until": "2026-03-30T12:00:00Z", "at_least": 2},
    ),
    Case(
        "bursts_of_one_name_in_two_workspaces_are_two",
        "mass_deletion",
        (
            *(_deleted(f"a{n}", f"29 10:0{2 * n}:00") for n in range(3)),
            *(_deleted(f"b{n}", f"29 10:0{2 * n + 1}:00", workspace="ws_2") for n in range(3)),
        ),
        (("ws_1", 3, "a0"), ("ws_2", 3, "b0")),
        ("workspace_id", "deletions", "first_id"),
        {"at_least": 3},
    ),
    Case(
        "one_at_least_tells_everybody_and_one_workspace_alone_can_be_asked",
        "mass_deletion",
        (_deleted("a", "29 10:00:00"), _deleted("b", "29 11:00:00", workspace="ws_2")),
        ((at("29 11:00:00"), at("29 11:00:00"), "ws_2", "mallory", 1),),
        SHORT,
        {"at_least": 1, "workspace": "ws_2", "action": "%.DELETED"},
    ),
    Case("no_events_no_rows", "mass_deletion", (), ()),
]
