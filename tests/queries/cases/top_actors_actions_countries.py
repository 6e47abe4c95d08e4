"""Cases of `top_actors_actions_countries`."""

from __future__ import annotations

from tests.queries.case import Case, at, delivery

_SHORT = ("ranking", "place", "workspace_id", "name", "events")

CASES = [
    Case(
        "each_ranking_has_its_places_and_equals_stand_in_the_order_of_the_alphabet",
        "top_actors_actions_countries",
        (
            delivery("1", "29 10:00:00", "zoe", "auth.login", actor_name="Zoe A"),
            delivery("2", "29 11:00:00", "zoe", "auth.logout", actor_name="Zoe B"),
            delivery("3", "29 12:00:00", "abe", "auth.login", ip_country=None, actor_name=None),
            delivery("4", "29 09:00:00", "zoe", "auth.login", actor_name="Zoe"),
            delivery("5", "29 13:00:00", "zoe", "auth.login", actor_name="Zoe C"),
            delivery("6", "29 11:30:00", "zoe", "auth.logout", actor_name="Zoe B"),
        ),
        (
            ("actors", 1, "ws_1", "zoe", "Zoe C", 5, 83.3, at("29 09:00:00"), at("29 13:00:00")),
            ("actors", 2, "ws_1", "abe", None, 1, 16.7, at("29 12:00:00"), at("29 12:00:00")),
            ("actions", 1, None, "auth.login", None, 4, 66.7, at("29 09:00:00"), at("29 13:00:00")),
            ("actions", 2, None, "auth.logout", None, 2, 33.3, at("29 11:00:00"), at("29 11:30:00")),
            ("countries", 1, None, "DE", None, 5, 83.3, at("29 09:00:00"), at("29 13:00:00")),
            ("countries", 2, None, None, None, 1, 16.7, at("29 12:00:00"), at("29 12:00:00")),
        ),
    ),
    Case(
        "the_first_of_equals_gets_the_last_place",
        "top_actors_actions_countries",
        (
            delivery("1", "29 10:00:00", "zoe", "b.done", ip_country=None),
            delivery("2", "29 10:00:00", "abe", "a.done", ip_country="NZ"),
            delivery("3", "29 10:00:00", "Zed", "c.done", ip_country="AT"),
        ),
        (
            ("actors", 1, "ws_1", "Zed", 1),
            ("actors", 2, "ws_1", "abe", 1),
            ("actions", 1, None, "a.done", 1),
            ("actions", 2, None, "b.done", 1),
            ("countries", 1, None, "AT", 1),
            ("countries", 2, None, "NZ", 1),
        ),
        columns=_SHORT,
        parameters={"limit": 2},
    ),
    Case(
        "one_actor_id_in_two_workspaces_is_two_actors_and_countries_are_counted_over_both",
        "top_actors_actions_countries",
        (
            delivery("1", "29 10:00:00", "owner", "auth.login", workspace="ws_2"),
            delivery("2", "29 10:00:00", "owner", "auth.login", workspace="ws_1"),
            delivery("3", "29 10:00:00", "guest", "auth.login", workspace="ws_2", ip_country="FR"),
            delivery("4", "29 11:00:00", "guest", "auth.login", workspace="ws_2", ip_country="FR"),
        ),
        (
            ("actors", 1, "ws_2", "guest", 2, 50.0),
            ("actors", 2, "ws_1", "owner", 1, 25.0),
            ("actors", 3, "ws_2", "owner", 1, 25.0),
            ("actions", 1, None, "auth.login", 4, 100.0),
            ("countries", 1, None, "DE", 2, 50.0),
            ("countries", 2, None, "FR", 2, 50.0),
        ),
        columns=(*_SHORT, "percent"),
    ),
    Case(
        "one_workspace_and_a_period_without_its_last_moment",
        "top_actors_actions_countries",
        (
            delivery("1", "28 23:59:59.999999", "early", "auth.login"),
            delivery("2", "29 00:00:00", "owner", "auth.login"),
            delivery("3", "29 00:00:00", "there", "auth.login", workspace="ws_2"),
            delivery("4", "30 00:00:00", "late", "auth.login"),
        ),
        (
            ("actors", 1, "ws_1", "owner", 1),
            ("actions", 1, None, "auth.login", 1),
            ("countries", 1, None, "DE", 1),
        ),
        columns=_SHORT,
        parameters={"workspace": "ws_1", "since": "2026-03-29", "until": "2026-03-30"},
    ),
    Case("no_events_no_rows", "top_actors_actions_countries", (), ()),
]
