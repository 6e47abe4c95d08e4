"""Cases of `silent_periods`."""

from __future__ import annotations

from tests.queries.case import Case, Delivery, at, delivery


def _pulse(workspace: str, *times: str) -> tuple[Delivery, ...]:
    return tuple(
        delivery(f"{workspace}-{n}", when, "bot", "document.viewed", workspace=workspace)
        for n, when in enumerate(times)
    )


SHORT = ("silent_from", "silent_until", "workspace_id", "minutes", "is_over")
ALL = {"times_usual": 0}

CASES = [
    Case(
        "a_silence_that_is_just_long_enough_counts_of_each_workspace_and_of_all_together",
        "silent_periods",
        (
            *_pulse("ws_1", "29 10:00:00", "29 11:00:00", "29 11:59:59.999999"),  # not quite an hour
            *_pulse("ws_2", "29 13:00:00"),
        ),
        (
            (at("29 10:00:00"), at("29 11:00:00"), None, 60, 60.0, True),
            (at("29 10:00:00"), at("29 11:00:00"), "ws_1", 60, 60.0, True),
            (at("29 11:59:59.999999"), at("29 13:00:00"), None, 60, 60.0, True),
            (at("29 11:59:59.999999"), at("29 13:00:00"), "ws_1", 60, 60.0, False),
        ),
        parameters=ALL,
    ),
    Case(
        "equal_times_are_no_silence_and_midnight_is_no_border",
        "silent_periods",
        (
            *_pulse("ws_1", "28 23:30:00", "28 23:30:00", "29 00:29:59", "29 02:00:00", "29 02:00:00"),
            *_pulse("ws_2", "29 02:00:00"),
        ),
        ((at("29 00:29:59"), at("29 02:00:00"), "ws_1", 90, True),),
        SHORT,
        ALL | {"workspace": "ws_1"},
    ),
    Case(
        "within_a_minute_it_is_the_last_event_and_the_first_that_count",
        "silent_periods",
        (
            *_pulse("ws_1", "29 10:00:05", "29 10:00:50", "29 11:00:50", "29 12:05:30", "29 12:05:50"),
            *_pulse("ws_2", "29 10:00:55", "29 12:05:20"),
        ),
        (
            (at("29 10:00:55"), at("29 12:05:20"), "ws_2", 124, True),
            (at("29 11:00:50"), at("29 12:05:20"), None, 64, True),
            (at("29 11:00:50"), at("29 12:05:30"), "ws_1", 64, True),
            (at("29 10:00:50"), at("29 11:00:50"), "ws_1", 60, True),
        ),
        SHORT,
        ALL,
    ),
    Case(
        "up_to_until_it_is_silent_if_the_archive_goes_on_behind_it",
        "silent_periods",
        (*_pulse("ws_1", "29 10:00:00", "29 10:30:00", "29 12:00:00"), *_pulse("ws_2", "31 15:00:00")),
        (
            (at("29 10:30:00"), at("29 12:00:00"), None, 90, False),
            (at("29 10:30:00"), at("29 12:00:00"), "ws_1", 90, False),
        ),
        SHORT,
        ALL | {"since": "2026-03-29", "until": "2026-03-29T12:00:00Z"},
    ),
    Case(
        "of_the_time_behind_the_last_event_of_all_nothing_is_known",
        "silent_periods",
        (*_pulse("ws_1", "29 10:00:00", "29 10:30:00"), *_pulse("ws_2", "29 11:00:00")),
        (),
        SHORT,
        ALL | {"since": "2026-03-29", "until": "2026-03-29T23:00:00Z"},
    ),
    Case(
        "a_silence_over_since_counts_from_its_beginning_if_that_lies_in_the_history",
        "silent_periods",
        (
            *_pulse("ws_1", "28 22:00:00", "29 02:00:00"),
            *_pulse("ws_2", "28 22:00:00", "29 00:00:00"),  # over at the first moment
            *_pulse("ws_3", "27 23:59:59.999999", "29 03:00:00"),  # begins before the history
        ),
        (
            (at("28 22:00:00"), at("29 02:00:00"), "ws_1", 240, True),
            (at("29 00:00:00"), at("29 03:00:00"), "ws_2", 180, False),
            (at("29 00:00:00"), at("29 02:00:00"), None, 120, True),
        ),
        SHORT,
        ALL | {"since": "2026-03-29", "history_days": 1, "at_least_minutes": 61},
    ),
    Case(
        "a_silence_of_just_so_many_times_the_usual_one_counts",
        "silent_periods",
        # Four steps within four hours: an hour is usual.
        _pulse("ws_1", "29 10:00:00", "29 10:20:00", "29 10:40:00", "29 11:00:00", "29 14:00:00"),
        ((at("29 11:00:00"), at("29 14:00:00"), "ws_1", 180, 60.0, True),),
        parameters={"times_usual": 3, "workspace": "ws_1"},
    ),
    Case(
        "a_shorter_one_does_not",
        "silent_periods",
        _pulse("ws_1", "29 10:00:00", "29 10:20:00", "29 10:40:00", "29 11:00:00", "29 13:59:00"),
        (),
        parameters={"times_usual": 3},
    ),
    Case(
        "a_workspace_that_is_asked_for_alone_is_held_against_the_time_of_all",
        "silent_periods",
        (
            *_pulse("ws_1", "29 10:00:00", "29 10:30:00"),
            *_pulse("ws_2", "29 10:00:00", "29 14:00:00"),
        ),
        ((at("29 10:30:00"), at("29 14:00:00"), "ws_1", 210, False),),
        SHORT,
        ALL | {"workspace": "ws_1"},
    ),
    Case(
        "what_is_usual_cannot_be_told_of_one_event",
        "silent_periods",
        (*_pulse("ws_1", "29 10:00:00"), *_pulse("ws_2", "29 10:01:00", "29 10:02:00", "29 14:00:00")),
        (),
        parameters={"times_usual": 4},
    ),
    Case(
        "the_history_begins_with_its_first_moment",
        "silent_periods",
        _pulse("ws_1", "27 23:59:59.999999", "28 00:00:00", "29 03:00:00"),
        ((at("28 00:00:00"), at("29 03:00:00"), "ws_1", 1620, 1620.0, True),),
        parameters=ALL | {"since": "2026-03-29", "history_days": 1, "workspace": "ws_1"},
    ),
    Case(
        "where_nothing_is_known_from_since_on_no_silence_is_told",
        "silent_periods",
        _pulse("ws_1", "28 10:00:00", "28 11:00:00", "28 12:00:00"),
        (),
        parameters=ALL | {"since": "2026-03-30"},
    ),
    Case("no_events_no_rows", "silent_periods", (), ()),
]
