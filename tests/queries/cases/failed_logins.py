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
            delivery(
                "x",
                "29 12:00:00",
                "mallory",
                "auth.login_failed",
                ip_address="192.0.2.2",
                actor_name="A. Mallory",
            ),
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
    Case(
        "five_are_shown_and_four_are_not_each_workspace_and_country_by_itself",
        "failed_logins",
        (
            *_failures(5, "b"),
            *_failures(5, "a"),
            *_failures(4, "split"),
            *(
                delivery(f"there-{n}", "29 10:00:00", "split", "auth.login_failed", workspace="ws_2")
                for n in range(4)
            ),
            delivery("abroad", "29 10:00:00", "split", "auth.login_failed", ip_country="FR"),
            *_failures(5, "0", workspace="ws_2"),
            *(
                delivery(f"nowhere-{n}", "29 10:00:00", "b", "auth.login_failed", ip_country=None)
                for n in range(5)
            ),
        ),
        (
            ("ws_1", "a", "DE", 5),
            ("ws_1", "b", "DE", 5),
            ("ws_1", "b", None, 5),
            ("ws_2", "0", "DE", 5),
        ),
        columns=("workspace_id", "actor_id", "ip_country", "failures"),
    ),
    Case(
        "one_workspace_and_what_looks_like_a_failed_login_but_is_none",
        "failed_logins",
        (
            delivery("1", "29 10:00:00", "a", "auth.login_failed"),
            delivery("2", "29 10:00:01", "a", "user.login.failed"),  # as others write it
            delivery("3", "29 10:00:02", "a", "auth.login_failed_twice"),
            delivery("4", "29 10:00:03", "a", "auth.loginfailed"),
            delivery("5", "29 10:00:04", "a", "auth.login_failed", workspace="ws_2"),
        ),
        (("ws_1", "a", "DE", 2),),
        columns=("workspace_id", "actor_id", "ip_country", "failures"),
        parameters={"at_least": 1, "workspace": "ws_1"},
    ),
    Case("no_events_no_rows", "failed_logins", (), ()),
]
