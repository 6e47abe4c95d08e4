"""Cases of `impossible_travel`.

Antarctica is a circle of 3,000 km around the South Pole, Singapore one of 50 km at 1.4° N: from
pole to centre there are 91.4 of the 180 degrees that 20,015.09 km span, which is 10,163.22 km,
and 7,113.22 km from edge to edge.
"""

from __future__ import annotations

from tests.queries.case import Case, at, delivery

ACTION = "document.viewed"
WHO = ("actor_id", "workspace_id", "from_id", "id")

CASES = [
    Case(
        "the_way_between_the_circles_must_not_take_more_than_the_top_speed",
        "impossible_travel",
        (
            delivery("a", "29 01:00:00", "mallory", ACTION, ip_country="SG"),
            delivery("b", "29 08:06:47", "mallory", "document.deleted", ip_country="AQ"),  # 7.113 hours
            delivery("c", "29 01:00:00", "traveller", ACTION, ip_country="SG"),
            delivery("d", "29 08:06:49", "traveller", ACTION, ip_country="AQ"),  # two seconds slower
            delivery("e", "29 09:00:00", "commuter", ACTION, ip_country="DE"),
            delivery("f", "29 09:00:01", "commuter", ACTION, ip_country="FR"),  # the circles overlap
            delivery("g", "29 09:00:00", "worker", ACTION, ip_country="DE"),
            delivery("h", "29 09:00:00", "worker", ACTION, ip_country="DE"),
        ),
        (
            (
                at("29 08:06:47"),
                "ws_1",
                "mallory",
                "Mallory",
                "SG",
                "AQ",
                at("29 01:00:00"),
                426.8,
                7113,
                1000,
                "document.deleted",
                "a",
                "b",
            ),
        ),
    ),
    Case(
        "two_places_in_one_instant_take_no_time_at_all",
        "impossible_travel",
        (
            delivery("b", "29 12:00:00", "mallory", ACTION, ip_country="AQ"),
            delivery("a", "29 12:00:00", "mallory", ACTION, ip_country="SG"),
            delivery("d", "29 12:00:00", "commuter", ACTION, ip_country="FR"),
            delivery("c", "29 12:00:00", "commuter", ACTION, ip_country="DE"),
        ),
        (("mallory", "a", "b", "SG", "AQ", 0.0, 7113, None),),
        ("actor_id", "from_id", "id", "from_country", "to_country", "minutes", "at_least_km", "at_least_kmh"),
    ),
    Case(
        "an_unknown_country_is_passed_over_and_workspaces_are_kept_apart",
        "impossible_travel",
        (
            delivery("a", "29 12:00:00", "mallory", ACTION, ip_country="SG"),
            delivery("b", "29 12:01:00", "mallory", ACTION, ip_country=None),
            delivery("c", "29 12:02:00", "mallory", ACTION, ip_country="ZZ"),
            delivery("d", "29 12:03:00", "mallory", ACTION, ip_country="SG"),
            delivery("e", "29 12:03:30", "mallory", ACTION, ip_country="AQ", workspace="ws_2"),
            delivery("f", "29 12:04:00", "mallory", ACTION, ip_country="ZZ"),
            delivery("g", "29 12:05:00", "mallory", ACTION, ip_country="AQ"),
            delivery("h", "29 12:06:00", "mallory", ACTION, ip_country="SG"),
        ),
        (("mallory", "ws_1", "d", "g"), ("mallory", "ws_1", "g", "h")),
        WHO,
    ),
    Case(
        "where_somebody_was_before_since_counts_for_as_long_as_the_history",
        "impossible_travel",
        (
            delivery("a", "28 00:00:00", "in_history", ACTION, ip_country="SG"),
            delivery("b", "29 00:00:00", "in_history", ACTION, ip_country="AQ"),  # the first moment
            delivery("c", "27 23:59:59.999999", "before_it", ACTION, ip_country="SG"),
            delivery("d", "29 00:00:00", "before_it", ACTION, ip_country="AQ"),
            delivery("e", "28 23:00:00", "too_early", ACTION, ip_country="SG"),
            delivery("f", "28 23:59:59.999999", "too_early", ACTION, ip_country="AQ"),
            delivery("g", "29 23:00:00", "too_late", ACTION, ip_country="SG"),
            delivery("h", "30 00:00:00", "too_late", ACTION, ip_country="AQ"),
            delivery("i", "29 00:00:00", "elsewhere", ACTION, ip_country="SG", workspace="ws_2"),
            delivery("j", "29 00:00:01", "elsewhere", ACTION, ip_country="AQ", workspace="ws_2"),
        ),
        (("in_history", "ws_1", "a", "b"),),
        WHO,
        {
            "since": "2026-03-29",
            "until": "2026-03-30",
            "workspace": "ws_1",
            "history_days": 1,
            "max_kmh": 296,  # 24 hours for 7,113 km are 296.4
        },
    ),
    Case("no_events_no_rows", "impossible_travel", (), ()),
]
