"""Cases of `off_hours`. The 29th of March 2026 is a Sunday."""

from __future__ import annotations

from datetime import date

from tests.queries.case import Case, at, delivery

VIEWED, DELETED = "document.viewed", "document.deleted"
SHORT = ("night_of", "workspace_id", "actor_id", "events", "nights_before")
WHEN = ("night_of", "events", "first_at", "last_at")

CASES = [
    Case(
        "a_night_goes_from_to_hour_to_from_hour_over_midnight",
        "off_hours",
        (
            delivery("a", "31 06:59:59.999999", "eve", VIEWED),  # still the night of Monday
            delivery("b", "31 07:00:00", "eve", VIEWED),
            delivery("c", "31 18:59:59.999999", "eve", VIEWED),
            delivery("d", "31 19:00:00", "eve", VIEWED),
            delivery("e", "2026-04-01 00:00:00", "eve", DELETED, ip_country="FR"),
            delivery("f", "2026-04-01 02:00:00", "eve", DELETED, ip_country=None),
        ),
        (
            (
                date(2026, 3, 30),
                "ws_1",
                "eve",
                "Eve",
                1,
                1,
                1,
                at("31 06:59:59.999999"),
                at("31 06:59:59.999999"),
                0,
            ),
            (
                date(2026, 3, 31),
                "ws_1",
                "eve",
                "Eve",
                3,
                2,
                2,
                at("31 19:00:00"),
                at("2026-04-01 02:00:00"),
                1,
            ),
        ),
    ),
    Case(
        "the_weekend_goes_from_saturday_morning_to_monday_morning",
        "off_hours",
        (
            delivery("a", "27 18:59:00", "eve", VIEWED),
            delivery("b", "28 07:00:00", "eve", VIEWED),
            delivery("c", "29 12:00:00", "eve", VIEWED),
            delivery("d", "30 06:59:00", "eve", VIEWED),
            delivery("e", "30 07:00:00", "eve", VIEWED),
        ),
        (
            (date(2026, 3, 28), 1, at("28 07:00:00"), at("28 07:00:00")),
            (date(2026, 3, 29), 2, at("29 12:00:00"), at("30 06:59:00")),
        ),
        WHEN,
    ),
    Case(
        "without_the_weekend_its_days_are_like_others",
        "off_hours",
        (
            delivery("a", "28 12:00:00", "eve", VIEWED),
            delivery("b", "29 12:00:00", "eve", VIEWED),
            delivery("c", "30 06:59:00", "eve", VIEWED),
        ),
        ((date(2026, 3, 29), 1, at("30 06:59:00"), at("30 06:59:00")),),
        WHEN,
        {"weekend": False},
    ),
    Case(
        "the_hours_are_those_of_the_clock_of_the_place",
        "off_hours",
        (
            delivery("a", "31 03:29:59", "eve", VIEWED),  # 08:59:59 there
            delivery("b", "31 03:30:00", "eve", VIEWED),
            delivery("c", "31 12:29:59", "eve", VIEWED),
            delivery("d", "31 12:30:00", "eve", VIEWED),  # 18:00 there
        ),
        (
            (date(2026, 3, 30), 1, at("31 03:29:59"), at("31 03:29:59")),
            (date(2026, 3, 31), 1, at("31 12:30:00"), at("31 12:30:00")),
        ),
        WHEN,
        {"from_hour": 9, "to_hour": 18, "utc_offset_minutes": 330},
    ),
    Case(
        "who_works_at_night_is_off_by_day",
        "off_hours",
        (
            delivery("a", "30 22:00:00", "eve", VIEWED),
            delivery("b", "31 05:59:59", "eve", VIEWED),
            delivery("c", "31 06:00:00", "eve", VIEWED),
            delivery("d", "31 21:59:59", "eve", VIEWED),
        ),
        ((date(2026, 3, 30), 2, at("31 06:00:00"), at("31 21:59:59")),),
        WHEN,
        {"from_hour": 22, "to_hour": 6},
    ),
    Case(
        "who_is_often_active_at_night_is_left_out",
        "off_hours",
        (
            *(delivery(f"o{n}", f"{n} 22:00:00", "owl", VIEWED) for n in (26, 27, 28, 29, 30)),
            *(delivery(f"l{n}", f"{n} 22:00:00", "lark", VIEWED) for n in (27, 28, 29, 30)),
            *(delivery(f"e{n}", f"{n} 22:00:00", "lark", VIEWED, workspace="ws_2") for n in (26, 30)),
            # The night of the 29th: what was done before since is no part of the row, nor a night before.
            delivery("late", "29 23:59:59", "late", VIEWED),
            delivery("early", "30 00:00:00", "late", DELETED),
            delivery("until", "31 00:00:00", "until", VIEWED),
            # Four nights, but the first is before the history.
            *(delivery(f"f{n}", f"{n} 22:00:00", "forgotten", VIEWED) for n in (25, 27, 28, 29, 30)),
        ),
        (
            (date(2026, 3, 29), "ws_1", "late", 1, 0),
            (date(2026, 3, 30), "ws_1", "forgotten", 1, 3),
            (date(2026, 3, 30), "ws_1", "lark", 1, 3),
            (date(2026, 3, 30), "ws_2", "lark", 1, 1),
        ),
        SHORT,
        {"since": "2026-03-30", "until": "2026-03-31", "history_days": 4},
    ),
    Case(
        "only_actions_like_this_and_not_too_few_of_them",
        "off_hours",
        (
            delivery("a", "31 20:00:00", "eve", DELETED),
            delivery("b", "31 20:00:00", "eve", DELETED),
            delivery("c", "31 20:00:00", "eve", VIEWED),
            delivery("d", "31 20:00:00", "bob", DELETED),
            delivery("e", "31 20:00:00", "bob", VIEWED),
            *(delivery(f"z{n}", "31 20:00:00", "zoe", DELETED) for n in range(3)),
        ),
        ((date(2026, 3, 31), "ws_1", "zoe", 3, 0), (date(2026, 3, 31), "ws_1", "eve", 2, 0)),
        SHORT,
        {"action": "%.deleted", "at_least": 2},
    ),
    Case(
        "of_a_night_that_since_cuts_only_the_rest_is_told",
        "off_hours",
        (
            delivery("a", "30 20:00:00", "eve", VIEWED, ip_country="NZ", actor_name="Old Name"),
            delivery("b", "30 21:00:00", "eve", DELETED, ip_country=None),
            delivery("c", "30 21:00:00", "eve", DELETED),
            delivery("d", "30 21:30:00", "eve", DELETED),
            delivery("e", "30 22:00:00", "eve", DELETED),
        ),
        (
            (
                date(2026, 3, 30),
                "ws_1",
                "eve",
                "Eve",
                3,
                1,
                1,
                at("30 21:00:00"),
                at("30 21:30:00"),
                0,
            ),
        ),
        parameters={"since": "2026-03-30T21:00:00Z", "until": "2026-03-30T22:00:00Z"},
    ),
    Case(
        "the_nights_before_are_whole_for_the_night_in_which_since_lies",
        "off_hours",
        # The night of the 29th; so many days before is that of the 25th, which ends on the 26th.
        (
            *(delivery(f"n{n}", f"{n} 22:00:00", "eve", VIEWED) for n in (24, 25, 27)),
            delivery("now", "30 02:00:00", "eve", VIEWED),
        ),
        ((date(2026, 3, 29), "ws_1", "eve", 1, 2),),
        SHORT,
        {"since": "2026-03-30", "until": "2026-03-31", "history_days": 4},
    ),
    Case("no_events_no_rows", "off_hours", (), ()),
]
