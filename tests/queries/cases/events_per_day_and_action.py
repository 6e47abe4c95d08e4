"""Cases of `events_per_day_and_action`."""

from __future__ import annotations

from datetime import date

from tests.queries.case import Case, delivery

CASES = [
    Case(
        "midnight_in_utc_begins_a_day_and_most_come_first",
        "events_per_day_and_action",
        (
            delivery("1", "28 23:59:59.999999", "owner", "auth.login"),
            delivery("2", "29 00:00:00", "owner", "auth.login"),
            delivery("3", "29 00:00:00", "owner", "auth.logout"),
            delivery("4", "29 00:00:00", "owner", "document.viewed"),
            delivery("5", "29 23:59:59.999999", "guest", "document.viewed"),
            delivery("6", "29 12:00:00", "guest", "document.viewed"),
        ),
        (
            (date(2026, 3, 28), "auth.login", 1, 1, 1),
            (date(2026, 3, 29), "document.viewed", 3, 2, 1),
            (date(2026, 3, 29), "auth.login", 1, 1, 1),
            (date(2026, 3, 29), "auth.logout", 1, 1, 1),
        ),
    ),
    Case(
        "one_actor_id_in_two_workspaces_is_two_actors",
        "events_per_day_and_action",
        (
            delivery("1", "29 10:00:00", "owner", "auth.login", workspace="ws_1"),
            delivery("2", "29 10:00:00", "owner", "auth.login", workspace="ws_2"),
            delivery("3", "29 11:00:00", "owner", "auth.login", workspace="ws_2"),
        ),
        ((date(2026, 3, 29), "auth.login", 3, 2, 2),),
    ),
    Case(
        "one_workspace_one_action_and_a_period_without_its_last_moment",
        "events_per_day_and_action",
        (
            delivery("1", "28 23:59:59.999999", "owner", "auth.login"),
            delivery("2", "29 00:00:00", "owner", "auth.login"),
            delivery("3", "29 10:00:00", "owner", "auth.login", workspace="ws_2"),
            delivery("6", "29 10:00:00", "guest", "auth.login", workspace="ws_2"),
            delivery("4", "29 10:00:00", "owner", "auth.logins"),
            delivery("5", "30 00:00:00", "owner", "auth.login"),
        ),
        ((date(2026, 3, 29), "auth.login", 1, 1, 1),),
        parameters={
            "workspace": "ws_1",
            "action": "%.login",
            "since": "2026-03-29",
            "until": "2026-03-30",
        },
    ),
    Case("no_events_no_rows", "events_per_day_and_action", (), ()),
]
