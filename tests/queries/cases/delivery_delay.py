"""Cases of `delivery_delay`."""

from __future__ import annotations

from datetime import date

from tests.queries.case import Case, Delivery, delivery


def _came(event_id: str, when: str, received: str, workspace: str = "ws_1") -> Delivery:
    return delivery(event_id, when, "bot", "document.viewed", received=received, workspace=workspace)


SHORT = ("day", "events", "median_seconds", "max_seconds")

CASES = [
    Case(
        "the_percentiles_are_delays_that_occurred_those_of_the_nearest_rank",
        "delivery_delay",
        tuple(_came(f"e{n:02d}", "29 10:00:00", f"29 10:00:{n:02d}.25") for n in range(1, 21)),
        ((date(2026, 3, 29), "spool", 20, 10.25, 19.25, 20.25, 20.25, 1, 0),),
        parameters={"late_seconds": 19.25},
    ),
    Case(
        "of_three_the_second_is_the_median_and_equal_ones_do_not_matter",
        "delivery_delay",
        (
            _came("a", "29 10:00:00", "29 10:00:01"),
            _came("b", "29 11:00:00", "29 11:00:01"),
            _came("c", "29 12:00:00", "29 12:00:09"),
        ),
        ((date(2026, 3, 29), 3, 1.0, 9.0),),
        SHORT,
    ),
    Case(
        "days_are_those_of_the_events_and_a_time_after_the_receipt_is_ahead",
        "delivery_delay",
        (
            _came("a", "29 23:59:59.999999", "30 00:06:00"),
            _came("b", "30 00:00:00", "29 23:59:59.5"),
            _came("c", "30 00:00:00", "30 00:00:00"),
        ),
        (
            (date(2026, 3, 29), "spool", 1, 360.0, 360.0, 360.0, 360.0, 1, 0),
            (date(2026, 3, 30), "spool", 2, -0.5, 0.0, 0.0, 0.0, 0, 1),
        ),
    ),
    Case(
        "the_time_and_the_workspace_asked_for_are_those_of_the_events",
        "delivery_delay",
        (
            _came("a", "29 05:59:59.999999", "29 12:00:00"),
            _came("b", "29 06:00:00", "29 06:00:02"),
            _came("c", "29 23:59:59", "30 00:00:03"),
            _came("d", "30 00:00:00", "30 00:00:00"),
            _came("e", "29 12:00:00", "29 13:00:00", "ws_2"),
        ),
        ((date(2026, 3, 29), 2, 2.0, 4.0),),
        SHORT,
        {"since": "2026-03-29T06:00:00Z", "until": "2026-03-30", "workspace": "ws_1"},
    ),
    Case(
        "of_a_hundred_the_95th_and_the_99th_and_of_one_more_the_next",
        "delivery_delay",
        (
            *(_came(f"a{n}", "29 10:00:00", f"29 10:{n // 60:02d}:{n % 60:02d}") for n in range(1, 101)),
            *(_came(f"b{n}", "30 10:00:00", f"30 10:{n // 60:02d}:{n % 60:02d}") for n in range(1, 102)),
        ),
        (
            (date(2026, 3, 29), 100, 50.0, 95.0, 99.0, 100.0),
            (date(2026, 3, 30), 101, 51.0, 96.0, 100.0, 101.0),
        ),
        ("day", "events", "median_seconds", "p95_seconds", "p99_seconds", "max_seconds"),
    ),
    Case(
        "what_took_just_as_long_is_not_late_whatever_the_fraction_of_a_second",
        "delivery_delay",
        (
            _came("a", "29 10:00:00.1", "29 10:00:00.4"),
            _came("b", "29 10:00:00.1", "29 10:00:00.400001"),
            _came("c", "29 10:00:00.400001", "29 10:00:00.4"),
        ),
        ((date(2026, 3, 29), 3, 1, 1),),
        ("day", "events", "late", "ahead"),
        {"late_seconds": 0.3},
    ),
    Case("no_events_no_rows", "delivery_delay", (), ()),
]
