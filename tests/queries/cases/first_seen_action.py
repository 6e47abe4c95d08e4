"""Cases of `first_seen_action`."""

from __future__ import annotations

from tests.queries.case import Case, at, delivery

VIEWED, DELETED, EXPORTED = "document.viewed", "document.deleted", "document.exported"
SHORT = ("actor_id", "workspace_id", "action", "others_before", "id")

CASES = [
    Case(
        "an_action_that_an_actor_of_some_standing_had_not_done_is_told_rarest_first",
        "first_seen_action",
        (
            delivery("a", "27 10:00:00", "mallory", VIEWED),
            delivery("b", "27 11:00:00", "bob", EXPORTED),
            delivery("c", "28 12:00:00", "mallory", EXPORTED, ip_country="NZ"),
            delivery("d", "28 13:00:00", "mallory", DELETED, ip_country=None, actor_name="Other Name"),
            delivery("e", "28 14:00:00", "mallory", DELETED),
            delivery("f", "28 14:00:00", "mallory", VIEWED),
            delivery("g", "28 14:00:00", "newcomer", DELETED),  # all is new of them
        ),
        (
            (
                at("28 13:00:00"),
                "ws_1",
                "mallory",
                "Other Name",
                DELETED,
                0,
                2,
                at("27 10:00:00"),
                None,
                "d",
            ),
            (
                at("28 12:00:00"),
                "ws_1",
                "mallory",
                "Mallory",
                EXPORTED,
                1,
                1,
                at("27 10:00:00"),
                "NZ",
                "c",
            ),
        ),
    ),
    Case(
        "known_for_just_so_many_days_is_known",
        "first_seen_action",
        (
            delivery("a", "27 10:00:00", "known", VIEWED),
            delivery("b", "29 10:00:00", "known", DELETED),
            delivery("c", "27 10:00:00.000001", "newer", VIEWED),
            delivery("d", "29 10:00:00", "newer", EXPORTED),
        ),
        (("known", "ws_1", DELETED, 0, "b"),),
        SHORT,
        {"known_days": 2},
    ),
    Case(
        "at_equal_times_the_lesser_id_is_first_and_nobody_came_before_the_other",
        "first_seen_action",
        (
            delivery("a1", "27 10:00:00", "ann", VIEWED),
            delivery("b1", "27 10:00:00", "bob", VIEWED),
            delivery("z", "29 10:00:00", "ann", DELETED),
            delivery("b", "29 10:00:00", "ann", DELETED),
            delivery("c", "29 10:00:00", "bob", DELETED),
        ),
        (("ann", "ws_1", DELETED, 0, "b"), ("bob", "ws_1", DELETED, 0, "c")),
        SHORT,
    ),
    Case(
        "workspaces_are_kept_apart",
        "first_seen_action",
        (
            delivery("a", "27 10:00:00", "mallory", VIEWED),
            delivery("b", "28 10:00:00", "mallory", DELETED, workspace="ws_2"),
            delivery("c", "29 10:00:00", "mallory", DELETED),
        ),
        (("mallory", "ws_1", DELETED, 0, "c"),),
        SHORT,
    ),
    Case(
        "what_was_done_in_the_history_is_not_new_and_what_was_done_before_it_is",
        "first_seen_action",
        (
            delivery("a", "26 23:59:59.999999", "forgetful", DELETED),
            delivery("b", "27 00:00:00", "forgetful", VIEWED),
            delivery("c", "29 00:00:00", "forgetful", DELETED),
            delivery("d", "27 00:00:00", "mindful", DELETED),
            delivery("e", "29 00:00:00", "mindful", DELETED),
            delivery("f", "27 00:00:00", "late", VIEWED),
            delivery("g", "30 00:00:00", "late", DELETED),
            delivery("h", "27 00:00:00", "other", VIEWED),
            delivery("i", "29 12:00:00", "other", EXPORTED),  # not asked for
        ),
        (("forgetful", "ws_1", DELETED, 1, "c"),),
        SHORT,
        {
            "since": "2026-03-29",
            "until": "2026-03-30",
            "history_days": 2,
            "action": "%.deleted",
            "workspace": "ws_1",
        },
    ),
    Case(
        "without_a_standing_new_actors_are_told_as_well",
        "first_seen_action",
        (delivery("a", "29 10:00:00", "newcomer", DELETED), delivery("b", "29 10:00:00", "newcomer", VIEWED)),
        (("newcomer", "ws_1", DELETED, 0, "a"), ("newcomer", "ws_1", VIEWED, 0, "b")),
        SHORT,
        {"known_days": 0},
    ),
    Case("no_events_no_rows", "first_seen_action", (), ()),
]
