"""Cases of `activity_of_actor`."""

from __future__ import annotations

from tests.queries.case import Case, at, delivery

_COLUMNS = ("event_time", "workspace_id", "actor_id", "action", "id")

CASES = [
    Case(
        "all_of_one_actor_in_the_order_of_time_and_of_ids_where_times_are_equal",
        "activity_of_actor",
        (
            delivery(
                "b",
                "29 10:00:00",
                "mallory",
                "document.viewed",
                resource="document",
                resource_id="doc_1",
                resource_name="Draft",
                ip_city="Berlin",
                session_id="s_1",
            ),
            delivery("a", "29 10:00:00", "mallory", "session.opened", ip_country=None, ip_address=None),
            delivery("z", "29 09:59:59.999999", "mallory", "auth.login_failed", actor_name=None),
            delivery("c", "29 10:00:00", "mallory2", "auth.login"),  # begins alike
            delivery("d", "29 10:00:00", "Mallory", "auth.login"),  # another's id
        ),
        (
            (
                *(at("29 09:59:59.999999"), "ws_1", "mallory", None, "auth.login_failed"),
                *(None, None, None, "DE", None, "192.0.2.1", None, "z"),
            ),
            (
                *(at("29 10:00:00"), "ws_1", "mallory", "Mallory", "session.opened"),
                *(None, None, None, None, None, None, None, "a"),
            ),
            (
                *(at("29 10:00:00"), "ws_1", "mallory", "Mallory", "document.viewed"),
                *("document", "doc_1", "Draft", "DE", "Berlin", "192.0.2.1", "s_1", "b"),
            ),
        ),
        parameters={"actor": "mallory"},
    ),
    Case(
        "an_underscore_in_an_id_is_no_pattern_and_one_id_in_two_workspaces_is_told_apart",
        "activity_of_actor",
        (
            delivery("1", "29 10:00:00", "user_1", "auth.login", workspace="ws_2"),
            delivery("2", "29 10:00:00", "user_1", "auth.login", workspace="ws_1"),
            delivery("3", "29 10:00:00", "userX1", "auth.login", workspace="ws_1"),
        ),
        (
            (at("29 10:00:00"), "ws_1", "user_1", "auth.login", "2"),
            (at("29 10:00:00"), "ws_2", "user_1", "auth.login", "1"),
        ),
        columns=_COLUMNS,
        parameters={"actor": "user_1"},
    ),
    Case(
        "only_the_workspace_that_is_asked_for",
        "activity_of_actor",
        (
            delivery("1", "29 10:00:00", "user_1", "auth.login", workspace="ws_2"),
            delivery("2", "29 10:00:00", "user_1", "auth.login", workspace="ws_1"),
        ),
        ((at("29 10:00:00"), "ws_2", "user_1", "auth.login", "1"),),
        columns=_COLUMNS,
        parameters={"actor": "user_1", "workspace": "ws_2"},
    ),
    Case(
        "the_first_moment_of_since_counts_and_the_moment_of_until_does_not",
        "activity_of_actor",
        (
            delivery("1", "28 23:59:59.999999", "mallory", "auth.login"),
            delivery("2", "29 00:00:00", "mallory", "auth.login"),
            delivery("3", "29 23:59:59.999999", "mallory", "auth.logout"),
            delivery("4", "30 00:00:00", "mallory", "auth.login"),
        ),
        (
            (at("29 00:00:00"), "ws_1", "mallory", "auth.login", "2"),
            (at("29 23:59:59.999999"), "ws_1", "mallory", "auth.logout", "3"),
        ),
        columns=_COLUMNS,
        parameters={"actor": "mallory", "since": "2026-03-29", "until": "2026-03-30"},
    ),
    Case(
        "a_name_is_found_with_capitals_or_without_and_an_action_by_a_pattern",
        "activity_of_actor",
        (
            delivery("1", "29 10:00:00", "u1", "document.deleted", actor_name="Sarah CHEN"),
            delivery("2", "29 10:00:01", "u2", "document.deleted", actor_name="chen"),
            delivery("3", "29 10:00:02", "u3", "document.deleted", actor_name=None),
            delivery("4", "29 10:00:03", "u1", "document.deletedX", actor_name="Sarah CHEN"),
            delivery("5", "29 10:00:04", "u4", "document.deleted", actor_name="Chenoweth"),
        ),
        (
            (at("29 10:00:00"), "ws_1", "u1", "document.deleted", "1"),
            (at("29 10:00:01"), "ws_1", "u2", "document.deleted", "2"),
        ),
        columns=_COLUMNS,
        parameters={"actor_name": "%Chen", "action": "%.deleted"},
    ),
    Case("no_events_no_rows", "activity_of_actor", (), (), parameters={"actor": "mallory"}),
]
