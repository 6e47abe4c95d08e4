"""Cases of `dormant_account`."""

from __future__ import annotations

from tests.queries.case import Case, at, delivery

VIEWED, DELETED = "document.viewed", "document.deleted"
SHORT = ("actor_id", "workspace_id", "silent_days", "events_since", "id")

CASES = [
    Case(
        "who_was_silent_for_just_so_long_wakes_and_one_microsecond_less_is_no_sleep",
        "dormant_account",
        (
            delivery("a", "2026-02-26 12:00:00", "sleeper", VIEWED, ip_country=None),
            delivery("b", "28 12:00:00", "sleeper", DELETED, ip_country="NZ", actor_name="Other Name"),
            delivery("c", "28 12:00:01", "sleeper", VIEWED),
            delivery("d", "2026-02-26 12:00:00", "rare", VIEWED),
            delivery("e", "28 11:59:59.999999", "rare", VIEWED),
            delivery("f", "28 12:00:00", "newcomer", VIEWED),
        ),
        (
            (
                at("28 12:00:00"),
                "ws_1",
                "sleeper",
                "Other Name",
                30,
                at("2026-02-26 12:00:00"),
                DELETED,
                "NZ",
                None,
                2,
                "b",
            ),
        ),
    ),
    Case(
        "the_last_event_before_the_silence_counts_and_each_silence_does",
        "dormant_account",
        (
            delivery("a", "01 00:00:00", "sleeper", VIEWED),
            delivery("b", "02 00:00:00", "sleeper", VIEWED),
            delivery("c", "12 23:59:59", "sleeper", VIEWED),
            delivery("d", "29 00:00:00", "sleeper", VIEWED),
            delivery("f", "29 00:00:00", "sleeper", VIEWED),
            delivery("e", "29 00:00:00", "sleeper", VIEWED),
        ),
        (("sleeper", "ws_1", 10, 4, "c"), ("sleeper", "ws_1", 16, 3, "d")),
        SHORT,
        {"dormant_days": 10},
    ),
    Case(
        "workspaces_are_kept_apart",
        "dormant_account",
        (
            delivery("a", "01 00:00:00", "sleeper", VIEWED),
            delivery("b", "15 00:00:00", "sleeper", VIEWED, workspace="ws_2"),
            delivery("c", "21 00:00:00", "sleeper", VIEWED),
        ),
        (("sleeper", "ws_1", 20, 1, "c"),),
        SHORT,
        {"dormant_days": 20},
    ),
    Case(
        "the_sign_of_life_lies_in_the_history_and_the_waking_in_the_time_asked_for",
        "dormant_account",
        (
            delivery("a", "09 00:00:00", "in_history", VIEWED),
            delivery("b", "29 00:00:00", "in_history", VIEWED),
            delivery("c", "08 23:59:59.999999", "before_it", VIEWED),
            delivery("d", "29 00:00:00", "before_it", VIEWED),
            delivery("e", "10 00:00:00", "too_early", VIEWED),
            delivery("f", "28 23:59:59.999999", "too_early", VIEWED),
            delivery("g", "29 12:00:00", "too_early", VIEWED),
            delivery("h", "10 00:00:00", "too_late", VIEWED),
            delivery("i", "30 00:00:00", "too_late", VIEWED),
            delivery("j", "10 00:00:00", "elsewhere", VIEWED, workspace="ws_2"),
            delivery("k", "29 12:00:00", "elsewhere", VIEWED, workspace="ws_2"),
        ),
        (("in_history", "ws_1", 20, 1, "b"),),
        SHORT,
        {
            "since": "2026-03-29",
            "until": "2026-03-30",
            "history_days": 20,
            "dormant_days": 10,
            "workspace": "ws_1",
        },
    ),
    Case("no_events_no_rows", "dormant_account", (), ()),
]
