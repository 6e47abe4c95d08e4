"""Cases of `failed_logins`."""

from __future__ import annotations

from typing import Any

from tests.queries.case import Case, Delivery, at, delivery


def _failures(count: int, actor: str, **more: Any) -> tuple[Delivery, ...]:
    """Failed logins at 10:00, 10:01, and so on."""
    return tuple(
        delivery(f"{actor}-{n}", f"29 10:{n:02d}:00", actor, "auth.login_failed", **more)
        for n in range(count)
    )


CASES = [
    Case(
        "failures_are_counted_by_actor_and_country_and_few_are_left_out",
        "failed_logins",
        (
            *_failures(6, "mallory"),
            delivery("x", "29 12:00:00", "mallory", "auth.login_failed", ip_address="192.0.2.2"),
            *_failures(5, "bot", ip_country="FR"),
            *_failures(4, "typist"),  # too few
            *(delivery(f"s{n}", "29 10:00:00", "worker", "auth.login") for n in range(9)),
        ),
        (
            ("ws_1", "mallory", "Mallory", "DE", 7, 2, at("29 10:00:00"), at("29 12:00:00")),
            ("ws_1", "bot", "Bot", "FR", 5, 1, at("29 10:00:00"), at("29 10:04:00")),
        ),
    ),
    Case(
        "the_first_moment_counts_and_the_last_does_not_and_a_country_may_be_unknown",
        "failed_logins",
        (
            delivery("before", "28 23:59:59.999999", "mallory", "auth.login_failed"),
            delivery(
                "first", "29 00:00:00", "mallory", "auth.login_failed", ip_country=None, ip_address=None
            ),
            delivery("same", "29 00:00:00", "mallory", "auth.login_failed", ip_country=None, ip_address=None),
            delivery("last", "30 00:00:00", "mallory", "auth.login_failed"),
        ),
        (("ws_1", "mallory", "Mallory", None, 2, 0, at("29 00:00:00"), at("29 00:00:00")),),
        parameters={"since": "2026-03-29", "until": "2026-03-30", "at_least": 1},
    ),
    Case("no_events_no_rows", "failed_logins", (), ()),
]
